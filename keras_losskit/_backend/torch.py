"""PyTorch."""

import torch
from torch.utils import _pytree


def num_replicas():
    """See `_backend.jax`. Processes average gradients, so each counts once."""
    return 1


def register_pytree(cls):
    """See `_backend.jax`: gives `keras.tree` what it registers with torch."""

    def flatten(self):
        children, static = self.tree_flatten()
        return list(children), static

    def flatten_with_keys(self):
        children, static = flatten(self)
        keyed = [
            (_pytree.SequenceKey(index), child)
            for index, child in enumerate(children)
        ]
        return keyed, static

    cls.torchtree_flatten = flatten
    cls.torchtree_flatten_with_keys = flatten_with_keys
    cls.torchtree_unflatten = classmethod(
        lambda cls, children, static: cls.tree_unflatten(static, children)
    )


def is_tracer(tensor):
    """See `_backend.jax`: PyTorch has no such thing."""
    del tensor
    return False


def can_read(tensor):
    """See `_backend.jax`. `torch.func` wraps what it transforms."""
    return (
        tensor.device.type == "cpu"
        and not torch.compiler.is_compiling()
        and type(tensor) in (torch.Tensor, torch.nn.Parameter)
        and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    )


def term_gradients(function, variables):
    """See `_backend.jax`; `function` reads the variables themselves."""
    scalars, aux = function(variables)
    last = len(scalars) - 1
    per_scalar = [
        torch.autograd.grad(
            scalar,
            variables,
            retain_graph=index < last,
            allow_unused=True,
            materialize_grads=True,
        )
        for index, scalar in enumerate(scalars)
    ]
    rows = [
        torch.stack(gradients) for gradients in zip(*per_scalar, strict=True)
    ]
    return rows, aux


def sum_over_replicas(tensors):
    """See `_backend.jax`."""
    return tensors


def apply_gradients(optimizer, gradients, variables):
    """See `_backend.jax`."""
    with torch.no_grad():
        optimizer.apply(gradients, variables)
