"""Keras' regression losses."""

from typing import Self

import keras

from keras_losskit._types import Config
from keras_losskit._types import DType
from keras_losskit._types import KerasLoss
from keras_losskit._types import ReductionLike
from keras_losskit._types import Tensor
from keras_losskit._types import TensorLike
from keras_losskit._types import Weight
from keras_losskit.losses._core.logits import nonnegative
from keras_losskit.losses._core.loss import LossMixin


@keras.saving.register_keras_serializable("keras_losskit")
class MeanSquaredError(LossMixin, KerasLoss[keras.losses.MeanSquaredError]):
    """Mean squared error.

    `loss = mean((y_true - y_pred) ** 2, axis=-1)`.

    Args:
        reduction, name, dtype, weight: See `Loss`.

    Example:
        >>> loss = MeanSquaredError()
        >>> round(float(loss([[0.0, 1.0]], [[2.0, 1.0]])), 4)
        2.0
    """

    def __init__(
        self,
        reduction: ReductionLike = "sum_over_batch_size",
        name: str | None = "mean_squared_error",
        dtype: DType | None = None,
        *,
        weight: Weight = 1.0,
    ):
        super().__init__(reduction, name, dtype, weight=weight)


@keras.saving.register_keras_serializable("keras_losskit")
class MeanAbsoluteError(LossMixin, KerasLoss[keras.losses.MeanAbsoluteError]):
    """Mean absolute error.

    `loss = mean(abs(y_true - y_pred), axis=-1)`.

    Args:
        reduction, name, dtype, weight: See `Loss`.

    Example:
        >>> loss = MeanAbsoluteError()
        >>> round(float(loss([[0.0, 1.0]], [[2.0, 1.0]])), 4)
        1.0
    """

    def __init__(
        self,
        reduction: ReductionLike = "sum_over_batch_size",
        name: str | None = "mean_absolute_error",
        dtype: DType | None = None,
        *,
        weight: Weight = 1.0,
    ):
        super().__init__(reduction, name, dtype, weight=weight)


@keras.saving.register_keras_serializable("keras_losskit")
class MeanAbsolutePercentageError(
    LossMixin, KerasLoss[keras.losses.MeanAbsolutePercentageError]
):
    """Mean absolute error relative to the target, in percent.

    `loss = 100 * mean(abs((y_true - y_pred) / y_true), axis=-1)`.

    Args:
        reduction, name, dtype, weight: See `Loss`.

    Example:
        >>> loss = MeanAbsolutePercentageError()
        >>> round(float(loss([[4.0, 1.0]], [[3.0, 1.0]])), 4)
        12.5
    """

    def __init__(
        self,
        reduction: ReductionLike = "sum_over_batch_size",
        name: str | None = "mean_absolute_percentage_error",
        dtype: DType | None = None,
        *,
        weight: Weight = 1.0,
    ):
        super().__init__(reduction, name, dtype, weight=weight)


@keras.saving.register_keras_serializable("keras_losskit")
class MeanSquaredLogarithmicError(
    LossMixin, KerasLoss[keras.losses.MeanSquaredLogarithmicError]
):
    """Mean squared error of logarithms.

    `loss = mean((log(1 + y_true) - log(1 + y_pred)) ** 2, axis=-1)`.

    Args:
        reduction, name, dtype, weight: See `Loss`.

    Example:
        >>> loss = MeanSquaredLogarithmicError()
        >>> round(float(loss([[0.0, 1.0]], [[1.0, 1.0]])), 4)
        0.2402
    """

    def __init__(
        self,
        reduction: ReductionLike = "sum_over_batch_size",
        name: str | None = "mean_squared_logarithmic_error",
        dtype: DType | None = None,
        *,
        weight: Weight = 1.0,
    ):
        super().__init__(reduction, name, dtype, weight=weight)


@keras.saving.register_keras_serializable("keras_losskit")
class Huber(LossMixin, KerasLoss[keras.losses.Huber]):
    """Huber loss: quadratic for small errors, linear for large ones.

    `loss = mean(e ** 2 / 2 if abs(e) <= delta else delta * abs(e) - delta ** 2
    / 2, axis=-1)` with `e = y_true - y_pred`.

    Args:
        delta: Where the loss turns linear, in the unit of the data;
            from Keras 3.16 on a `float` above 0, and no `int`.
        reduction, name, dtype, weight: See `Loss`.

    Raises:
        ValueError: from Keras 3.16 on, if `delta` is no such number.

    Reference:
        Huber, "Robust Estimation of a Location Parameter", Annals of
        Mathematical Statistics, 1964.

    Example:
        >>> loss = Huber(delta=3.0)
        >>> round(float(loss([[0.0]], [[10.0]])), 4)
        25.5
    """

    def __init__(
        self,
        delta: float = 1.0,
        reduction: ReductionLike = "sum_over_batch_size",
        name: str | None = "huber_loss",
        dtype: DType | None = None,
        *,
        weight: Weight = 1.0,
    ):
        self.delta = delta
        super().__init__(reduction, name, dtype, weight=weight)

    @classmethod
    def from_config(cls, config: Config) -> Self:
        # Before 3.16 Keras took an int, which a file may hold.
        delta = float(config.get("delta", 1.0))
        return super().from_config({**config, "delta": delta})


@keras.saving.register_keras_serializable("keras_losskit")
class LogCosh(LossMixin, KerasLoss[keras.losses.LogCosh]):
    """Logarithm of the hyperbolic cosine of the error.

    `loss = mean(log(cosh(y_true - y_pred)), axis=-1)`.

    Args:
        reduction, name, dtype, weight: See `Loss`.

    Example:
        >>> loss = LogCosh()
        >>> round(float(loss([[0.0, 0.0]], [[1.0, 0.0]])), 4)
        0.2169
    """

    def __init__(
        self,
        reduction: ReductionLike = "sum_over_batch_size",
        name: str | None = "log_cosh",
        dtype: DType | None = None,
        *,
        weight: Weight = 1.0,
    ):
        super().__init__(reduction, name, dtype, weight=weight)

    def call(self, y_true: TensorLike, y_pred: TensorLike) -> Tensor:
        return nonnegative(super().call(y_true, y_pred))
