"""CAGrad: near the mean gradient, the best for the worst term."""

import math

import keras
from keras import ops

from keras_losskit._support.checks import checked_number
from keras_losskit._types import Config
from keras_losskit._types import Tensor
from keras_losskit.weighting._arithmetic import at_least
from keras_losskit.weighting._arithmetic import at_most
from keras_losskit.weighting._arithmetic import product
from keras_losskit.weighting._quadratic import ENUMERATED
from keras_losskit.weighting._quadratic import EPSILON
from keras_losskit.weighting._quadratic import minimum_by_newton
from keras_losskit.weighting._quadratic import on_every_support
from keras_losskit.weighting.gramian import GradientWeighting
from keras_losskit.weighting.gramian import cosines_and_norms
from keras_losskit.weighting.gramian import largest_norm
from keras_losskit.weighting.gramian import smallest_norm

#: Sizes tried at once, and how often the interval between two is refined.
SIZES = 64
ROUNDS = 2


def cagrad(gramian, *, c=0.5):
    """Weights of the conflict-averse gradient; see `CAGrad`.

    In terms of the unit gradients, and of the mean gradient's norm: `x >= 0` is
    what is added to the mean, at most of length `c`, and `n_k` stands for
    `1 / ||g_k||`; wanted is the largest `min_k(u_k . d / n_k)`.

    Args:
        gramian: `G = J J^T`, `(K, K)`.
        c: Radius of the ball around the mean gradient, as a part of its norm.

    Returns:
        Weights, `(K,)`, dtype of `gramian`.

    Example:
        >>> gramian = ops.array([[18.0, -22.0], [-22.0, 38.0]])
        >>> [round(float(weight), 4) for weight in cagrad(gramian, c=0.5)]
        [0.7041, 0.5]
    """
    dtype = keras.backend.standardize_dtype(gramian.dtype)
    terms = gramian.shape[0]
    cosines, norms, present = cosines_and_norms(gramian)
    largest = largest_norm(norms, present)
    shares = ops.where(present, norms / largest, ops.zeros_like(norms)) / terms
    pull = product(shares, cosines)
    squared = ops.sum(pull * shares)
    # The mean gradient is zero as far as the dtype can tell.
    balanced = squared <= EPSILON[dtype] / terms
    mean_norm = ops.sqrt(ops.where(balanced, ops.ones_like(squared), squared))
    pull = pull / mean_norm
    normal = smallest_norm(norms, present) / norms
    normal = ops.where(present, normal, ops.ones_like(normal))
    solve = best_by_support if terms <= ENUMERATED else best_by_newton
    x = solve(cosines, pull, normal, present, c)
    x = ops.where(ops.logical_or(balanced, c == 0.0), ops.zeros_like(x), x)
    return 1.0 / terms + x * mean_norm * (largest / norms)


def length_of(x, cosines):
    """Length of the vectors with the coefficients `x`, `(..., K)`: `(...,)`."""
    squared = ops.sum(product(x, cosines) * x, axis=-1)
    return ops.sqrt(at_least(squared, 0.0))


def best_by_support(cosines, pull, normal, present, c):
    """The solution among those of every support.

    Within its support the solution fulfils `C x + pull = tau * n`, so that it
    is `p + tau * q`; either its length is `c`, or `tau` is 0 and the gradients
    can be balanced within the ball.
    """
    dtype = keras.backend.standardize_dtype(cosines.dtype)
    both = on_every_support(cosines, ops.stack([-pull, normal]))
    p, q = both[:, 0], both[:, 1]
    mapped = product(q, cosines)
    square = at_least(ops.sum(mapped * q, axis=-1), 1e-30)
    half = ops.sum(mapped * p, axis=-1)
    rest = ops.sum(product(p, cosines) * p, axis=-1) - c**2
    root = ops.sqrt(at_least(half**2 - square * rest, 0.0))
    signs = ops.convert_to_tensor([[1.0], [-1.0]], dtype=dtype)
    tau = (signs * root - half) / square
    tau = ops.concatenate([tau, ops.zeros_like(half)[None]], axis=0)
    found = p[None] + tau[:, :, None] * q[None]
    found = ops.reshape(at_least(found, 0.0), (-1, cosines.shape[0]))
    found = ops.where(present[None], found, ops.zeros_like(found))
    # Opposite gradients cancel in any amount; what is left is then rounding.
    small = ops.max(found, axis=-1) < 0.3 / EPSILON[dtype] ** 0.5
    length = length_of(found, cosines)
    shrink = at_most(c / at_least(length, 1e-30), 1.0)
    found = found * shrink[:, None]
    worst = (pull[None] + product(found, cosines)) / normal[None]
    worst = ops.where(present[None], worst, ops.full_like(worst, 1e30))
    worst = ops.min(worst, axis=-1)
    worst = ops.where(small, worst, ops.full_like(worst, -1e30))
    return found[ops.argmax(worst)]


def best_by_newton(cosines, pull, normal, present, c):
    """The solution by a search over its size `t = n^T x`.

    For a given size `x` minimises `x^T C x / 2 + pull^T x`, and its length
    grows with the size.
    """
    dtype = keras.backend.standardize_dtype(cosines.dtype)
    linear = ops.where(present, pull, ops.ones_like(pull))
    problems = ops.broadcast_to(linear[None], (SIZES, linear.shape[0]))
    grid = ops.arange(SIZES, dtype=dtype) / (SIZES - 1)
    low = ops.log(1e-3 * ops.min(normal))
    # Larger sizes only matter where gradients cancel, and then the rounding of
    # what cancels grows as they do.
    high = ops.full_like(low, math.log(1e2 if dtype == "float32" else 1e4))
    for _ in range(ROUNDS):
        sizes = ops.exp(low + (high - low) * grid)
        found = minimum_by_newton(cosines, problems, normal, sizes)
        found = ops.where(present[None], found, ops.zeros_like(found))
        inside = ops.cast(length_of(found, cosines) <= c, "int32")
        after = ops.clip(ops.sum(ops.cumprod(inside)), 1, SIZES - 1)
        low = ops.log(ops.take(sizes, after - 1))
        high = ops.log(ops.take(sizes, after))
    start = ops.take(found, after - 1, axis=0)
    way = ops.take(found, after, axis=0) - start
    # Between two sizes with one support the solutions lie on a line.
    mapped = product(way, cosines)
    square = at_least(ops.sum(mapped * way), 1e-30)
    half = ops.sum(mapped * start)
    rest = length_of(start, cosines) ** 2 - c**2
    root = ops.sqrt(at_least(half**2 - square * rest, 0.0))
    x = start + ops.clip((root - half) / square, 0.0, 1.0) * way
    return x * at_most(c / at_least(length_of(x, cosines), 1e-30), 1.0)


@keras.saving.register_keras_serializable("keras_losskit")
class CAGrad(GradientWeighting):
    """Conflict-averse gradient descent.

    The update `d` that does most for the worst term, `max_d min_k(g_k . d)`,
    among those with `||d - g_0|| <= c * ||g_0||`, where `g_0` is the mean
    gradient: `d = g_0 + c * ||g_0|| * g_w / ||g_w||` with `g_w` the convex
    combination that minimises `g_w . g_0 + c * ||g_0|| * ||g_w||`. It converges
    to a minimum of the mean of the terms; it may conflict with some. Scale: a
    mean of terms, without the later division by `1 + c^2`.

    A zero gradient counts in the mean, and is otherwise absent: its weight is
    `1 / K`. Where the mean gradient is zero, or the Gramian not finite, the
    weights are `1 / K`.

    Args:
        c: Radius of the ball around the mean gradient, as a part of its norm,
            0 (the mean gradient) to under 1.
        **options: `wrt`, `every`, `terms`, `name` and `dtype`; see
            `GradientWeighting`.

    Returns:
        Of a call with `gramian`: `(K,)`.

    Raises:
        ValueError: if `c` is not inside [0, 1).

    Reference:
        Liu, Liu, Jin, Stone, Liu, "Conflict-Averse Gradient Descent for
        Multi-task Learning", NeurIPS 2021.

    Example:
        >>> gramian = ops.array([[18.0, -22.0], [-22.0, 38.0]])
        >>> weights = CAGrad(c=0.0)(gramian)
        >>> [round(float(weight), 4) for weight in weights]
        [0.5, 0.5]
    """

    def __init__(self, *, c: float = 0.5, **options):
        super().__init__(**options)
        self.c = checked_number(c, "`c` of CAGrad")
        if not 0.0 <= self.c < 1.0:
            raise ValueError(
                "Expected `c` of CAGrad to be at least 0 and under 1. "
                f"Received: c={c!r}"
            )

    def weigh(self, gramian: Tensor, training: bool) -> Tensor:
        return cagrad(gramian, c=self.c)

    def get_config(self) -> Config:
        return {**super().get_config(), "c": self.c}
