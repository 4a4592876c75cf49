"""Small quadratic programs, solved in a fixed number of operations."""

import itertools

import keras
import numpy as np
from keras import ops

from keras_losskit.weighting._arithmetic import at_least
from keras_losskit.weighting._arithmetic import at_most
from keras_losskit.weighting._arithmetic import larger
from keras_losskit.weighting._arithmetic import product
from keras_losskit.weighting._arithmetic import smaller

#: Up to this many unknowns every support is tried: the least operations, each
#: over all supports at once. Their number doubles with each unknown.
ENUMERATED = 8
#: Newton steps to the precision that a dtype can give.
STEPS = {"float32": 20, "float64": 40}
EPSILON = {"float32": 1.2e-7, "float64": 2.3e-16}


def nonnegative_minimum(matrix, linear):
    """Minimise a convex quadratic over the nonnegative vectors.

    `argmin_x x^T A x / 2 + c^T x` with `x >= 0`.

    Args:
        matrix: `A`, `(K, K)`, positive semidefinite, of ordinary size.
        linear: `c` of each of B problems, `(B, K)`.

    Returns:
        The minima, `(B, K)`, dtype of `matrix`.

    Example:
        >>> matrix, linear = ops.eye(2), ops.array([[-2.0, 1.0]])
        >>> found = nonnegative_minimum(matrix, linear)[0]
        >>> [abs(round(float(x), 4)) for x in found]
        [2.0, 0.0]
    """
    if matrix.shape[0] <= ENUMERATED:
        return minimum_by_support(matrix, linear)
    return minimum_by_newton(matrix, linear)


def on_every_support(matrix, right):
    """Solve `A x = b` within each support, `x = 0` outside of it.

    Args:
        matrix: `A`, `(K, K)`, positive semidefinite, of ordinary size.
        right: `b` of each of B systems, `(B, K)`.

    Returns:
        Solutions, `(S, B, K)`, one for each of the `S = 2 ** K` supports, the
        first of them empty.

    Example:
        >>> found = on_every_support(2.0 * ops.eye(2), ops.array([[2.0, 4.0]]))
        >>> [[round(float(x), 4) for x in solution[0]] for solution in found]
        [[0.0, 0.0], [0.0, 2.0], [1.0, 0.0], [1.0, 2.0]]
    """
    dtype = keras.backend.standardize_dtype(matrix.dtype)
    terms = matrix.shape[0]
    supports = np.array(list(itertools.product([0.0, 1.0], repeat=terms)))
    inside = ops.convert_to_tensor(supports, dtype=dtype)
    outside = np.eye(terms) * (1.0 - supports[:, :, None])
    # Rounding alone can make a Gramian singular by this much.
    outside = outside + terms * EPSILON[dtype] * np.eye(terms)
    systems = matrix * inside[:, :, None] * inside[:, None, :]
    systems = systems + ops.convert_to_tensor(outside, dtype=dtype)
    rights = inside[:, :, None] * ops.transpose(right)[None]
    return ops.transpose(ops.solve(systems, rights), (0, 2, 1))


def minimum_by_support(matrix, linear):
    """`nonnegative_minimum` by trying every support.

    A minimum fulfils `min(x, A x + c) = 0`; the support that comes nearest is
    taken. Unlike the objective, this does not cancel.
    """
    found = on_every_support(matrix, -linear)
    slack = product(found, matrix) + linear[None]
    error = ops.max(ops.abs(smaller(found, slack)), axis=-1)
    best = ops.argmin(error, axis=0)[None, :, None]
    found = ops.take_along_axis(found, best, axis=0)[0]
    return ops.where(found > 0, found, ops.zeros_like(found))


def minimum_by_newton(matrix, linear, normal=None, total=None):
    """`nonnegative_minimum` by an interior point method.

    The number of its steps depends neither on the data nor on the condition of
    `A`, so that it needs no host.

    Args:
        matrix: `A`, `(K, K)`, positive semidefinite, of ordinary size.
        linear: `c` of each of B problems, `(B, K)`.
        normal: `n`, `(K,)`, positive, of the condition `n^T x = t`. Defaults
            to no condition.
        total: `t` of each problem, `(B,)`, positive.

    Returns:
        The minima, `(B, K)`, dtype of `matrix`.

    Reference:
        Nocedal, Wright, "Numerical Optimization", chapter 16.6, 2006.

    Example:
        >>> matrix, linear = ops.eye(2), ops.array([[-2.0, 1.0]])
        >>> [round(float(x), 4) for x in minimum_by_newton(matrix, linear)[0]]
        [2.0, 0.0]
    """
    dtype = keras.backend.standardize_dtype(matrix.dtype)
    epsilon, terms = EPSILON[dtype], matrix.shape[0]
    # Rounding alone can make a Gramian indefinite by this much.
    matrix = matrix + terms * epsilon * ops.eye(terms, dtype=dtype)
    x, slack = ops.ones_like(linear), ops.ones_like(linear)
    multiplier = ops.zeros_like(linear[:, :1])
    step = newton_step
    if normal is None:
        normal, total = multiplier[0], multiplier + 1.0
    else:
        step = newton_step_on_plane
        total = total[:, None]
        x = total / (terms * normal[None, :]) * x
    problem = (matrix, linear, normal, total)
    start = (x, slack, multiplier, problem)
    return ops.fori_loop(0, STEPS[dtype], step, start)[0]


# Functions of the module, without a closure: JAX compiles a loop once for each
# body that it meets, and would meet a new one with every call.
def newton_step(_, state):
    """One step towards the minimum over all nonnegative vectors."""
    x, slack, multiplier, problem = state
    matrix, linear, _, total = problem
    residual = product(x, matrix) + linear - slack
    gap, root, system = scaled_system(x, slack, matrix, total)
    right = root * (gap / x - slack - residual)
    change = root * ops.solve(system, right[..., None])[..., 0]
    x, slack, _ = advanced(x, slack, change, gap)
    return x, slack, multiplier, problem


def newton_step_on_plane(_, state):
    """One step towards the minimum over those with `n^T x = t`."""
    x, slack, multiplier, problem = state
    matrix, linear, normal, total = problem
    residual = product(x, matrix) + linear - slack - multiplier * normal
    gap, root, system = scaled_system(x, slack, matrix, total)
    right = root * (gap / x - slack - residual)
    both = ops.solve(system, ops.stack([right, root * normal], axis=-1))
    change, lift = root * both[..., 0], root * both[..., 1]
    missing = total - ops.sum((x + change) * normal, axis=-1, keepdims=True)
    step = missing / ops.sum(lift * normal, axis=-1, keepdims=True)
    x, slack, length = advanced(x, slack, change + step * lift, gap)
    return x, slack, multiplier + length * step, problem


def scaled_system(x, slack, matrix, total):
    """Complementarity aimed at, scale, and the matrix of the Newton step."""
    epsilon = EPSILON[keras.backend.standardize_dtype(matrix.dtype)]
    gap = 0.1 * ops.sum(x * slack, axis=-1, keepdims=True) / x.shape[-1]
    gap = larger(gap, 1e-3 * epsilon * at_most(total, 1.0))
    # Scaled by `root`, the system is the identity plus a Gramian.
    root = ops.sqrt(x / slack)
    system = root[:, :, None] * matrix * root[:, None, :]
    return gap, root, system + ops.eye(matrix.shape[0], dtype=matrix.dtype)


def advanced(x, slack, change, gap):
    """Follow `change` as far as `x` and `slack` stay positive."""
    # Not smaller: their quotients would drown the rest of the system.
    floor = 1e-15
    slack_change = gap / x - slack - slack / x * change
    length = smaller(way(x, change), way(slack, slack_change))
    x = at_least(x + length * change, floor)
    slack = at_least(slack + length * slack_change, floor)
    return x, slack, length


def way(x, change):
    """Part of `change` that leaves `x` positive, at most 1: `(B, 1)`."""
    falls = change < 0
    safe = ops.where(falls, change, -ops.ones_like(change))
    ways = ops.where(falls, -x / safe, ops.full_like(x, 2.0))
    return at_most(0.99 * ops.min(ways, axis=-1, keepdims=True), 1.0)
