"""Arithmetic at the full precision of its operands.

On PyTorch, `ops.maximum`, `ops.minimum`, `ops.mean` and `ops.matmul` of Keras
3.15 compute float64 in float32; on a GPU, a matrix product of float32 may be
computed with the ten bits of TF32. What is small enough is done without them.
"""

import math

from keras import ops


def product(vectors, matrix):
    """`vectors @ matrix`: `(..., K)` by `(K, L)` to `(..., L)`.

    Example:
        >>> [float(x) for x in product(ops.array([1.0, 2.0]), 3 * ops.eye(2))]
        [3.0, 6.0]
    """
    return ops.sum(vectors[..., :, None] * matrix, axis=-2)


def larger(first, second):
    """Elementwise maximum of two tensors of one dtype."""
    return ops.where(first > second, first, second)


def smaller(first, second):
    """Elementwise minimum of two tensors of one dtype."""
    return ops.where(first < second, first, second)


def at_least(values, low):
    """Elementwise maximum with a Python number, in the dtype of `values`."""
    return ops.clip(values, low, math.inf)


def at_most(values, high):
    """Elementwise minimum with a Python number, in the dtype of `values`."""
    return ops.clip(values, -math.inf, high)


def mean_where(values, present):
    """Mean of the values that are `present`, 0 if none is."""
    present = ops.cast(present, values.dtype)
    count = at_least(ops.sum(present), 1.0)
    return ops.sum(values * present) / count


def ratio_or_one(numerator, denominator):
    """Elementwise ratio; 1 where either is exactly 0, and never infinite.

    Example:
        >>> ratio = ratio_or_one(ops.array([6.0, 0.0]), ops.array([2.0, 0.0]))
        >>> [float(r) for r in ratio]
        [3.0, 1.0]
    """
    known = ops.logical_and(numerator != 0, denominator != 0)
    safe = ops.where(known, denominator, ops.ones_like(denominator))
    ratio = ops.where(known, numerator / safe, ops.ones_like(numerator))
    return ops.clip(ratio, -1e30, 1e30)
