"""MGDA: the shortest vector between the gradients."""

import keras
from keras import ops

from keras_losskit._types import Tensor
from keras_losskit.weighting._quadratic import nonnegative_minimum
from keras_losskit.weighting.gramian import GradientWeighting
from keras_losskit.weighting.gramian import cosines_and_norms
from keras_losskit.weighting.gramian import smallest_norm


def mgda(gramian):
    """Weights of the shortest convex combination; see `MGDA`.

    `argmin_w w^T G w` with `w >= 0` and `sum(w) = 1`.

    Args:
        gramian: `G = J J^T`, `(K, K)`.

    Returns:
        Weights, `(K,)`, dtype of `gramian`.

    Example:
        >>> gramian = ops.array([[18.0, -22.0], [-22.0, 38.0]])
        >>> [round(float(weight), 4) for weight in mgda(gramian)]
        [0.6, 0.4]
    """
    cosines, norms, present = cosines_and_norms(gramian)
    # In x = w * norm the quadratic is of unit size. Where `n^T x = 1` holds,
    # n n^T and -n add a constant; with them, the minimum over all nonnegative
    # x lies in the same direction, and its length does not matter.
    normal = smallest_norm(norms, present) / norms
    normal = ops.where(present, normal, ops.zeros_like(normal))
    matrix = cosines + normal[:, None] * normal[None, :]
    weights = nonnegative_minimum(matrix, -normal[None, :])[0] * normal
    size = ops.sum(weights)
    some = size > 0
    weights = weights / ops.where(some, size, ops.ones_like(size))
    equal = ops.full_like(weights, 1.0 / gramian.shape[0])
    return ops.where(some, weights, equal)


@keras.saving.register_keras_serializable("keras_losskit")
class MGDA(GradientWeighting):
    """Multiple gradient descent algorithm: never against any term.

    `w = argmin_w ||sum_k(w_k * g_k)||` with `w >= 0` and `sum(w) = 1`, so that
    `G w >= w^T G w`: the update conflicts with no term. Scale: a mean of terms;
    the weights sum to 1. Small gradients dominate.

    A zero gradient is absent: its weight is 0, and the others are weighted as
    if it were not there. If all are zero, or the Gramian is not finite, the
    weights are `1 / K`.

    Args:
        **options: `wrt`, `every`, `terms`, `name` and `dtype`; see
            `GradientWeighting`.

    Returns:
        Of a call with `gramian`: `(K,)`.

    Reference:
        Desideri, "Multiple-Gradient Descent Algorithm (MGDA) for
        Multiobjective Optimization", Comptes Rendus Mathematique, 2012;
        Sener, Koltun, "Multi-Task Learning as Multi-Objective Optimization",
        NeurIPS 2018.

    Example:
        >>> gramian = ops.array([[18.0, -22.0], [-22.0, 38.0]])
        >>> [round(float(weight), 4) for weight in MGDA()(gramian)]
        [0.6, 0.4]
    """

    def weigh(self, gramian: Tensor, training: bool) -> Tensor:
        return mgda(gramian)
