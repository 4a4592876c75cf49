"""Aligned-MTL: gradients made orthogonal and equally long."""

import keras
from keras import ops

from keras_losskit._types import Tensor
from keras_losskit.weighting._arithmetic import product
from keras_losskit.weighting._quadratic import EPSILON
from keras_losskit.weighting.gramian import GradientWeighting


def balance(gramian):
    """The linear map after which the gradients are aligned; see `AlignedMTL`.

    `B = sqrt(l_min) * V L^(-1/2) V^T` with `G = V L V^T`, over the eigenvalues
    that are not 0, so that `B G B = l_min * I` on the span of the gradients.

    Args:
        gramian: `G = J J^T`, `(K, K)`.

    Returns:
        `B`, `(K, K)`, dtype of `gramian`; the identity if `G` is 0.

    Example:
        >>> gramian = ops.array([[4.0, 0.0], [0.0, 1.0]])
        >>> [round(float(entry), 4) for entry in ops.diagonal(balance(gramian))]
        [0.5, 1.0]
    """
    terms = gramian.shape[0]
    dtype = keras.backend.standardize_dtype(gramian.dtype)
    size = ops.max(ops.diagonal(gramian))
    some = size > 1.2e-38
    scaled = gramian / ops.where(some, size, ops.ones_like(size))
    values, vectors = ops.eigh(scaled)
    largest = ops.max(values)
    kept = values > terms * EPSILON[dtype] * largest
    smallest = ops.min(ops.where(kept, values, largest))
    safe = ops.where(kept, values, ops.ones_like(values))
    ratios = ops.where(kept, smallest / safe, ops.zeros_like(values))
    found = product(vectors * ops.sqrt(ratios), ops.transpose(vectors))
    return ops.where(some, found, ops.eye(terms, dtype=gramian.dtype))


def aligned_mtl(gramian):
    """Weights of the mean of the aligned gradients; see `AlignedMTL`.

    `w = B 1 / K`.

    Args:
        gramian: `G = J J^T`, `(K, K)`.

    Returns:
        Weights, `(K,)`, dtype of `gramian`.

    Example:
        >>> weights = aligned_mtl(ops.array([[4.0, 0.0], [0.0, 1.0]]))
        >>> [round(float(weight), 4) for weight in weights]
        [0.25, 0.5]
    """
    return ops.sum(balance(gramian), axis=1) / gramian.shape[0]


@keras.saving.register_keras_serializable("keras_losskit")
class AlignedMTL(GradientWeighting):
    """Aligned-MTL: the gradients, as nearly as can be, orthogonal and equal.

    `w = B 1 / K` with `B = sqrt(l_min) * V L^(-1/2) V^T`, `G = V L V^T`: the
    principal components of the gradients are all brought to the size of the
    smallest. Scale: a mean of terms.

    A zero gradient lies outside the span: its weight is 0. Components below
    the rounding of the dtype count as zero. If all gradients are zero, or the
    Gramian is not finite, the weights are `1 / K`.

    Args:
        **options: `wrt`, `every`, `terms`, `name` and `dtype`; see
            `GradientWeighting`.

    Returns:
        Of a call with `gramian`: `(K,)`.

    Reference:
        Senushkin, Patakin, Kuznetsov, Konushin, "Independent Component
        Alignment for Multi-Task Learning", CVPR 2023.

    Example:
        >>> method = AlignedMTL()
        >>> weights = method(ops.array([[4.0, 0.0], [0.0, 1.0]]))
        >>> [round(float(weight), 4) for weight in weights]
        [0.25, 0.5]
    """

    def weigh(self, gramian: Tensor, training: bool) -> Tensor:
        return aligned_mtl(gramian)
