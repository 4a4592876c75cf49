"""PyTorch."""


def num_replicas():
    """See `_backend.jax`. Processes average gradients, so each counts once."""
    return 1


def register_pytree(cls):
    """See `_backend.jax`: `keras.tree` has registered it with torch already."""
    del cls
