"""What the callbacks do in `fit`."""

import keras
import numpy as np
import pytest
from keras import ops
from support.callback_models import Interrupt
from support.callback_models import Several
from support.callback_models import compiled_model
from support.callback_models import data
from support.callback_models import fit
from support.callback_models import with_metric

import keras_losskit as losskit
from keras_losskit.callbacks import TerminateOnNonFiniteTerm


def broken(y_true, y_pred):
    # the log of -1 where a target is negative: NaN in the second batch only
    bad = ops.log(ops.where(y_true < 0, -1.0, 1.0))
    return ops.mean(ops.abs(y_pred) + bad, axis=-1)


def fitted(targets, callback, epochs=3, **penalties):
    inputs = keras.Input((2,))
    outputs = {
        "a": keras.layers.Dense(1, name="a", **penalties)(inputs),
        "b": keras.layers.Dense(1, name="b")(inputs),
    }
    model = losskit.Model(inputs, outputs)
    model.compile("sgd", loss={"a": "mse", "b": ["mae", broken]})
    x = np.ones((8, 2), "float32")
    y = {"a": np.ones((8, 1), "float32"), "b": targets}
    history = model.fit(
        x,
        y,
        batch_size=4,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=[callback],
    )
    return model, history


def test_names_the_first_term_that_is_not_finite():
    targets = np.array([[1.0]] * 4 + [[-1.0]] * 4, "float32")
    callback = TerminateOnNonFiniteTerm()
    with pytest.warns(RuntimeWarning, match="batch 1.*b_broken_loss"):
        _, history = fitted(targets, callback, kernel_regularizer="l2")
    # the sum over output b, its kind and the total are NaN because of it
    assert callback.non_finite == {
        "epoch": 0,
        "batch": 1,
        "terms": ["b_broken_loss"],
    }
    assert len(history.epoch) == 1


def test_restores_the_weights_of_the_last_good_epoch():
    targets = np.array([[1.0]] * 4 + [[-1.0]] * 4, "float32")
    callback = TerminateOnNonFiniteTerm(restore_weights=True)
    with pytest.warns(RuntimeWarning, match="b_broken_loss"):
        model, _ = fitted(targets, callback)
    assert all(np.isfinite(w).all() for w in model.get_weights())


class Spoil(keras.callbacks.Callback):
    """Makes the penalty of `a` infinite in an epoch."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            kernel = self.model.get_layer("a").kernel
            kernel.assign(np.full((2, 1), np.inf))


def test_restores_the_weights_that_a_backup_begins_with(tmp_path):
    def backup():
        return keras.callbacks.BackupAndRestore(tmp_path)

    model = compiled_model()
    with pytest.raises(KeyboardInterrupt):
        fit(model, [backup(), Interrupt(1)])
    expected = model.get_weights()
    assert not np.allclose(expected[0], 1.0)  # what it was made with
    model = compiled_model()
    callback = TerminateOnNonFiniteTerm(restore_weights=True)
    with pytest.warns(RuntimeWarning, match="epoch 2 at batch 0"):
        fit(model, [callback, backup(), Spoil(1)])
    for value, other in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(value, other)


def test_remembers_the_weights_of_each_fit_anew():
    model = compiled_model()
    callback = TerminateOnNonFiniteTerm(restore_weights=True)
    fit(model, [callback], epochs=1)
    model.set_weights([np.full(w.shape, 2.0) for w in model.get_weights()])
    with pytest.warns(RuntimeWarning, match="epoch 1 at batch 0"):
        fit(model, [callback, Spoil(0)])
    assert all((w == 2.0).all() for w in model.get_weights())


class NoNumber(keras.metrics.Metric):
    def update_state(self, *args, **kwargs):
        pass

    def result(self):
        return ops.convert_to_tensor(np.nan)


@pytest.mark.parametrize("metric", [NoNumber, Several])
def test_lets_a_metric_be_no_number(metric):
    callback = TerminateOnNonFiniteTerm()
    logs = fit(with_metric(metric(name="m")), [callback]).history
    assert np.isnan(logs["a_m"]).any()
    assert len(logs["loss"]) == 3
    assert callback.non_finite is None


@pytest.mark.parametrize("log", ["terms", "all"])
def test_names_every_output_whatever_others_are_called(log):
    # a metric `digit_mae`, and an output whose name begins with the other's
    inputs = keras.Input((2,))
    names = ["digit", "digit_aux"]
    model = losskit.Model(
        inputs,
        {name: keras.layers.Dense(1, name=name)(inputs) for name in names},
    )
    model.compile(
        "sgd",
        losskit.LossesContainer(dict.fromkeys(names, "mse"), log=log),
        metrics={"digit": ["mae"]},
    )
    x, _ = data()
    callback = TerminateOnNonFiniteTerm()
    nan = np.full((8, 1), np.nan)
    with pytest.warns(RuntimeWarning, match="digit_loss, digit_aux_loss"):
        model.fit(x, dict.fromkeys(names, nan), verbose=0, callbacks=[callback])
    # and no contribution beside its value
    assert callback.non_finite["terms"] == ["digit_loss", "digit_aux_loss"]


def test_names_the_contribution_that_overflows():
    # each loss is finite, and 1e36 * 1e4 is not
    inputs = keras.Input((2,))
    outputs = {n: keras.layers.Dense(1, name=n)(inputs) for n in ("a", "b")}
    model = losskit.Model(inputs, outputs)
    model.compile(
        "sgd",
        losskit.LossesContainer(
            {"a": "mae", "b": "mae"}, loss_weights={"a": 1e4}, log="all"
        ),
    )
    x, y = data()
    y["a"] = np.full((8, 1), 1e36, "float32")
    callback = TerminateOnNonFiniteTerm()
    with pytest.warns(RuntimeWarning, match="a_contribution"):
        model.fit(x, y, verbose=0, callbacks=[callback])
    assert callback.non_finite["terms"] == ["a_contribution"]


def test_lets_finite_training_run():
    callback = TerminateOnNonFiniteTerm()
    _, history = fitted(np.ones((8, 1), "float32"), callback)
    assert callback.non_finite is None
    assert len(history.epoch) == 3


class Infinite(keras.regularizers.Regularizer):
    def __call__(self, x):
        return ops.sum(ops.exp(1e6 * ops.abs(x) + 1e6))


def test_names_a_penalty_that_is_not_finite():
    callback = TerminateOnNonFiniteTerm()
    with pytest.warns(RuntimeWarning, match="regularization_loss"):
        fitted(
            np.ones((8, 1), "float32"), callback, kernel_regularizer=Infinite()
        )
    assert callback.non_finite["batch"] == 0


def test_refuses_a_model_without_terms():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="keras_losskit.wrap"):
        model.fit(
            np.ones((2, 1)),
            np.ones((2, 1)),
            verbose=0,
            callbacks=[TerminateOnNonFiniteTerm()],
        )
