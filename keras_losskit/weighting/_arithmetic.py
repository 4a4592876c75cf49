"""Arithmetic at the full precision of its operands.

On PyTorch, `ops.maximum`, `ops.minimum`, `ops.mean` and `ops.matmul` of Keras
3.15 compute float64 in float32; on a GPU, a matrix product of float32 may be
computed with the ten bits of TF32. What is small enough is done without them.
"""

import functools
import math

from keras import ops


def product(vectors, matrix):
    """`vectors @ matrix`: `(..., K)` by `(K, L)` to `(..., L)`.

    Example:
        >>> [float(x) for x in product(ops.array([1.0, 2.0]), 3 * ops.eye(2))]
        [3.0, 6.0]
    """
    return ops.sum(vectors[..., :, None] * matrix, axis=-2)


def all_finite(*tensors):
    """Whether every element of the tensors is finite, a boolean scalar.

    None stands for a tensor that was not given.
    """
    found = [ops.all(ops.isfinite(t)) for t in tensors if t is not None]
    return functools.reduce(ops.logical_and, found)


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


#: What rounding may leave of a value that cannot be negative.
HAIR = 1e-6


def hair_to_zero(values):
    """The values, 0 in place of those that rounding has made negative.

    Example:
        >>> [float(v) for v in hair_to_zero(ops.array([-8e-8, -0.5, 2.0]))]
        [0.0, -0.5, 2.0]
    """
    hair = ops.logical_and(values < 0, values > -HAIR)
    return ops.where(hair, ops.zeros_like(values), values)


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
