"""The Lovasz-softmax loss."""

import math

import keras
from keras import ops

from keras_losskit._support.checks import checked_flag
from keras_losskit._types import DType
from keras_losskit._types import ReductionLike
from keras_losskit._types import Tensor
from keras_losskit._types import TensorLike
from keras_losskit._types import Weight
from keras_losskit.losses._core.labels import one_hot_like
from keras_losskit.losses._core.logits import Predicted
from keras_losskit.losses._core.logits import nonnegative
from keras_losskit.losses._core.logits import predicted
from keras_losskit.losses._core.loss import ClassLoss
from keras_losskit.losses._core.overlap_masks import OverlapLoss


def lovasz_softmax(
    y_true: TensorLike,
    y_pred: TensorLike,
    *,
    per_image: bool = True,
    from_logits: bool = False,
) -> Tensor:
    """Lovasz-softmax loss: a convex surrogate of one less the Jaccard index.

    `loss = mean over the classes c that are present of sum(sorted(e) * g)` with
    the errors `e = abs(y_true - p)` of class `c` in descending order, and `g`
    the increments of the Jaccard loss when they are made one by one.

    Args:
        y_true: One-hot labels, `(batch, d0, ..., dN, classes)`, or integers,
            `(batch, d0, ..., dN)`.
        y_pred: Probabilities, `(batch, d0, ..., dN, classes)`.
        per_image: Whether every sample has a separate index; else the batch is
            one large image.
        from_logits: Whether `y_pred` holds logits.

    Returns:
        Per-sample losses in [0, 1], `(batch,)`, or a scalar for
        `per_image=False`; float32 at least.

    Raises:
        ValueError: if the shapes do not fit; in eager mode, if a label is not
            among the classes.

    Reference:
        Berman, Rannen Triki, Blaschko, "The Lovasz-Softmax Loss", CVPR 2018.

    Example:
        >>> y_pred = [[[0.75, 0.25], [0.25, 0.75]]]
        >>> round(float(lovasz_softmax([[0, 1]], y_pred)[0]), 4)
        0.25
    """
    checked_flag(per_image, "`per_image` of lovasz_softmax")
    checked_flag(from_logits, "`from_logits` of lovasz_softmax")
    return _lovasz(y_true, predicted(y_pred, from_logits), per_image)


def _lovasz(y_true, prediction, per_image, name="lovasz_softmax"):
    p = prediction.probabilities()
    y_true = one_hot_like(name, y_true, p)
    batch, *places = ops.shape(p)[:-1]
    # Of an empty batch a size of -1 could be any.
    shape = (1, -1) if not per_image else (batch, math.prod(places))
    shape = (*shape, p.shape[-1])
    p, y_true = ops.reshape(p, shape), ops.reshape(y_true, shape)
    error = ops.abs(y_true - p)
    order = ops.argsort(-ops.stop_gradient(error), axis=1)
    error = ops.take_along_axis(error, order, axis=1)
    hit = ops.take_along_axis(y_true, order, axis=1)
    volume = ops.sum(hit, axis=1, keepdims=True)
    intersection = volume - ops.cumsum(hit, axis=1)
    union = volume + ops.cumsum(1.0 - hit, axis=1)
    # The union is empty only where there is no place at all.
    jaccard = 1.0 - intersection / ops.maximum(union, 1.0)
    increment = ops.concatenate(
        [jaccard[:, :1], jaccard[:, 1:] - jaccard[:, :-1]], axis=1
    )
    loss = ops.sum(error * ops.stop_gradient(increment), axis=1)
    present = ops.cast(ops.greater(volume[:, 0], 0.0), loss.dtype)
    count = ops.maximum(ops.sum(present, axis=-1), 1.0)
    loss = nonnegative(ops.sum(present * loss, axis=-1) / count)
    return loss if per_image else loss[0]


@keras.saving.register_keras_serializable("keras_losskit")
class LovaszSoftmax(OverlapLoss, ClassLoss):
    """Lovasz-softmax loss: a convex surrogate of one less the Jaccard index.

    `loss = reduction(lovasz_softmax(y_true, y_pred))`.

    Args:
        per_image: Whether every sample has a separate index; else the batch is
            one large image, and only the mean of the sample weights counts.
        from_logits: Whether `y_pred` holds logits rather than probabilities.
        reduction, name, dtype, weight: See `Loss`.

    Reference:
        Berman, Rannen Triki, Blaschko, "The Lovasz-Softmax Loss", CVPR 2018.

    Example:
        >>> loss = LovaszSoftmax(from_logits=True)
        >>> round(float(loss([[0, 1]], [[[0.0, 0.0], [0.0, 0.0]]])), 4)
        0.5
    """

    def __init__(
        self,
        per_image: bool = True,
        from_logits: bool = False,
        reduction: ReductionLike = "sum_over_batch_size",
        name: str | None = "lovasz_softmax",
        dtype: DType | None = None,
        *,
        weight: Weight = 1.0,
    ):
        self.per_image = per_image
        self.from_logits = from_logits
        super().__init__(reduction, name, dtype, weight=weight)

    def call_on_logits(self, y_true: TensorLike, logits: Predicted) -> Tensor:
        """`call`, from what other losses derived from the same logits."""
        return _lovasz(y_true, logits, self.per_image, self.name)

    @property
    def values_follow_batch(self) -> bool:
        """Whether the values have the batch in front."""
        return self.per_image
