"""Means over a part of the values that depends on the values.

All of them see the weighted values, `x = w * value`, over the whole batch at
once; what is masked or has the weight 0 is left out, and counts nowhere. Where
replicas share a batch, `TopK` and `TrimmedMean` rank the values of each replica
by themselves, unless they are to rank those of the whole batch.
"""

import keras
from keras import ops

from keras_losskit._support.checks import checked_count
from keras_losskit._support.checks import checked_fraction
from keras_losskit._support.checks import checked_number
from keras_losskit._types import Config
from keras_losskit._types import Tensor
from keras_losskit._types import TensorLike
from keras_losskit.reductions._alignment import candidates
from keras_losskit.reductions._alignment import descending
from keras_losskit.reductions._alignment import divided
from keras_losskit.reductions._ranking import Ranking
from keras_losskit.reductions.reduction import Reduction

# What a product with a fraction may miss a whole number by, in float32.
_ROUNDING = 1e-6


def mean_non_zero(values, sample_weight=None, mask=None):
    """Mean of the values that are not 0; see `MeanNonZero`."""
    x, _, _ = candidates(values, sample_weight, mask)
    return _mean_where(x, ops.not_equal(x, 0.0))


def threshold(values, sample_weight=None, mask=None, *, low=None, high=None):
    """Mean of the values between two bounds; see `Threshold`."""
    x, keep, _ = candidates(values, sample_weight, mask)
    if low is not None:
        keep = ops.logical_and(keep, ops.greater_equal(x, low))
    if high is not None:
        keep = ops.logical_and(keep, ops.less_equal(x, high))
    return _mean_where(x, keep)


def top_k(values, sample_weight=None, mask=None, *, fraction=None, k=None):
    """Mean of the largest values; see `TopK`."""
    x, valid, count = candidates(values, sample_weight, mask)
    if k is None:
        kept = ops.ceil(fraction * count * (1.0 - _ROUNDING))
    else:
        kept = ops.minimum(count, k)
    x, position = descending(x, valid)
    return _mean_where(x, ops.less(position, kept))


def trimmed_mean(values, sample_weight=None, mask=None, *, fraction):
    """Mean without the smallest and largest values; see `TrimmedMean`."""
    x, valid, count = candidates(values, sample_weight, mask)
    trimmed = ops.floor(fraction * count * (1.0 + _ROUNDING))
    x, position = descending(x, valid)
    keep = ops.logical_and(
        ops.greater_equal(position, trimmed),
        ops.less(position, count - trimmed),
    )
    return _mean_where(x, keep)


def _mean_where(x, keep):
    total = ops.sum(ops.where(keep, x, 0.0))
    return divided(total, ops.sum(ops.cast(keep, x.dtype)))


@keras.saving.register_keras_serializable("keras_losskit")
class MeanNonZero(Reduction):
    """Mean of the weighted values that are not 0.

    `sum(x) / count(x != 0)` with `x = w * value`. For losses with a margin,
    where most values are 0 and would thin out the mean.

    Masked values, and those of weight 0, are left out. Nothing left gives 0.

    Example:
        >>> float(MeanNonZero()([0.0, 0.0, 1.0, 3.0]))
        2.0
    """

    def __call__(
        self,
        values: TensorLike,
        sample_weight: TensorLike | None = None,
        mask: TensorLike | None = None,
    ) -> Tensor:
        return mean_non_zero(values, sample_weight, mask)


@keras.saving.register_keras_serializable("keras_losskit")
class Threshold(Reduction):
    """Mean of the weighted values between two bounds.

    `mean(x where low <= x <= high)` with `x = w * value`.

    Masked values, and those of weight 0, are left out. Nothing left gives 0.

    Args:
        low: Smallest value that is kept, or `None`.
        high: Largest value that is kept, or `None`.

    Raises:
        ValueError: if neither is given, or `low` is not below `high`.

    Example:
        >>> float(Threshold(low=0.5, high=4.0)([0.1, 1.0, 3.0, 100.0]))
        2.0
    """

    def __init__(self, *, low: float | None = None, high: float | None = None):
        if low is None and high is None:
            raise ValueError(
                "Expected `low`, `high` or both. Received: neither"
            )
        low = None if low is None else checked_number(low, "`low`")
        high = None if high is None else checked_number(high, "`high`")
        if low is not None and high is not None and not low < high:
            raise ValueError(
                f"Expected `low` below `high`. Received: low={low}, high={high}"
            )
        self.low = low
        self.high = high

    def __call__(
        self,
        values: TensorLike,
        sample_weight: TensorLike | None = None,
        mask: TensorLike | None = None,
    ) -> Tensor:
        return threshold(
            values, sample_weight, mask, low=self.low, high=self.high
        )

    def settings(self) -> Config:
        return {"low": self.low, "high": self.high}


@keras.saving.register_keras_serializable("keras_losskit")
class TopK(Ranking):
    """Mean of the largest weighted values: online hard example mining.

    `mean(x[:k])` with `x = w * value` in descending order, and `k =
    ceil(fraction * n)` of the `n` values that are left, or `k` itself, `n` at
    most.

    Masked values, and those of weight 0, are left out. Nothing left gives 0.

    Args:
        fraction: Share of the values, in (0, 1].
        k: Their number, in place of `fraction`.
        over: `"replica"` to rank the values of each replica or process by
            themselves, `"batch"` to rank those of the whole batch, which they
            exchange. On JAX, and on one device, both are the whole batch.

    Raises:
        ValueError: if not exactly one is given, or it is out of range.

    Reference:
        Shrivastava, Gupta, Girshick, "Training Region-based Object Detectors
        with Online Hard Example Mining", CVPR 2016.

    Example:
        >>> float(TopK(fraction=0.5)([1.0, 2.0, 3.0, 4.0]))
        3.5
        >>> float(TopK(k=3)([1.0, 2.0, 3.0, 4.0]))
        3.0
    """

    def __init__(
        self,
        *,
        fraction: float | None = None,
        k: int | None = None,
        over: str = "replica",
    ):
        super().__init__(over)
        if (fraction is None) == (k is None):
            raise ValueError(
                "Expected either `fraction` or `k`. Received: "
                f"fraction={fraction}, k={k}"
            )
        self.k = None if k is None else checked_count(k, "`k` of TopK")
        if fraction is not None:
            fraction = checked_fraction(fraction, "`fraction` of TopK")
        if fraction == 0.0:
            raise ValueError(
                f"Expected `fraction` in (0, 1]. Received: {fraction}"
            )
        self.fraction = fraction

    def reduce(
        self,
        values: TensorLike,
        sample_weight: TensorLike | None,
        mask: TensorLike | None,
    ) -> Tensor:
        return top_k(
            values, sample_weight, mask, fraction=self.fraction, k=self.k
        )

    def settings(self) -> Config:
        return {"fraction": self.fraction, "k": self.k, **super().settings()}


@keras.saving.register_keras_serializable("keras_losskit")
class TrimmedMean(Ranking):
    """Mean of the weighted values without the smallest and the largest.

    `mean(x[g:n - g])` with `x = w * value` in order and `g = floor(fraction *
    n)`: robust to outliers and wrong labels.

    Masked values, and those of weight 0, are left out. Nothing left gives 0.

    Args:
        fraction: Share that is cut off at each end, in [0, 0.5).
        over: `"replica"` to rank the values of each replica or process by
            themselves, `"batch"` to rank those of the whole batch, which they
            exchange. On JAX, and on one device, both are the whole batch.

    Raises:
        ValueError: if `fraction` is out of range.

    Example:
        >>> float(TrimmedMean(fraction=0.25)([0.0, 1.0, 3.0, 100.0]))
        2.0
    """

    def __init__(self, *, fraction: float, over: str = "replica"):
        super().__init__(over)
        self.fraction = checked_number(fraction, "`fraction` of TrimmedMean")
        if not 0.0 <= self.fraction < 0.5:
            raise ValueError(
                f"Expected `fraction` in [0, 0.5). Received: {fraction}"
            )

    def reduce(
        self,
        values: TensorLike,
        sample_weight: TensorLike | None,
        mask: TensorLike | None,
    ) -> Tensor:
        return trimmed_mean(values, sample_weight, mask, fraction=self.fraction)

    def settings(self) -> Config:
        return {"fraction": self.fraction, **super().settings()}
