"""Keras' similarity losses."""

import keras
from keras import ops

from keras_losskit import _keras
from keras_losskit._types import DType
from keras_losskit._types import KerasLoss
from keras_losskit._types import ReductionLike
from keras_losskit._types import Tensor
from keras_losskit._types import TensorLike
from keras_losskit._types import Weight
from keras_losskit.losses._core.function import same_rank
from keras_losskit.losses._core.loss import AlongAxis
from keras_losskit.losses._core.loss import LossMixin


@keras.saving.register_keras_serializable("keras_losskit")
class CosineSimilarity(
    AlongAxis, LossMixin, KerasLoss[keras.losses.CosineSimilarity]
):
    """Negative cosine similarity: -1 for the same direction.

    `loss = -sum(y_true * y_pred, axis) / (norm(y_true) * norm(y_pred))`.

    Args:
        axis: Axis of the vectors.
        reduction, name, dtype, weight: See `Loss`.

    Example:
        >>> loss = CosineSimilarity()
        >>> round(float(loss([[1.0, 0.0]], [[3.0, 4.0]])), 4)
        -0.6
    """

    def __init__(
        self,
        axis: int = -1,
        reduction: ReductionLike = "sum_over_batch_size",
        name: str | None = "cosine_similarity",
        dtype: DType | None = None,
        *,
        weight: Weight = 1.0,
    ):
        self.axis = axis
        super().__init__(reduction, name, dtype, weight=weight)

    def call(self, y_true: TensorLike, y_pred: TensorLike) -> Tensor:
        y_true, y_pred = same_rank(y_true, y_pred)
        directions = [_direction(x, self.axis) for x in (y_true, y_pred)]
        return -ops.sum(directions[0] * directions[1], axis=self.axis)


def _direction(x, axis):
    """`x / norm(x)`, as Keras computes it; 0 and no gradient where `x` is 0."""
    square = ops.sum(ops.square(x), axis=axis, keepdims=True)
    some = ops.greater(square, 0.0)
    inverse = ops.rsqrt(ops.where(some, square, 1.0))
    inverse = ops.minimum(inverse, 1.0 / keras.config.epsilon())
    return x * ops.where(some, inverse, 0.0)


@keras.saving.register_keras_serializable("keras_losskit")
class Circle(LossMixin, KerasLoss[keras.losses.Circle]):
    """Circle loss between integer labels and unit-norm embeddings.

    Over the pairs of a batch: `loss = softplus(logsumexp(gamma * an * (sn -
    margin)) + logsumexp(-gamma * ap * (sp - 1 + margin)))`, with similarities
    `sp` inside and `sn` between classes and their detached weights.

    Args:
        gamma: Largest scale of a similarity.
        margin: Relaxation of the decision boundary.
        remove_diagonal: Whether to leave out a sample's similarity with
            itself.
        reduction, name, dtype, weight: See `Loss`.

    Reference:
        Sun et al., "Circle Loss", CVPR 2020.

    Example:
        >>> loss = Circle()
        >>> embeddings = [[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]
        >>> round(float(loss([0, 0, 1], embeddings)), 4)
        19.2
    """

    def __init__(
        self,
        gamma: float = 80.0,
        margin: float = 0.4,
        remove_diagonal: bool = True,
        reduction: ReductionLike = "sum_over_batch_size",
        name: str | None = "circle",
        dtype: DType | None = None,
        *,
        weight: Weight = 1.0,
    ):
        self.gamma = gamma
        self.margin = margin
        self.remove_diagonal = remove_diagonal
        super().__init__(reduction, name, dtype, weight=weight)

    def call(self, y_true: TensorLike, y_pred: TensorLike) -> Tensor:
        if 0 in y_pred.shape:
            # No similarity to take the largest of.
            return ops.sum(y_pred, axis=-1)
        values = super().call(y_true, y_pred)
        # Keras masks what is not over 0, NaN as well, which would not show.
        _keras.set_keras_mask(values, ops.logical_not(values <= 0.0))
        return values
