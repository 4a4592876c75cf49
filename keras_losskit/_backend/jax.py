"""JAX."""

import jax


def num_replicas():
    """Number of replicas whose losses are added up by the trainer."""
    return 1


def register_pytree(cls):
    """Let the framework's transformations look into `cls`.

    Args:
        cls: A class with `tree_flatten` and the class method `tree_unflatten`.
    """
    jax.tree_util.register_pytree_node_class(cls)


def is_tracer(tensor):
    """Whether `tensor` stands for a value inside a bare transformation."""
    return isinstance(tensor, jax.core.Tracer)


def can_read(tensor):
    """Whether the values are known now and near: eager, and on the CPU."""
    return not isinstance(tensor, jax.core.Tracer) and all(
        device.platform == "cpu"
        for device in jax.numpy.asarray(tensor).devices()
    )
