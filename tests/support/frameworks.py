"""Compiling and differentiating, the way of the backend in use."""

import keras
import numpy as np


def jitted(function, *, xla=True):
    """`function`, compiled by the backend where it has a compiler.

    `xla=False` leaves TensorFlow at a graph.
    """
    backend = keras.config.backend()
    if backend == "jax":
        import jax

        return jax.jit(function)
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(function, jit_compile=xla)
    return function


def compiled_with_state(function, variables, *, xla=True):
    """`function`, compiled, with the variables it assigns kept up to date."""
    if keras.config.backend() != "jax":
        return jitted(function, xla=xla)
    import jax

    @jax.jit
    def pure(values, args, kwargs):
        mapping = list(zip(variables, values, strict=True))
        with keras.StatelessScope(state_mapping=mapping) as scope:
            result = function(*args, **kwargs)
        return result, [scope.get_current_value(v) for v in variables]

    def stateful(*args, **kwargs):
        result, values = pure([v.value for v in variables], args, kwargs)
        for variable, value in zip(variables, values, strict=True):
            # None: the function left it alone.
            if value is not None:
                variable.assign(value)
        return result

    return stateful


def variable_gradients(function, variables):
    """Gradients of the scalar `function()` by `keras.Variable`s, as NumPy.

    A variable that `function` does not depend on has the gradient 0.
    """
    backend = keras.config.backend()
    if backend == "jax":
        import jax

        def of_values(values):
            mapping = list(zip(variables, values, strict=True))
            with keras.StatelessScope(state_mapping=mapping):
                return function()

        gradients = jax.grad(of_values)([v.value for v in variables])
    elif backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            total = function()
        gradients = tape.gradient(
            total,
            [v.value for v in variables],
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
    else:
        import torch

        gradients = torch.autograd.grad(
            function(),
            [v.value for v in variables],
            allow_unused=True,
            materialize_grads=True,
        )
    return [np.asarray(gradient) for gradient in gradients]
