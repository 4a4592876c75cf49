"""`log` of layers and models: in the logs, and in no total."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_losskit as losskit
from keras_losskit import layers

X = np.arange(10.0, dtype="float32").reshape(5, 2)
Y = np.zeros((5, 1), "float32")


class Logs(layers.Layer):
    """Passes its input on and logs `fn` of it."""

    def __init__(self, key="mean", fn=ops.mean, name=None, **arguments):
        super().__init__(name=name, **arguments)
        self.key = key
        self.fn = fn

    def call(self, x):
        self.log(self.key, self.fn(x))
        return x


def model_with(*middle, model_class=losskit.Model):
    x = inputs = keras.Input((2,))
    for layer in middle:
        x = layer(x)
    head = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")
    return model_class(inputs, head(x))


def compiled(model, loss="mse", **arguments):
    model.compile(keras.optimizers.SGD(0.0), loss, **arguments)
    return model


def logs_of(model, x=X, y=Y):
    history = model.fit(
        x, y, batch_size=2, shuffle=False, validation_data=(x, y), verbose=0
    ).history
    return {key: values[0] for key, values in history.items()}


PLAIN = {"loss", "val_loss"}


@pytest.mark.parametrize(
    "arguments",
    [{}, {"run_eagerly": True}, {"jit_compile": True}],
    ids=["compiled", "eager", "xla"],
)
def test_is_logged_weighted_by_the_batch_size_and_in_no_total(arguments):
    if keras.config.backend() == "torch" and "jit_compile" in arguments:
        pytest.skip("TorchInductor takes a minute")
    logs = logs_of(compiled(model_with(Logs()), **arguments))
    assert set(logs) == PLAIN | {"mean", "val_mean"}
    # batches of 2, 2 and 1: means of 10 numbers
    np.testing.assert_allclose([logs["mean"], logs["val_mean"]], X.mean())
    total = np.mean(np.sum(X, axis=-1) ** 2)
    np.testing.assert_allclose([logs["loss"], logs["val_loss"]], total)


VALUES = {
    "number": (lambda x: 2.5, 2.5),
    "integer": (lambda x: 3, 3.0),
    "NumPy": (lambda x: np.float64(1.5), 1.5),
    "bool": (lambda x: x > 4, 0.5),
    "per sample": (lambda x: ops.sum(x, axis=-1), 9.0),
    "half": (lambda x: ops.cast(0 * x + 60000.0, "float16"), 60000.0),
    "nan": (lambda x: 0 * x + np.nan, np.nan),
}


@pytest.mark.parametrize("case", VALUES)
def test_values(case):
    fn, expected = VALUES[case]
    logs = logs_of(compiled(model_with(Logs(fn=fn))))
    np.testing.assert_allclose(logs["mean"], expected, rtol=1e-3)
    assert np.isfinite(logs["loss"])


def test_nan_poisons_neither_gradient_nor_callback():
    model = model_with(layers.Dense(2), Logs(fn=lambda x: 0 * x + np.nan))
    model.compile(keras.optimizers.SGD(0.01), "mse")
    stop = losskit.callbacks.TerminateOnNonFiniteTerm()
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[stop])
    assert stop.non_finite is None
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


@pytest.mark.parametrize("log", ["kinds", "terms", "all"])
def test_beside_the_terms_whatever_they_log(log):
    dense = layers.Dense(2, kernel_regularizer="l2", kernel_initializer="ones")
    container = losskit.LossesContainer("mse", log=log)
    logs = logs_of(compiled(model_with(Logs(), dense), container))
    np.testing.assert_allclose(logs["mean"], X.mean())
    np.testing.assert_allclose(
        logs["loss"], logs["compiled_loss"] + logs["regularization_loss"]
    )


def test_a_shared_layer_logs_the_mean_of_its_calls():
    shared = Logs()
    x = inputs = keras.Input((2,))
    x = shared(keras.layers.Rescaling(3.0)(shared(x)))
    model = losskit.Model(inputs, keras.layers.Dense(1)(x))
    logs = logs_of(compiled(model))
    np.testing.assert_allclose(logs["mean"], (1 + 3) / 2 * X.mean())


def test_from_nested_and_subclassed_models():
    inner = model_with(Logs(), model_class=keras.Model)

    class Outer(losskit.Model):
        def __init__(self):
            super().__init__()
            self.inner = inner

        def call(self, x, training=False):
            self.log("training", 1.0 if training else 0.0)
            if training:
                self.log("in_training", ops.sum(x))
            else:
                self.log("in_evaluation", ops.sum(x))
            return self.inner(x)

    logs = logs_of(compiled(Outer()))
    assert set(logs) == PLAIN | {
        "mean",
        "val_mean",
        "training",
        "val_training",
        "in_training",
        "val_in_evaluation",
    }
    assert (logs["training"], logs["val_training"]) == (1.0, 0.0)
    np.testing.assert_allclose([logs["mean"], logs["val_mean"]], X.mean())


def test_from_compute_loss():
    class Own(losskit.Model):
        def compute_loss(self, x, y, y_pred, *args, **kwargs):
            self.log("bias", ops.mean(y_pred - y))
            return 2.0 * super().compute_loss(x, y, y_pred, *args, **kwargs)

    logs = logs_of(compiled(model_with(model_class=Own)))
    np.testing.assert_allclose(
        [logs["bias"], logs["val_bias"]], np.mean(np.sum(X, axis=-1)), rtol=1e-6
    )

    class Late(losskit.Model):
        def compute_loss(self, *args, **kwargs):
            total = super().compute_loss(*args, **kwargs)
            self.log("late", total)
            return total

    with pytest.raises(ValueError, match=r"late.*before `super\(\).compute"):
        logs_of(compiled(model_with(model_class=Late)))


def test_elsewhere_nothing_happens():
    plain = model_with(Logs(), model_class=keras.Model)
    plain.compile("sgd", "mse")
    assert set(plain.fit(X, Y, verbose=0).history) == {"loss"}
    assert plain.layers[1](X).shape == (5, 2)


def test_with_a_gradient_based_weighting():
    container = losskit.LossesContainer(
        ["mse", "mae"], weighting=losskit.weighting.PCGrad()
    )
    logs = logs_of(compiled(model_with(Logs()), container))
    np.testing.assert_allclose([logs["mean"], logs["val_mean"]], X.mean())


# --------------------------------------------------------------------- errors


@pytest.mark.parametrize("name", ["loss", "compiled_loss", "mae", "l1_loss"])
def test_a_name_that_is_taken_is_refused_before_training(name):
    added = layers.AddLoss(ops.abs, name="l1")
    model = compiled(model_with(Logs(name), added), metrics=["mae"])
    with pytest.raises(ValueError, match=f"names of their own.*'{name}'"):
        model.fit(X, Y, verbose=0)


def test_two_layers_of_one_name_are_refused():
    model = compiled(model_with(Logs(name="one"), Logs(name="two")))
    with pytest.raises(ValueError, match="one layer to log 'mean'.*one.*two"):
        model.fit(X, Y, verbose=0)


@pytest.mark.parametrize("name", ["", None, 3, "val_mean"])
def test_a_bad_name_is_refused(name):
    with pytest.raises(ValueError, match=f"log under a name.*{name!r}"):
        Logs(name)(X)


@pytest.mark.parametrize(
    "value",
    [None, "much", {}, keras.Input((2,))],
    ids=["none", "text", "dict", "symbolic"],
)
def test_a_bad_value_is_refused(value):
    with pytest.raises(ValueError, match="logs as 'mean' to be a number"):
        Logs(fn=lambda x: value)(X)


def test_outside_of_a_step_a_model_says_so():
    model = compiled(model_with(Logs()))
    model.fit(X, Y, verbose=0)
    with pytest.raises(ValueError, match="log from inside `call`"):
        model.log("late", 1.0)


@pytest.mark.parametrize("own_rnn", [True, False])
def test_what_cannot_leave_a_loop_is_refused(own_rnn):
    class Cell(layers.Layer):
        state_size = output_size = 2

        def __init__(self):
            super().__init__()
            self.supports_masking = True

        def call(self, x, states):
            self.log("mean", ops.mean(x))
            return x, states

    rnn = layers.RNN if own_rnn else keras.layers.RNN
    inputs = keras.Input((3, 2))
    model = losskit.Model(inputs, keras.layers.Dense(1)(rnn(Cell())(inputs)))
    model = compiled(model)
    with pytest.raises(ValueError, match="log 'mean'.*in the loop of the RNN"):
        model.fit(np.ones((4, 3, 2)), np.ones((4, 1)), verbose=0)
