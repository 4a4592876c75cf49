"""Activity and weight penalties of the drop-in layers, by NumPy."""

import keras
import numpy as np
import pytest
from keras import ops
from support.frameworks import jitted
from support.frameworks import variable_gradients

import keras_losskit as losskit
from keras_losskit import layers

REDUCTIONS = ("sum_over_batch_size", "mean_over_elements", "sum")
DIVISORS = {
    "sum_over_batch_size": lambda y: len(y),
    "mean_over_elements": lambda y: y.size,
    "sum": lambda y: 1,
}


def numbers(*shape, seed=0):
    values = np.random.default_rng(seed).normal(size=shape)
    return values.astype("float32")


def value(loss):
    return float(ops.convert_to_numpy(loss))


def dense(reduction, **arguments):
    return layers.Dense(
        4,
        "tanh",
        activity_regularizer=keras.regularizers.L1L2(0.1, 0.01),
        activity_reduction=reduction,
        **arguments,
    )


def penalty(y):
    return 0.1 * np.abs(y).sum() + 0.01 * (y**2).sum()


def outputs_of(layer, x):
    return np.tanh(x @ layer.kernel.numpy() + layer.bias.numpy())


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_activity_value_eager_and_compiled_at_any_batch_size(reduction):
    layer = dense(reduction)
    inputs = keras.Input((3,))
    model = losskit.Model(inputs, layer(inputs))

    def total(x):
        model(x)
        return model.losses[0]

    compiled = jitted(total)
    for batch in (1, 5, 2, 7, 5):
        x = numbers(batch, 3, seed=batch)
        y = outputs_of(layer, x)
        expected = penalty(y) / DIVISORS[reduction](y)
        np.testing.assert_allclose(value(total(x)), expected, rtol=1e-5)
        result = compiled(ops.convert_to_tensor(x))
        np.testing.assert_allclose(value(result), expected, rtol=1e-5)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_activity_value_in_fit_with_a_short_last_batch(reduction):
    layer = dense(reduction)
    inputs = keras.Input((3,))
    model = losskit.Model(inputs, layer(inputs))
    model.compile(keras.optimizers.SGD(0.0), "mse")
    x = numbers(6, 3)
    y = outputs_of(layer, x)
    history = model.fit(x, 0 * y, batch_size=4, shuffle=False, verbose=0)
    parts = [y[:4], y[4:]]
    expected = sum(
        len(p) * penalty(p) / DIVISORS[reduction](p) for p in parts
    ) / len(y)
    logged = history.history["activity_loss"][0]
    np.testing.assert_allclose(logged, expected, rtol=1e-5)


def masked_sequences():
    """Padded sequences of lengths 5, 2 and 0."""
    x = numbers(3, 5, 3)
    valid = np.arange(5) < np.array([5, 2, 0])[:, None]
    return x * valid[..., None], valid


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_mask_leaves_elements_out_where_they_are_counted(reduction):
    x, valid = masked_sequences()
    layer = dense(reduction, bias_initializer="ones")
    layer(keras.layers.Masking()(ops.convert_to_tensor(x)))
    y = outputs_of(layer, x)
    if reduction == "sum_over_batch_size":  # as Keras, which takes no notice
        expected = penalty(y) / len(y)
    elif reduction == "sum":
        expected = penalty(y[valid])
    else:
        expected = penalty(y[valid]) / y[valid].size
    np.testing.assert_allclose(
        value(layer.activity_losses[0]), expected, rtol=1e-5
    )


def test_fully_masked_batch_gives_zero():
    layer = dense("mean_over_elements", bias_initializer="ones")
    layer(keras.layers.Masking()(ops.zeros((2, 5, 3))))
    assert value(layer.activity_losses[0]) == 0.0


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_shared_layer_counts_at_every_call(reduction):
    layer = dense(reduction)
    inputs = [keras.Input((3,)), keras.Input((3,))]
    model = losskit.Model(inputs, [layer(x) for x in inputs])
    x = [numbers(4, 3, seed=1), numbers(4, 3, seed=2)]
    model(x)
    expected = sorted(
        penalty(y) / DIVISORS[reduction](y)
        for y in (outputs_of(layer, part) for part in x)
    )
    # Keras runs a functional model in an order of its own.
    values = sorted(value(loss) for loss in model.activity_losses)
    np.testing.assert_allclose(values, expected, rtol=1e-5)


@pytest.mark.parametrize("model_class", [losskit.Model, keras.Model])
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_sums_in_float32(policy, model_class):
    # Stock Keras: TypeError on TensorFlow; nan or inf on JAX and PyTorch.
    keras.config.set_dtype_policy(policy)
    layer = layers.Dense(
        512,
        kernel_initializer="ones",
        activity_regularizer=keras.regularizers.L2(1.0),
        activity_reduction="sum",
    )
    inputs = keras.Input((4,))
    model = model_class(inputs, layer(inputs))
    model(np.ones((64, 4), "float32"))
    (loss,) = model.losses
    assert keras.backend.standardize_dtype(loss.dtype) == "float32"
    np.testing.assert_allclose(value(loss), 64 * 512 * 16.0, rtol=1e-6)
    model.compile(keras.optimizers.SGD(0.0), "mse")
    history = model.fit(np.ones((64, 4)), np.zeros((64, 512)), verbose=0)
    assert np.isfinite(history.history["loss"][0])


def test_layer_lists_its_losses_by_kind():
    class Everything(layers.Layer):
        def build(self, shape):
            self.scale = self.add_weight(
                shape=(3,), initializer="ones", regularizer="l2", name="scale"
            )

        def call(self, x):
            self.add_loss(ops.sum(x), name="sum", weight=2.0)
            return x * self.scale

    layer, x = Everything(activity_regularizer="l1"), numbers(4, 3)
    for _ in range(2):
        layer(x)
        (regularization,) = layer.regularization_losses
        (activity,) = layer.activity_losses
        (added,) = layer.added_losses
        np.testing.assert_allclose(value(regularization), 0.03, rtol=1e-5)
        np.testing.assert_allclose(
            value(activity), 0.01 * np.abs(x).sum() / 4, rtol=1e-5
        )
        np.testing.assert_allclose(value(added), 2 * x.sum(), rtol=1e-5)


def test_attention_reduces_the_penalties_of_its_projections():
    x = numbers(2, 3, 4)
    for reduction in REDUCTIONS:
        attention = layers.MultiHeadAttention(
            2,
            3,
            activity_regularizer=keras.regularizers.L2(1.0),
            activity_reduction=reduction,
        )
        attention(x, x)
        query = ops.convert_to_numpy(attention.query_dense(x))
        expected = (query**2).sum() / DIVISORS[reduction](query)
        attention(x, x)
        np.testing.assert_allclose(
            value(attention.query_dense.activity_losses[0]),
            expected,
            rtol=1e-5,
        )
        assert len(attention.activity_losses) == 4


def test_l2_of_the_second_layer_moves_its_own_weights_only():
    def model_with(regularizer):
        keras.utils.set_random_seed(2)
        inputs = keras.Input((3,))
        x = layers.Dense(4, "tanh")(inputs)
        x = layers.Dense(4, "tanh", kernel_regularizer=regularizer)(x)
        return losskit.Model(inputs, layers.Dense(1)(x))

    x, y = numbers(6, 3), numbers(6, 1, seed=1)
    container = losskit.LossesContainer("mse")
    gradients = []
    for regularizer in (None, keras.regularizers.L2(0.3)):
        model = model_with(regularizer)

        def total(model=model):
            y_pred = model(x)
            return container.compute(y, y_pred, None, model.losses).total

        gradients.append(variable_gradients(total, model.trainable_variables))
    kernel = model.layers[2].kernel.numpy()
    for index, (plain, penalized) in enumerate(zip(*gradients, strict=True)):
        # d 0.3 * sum(w^2) = 0.6 w, on the third of the six variables
        extra = 0.6 * kernel if index == 2 else 0.0
        np.testing.assert_allclose(
            penalized, plain + extra, rtol=1e-5, atol=1e-6
        )


# ---------------------------------------------------------------------- remat


class Adding(layers.Layer):
    def call(self, x):
        self.add_loss(ops.sum(x**2), name="size")
        return x * 1.0

    def compute_output_shape(self, shape):
        return shape


def remat_model(make):
    inputs = keras.Input((3,))
    with keras.RematScope(mode="full"):
        layer = make()
    return losskit.Model(inputs, keras.layers.Dense(1)(layer(inputs)))


@pytest.mark.skipif(
    keras.config.backend() == "tensorflow",
    reason="Keras' own Dense fails under RematScope on TensorFlow",
)
def test_activity_under_remat():
    model, x = remat_model(lambda: dense("sum_over_batch_size")), numbers(4, 3)
    model.compile(keras.optimizers.SGD(0.0), "mse")
    history = model.fit(x, np.zeros((4, 1)), verbose=0).history
    y = outputs_of(model.layers[1], x)
    np.testing.assert_allclose(
        history["activity_loss"][0], penalty(y) / 4, rtol=1e-5
    )


@pytest.mark.skipif(
    keras.config.backend() != "jax", reason="what leaks on JAX only"
)
def test_add_loss_under_remat_is_refused_by_name_before_training():
    model, x = remat_model(lambda: Adding(name="culprit")), numbers(4, 3)
    before = model.get_weights()
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="'culprit'.*rematerialization"):
        model.fit(x, np.zeros((4, 1)), verbose=0)
    with pytest.raises(ValueError, match="'culprit'.*rematerialization"):
        model(x)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.skipif(
    keras.config.backend() != "torch", reason="PyTorch alone can carry it out"
)
def test_add_loss_under_remat_on_torch():
    model, x = remat_model(Adding), numbers(4, 3)
    model.compile(keras.optimizers.SGD(0.0), "mse")
    history = model.fit(x, np.zeros((4, 1)), verbose=0).history
    np.testing.assert_allclose(history["size_loss"][0], (x**2).sum(), rtol=1e-5)
