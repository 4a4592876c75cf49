"""Gradients on whatever backend the tests run."""

import keras
import numpy as np
from keras import ops


def value_and_gradient(fn, x, dtype="float32"):
    """`fn(x)`, a scalar, and its gradient with respect to `x`, as NumPy."""
    x = ops.convert_to_tensor(np.asarray(x, dtype))
    backend = keras.config.backend()
    if backend == "jax":
        import jax

        value, gradient = jax.value_and_grad(fn)(x)
    elif backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(x)
            value = fn(x)
        gradient = tape.gradient(value, x)
    else:
        x = x.detach().requires_grad_(True)
        value = fn(x)
        value.backward()
        gradient = x.grad
    return ops.convert_to_numpy(value), ops.convert_to_numpy(gradient)


def compiled(fn):
    """`fn` as the backend compiles it; as it is on PyTorch."""
    backend = keras.config.backend()
    if backend == "jax":
        import jax

        return jax.jit(fn)
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(fn)
    return fn
