"""TensorFlow."""

import tensorflow as tf


def num_replicas():
    """See `_backend.jax`."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def register_pytree(cls):
    """See `_backend.jax`: `tf.nest` asks the class itself."""

    def flatten(self):
        children, static = self.tree_flatten()
        return static, children

    cls.__tf_flatten__ = flatten
    cls.__tf_unflatten__ = classmethod(
        lambda cls, static, children: cls.tree_unflatten(static, children)
    )


def is_tracer(tensor):
    """See `_backend.jax`: a graph carries assignments along."""
    del tensor
    return False


def can_read(tensor):
    """See `_backend.jax`."""
    return hasattr(tensor, "numpy") and "CPU" in tensor.device
