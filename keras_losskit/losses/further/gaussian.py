"""Losses of normal distributions, predicted as mean and log variance."""

import math

import keras
from keras import ops

from keras_losskit._support.checks import checked_flag
from keras_losskit._support.checks import checked_positive
from keras_losskit._support.precision import at_least_float32
from keras_losskit._support.shapes import may_be_equal
from keras_losskit._types import DType
from keras_losskit._types import ReductionLike
from keras_losskit._types import Tensor
from keras_losskit._types import TensorLike
from keras_losskit._types import Weight
from keras_losskit.losses._core.logits import nonnegative
from keras_losskit.losses._core.loss import Loss

# Beyond it the exponential leaves float32's range.
_LARGEST_LOG_VARIANCE = 60.0


def gaussian_nll(
    y_true: TensorLike,
    y_pred: TensorLike,
    *,
    full: bool = False,
    min_variance: float = 1e-6,
) -> Tensor:
    """Negative log-likelihood of targets under predicted normals.

    `loss = mean((s + (y_true - m) ** 2 / exp(s)) / 2, axis=-1)` with `m, s` the
    halves of `y_pred`: mean and log variance.

    Args:
        y_true: Targets, `(batch, d0, ..., dN)`, in the unit of the data.
        y_pred: `(batch, d0, ..., 2 * dN)`: means, then log variances.
        full: Whether to add the constant `log(2 * pi) / 2`.
        min_variance: Smallest variance, positive, in the unit squared; smaller
            ones count as this.

    Returns:
        Per-sample losses, `(batch, d0, ..., dN-1)`, float32 at least.

    Raises:
        ValueError: if the last axis of `y_pred` is not twice that of `y_true`.

    Reference:
        Nix, Weigend, "Estimating the Mean and Variance of the Target
        Probability Distribution", ICNN 1994.

    Example:
        >>> round(float(gaussian_nll([[3.0]], [[1.0, 0.0]])[0]), 4)
        2.0
    """
    checked_flag(full, "`full` of gaussian_nll")
    smallest = checked_positive(min_variance, "`min_variance` of gaussian_nll")
    mean, log_variance = halves(y_pred)
    y_true = at_least_float32(y_true)
    if len(y_true.shape) == len(mean.shape) - 1 and mean.shape[-1] == 1:
        y_true = ops.expand_dims(y_true, axis=-1)
    last = y_true.shape[-1:], mean.shape[-1:]
    if len(y_true.shape) != len(mean.shape) or not may_be_equal(*last):
        raise ValueError(
            "Expected predictions of twice the targets' last axis: means, then "
            f"log variances. Received: y_true.shape={tuple(y_true.shape)}, "
            f"y_pred.shape={(*mean.shape[:-1], 2 * mean.shape[-1])}"
        )
    log_variance = ops.maximum(log_variance, math.log(smallest))
    error = ops.square(y_true - mean) * ops.exp(-log_variance)
    constant = math.log(2.0 * math.pi) / 2.0 if full else 0.0
    return ops.mean((log_variance + error) / 2.0, axis=-1) + constant


def kl_to_standard_normal(y_true: TensorLike, y_pred: TensorLike) -> Tensor:
    """Kullback-Leibler divergence of a predicted normal from the standard one.

    `loss = sum(exp(s) + m ** 2 - 1 - s, axis=-1) / 2` with `m, s` the halves of
    `y_pred`: mean and log variance.

    Args:
        y_true: Not looked at; anything of the same batch.
        y_pred: `(batch, d0, ..., 2 * dN)`: means, then log variances; those
            above 60 count as 60.

    Returns:
        Per-sample losses, `(batch, d0, ..., dN-1)`, float32 at least.

    Raises:
        ValueError: if the last axis of `y_pred` is odd.

    Reference:
        Kingma, Welling, "Auto-Encoding Variational Bayes", ICLR 2014.

    Example:
        >>> round(float(kl_to_standard_normal(None, [[2.0, 0.0]])[0]), 4)
        2.0
    """
    del y_true
    mean, log_variance = halves(y_pred)
    log_variance = ops.minimum(log_variance, _LARGEST_LOG_VARIANCE)
    # expm1 loses no digits where the variance is nearly 1.
    variance = ops.expm1(log_variance) - log_variance
    return nonnegative(ops.sum(variance + ops.square(mean), axis=-1) / 2.0)


def halves(y_pred):
    """The halves of the last axis: mean and log variance."""
    y_pred = at_least_float32(y_pred)
    size = y_pred.shape[-1]
    if size is None or size % 2:
        raise ValueError(
            "Expected predictions whose last axis holds means, then log "
            f"variances. Received: y_pred.shape={tuple(y_pred.shape)}"
        )
    return y_pred[..., : size // 2], y_pred[..., size // 2 :]


@keras.saving.register_keras_serializable("keras_losskit")
class GaussianNLL(Loss):
    """Negative log-likelihood of targets under predicted normals.

    `loss = reduction(gaussian_nll(y_true, y_pred))`; `y_pred` holds means, then
    log variances.

    Args:
        full: Whether to add the constant `log(2 * pi) / 2`.
        min_variance: Smallest variance, positive, in the unit squared.
        reduction, name, dtype, weight: See `Loss`.

    Raises:
        ValueError: if `min_variance` is not positive.

    Reference:
        Nix, Weigend, "Estimating the Mean and Variance of the Target
        Probability Distribution", ICNN 1994.

    Example:
        >>> round(float(GaussianNLL()([[3.0]], [[1.0, 0.0]])), 4)
        2.0
    """

    def __init__(
        self,
        full: bool = False,
        min_variance: float = 1e-6,
        reduction: ReductionLike = "sum_over_batch_size",
        name: str | None = "gaussian_nll",
        dtype: DType | None = None,
        *,
        weight: Weight = 1.0,
    ):
        self.full = full
        self.min_variance = min_variance
        super().__init__(reduction, name, dtype, weight=weight)

    def call(self, y_true: TensorLike, y_pred: TensorLike) -> Tensor:
        return gaussian_nll(
            y_true, y_pred, full=self.full, min_variance=self.min_variance
        )


@keras.saving.register_keras_serializable("keras_losskit")
class KLToStandardNormal(Loss):
    """Kullback-Leibler divergence of a predicted normal from the standard one.

    `loss = reduction(kl_to_standard_normal(y_true, y_pred))`; `y_pred` holds
    means, then log variances, and `y_true` is not looked at: `fit` needs no
    labels for it.

    Args:
        reduction, name, dtype, weight: See `Loss`.

    Reference:
        Kingma, Welling, "Auto-Encoding Variational Bayes", ICLR 2014.

    Example:
        >>> round(float(KLToStandardNormal()([[0.0]], [[2.0, 0.0]])), 4)
        2.0
    """

    needs_labels = False

    def __init__(
        self,
        reduction: ReductionLike = "sum_over_batch_size",
        name: str | None = "kl_to_standard_normal",
        dtype: DType | None = None,
        *,
        weight: Weight = 1.0,
    ):
        super().__init__(reduction, name, dtype, weight=weight)

    def call(self, y_true: TensorLike, y_pred: TensorLike) -> Tensor:
        return kl_to_standard_normal(y_true, y_pred)
