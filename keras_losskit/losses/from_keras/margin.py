"""Keras' hinge losses: losses with a margin."""

import keras
from keras import ops

from keras_losskit._types import DType
from keras_losskit._types import KerasLoss
from keras_losskit._types import ReductionLike
from keras_losskit._types import Tensor
from keras_losskit._types import TensorLike
from keras_losskit._types import Weight
from keras_losskit.losses._core.loss import LossMixin


@keras.saving.register_keras_serializable("keras_losskit")
class Hinge(LossMixin, KerasLoss[keras.losses.Hinge]):
    """Hinge loss.

    `loss = mean(max(1 - y_true * y_pred, 0), axis=-1)`, `y_true` -1 or 1; 0 and
    1 are turned into these.

    Args:
        reduction, name, dtype, weight: See `Loss`.

    Example:
        >>> loss = Hinge()
        >>> round(float(loss([[-1.0, 1.0]], [[0.5, 0.5]])), 4)
        1.0
    """

    def __init__(
        self,
        reduction: ReductionLike = "sum_over_batch_size",
        name: str | None = "hinge",
        dtype: DType | None = None,
        *,
        weight: Weight = 1.0,
    ):
        super().__init__(reduction, name, dtype, weight=weight)


@keras.saving.register_keras_serializable("keras_losskit")
class SquaredHinge(LossMixin, KerasLoss[keras.losses.SquaredHinge]):
    """Squared hinge loss.

    `loss = mean(max(1 - y_true * y_pred, 0) ** 2, axis=-1)`, `y_true` -1 or 1;
    0 and 1 are turned into these.

    Args:
        reduction, name, dtype, weight: See `Loss`.

    Example:
        >>> loss = SquaredHinge()
        >>> round(float(loss([[-1.0, 1.0]], [[0.5, 0.5]])), 4)
        1.25
    """

    def __init__(
        self,
        reduction: ReductionLike = "sum_over_batch_size",
        name: str | None = "squared_hinge",
        dtype: DType | None = None,
        *,
        weight: Weight = 1.0,
    ):
        super().__init__(reduction, name, dtype, weight=weight)


@keras.saving.register_keras_serializable("keras_losskit")
class CategoricalHinge(LossMixin, KerasLoss[keras.losses.CategoricalHinge]):
    """Hinge loss between the true class and the best of the others.

    `loss = max(neg - pos + 1, 0)` with `neg = max((1 - y_true) * y_pred)` and
    `pos = sum(y_true * y_pred)`, both over the last axis.

    Args:
        reduction, name, dtype, weight: See `Loss`.

    Example:
        >>> loss = CategoricalHinge()
        >>> round(float(loss([[0.0, 1.0]], [[0.6, 0.4]])), 4)
        1.2
    """

    def __init__(
        self,
        reduction: ReductionLike = "sum_over_batch_size",
        name: str | None = "categorical_hinge",
        dtype: DType | None = None,
        *,
        weight: Weight = 1.0,
    ):
        super().__init__(reduction, name, dtype, weight=weight)

    def call(self, y_true: TensorLike, y_pred: TensorLike) -> Tensor:
        if 0 in y_pred.shape:
            # Keras takes no maximum over an empty batch.
            return ops.sum(y_true * y_pred, axis=-1)
        return super().call(y_true, y_pred)
