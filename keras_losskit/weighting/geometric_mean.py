"""Weights that turn the sum of terms into their geometric mean."""

import keras
from keras import ops

from keras_losskit._types import Tensor
from keras_losskit.weighting._arithmetic import at_least
from keras_losskit.weighting._arithmetic import hair_to_zero
from keras_losskit.weighting._arithmetic import mean_where
from keras_losskit.weighting.weighting import Weighting


def geometric_mean(values):
    """Weights whose weighted sum is the geometric mean; see `GeometricMean`.

    `w_k = G / (K * L_k)`, `G = prod_k(L_k) ** (1 / K)`, over the K terms that
    are not 0; 0 for the others.

    Args:
        values: Values of the terms, `(K,)`, positive, or 0 where absent.
            What rounding has made negative, to -1e-6, counts as 0.

    Returns:
        Weights, `(K,)`, dtype of `values`.

    Example:
        >>> values = ops.array([2.0, 8.0])
        >>> weights = geometric_mean(values)
        >>> round(float(ops.sum(weights * values)), 4)  # sqrt(2 * 8)
        4.0
    """
    values = hair_to_zero(values)
    present = values != 0
    logs = ops.log(ops.where(present, values, ops.ones_like(values)))
    count = at_least(ops.sum(ops.cast(present, values.dtype)), 1.0)
    # exp(mean - log) and not exp(mean) / value: the product may overflow.
    weights = ops.exp(mean_where(logs, present) - logs) / count
    return ops.where(present, weights, ops.zeros_like(weights))


@keras.saving.register_keras_serializable("keras_losskit")
class GeometricMean(Weighting):
    """Geometric loss strategy: the loss is the geometric mean of the terms.

    `w_k = G / (K * L_k)` with `G = prod_k(L_k) ** (1 / K)`, so that
    `sum_k(w_k * L_k) = G`. The weights are constants of the gradient: that of
    `G` is `sum_k(G / (K * L_k) * dL_k)`, which they give as they are. Scale: a
    mean of terms.

    A term of exactly 0 in a batch is absent: its weight is 0 and the mean is
    that of the others; so is one that rounding has made negative, to -1e-6. A
    negative term gives NaN: it has no geometric mean.

    Args:
        **options: `terms`, `name` and `dtype`; see `Weighting`.

    Returns:
        Of a call with `values`: `(K,)`.

    Reference:
        Chennupati, Sistu, Yogamani, Rawashdeh, "MultiNet++: Multi-Stream
        Feature Aggregation and Geometric Loss Strategy for Multi-Task
        Learning", CVPR Workshops 2019.

    Example:
        >>> weights = GeometricMean()(ops.array([2.0, 8.0]))
        >>> [round(float(weight), 4) for weight in weights]
        [1.0, 0.25]
    """

    statistic = "values"

    def weigh(self, values: Tensor, training: bool) -> Tensor:
        return geometric_mean(values)
