"""A regularizer adds its derivative to the gradient of its own variables."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_losskit as losskit

X = np.random.default_rng(0).normal(size=(6, 3)).astype("float32")
Y = X[:, :1] - 0.5
L2 = 0.3


def model_with(regularizer):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((3,))
    hidden = layers.Dense(4, "tanh", name="first")(inputs)
    hidden = layers.Dense(
        4, "tanh", kernel_regularizer=regularizer, name="second"
    )(hidden)
    model = losskit.Model(inputs, layers.Dense(1, name="third")(hidden))
    model.compile(keras.optimizers.SGD(1.0), "mse")
    return model


def in_fit(model):
    """Gradients as what plain descent with rate 1 subtracts."""
    before = model.get_weights()
    model.fit(X, Y, batch_size=6, verbose=0)
    return [b - a for b, a in zip(before, model.get_weights(), strict=True)]


def in_custom_loop(model):
    """Gradients of `container.compute(...).total` in the backend's own way."""
    container = losskit.LossesContainer("mse")
    variables = model.trainable_variables
    if keras.config.backend() == "jax":
        import jax

        def total(trainable):
            y_pred, _, losses = model.stateless_call(
                trainable,
                [v.value for v in model.non_trainable_variables],
                X,
                training=True,
                return_losses=True,
            )
            terms = container.compute(Y, y_pred, None, losses)
            return terms.total, terms.as_dict()

        gradients, _ = jax.jit(jax.grad(total, has_aux=True))(
            [v.value for v in variables]
        )
    elif keras.config.backend() == "tensorflow":
        import tensorflow as tf

        @tf.function
        def gradient():
            with tf.GradientTape() as tape:
                y_pred = model(X, training=True)
                terms = container.compute(Y, y_pred, None, model.losses)
            return tape.gradient(terms.total, [v.value for v in variables])

        gradients = gradient()
    else:
        model.zero_grad()
        y_pred = model(X, training=True)
        container.compute(Y, y_pred, None, model.losses).total.backward()
        gradients = [v.value.grad for v in variables]
    return [ops.convert_to_numpy(g) for g in gradients]


@pytest.mark.parametrize("gradients_of", [in_fit, in_custom_loop])
def test_changes_its_own_variables_only(gradients_of):
    plain, regularized = model_with(None), model_with(keras.regularizers.L2(L2))
    kernel = regularized.get_layer("second").get_weights()[0]
    names = [v.path for v in regularized.trainable_variables]
    without, with_l2 = gradients_of(plain), gradients_of(regularized)
    for name, expected, received in zip(names, without, with_l2, strict=True):
        if name.endswith("second/kernel"):
            expected = expected + 2 * L2 * kernel  # d/dw L2 * sum(w ** 2)
        np.testing.assert_allclose(received, expected, atol=2e-6, err_msg=name)
