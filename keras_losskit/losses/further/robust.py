"""Regression losses that Keras lacks."""

import keras
from keras import ops

from keras_losskit._support.checks import checked_positive
from keras_losskit._support.precision import at_least_float32
from keras_losskit._types import DType
from keras_losskit._types import ReductionLike
from keras_losskit._types import Tensor
from keras_losskit._types import TensorLike
from keras_losskit._types import Weight
from keras_losskit.losses._core.arguments import checked_open_fraction
from keras_losskit.losses._core.function import same_rank
from keras_losskit.losses._core.loss import Loss


def pinball(
    y_true: TensorLike, y_pred: TensorLike, *, quantile: float = 0.5
) -> Tensor:
    """Pinball loss: asymmetric absolute error whose minimiser is a quantile.

    `loss = mean(max(q * e, (q - 1) * e), axis=-1)` with `e = y_true - y_pred`.

    Args:
        y_true: Targets, `(batch, d0, ..., dN)`, in the unit of the data.
        y_pred: Predictions, same shape.
        quantile: `q`, between 0 and 1 exclusive.

    Returns:
        Per-sample losses, `(batch, d0, ..., dN-1)`, float32 at least.

    Raises:
        ValueError: if `quantile` is not inside (0, 1).

    Reference:
        Koenker, Bassett, "Regression Quantiles", Econometrica, 1978.

    Example:
        >>> round(float(pinball([[3.0]], [[1.0]], quantile=0.9)[0]), 4)
        1.8
    """
    quantile = checked_open_fraction(quantile, "`quantile` of pinball")
    y_true, y_pred = same_rank(
        at_least_float32(y_true), at_least_float32(y_pred)
    )
    error = y_true - y_pred
    return ops.mean(
        ops.maximum(quantile * error, (quantile - 1.0) * error), axis=-1
    )


def charbonnier(
    y_true: TensorLike, y_pred: TensorLike, *, epsilon: float = 1e-3
) -> Tensor:
    """Charbonnier loss: absolute error that is smooth at 0.

    `loss = mean(sqrt((y_true - y_pred) ** 2 + epsilon ** 2), axis=-1)`.

    Args:
        y_true: Targets, `(batch, d0, ..., dN)`, in the unit of the data.
        y_pred: Predictions, same shape.
        epsilon: Width of the smooth part, positive, in the same unit.

    Returns:
        Per-sample losses, `(batch, d0, ..., dN-1)`, float32 at least.

    Raises:
        ValueError: if `epsilon` is not positive.

    Reference:
        Charbonnier et al., "Two Deterministic Half-Quadratic Regularization
        Algorithms for Computed Imaging", ICIP 1994.

    Example:
        >>> round(float(charbonnier([[3.0]], [[0.0]], epsilon=4.0)[0]), 4)
        5.0
    """
    epsilon = checked_positive(epsilon, "`epsilon` of charbonnier")
    y_true, y_pred = same_rank(
        at_least_float32(y_true), at_least_float32(y_pred)
    )
    return ops.mean(ops.sqrt(ops.square(y_true - y_pred) + epsilon**2), axis=-1)


@keras.saving.register_keras_serializable("keras_losskit")
class Pinball(Loss):
    """Pinball loss: asymmetric absolute error whose minimiser is a quantile.

    `loss = reduction(pinball(y_true, y_pred))`.

    Args:
        quantile: Between 0 and 1 exclusive; 0.5 gives half the absolute error.
        reduction, name, dtype, weight: See `Loss`.

    Raises:
        ValueError: if `quantile` is not inside (0, 1).

    Reference:
        Koenker, Bassett, "Regression Quantiles", Econometrica, 1978.

    Example:
        >>> round(float(Pinball(quantile=0.9)([[3.0]], [[1.0]])), 4)
        1.8
    """

    def __init__(
        self,
        quantile: float = 0.5,
        reduction: ReductionLike = "sum_over_batch_size",
        name: str | None = "pinball",
        dtype: DType | None = None,
        *,
        weight: Weight = 1.0,
    ):
        self.quantile = quantile
        super().__init__(reduction, name, dtype, weight=weight)

    def call(self, y_true: TensorLike, y_pred: TensorLike) -> Tensor:
        return pinball(y_true, y_pred, quantile=self.quantile)


@keras.saving.register_keras_serializable("keras_losskit")
class Charbonnier(Loss):
    """Charbonnier loss: absolute error that is smooth at 0.

    `loss = reduction(charbonnier(y_true, y_pred))`.

    Args:
        epsilon: Width of the smooth part, positive, in the unit of the data.
        reduction, name, dtype, weight: See `Loss`.

    Raises:
        ValueError: if `epsilon` is not positive.

    Reference:
        Charbonnier et al., "Two Deterministic Half-Quadratic Regularization
        Algorithms for Computed Imaging", ICIP 1994.

    Example:
        >>> round(float(Charbonnier(epsilon=4.0)([[3.0]], [[0.0]])), 4)
        5.0
    """

    def __init__(
        self,
        epsilon: float = 1e-3,
        reduction: ReductionLike = "sum_over_batch_size",
        name: str | None = "charbonnier",
        dtype: DType | None = None,
        *,
        weight: Weight = 1.0,
    ):
        self.epsilon = epsilon
        super().__init__(reduction, name, dtype, weight=weight)

    def call(self, y_true: TensorLike, y_pred: TensorLike) -> Tensor:
        return charbonnier(y_true, y_pred, epsilon=self.epsilon)
