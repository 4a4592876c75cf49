"""Statistics of the values beyond their mean: quantiles and tails.

All of them see the weighted values, `x = w * value`, over the whole batch at
once; what is masked or has the weight 0 is left out, and counts nowhere. Where
replicas share a batch, each looks at its own part of it, and the loss is the
mean of what they find, unless all are to look at the whole.
"""

import keras
from keras import ops

from keras_losskit._support import replicas
from keras_losskit._support.checks import checked_fraction
from keras_losskit._support.checks import checked_number
from keras_losskit._types import Config
from keras_losskit._types import Tensor
from keras_losskit._types import TensorLike
from keras_losskit.reductions._alignment import candidates
from keras_losskit.reductions._alignment import descending
from keras_losskit.reductions._alignment import divided
from keras_losskit.reductions._ranking import Ranking


def quantile(values, sample_weight=None, mask=None, *, q):
    """The `q`-quantile of the values; see `Quantile`."""
    x, valid, count = candidates(values, sample_weight, mask)
    x, position = descending(x, valid)
    at = (1.0 - q) * (count - 1.0)
    # Linear interpolation, as a sum: it needs no index into an empty batch.
    share = ops.maximum(1.0 - ops.abs(position - at), 0.0)
    share = ops.where(ops.less(position, count), share, 0.0)
    return replicas.part_of_mean(ops.sum(shares_of(x, share)))


def cvar(values, sample_weight=None, mask=None, *, alpha):
    """Mean of the worst `1 - alpha` of the values; see `CVaR`."""
    x, valid, count = candidates(values, sample_weight, mask)
    x, position = descending(x, valid)
    tail = (1.0 - alpha) * count
    share = ops.clip(tail - position, 0.0, 1.0)
    return divided(ops.sum(shares_of(x, share)), tail)


def shares_of(values, share):
    """`share * values`, and 0 of an infinite value that has no share."""
    return share * ops.where(ops.greater(share, 0.0), values, 0.0)


def tilted(values, sample_weight=None, mask=None, *, t):
    """Exponentially tilted mean of the values; see `Tilted`."""
    x, valid, count = candidates(values, sample_weight, mask)
    if t == 0.0:
        return divided(ops.sum(x), count)
    if 0 in x.shape:
        return replicas.part_of_mean(ops.sum(x))
    some = ops.greater(count, 0.0)
    lowest = -1e30
    peak = ops.stop_gradient(ops.max(ops.where(valid, t * x, lowest)))
    # An exponent of 0 where invalid, so that no infinity meets the gradient.
    exponent = ops.where(valid, t * x - peak, 0.0)
    total = ops.sum(ops.where(valid, ops.exp(exponent), 0.0))
    mean = ops.where(some, total, 1.0) / ops.where(some, count, 1.0)
    return replicas.part_of_mean(
        ops.where(some, (ops.log(mean) + peak) / t, 0.0)
    )


@keras.saving.register_keras_serializable("keras_losskit")
class Quantile(Ranking):
    """A quantile of the weighted values.

    With `x = w * value` in ascending order, the value at the place `q * (n -
    1)`, interpolated linearly between its neighbours, as in NumPy.

    Masked values, and those of weight 0, are left out. Nothing left gives 0.

    Args:
        q: In [0, 1]; 0.5 is the median.
        over: `"replica"` to rank the values of each replica or process by
            themselves, `"batch"` to rank those of the whole batch, which they
            exchange. On JAX, and on one device, both are the whole batch.

    Raises:
        ValueError: if `q` is out of range.

    Example:
        >>> float(Quantile(q=0.5)([1.0, 2.0, 100.0]))
        2.0
    """

    def __init__(self, *, q: float, over: str = "replica"):
        super().__init__(over)
        self.q = checked_fraction(q, "`q` of Quantile")

    def reduce(
        self,
        values: TensorLike,
        sample_weight: TensorLike | None,
        mask: TensorLike | None,
    ) -> Tensor:
        return quantile(values, sample_weight, mask, q=self.q)

    def settings(self) -> Config:
        return {"q": self.q, **super().settings()}


@keras.saving.register_keras_serializable("keras_losskit")
class CVaR(Ranking):
    """Conditional value at risk: the mean of the worst `1 - alpha`.

    With `x = w * value` in descending order and `m = (1 - alpha) * n`, `(x[0] +
    ... + x[floor(m) - 1] + (m - floor(m)) * x[floor(m)]) / m`: where `m` is not
    a whole number, the last value counts in part.

    Masked values, and those of weight 0, are left out. Nothing left gives 0.

    Args:
        alpha: In [0, 1): 0 gives the mean, near 1 the maximum.
        over: `"replica"` to rank the values of each replica or process by
            themselves, `"batch"` to rank those of the whole batch, which they
            exchange. On JAX, and on one device, both are the whole batch.

    Raises:
        ValueError: if `alpha` is out of range.

    Reference:
        Rockafellar, Uryasev, "Optimization of Conditional Value-at-Risk",
        Journal of Risk, 2000.

    Example:
        >>> float(CVaR(alpha=0.5)([1.0, 2.0, 3.0, 5.0]))
        4.0
    """

    def __init__(self, *, alpha: float, over: str = "replica"):
        super().__init__(over)
        self.alpha = checked_number(alpha, "`alpha` of CVaR")
        if not 0.0 <= self.alpha < 1.0:
            raise ValueError(
                f"Expected `alpha` in [0, 1). Received: alpha={alpha}"
            )

    def reduce(
        self,
        values: TensorLike,
        sample_weight: TensorLike | None,
        mask: TensorLike | None,
    ) -> Tensor:
        return cvar(values, sample_weight, mask, alpha=self.alpha)

    def settings(self) -> Config:
        return {"alpha": self.alpha, **super().settings()}


@keras.saving.register_keras_serializable("keras_losskit")
class Tilted(Ranking):
    """Exponentially tilted mean of the weighted values.

    `log(mean(exp(t * x))) / t` with `x = w * value`: towards the maximum for
    large `t`, the minimum for negative `t`, the mean for 0.

    Masked values, and those of weight 0, are left out. Nothing left gives 0.

    Args:
        t: The tilt, in the inverse of the unit of the values.
        over: `"replica"` to rank the values of each replica or process by
            themselves, `"batch"` to rank those of the whole batch, which they
            exchange. On JAX, and on one device, both are the whole batch.

    Reference:
        Li, Beirami, Sanjabi, Smith, "Tilted Empirical Risk Minimization", ICLR
        2021.

    Example:
        >>> round(float(Tilted(t=1.0)([0.0, 1.0])), 4)
        0.6201
    """

    def __init__(self, *, t: float, over: str = "replica"):
        super().__init__(over)
        self.t = checked_number(t, "`t` of Tilted")

    def reduce(
        self,
        values: TensorLike,
        sample_weight: TensorLike | None,
        mask: TensorLike | None,
    ) -> Tensor:
        return tilted(values, sample_weight, mask, t=self.t)

    def settings(self) -> Config:
        return {"t": self.t, **super().settings()}
