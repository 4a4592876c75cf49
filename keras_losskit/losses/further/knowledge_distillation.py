"""The loss of knowledge distillation."""

import keras
from keras import ops

from keras_losskit._support.checks import checked_positive
from keras_losskit._support.precision import at_least_float32
from keras_losskit._types import DType
from keras_losskit._types import ReductionLike
from keras_losskit._types import Tensor
from keras_losskit._types import TensorLike
from keras_losskit._types import Weight
from keras_losskit.losses._core.logits import nonnegative
from keras_losskit.losses._core.loss import Loss


def distillation(
    y_true: TensorLike, y_pred: TensorLike, *, temperature: float = 2.0
) -> Tensor:
    """Divergence of a student's softened predictions from a teacher's.

    `loss = T ** 2 * sum(p * (log(p) - log(q)), axis=-1)` with `p =
    softmax(y_true / T)` and `q = softmax(y_pred / T)`; the factor keeps the
    gradient's scale whatever `T`.

    Args:
        y_true: The teacher's logits, `(batch, d0, ..., classes)`.
        y_pred: The student's logits, same shape.
        temperature: `T`, positive.

    Returns:
        Losses, `(batch, d0, ...)`, float32 at least.

    Raises:
        ValueError: if `temperature` is not positive.

    Reference:
        Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network",
        2015.

    Example:
        >>> loss = distillation([[0.0, 0.0]], [[0.0, 2.0]], temperature=1.0)
        >>> round(float(loss[0]), 4)
        0.4338
    """
    temperature = checked_positive(temperature, "`temperature` of distillation")
    teacher = ops.log_softmax(at_least_float32(y_true) / temperature)
    student = ops.log_softmax(at_least_float32(y_pred) / temperature)
    divergence = ops.sum(ops.exp(teacher) * (teacher - student), axis=-1)
    return nonnegative(temperature**2 * divergence)


@keras.saving.register_keras_serializable("keras_losskit")
class Distillation(Loss):
    """Divergence of a student's softened predictions from a teacher's.

    `loss = reduction(distillation(y_true, y_pred))`, both being logits.

    Args:
        temperature: What both logits are divided by, positive.
        reduction, name, dtype, weight: See `Loss`.

    Raises:
        ValueError: if `temperature` is not positive.

    Reference:
        Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network",
        2015.

    Example:
        >>> loss = Distillation(temperature=1.0)
        >>> round(float(loss([[0.0, 0.0]], [[0.0, 2.0]])), 4)
        0.4338
    """

    def __init__(
        self,
        temperature: float = 2.0,
        reduction: ReductionLike = "sum_over_batch_size",
        name: str | None = "distillation",
        dtype: DType | None = None,
        *,
        weight: Weight = 1.0,
    ):
        self.temperature = temperature
        super().__init__(reduction, name, dtype, weight=weight)

    def call(self, y_true: TensorLike, y_pred: TensorLike) -> Tensor:
        return distillation(y_true, y_pred, temperature=self.temperature)
