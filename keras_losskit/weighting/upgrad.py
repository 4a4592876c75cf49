"""UPGrad: the mean of the gradients, each made to conflict with none."""

import keras
from keras import ops

from keras_losskit._types import Tensor
from keras_losskit.weighting._quadratic import nonnegative_minimum
from keras_losskit.weighting.gramian import GradientWeighting
from keras_losskit.weighting.gramian import cosines_and_norms


def upgrad(gramian):
    """Weights of the mean of the projected gradients; see `UPGrad`.

    `w = sum_i(v_i) / K` with `v_i = argmin_v v^T G v` over `v >= e_i`.

    Args:
        gramian: `G = J J^T`, `(K, K)`.

    Returns:
        Weights, `(K,)`, dtype of `gramian`.

    Example:
        >>> gramian = ops.array([[18.0, -22.0], [-22.0, 38.0]])
        >>> [round(float(weight), 4) for weight in upgrad(gramian)]
        [1.1111, 0.7895]
    """
    cosines, norms, present = cosines_and_norms(gramian)
    identity = ops.eye(gramian.shape[0], dtype=gramian.dtype)
    # Row i: what to add to the unit gradient i.
    added = nonnegative_minimum(cosines, cosines)
    both = ops.logical_and(present[:, None], present[None, :])
    added = ops.where(both, added, ops.zeros_like(added))
    units = identity + added
    # From unit gradients back to gradients: v_ij * |g_i| / |g_j|.
    weights = ops.sum(units * (norms[:, None] / norms[None, :]), axis=0)
    return weights / gramian.shape[0]


@keras.saving.register_keras_serializable("keras_losskit")
class UPGrad(GradientWeighting):
    """Unconflicting projection of gradients: never against any term.

    Each gradient is projected onto the cone of the directions that conflict
    with no term, `{d: J d >= 0}`, and the mean is taken: `w = sum_i(v_i) / K`
    with `v_i = argmin_v v^T G v` over `v >= e_i`, so that `G w >= 0`. Without
    conflicts it is the mean gradient. Scale: a mean of terms.

    A zero gradient is absent from the projections; its weight is `1 / K`. A
    Gramian that is not finite gives `1 / K` for all.

    Args:
        **options: `wrt`, `every`, `terms`, `name` and `dtype`; see
            `GradientWeighting`.

    Returns:
        Of a call with `gramian`: `(K,)`.

    Reference:
        Quinton, Rey, "Jacobian Descent for Multi-Objective Optimization", 2024.

    Example:
        >>> gramian = ops.array([[18.0, -22.0], [-22.0, 38.0]])
        >>> [round(float(weight), 4) for weight in UPGrad()(gramian)]
        [1.1111, 0.7895]
    """

    def weigh(self, gramian: Tensor, training: bool) -> Tensor:
        return upgrad(gramian)
