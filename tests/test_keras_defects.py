"""What Keras 3.15.1 does wrong with losses, and what we do instead.

A section per defect, in the order in which they were measured. Its comment says
what stock Keras does; `test_keras_mended` asks whether it still does.
"""

import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
from keras import ops
from keras.src.backend.common.masking import set_keras_mask
from support.models import MODES
from support.models import Listed
from support.models import batch_logs
from support.models import column
from support.models import each_mode
from support.models import fit_logs
from support.models import floats
from support.models import ones_dense
from support.models import passing
from support.models import still

import keras_losskit as losskit

BACKEND = keras.config.backend()

# 1. Several losses of one output. Keras trains on the first only (9.0 here).


@pytest.mark.parametrize("loss", [["mse", "mae"], {"out": ["mse", "mae"]}])
def test_every_loss_of_one_output_counts(loss):
    model = passing()
    model.compile(still(), loss)
    # errors 3, 3: mse 9, mae 3
    expected = {"loss": 12.0, "mse_loss": 9.0, "mae_loss": 3.0}
    assert fit_logs(model, column(3, 3), column(0, 0)) == expected
    assert (
        model.evaluate(column(3, 3), column(0, 0), verbose=0, return_dict=True)
        == expected
    )


def test_every_loss_of_one_output_reaches_the_gradient():
    model = passing()
    model.compile(keras.optimizers.SGD(0.1), ["mse", "mae"])
    model.fit(column(1.0), column(0.0), verbose=0)
    # kernel 1, x 1, y 0: d mse = 2, d mae = 1 -> 1 - 0.1 * 3 = 0.7
    kernel = ops.convert_to_numpy(model.weights[0])
    np.testing.assert_allclose(kernel, [[0.7]], rtol=1e-6)


# 2. Names of terms. Keras gives two trackers one name: one overwrites the
# other.


def test_same_loss_on_two_outputs_is_logged_twice():
    model = Listed()
    model.compile(still(), [["mse", "mae"], "mse"])
    # errors 3 and 1: mse 9, mae 3, mse 1
    logs = fit_logs(model, column(3), [column(0), column(2)])
    assert logs == {
        "loss": 13.0,
        "output_1_loss": 12.0,
        "output_1_mse_loss": 9.0,
        "output_1_mae_loss": 3.0,
        "output_2_loss": 1.0,
    }


def test_list_outputs_of_a_subclassed_model_have_names_of_their_own():
    model = Listed(3)
    model.compile(still(), ["mse", "mse", "mse"])
    # errors 3, 2, 1: 9 + 4 + 1
    logs = fit_logs(model, column(3), [column(0), column(1), column(2)])
    assert logs == {
        "loss": 14.0,
        "output_1_loss": 9.0,
        "output_2_loss": 4.0,
        "output_3_loss": 1.0,
    }


# 3. A short last batch. Keras on TensorFlow weights a per-output mean by the
# static batch size, None: 50.0 here.


@each_mode
def test_short_last_batch_counts_by_its_size(mode):
    model = passing(outputs=("a", "b"))
    model.compile(still(), {"a": "mse", "b": "mse"}, **MODES[mode])
    x = column(0, 0, 0, 0, 10, 10)
    y = {"a": 0 * x, "b": x}
    # batches of 4 and 2: (4 * 0 + 2 * 100) / 6
    logs = fit_logs(model, x, y, batch_size=4)
    np.testing.assert_allclose(logs["a_loss"], 100 / 3, rtol=1e-6)
    np.testing.assert_allclose(logs["loss"], 100 / 3, rtol=1e-6)
    assert logs["b_loss"] == 0.0


# 4. Retracing. Keras on JAX loses one or two activity terms in 13 of 60
# retraces, through ids of tensors that are gone.


def twenty_layers_with_activity():
    """A model of 20 layers that pay `0.001 * l * x ** 2` each for l = 1, ..."""
    layers = [
        ones_dense(1, activity_regularizer=keras.regularizers.L2(0.001 * layer))
        for layer in range(1, 21)
    ]
    return losskit.Sequential([keras.Input((1,)), *layers])


def test_sixty_traces_keep_every_activity_term():
    model = twenty_layers_with_activity()
    # On JAX such a step is traced anew each time, by its gradient.
    model.compile(still(), "mse", jit_compile=False)
    for step in range(60):
        x = np.full((1 + step % 4, 1), 2.0, "float32")
        logs = batch_logs(model, x, x)
        # 4 * 0.001 * (1 + ... + 20) = 0.84, the mean over the batch
        assert logs["activity_loss"] == pytest.approx(0.84, rel=1e-6), step
        assert logs["loss"] == pytest.approx(0.84, rel=1e-6), step


@pytest.mark.slow  # compiles a step 60 times: minutes on JAX
def test_sixty_compiled_steps_keep_every_activity_term():
    for _ in range(3):
        model = twenty_layers_with_activity()
        model.compile(still(), "mse", jit_compile=True)
        for size in range(1, 21):
            x = np.full((size, 1), 2.0, "float32")
            logs = batch_logs(model, x, x)
            assert logs["loss"] == pytest.approx(0.84, rel=1e-6), size


# 5. A layer called twice. Keras on JAX counts its activity loss once (1.0).


@each_mode
@pytest.mark.parametrize("inside", ["layer", "submodel"])
def test_layer_called_twice_pays_twice(mode, inside):
    shared = ones_dense(1, activity_regularizer=keras.regularizers.L2(1.0))
    if inside == "submodel":
        shared = keras.Sequential([keras.Input((1,)), shared])
    inputs = [keras.Input((1,)), keras.Input((1,))]
    outputs = keras.layers.Add()([shared(x) for x in inputs])
    model = losskit.Model(inputs, outputs)
    model.compile(still(), "mse", **MODES[mode])
    # 1 ** 2 for either call; the error is 2 - 2
    logs = fit_logs(model, [column(1, 1), column(1, 1)], column(2, 2))
    assert logs == {"loss": 2.0, "compiled_loss": 0.0, "activity_loss": 2.0}


# 6. One tensor added by two layers. Keras' stateless call counts it 4 times.


class Adds(keras.layers.Layer):
    def __init__(self, inner=None, **kwargs):
        super().__init__(**kwargs)
        self.inner = inner

    def call(self, x, loss):
        self.add_loss(loss)
        return x if self.inner is None else self.inner(x, loss)


class AddsOneTensorTwice(losskit.Model):
    def __init__(self):
        super().__init__()
        self.layer = Adds(inner=Adds())

    def call(self, x):
        return self.layer(x, ops.mean(x))


def test_tensor_added_by_two_layers_counts_twice():
    model = AddsOneTensorTwice()
    model.compile(still())
    # mean(1, 3) = 2, twice
    assert fit_logs(model, column(1, 3))["loss"] == 4.0


# 7. Losses inside `compute_loss`. On JAX Keras has a flat list without owners
# there, and leaves dead tracers in it after an exception.


def with_all_kinds(cls=losskit.Model, **kwargs):
    dense = ones_dense(
        1,
        name="dense",
        kernel_regularizer=keras.regularizers.L2(0.5),
        activity_regularizer=keras.regularizers.L2(0.25),
        **kwargs,
    )
    inputs = keras.Input((1,))
    return cls(inputs, dense(inputs))


class LooksInside(losskit.Model):
    def compute_loss(self, *args, **kwargs):
        self.__dict__["seen"] = [
            (term.kind, term.path) for term in self._losskit_penalty_terms()
        ]
        total = super().compute_loss(*args, **kwargs)
        return total + 10 * sum(self.activity_losses)


@each_mode
def test_compute_loss_sees_terms_with_their_owners(mode):
    model = with_all_kinds(LooksInside)
    model.compile(keras.optimizers.SGD(0.1), "mse", **MODES[mode])
    model.fit(column(2), column(2), verbose=0)
    assert model.seen == [
        ("activity", "dense"),
        ("regularization", "dense/kernel"),
    ]
    # k = 1, x = 2, y = 2: mse' = 0, l2' = 2 * 0.5 * k = 1 and
    # activity' = 11 * 0.25 * 2 * x * k * x = 22 -> 1 - 0.1 * 23
    kernel = ops.convert_to_numpy(model.layers[-1].kernel)
    np.testing.assert_allclose(kernel, [[-1.3]], rtol=1e-5)


class FailsOnce(losskit.Model):
    def compute_loss(self, *args, **kwargs):
        total = super().compute_loss(*args, **kwargs)
        if self.__dict__.get("fails"):
            raise RuntimeError("on purpose")
        return total


@each_mode
def test_exception_in_fit_leaves_the_model_usable(mode):
    model = with_all_kinds(FailsOnce)
    model.compile(still(), "mse", **MODES[mode])
    # error 2, l2 0.5 * 1, activity 0.25 * 4
    expected = {
        "loss": 5.5,
        "compiled_loss": 4.0,
        "regularization_loss": 0.5,
        "activity_loss": 1.0,
    }
    x, y = column(2, 2), column(0, 0)
    assert fit_logs(model, x, y) == expected
    model.__dict__["fails"] = True
    model.make_train_function(force=True)
    with pytest.raises(RuntimeError, match="on purpose"):
        model.fit(column(2, 2, 2), column(0, 0, 0), verbose=0)
    model.__dict__["fails"] = False
    model.make_train_function(force=True)
    assert fit_logs(model, x, y) == expected
    assert model.evaluate(x, y, verbose=0, return_dict=True) == expected
    model(column(2))
    assert floats(model.losses) == [1.0, 0.5]


# 8. A variable as a weight. Keras on JAX keeps its first value for ever; saving
# raises on JAX and PyTorch.


class Assigns(keras.callbacks.Callback):
    """Gives a variable the next value at the start of every epoch."""

    def __init__(self, variable, values):
        super().__init__()
        self.variable = variable
        self.values = values

    def on_epoch_begin(self, epoch, logs=None):
        self.variable.assign(self.values[epoch])


@each_mode
@pytest.mark.parametrize("structure", ["list", "dict", "bare"])
def test_variable_in_loss_weights_follows_its_assignment(mode, structure):
    weight = keras.Variable(1.0, trainable=False, name="weight")
    weights = {"list": [weight], "dict": {"out": weight}, "bare": weight}
    model = passing()
    model.compile(
        still(), "mse", loss_weights=weights[structure], **MODES[mode]
    )
    history = model.fit(
        column(3),
        column(0),
        epochs=3,
        verbose=0,
        callbacks=[Assigns(weight, [1.0, 10.0, 100.0])],
    )
    # 1 * 9, 10 * 9, 100 * 9
    assert history.history["loss"] == [9.0, 90.0, 900.0]


@each_mode
def test_variable_closed_over_in_a_loss_follows_its_assignment(mode):
    weight = keras.Variable(1.0, trainable=False, name="weight")

    def weighted(y_true, y_pred):
        return weight * ops.abs(y_true - y_pred)

    model = passing()
    model.compile(still(), weighted, **MODES[mode])
    history = model.fit(
        column(3),
        column(0),
        epochs=3,
        verbose=0,
        callbacks=[Assigns(weight, [1.0, 10.0, 100.0])],
    )
    # 1 * 3, 10 * 3, 100 * 3
    assert history.history["loss"] == [3.0, 30.0, 300.0]


def test_variable_in_loss_weights_is_saved_with_its_value(tmp_path):
    weight = keras.Variable(1.0, trainable=False, name="weight")
    model = passing()
    model.compile(still(), "mse", loss_weights=[weight])
    weight.assign(10.0)
    assert fit_logs(model, column(3), column(0))["loss"] == 90.0
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert fit_logs(loaded, column(3), column(0))["loss"] == 90.0


@pytest.mark.parametrize("weight", [np.float32(2.0), np.float64(2.0), 2])
def test_numpy_numbers_are_weights(weight):
    model = passing()
    model.compile(still(), "mse", loss_weights=[weight])
    assert fit_logs(model, column(3), column(0))["loss"] == 18.0


# 9. Activity regularizers in half precision. Keras on TensorFlow raises
# TypeError; JAX and PyTorch overflow in float16.


@each_mode
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_activity_penalties_are_float32_under_mixed_precision(policy, mode):
    keras.config.set_dtype_policy(policy)
    dense = ones_dense(
        512,
        name="dense",
        kernel_regularizer=keras.regularizers.L2(2.0**-9),
        activity_regularizer=keras.regularizers.L2(2.0**-20),
    )
    inputs = keras.Input((16,))
    outputs = keras.layers.Activation("linear", dtype="float32")(dense(inputs))
    model = losskit.Model(inputs, outputs)
    model.compile(still(), "mse", **MODES[mode])
    x = np.ones((8, 16), "float32")
    logs = fit_logs(model, x, np.full((8, 512), 16.0, "float32"))
    # every activation 16: 2**-20 * 512 * 256 = 0.125, where the sum over the
    # batch, 2**20, is beyond float16; kernel: 2**-9 * 512 * 16 = 16
    assert logs["activity_loss"] == 0.125
    # squared norms of all variables at once: a rounding of 1e-7 on PyTorch
    assert logs["regularization_loss"] == pytest.approx(16.0, rel=1e-6)
    assert logs["compiled_loss"] == 0.0
    assert logs["loss"] == pytest.approx(16.125, rel=1e-6)
    for loss in [*model.activity_losses, *model.regularization_losses]:
        assert keras.backend.standardize_dtype(loss.dtype) == "float32"


# 11. `reduction=None`. Keras on TensorFlow trains on the sum, the others raise
# an error about ranks.


@pytest.mark.parametrize("reduction", [None, "none"])
def test_unreduced_loss_is_refused_for_training(reduction):
    model = passing()
    loss = keras.losses.MeanSquaredError(reduction=reduction, name="squares")
    with pytest.raises(
        ValueError, match="Expected.*squares.*Received.*reduction"
    ):
        model.compile(still(), loss)
        model.fit(column(1), column(1), verbose=0)
    model.compile(still(), "mse")
    assert fit_logs(model, column(3), column(0)) == {"loss": 9.0}


# 12. A loss function that returns a scalar, under `tf.distribute`. Keras makes
# loss and gradient as many times too large as there are replicas.

DISTRIBUTED = """
    import keras, numpy as np, tensorflow as tf
    import keras_losskit as losskit
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 2
    )
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    assert strategy.num_replicas_in_sync == 2

    def scalar(y_true, y_pred):
        return keras.ops.mean(keras.ops.square(y_true - y_pred))

    def run(loss):
        with strategy.scope():
            dense = keras.layers.Dense(
                1, use_bias=False, kernel_initializer="ones", name="out",
                kernel_regularizer=keras.regularizers.L2(0.5),
                activity_regularizer=keras.regularizers.L2(0.25),
            )
            inputs = keras.Input((1,))
            model = losskit.Model(inputs, dense(inputs))
            model.compile(keras.optimizers.SGD(0.1), loss)
        x = np.full((4, 1), 2.0, "float32")
        logs = model.fit(x, 0 * x, batch_size=4, verbose=0).history
        return {k: v[0] for k, v in logs.items()}, float(dense.kernel[0, 0])

    for loss in (scalar, "mse"):
        logs, kernel = run(loss)
        # errors 2: 4; l2 0.5 * 1; activity 0.25 * 4
        expected = {
            "loss": 5.5, "compiled_loss": 4.0, "regularization_loss": 0.5,
            "activity_loss": 1.0,
        }
        assert logs == expected, (loss, logs)
        # 2 * 2 * 2 + 2 * 0.5 * 1 + 0.25 * 2 * 2 * 2 = 11 -> 1 - 0.1 * 11
        np.testing.assert_allclose(kernel, -0.1, rtol=1e-5)
    print("as on one device")
"""


@pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.distribute")
def test_scalar_loss_is_scaled_by_the_replicas():
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(DISTRIBUTED)],
        capture_output=True,
        text=True,
    )
    assert "as on one device" in done.stdout, done.stdout + done.stderr


# 13. A scalar loss function with sample weights. Keras multiplies it by the
# mean weight and says nothing.


def test_scalar_loss_with_sample_weights_warns_once_by_name():
    def one_number(y_true, y_pred):
        return ops.mean(ops.abs(y_true - y_pred))

    model = passing()
    model.compile(still(), one_number)
    data = column(3, 1), column(0, 0)
    weights = np.array([1.0, 0.0], "float32")
    with pytest.warns(UserWarning, match="one_number") as caught:
        logs = fit_logs(model, *data, sample_weight=weights)
        fit_logs(model, *data, sample_weight=weights)
    assert len([w for w in caught if "one_number" in str(w.message)]) == 1
    # mean error 2 times mean weight 0.5; weighted by sample it would be 1.5
    assert logs["loss"] == 1.0


# 14. `compile(loss=None)` after `compile(loss="mse")`. Keras keeps "mse".


def test_compiling_without_a_loss_forgets_the_old_one():
    model = passing(kernel_regularizer=keras.regularizers.L2(0.5))
    model.compile(still(), "mse")
    assert fit_logs(model, column(3), column(0))["loss"] == 9.5
    model.compile(still())
    # 0.5 * 1 ** 2
    assert fit_logs(model, column(3), column(0)) == {"loss": 0.5}


# 15. No loss at all. Keras on JAX trains at 0.0.


@each_mode
@pytest.mark.parametrize("loss", [None, [None], {"out": None}])
def test_no_loss_at_all_is_an_error(mode, loss):
    model = passing()
    model.compile(still(), loss, **MODES[mode])
    with pytest.raises(ValueError, match="[Nn]o loss"):
        model.fit(column(3), column(0), verbose=0)
    with pytest.raises(ValueError, match="[Nn]o loss"):
        model.evaluate(column(3), column(0), verbose=0)
    model.compile(still(), "mse", **MODES[mode])
    assert fit_logs(model, column(3), column(0)) == {"loss": 9.0}


# 17. The config of the compiled loss. Keras has none, and refuses lambdas.


@keras.saving.register_keras_serializable("test_keras_defects")
def cubes(y_true, y_pred):
    return ops.abs(y_true - y_pred) ** 3


def test_container_round_trips_through_its_config():
    container = losskit.LossesContainer(
        {"a": ["mse", cubes], "b": keras.losses.Huber(delta=3.0)},
        {"a": 0.5, "b": keras.Variable(2.0, name="b_weight")},
        regularization=losskit.Penalty(0.1, "mean"),
        activity=None,
        added=losskit.Penalty(groups={"head": ("b/.*", 0.5)}),
        log="all",
        name="mine",
    )
    restored = losskit.LossesContainer.from_config(container.get_config())
    assert restored.get_config() == container.get_config()
    y_true = {"a": column(0), "b": column(0)}
    y_pred = {"a": column(2), "b": column(2)}
    # 0.5 * (2 ** 2 + 2 ** 3) + 2 * 0.5 * 2 ** 2 = 10
    assert float(container(y_true, y_pred)) == 10.0
    assert float(restored(y_true, y_pred)) == 10.0


def test_registered_function_comes_back_with_the_model(tmp_path):
    model = passing()
    model.compile(still(), cubes)
    assert fit_logs(model, column(2), column(0)) == {"loss": 8.0}
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert fit_logs(loaded, column(2), column(0)) == {"loss": 8.0}


# 22. Masks during `fit`. Keras on JAX has lost them where compiled metrics are
# computed (0.5 logged, 1.0 true).


@each_mode
def test_terms_are_computed_where_the_mask_is(mode):
    inputs = keras.Input((4, 1))
    masked = keras.layers.Masking(0.0)(inputs)
    outputs = [
        ones_dense(1, name="a")(masked),
        ones_dense(1, name="b")(masked),
    ]
    model = losskit.Model(inputs, outputs)
    model.compile(still(), {"a": "mse", "b": ["mse", "mae"]}, **MODES[mode])
    x = np.array([[[2.0], [2.0], [0.0], [0.0]]], "float32")
    y = np.ones((1, 4, 1), "float32")
    logs = fit_logs(model, x, {"a": y, "b": y})
    # valid errors 1, 1: mse 1 and mae 1 over two elements
    assert logs == {
        "loss": 3.0,
        "a_loss": 1.0,
        "b_loss": 2.0,
        "b_mse_loss": 1.0,
        "b_mae_loss": 1.0,
    }


# 23. A term that is not finite. Keras shows `loss: nan` only.


def test_term_that_is_not_finite_is_named():
    model = passing(outputs=("good", "bad"))
    model.compile(still(), {"good": "mse", "bad": "mse"})
    y = {"good": column(2), "bad": column(np.nan)}
    logs = fit_logs(model, column(3), y)
    assert np.isnan(logs["loss"]) and np.isnan(logs["bad_loss"])
    assert logs["good_loss"] == 1.0


# 24. Frozen layers. Their regularizers leave `losses`, as in Keras 3; tf.keras
# kept them.


def test_frozen_layers_pay_no_weight_penalty():
    model = with_all_kinds()
    model.compile(still(), "mse")
    logs = fit_logs(model, column(2), column(0))
    assert (logs["regularization_loss"], logs["loss"]) == (0.5, 5.5)
    model.layers[-1].trainable = False
    model.compile(still(), "mse")
    logs = fit_logs(model, column(2), column(0))
    assert "regularization_loss" not in logs
    assert logs["loss"] == 5.0
    model(column(2))
    assert floats(model.losses) == [1.0] and model.regularization_losses == []


# 25. Structures given in part. Keras raises ValueError or KeyError; tf.keras
# took them.


def two_outputs():
    return passing(outputs=("a", "b"))


X = column(3, 3)
ZERO = column(0, 0)
ONE = column(1, 1)


@pytest.mark.parametrize(
    ("loss", "loss_weights", "y", "sample_weight", "expected"),
    [
        # a partial dict of losses: 9
        ({"a": "mse"}, None, {"a": ZERO}, None, 9.0),
        # a partial dict of labels: only a has any
        ({"a": "mse", "b": "mse"}, None, {"a": ZERO}, None, 9.0),
        # a label that is None
        (["mse", "mse"], None, [None, ONE], None, 4.0),
        # a loss that is None: 4 = (3 - 1) ** 2
        ([None, "mse"], None, [ZERO, ONE], None, 4.0),
        # one loss for all: 9 + 4
        ("mse", None, [ZERO, ONE], None, 13.0),
        # one loss and weights by name: 0.5 * 9 + 2 * 4
        ("mse", {"a": 0.5, "b": 2.0}, [ZERO, ONE], None, 12.5),
        # a partial dict of weights: 0.5 * 9 + 4
        ("mse", {"a": 0.5}, [ZERO, ONE], None, 8.5),
        # sample weights by name: mean(1 * 9, 0 * 9) + 4
        ("mse", None, [ZERO, ONE], {"a": column(1, 0)}, 8.5),
        # for both: mean(9, 0) + mean(0, 4)
        (
            "mse",
            None,
            [ZERO, ONE],
            {"a": column(1, 0), "b": column(0, 1)},
            6.5,
        ),
        # one sample weight for all: mean(9, 0) + mean(4, 0)
        ("mse", None, [ZERO, ONE], column(1, 0), 6.5),
        # sample weights that are None in part: 9 + mean(4, 0)
        ("mse", None, [ZERO, ONE], [None, column(1, 0)], 11.0),
    ],
)
def test_structures_may_be_partial(
    loss, loss_weights, y, sample_weight, expected
):
    model = two_outputs()
    model.compile(still(), loss, loss_weights)
    logs = fit_logs(model, X, y, sample_weight=sample_weight)
    assert logs["loss"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("container", [tuple, list])
def test_sample_weights_of_validation_may_be_partial(container):
    model = two_outputs()
    model.compile(still(), "mse")
    validation = container([X, [ZERO, ONE], {"a": column(1, 0)}])
    history = model.fit(
        X, [ZERO, ONE], verbose=0, validation_data=validation
    ).history
    # mean(1 * 9, 0 * 9) + 4
    assert history["val_loss"] == pytest.approx([8.5], rel=1e-6)


def test_one_label_serves_all_outputs():
    model = two_outputs()
    model.compile(still(), "mse")
    # 9 + 9
    assert fit_logs(model, X, ZERO)["loss"] == 18.0


@pytest.mark.parametrize("argument", ["loss", "loss_weights"])
def test_structures_that_fit_nowhere_are_refused_with_their_path(argument):
    model = two_outputs()
    given = {"loss": "mse", "loss_weights": 1.0}
    given |= {argument: {"a": given[argument], "nowhere": given[argument]}}
    with pytest.raises(ValueError, match="Expected(?s:.*)Received.*nowhere"):
        model.compile(still(), **given)
        model.fit(X, [ZERO, ZERO], verbose=0)


# 26. Subclassing a model class that was called functionally. Keras rewrites
# that class's bases for good, and subclasses of it fail.


class Mine(losskit.Model):
    pass


def test_functional_call_leaves_the_class_as_it_was():
    bases = Mine.__bases__
    inputs = keras.Input((1,))
    functional = Mine(inputs, ones_dense(1)(inputs))

    class Yours(Mine):
        def __init__(self):
            super().__init__()
            self.dense = ones_dense(1)

        def call(self, x):
            return self.dense(x)

    assert Mine.__bases__ == bases
    for model in (functional, Yours(), Mine(inputs, ones_dense(1)(inputs))):
        model.compile(still(), "mse")
        assert fit_logs(model, column(3), column(0)) == {"loss": 9.0}


# 27. Masks and sample weights on PyTorch. Keras writes into the caller's
# weights: 0.5, 1.0, 2.0 from three calls; 1-D weights with a mask raise.


def masked(array, mask):
    tensor = ops.convert_to_tensor(array)
    set_keras_mask(tensor, ops.convert_to_tensor(mask))
    return tensor


@pytest.mark.parametrize("shape", [(2, 2), (2, 1), (2,)])
def test_sample_weights_are_never_written_to(shape):
    weights = ops.ones(shape)
    y_pred = masked(
        np.ones((2, 2, 1), "float32"), np.array([[True, False]] * 2)
    )
    container = losskit.LossesContainer(["mse", "mse"])
    y_true = ops.zeros((2, 2, 1))
    for _ in range(3):
        # two valid elements of error 1, weight 1, on either output
        total = container([y_true, y_true], [y_pred, y_pred], weights)
        assert float(total) == 2.0
    np.testing.assert_array_equal(ops.convert_to_numpy(weights), np.ones(shape))


# 28. `EarlyStopping` on a term. Keras reads its direction off the compiled
# metrics only.


def test_early_stopping_follows_a_term():
    model = passing(outputs=("a", "b"))
    model.compile(still(), {"a": "mse", "b": "mse"})
    data = column(3), {"a": column(0), "b": column(0)}
    history = model.fit(
        *data,
        validation_data=data,
        epochs=5,
        verbose=0,
        callbacks=[keras.callbacks.EarlyStopping("val_a_loss", patience=1)],
    )
    # nothing moves: the second epoch is no better, and stops
    assert history.history["val_a_loss"] == [9.0, 9.0]


# 29 (a batch that the devices of JAX' `DataParallel` do not divide raises in
# Keras) needs several devices: tests/distribution/test_devices_of_jax.py.

# 30 (dropout of a loaded model begins its random sequence anew in Keras):
# tests/test_saving.py, the models that are saved there drop units.
