"""Bringing values, sample weights and masks to one shape and dtype.

Nothing here writes into its inputs: PyTorch would change the caller's weights.
"""

import math

import numpy as np
from keras import ops

from keras_losskit._support import replicas
from keras_losskit._support.precision import at_least_float32
from keras_losskit._support.shapes import may_broadcast


def align(factor, values, name):
    """Reshape `factor` so that it broadcasts to `values` from the left.

    A weight per sample serves values per sample and step, and a trailing
    dimension of 1 that the values lack is dropped, so that `(n,)` against
    `(n, 1)` never becomes `(n, n)`.

    Args:
        factor: Sample weights or mask, `(batch, ...)` or a scalar.
        values: Per-sample values, `(batch, d0, ..., dN)`.
        name: What `factor` is called in the error.

    Returns:
        `factor`, of the rank of `values`.

    Raises:
        ValueError: if the shapes do not fit.
    """
    received = factor.shape
    while len(factor.shape) > len(values.shape) and factor.shape[-1] == 1:
        factor = ops.squeeze(factor, axis=-1)
    while 0 < len(factor.shape) < len(values.shape):
        factor = ops.expand_dims(factor, axis=-1)
    if len(factor.shape) and not may_broadcast(factor.shape, values.shape):
        raise ValueError(
            f"Expected `{name}` to have the shape of the loss values, or their "
            f"leading dimensions. Received: {name}.shape={tuple(received)}, "
            f"values.shape={tuple(values.shape)}"
        )
    return factor


def prepare(values, sample_weight=None, mask=None):
    """Widen and align the arguments of a reduction.

    A scalar value, which has no samples to weight, takes the shape of the mask
    or the weights: its mean is then multiplied by the mean weight, as in Keras.

    Args:
        values: Per-sample values, `(batch, d0, ..., dN)`, or a scalar.
        sample_weight: Optional weights, `(batch, ...)` or a scalar.
        mask: Optional mask, `(batch, ...)`; what is 0 or False is left out.

    Returns:
        `(values, weight, mask)`: values and weight float32 at least, mask
        boolean, the last two `None` where they were, of the rank of `values`.
        Masked values, and values of weight 0, are 0, even where they were not
        finite.

    Raises:
        ValueError: if the shapes do not fit.
    """
    values = at_least_float32(values)
    if mask is not None:
        mask = ops.cast(ops.convert_to_tensor(mask), "bool")
    weight = None
    if sample_weight is not None:
        weight = ops.cast(ops.convert_to_tensor(sample_weight), values.dtype)
    if not len(values.shape):
        shapes = [x for x in (mask, weight) if x is not None and len(x.shape)]
        if shapes:
            largest = max(shapes, key=lambda x: len(x.shape))
            values = ops.broadcast_to(values, ops.shape(largest))
    if mask is not None:
        mask = align(mask, values, "mask")
        values = ops.where(mask, values, 0.0)
    if weight is not None:
        weight = align(weight, values, "sample_weight")
        values = ops.where(ops.equal(weight, 0.0), 0.0, values)
    return values, weight, mask


def size(values):
    """Number of elements of `values`: an int, or a scalar where not static."""
    return _product(ops.shape(values), values.dtype)


def share(values, factor):
    """How many values share one entry of `factor`, aligned with them."""
    shape = ops.shape(values)
    broadcast = [
        n for n, have in zip(shape, factor.shape, strict=True) if have == 1
    ]
    return _product(broadcast, values.dtype)


def _product(dimensions, dtype):
    static = math.prod(n for n in dimensions if isinstance(n, int))
    dynamic = [n for n in dimensions if not isinstance(n, int)]
    if not dynamic:
        return static
    return static * ops.prod(ops.stack([ops.cast(n, dtype) for n in dynamic]))


def divide_or_zero(numerator, denominator):
    """`numerator / denominator`; 0, gradient too, where that divides by 0."""
    if isinstance(denominator, int):
        return numerator / max(denominator, 1)
    empty = ops.equal(denominator, 0.0)
    safe = ops.where(empty, 1.0, denominator)
    return ops.where(empty, 0.0, numerator / safe)


def divided(total, count):
    """`total / count`, both summed over all replicas that share the batch.

    Args:
        total: A scalar.
        count: A number, or a scalar without gradient.

    Returns:
        This replica's part of the quotient, a scalar; 0 where nothing counts.
    """
    if replicas.num_parts() > 1:
        count = ops.cast(replicas.total_of(count), total.dtype)
    return replicas.part_of_sum(divide_or_zero(total, count))


def candidates(values, sample_weight=None, mask=None):
    """The weighted values that a data-dependent reduction chooses from.

    Args:
        values: Per-sample values, `(batch, d0, ..., dN)`, or a scalar.
        sample_weight: Optional weights, `(batch, ...)`.
        mask: Optional mask, `(batch, ...)`.

    Returns:
        `(x, valid, count)`: `x`, `(n,)`, the values times their weights, 0
        where not `valid`; `valid`, `(n,)`, False where masked or of weight 0;
        `count`, the number of the valid ones, a scalar in the dtype of `x`.

    Raises:
        ValueError: if the shapes do not fit.
    """
    values, weight, mask = prepare(values, sample_weight, mask)
    valid = ops.ones_like(values, dtype="bool")
    if mask is not None:
        valid = ops.logical_and(valid, mask)
    if weight is not None:
        valid = ops.logical_and(valid, ops.not_equal(weight, 0.0))
        values = values * weight
    valid = ops.reshape(valid, (-1,))
    values = ops.reshape(values, (-1,))
    return values, valid, ops.sum(ops.cast(valid, values.dtype))


def descending(x, valid):
    """`x` from the largest down, what is not `valid` last, and positions.

    Args:
        x: `(n,)`.
        valid: `(n,)`, boolean.

    Returns:
        `(sorted, position)`, both `(n,)` in the dtype of `x`.
    """
    order = ops.argsort(ops.where(valid, -x, np.inf))
    position = ops.arange(ops.shape(x)[0], dtype="int32")
    return ops.take(x, order, axis=0), ops.cast(position, x.dtype)
