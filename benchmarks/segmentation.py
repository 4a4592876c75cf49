"""A composite of four losses on maps of classes, and its sum by hand."""

import keras
import numpy as np
from keras import losses as plain
from keras import ops

from keras_losskit import losses

CLASSES = 21


def maps(batch=4, side=128):
    """One-hot labels and logits, `(batch, side, side, 21)`."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, (batch, side, side))
    logits = rng.normal(size=(batch, side, side, CLASSES))
    return np.eye(CLASSES, dtype="float32")[labels], logits.astype("float32")


def by_hand():
    """The sum as one writes it with `keras.losses`."""
    ce = plain.CategoricalCrossentropy(from_logits=True)
    focal = plain.CategoricalFocalCrossentropy(from_logits=True)
    dice = plain.Dice()
    smooth = plain.CategoricalCrossentropy(
        from_logits=True, label_smoothing=0.1
    )

    def total(y_true, y_pred):
        return (
            ce(y_true, y_pred)
            + focal(y_true, y_pred)
            + 0.5 * dice(y_true, ops.softmax(y_pred))
            + 0.1 * smooth(y_true, y_pred)
        )

    return total


def composite():
    """The same sum with the losses of this package."""
    return (
        losses.CategoricalCrossentropy(from_logits=True, name="ce")
        + losses.CategoricalFocalCrossentropy(from_logits=True)
        + 0.5 * losses.Dice(from_logits=True)
        + 0.1
        * losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=0.1, name="smooth"
        )
    )


def differentiated(loss):
    """`(y_true, y_pred) -> (value, gradient)`, the way of the backend."""
    backend = keras.config.backend()
    if backend == "jax":
        import jax

        return jax.jit(jax.value_and_grad(loss, argnums=1))
    if backend == "tensorflow":
        import tensorflow as tf

        @tf.function
        def of_tape(y_true, y_pred):
            with tf.GradientTape() as tape:
                tape.watch(y_pred)
                value = loss(y_true, y_pred)
            return value, tape.gradient(value, y_pred)

        return of_tape

    def of_autograd(y_true, y_pred):
        y_pred = y_pred.detach().requires_grad_(True)
        value = loss(y_true, y_pred)
        value.backward()
        return value.detach(), y_pred.grad

    return of_autograd


def repeated(loss, steps, arrays):
    """A function that differentiates `loss` at `arrays` `steps` times."""
    step = differentiated(loss)
    y_true, y_pred = map(ops.convert_to_tensor, arrays)

    def run():
        for _ in range(steps):
            value, gradient = step(y_true, y_pred)
        # Waits for the device.
        return ops.convert_to_numpy(value), ops.convert_to_numpy(gradient)

    return run


def contestants(steps, batch=4):
    """The sum by hand, and the composite."""
    return {
        "keras.losses by hand": lambda: repeated(by_hand(), steps, maps(batch)),
        "losskit": lambda: repeated(composite(), steps, maps(batch)),
    }
