"""Overlap losses that Keras lacks."""

import keras
import numpy as np
from keras import ops

from keras_losskit._support.checks import checked_flag
from keras_losskit._support.checks import checked_non_negative
from keras_losskit._support.checks import checked_positive
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

_EPSILON = 1e-5


def generalized_dice(
    y_true: TensorLike, y_pred: TensorLike, *, from_logits: bool = False
) -> Tensor:
    """Dice loss with classes weighted by their inverse squared volume.

    `loss = 1 - 2 * sum(w * sum(y_true * p)) / sum(w * sum(y_true + p))`, inner
    sums over the places, outer ones over the classes, `w = 1 / sum(y_true) **
    2`. A class that is absent has the largest weight of those present.

    Args:
        y_true: One-hot labels, `(batch, d0, ..., dN, classes)`, or integers,
            `(batch, d0, ..., dN)`.
        y_pred: Probabilities, `(batch, d0, ..., dN, classes)`.
        from_logits: Whether `y_pred` holds logits.

    Returns:
        Per-sample losses in [0, 1], `(batch,)`, float32 at least.

    Raises:
        ValueError: if the shapes do not fit; in eager mode, if a label is not
            among the classes.

    Reference:
        Sudre et al., "Generalised Dice Overlap as a Deep Learning Loss
        Function for Highly Unbalanced Segmentations", DLMIA 2017.

    Example:
        >>> y_pred = [[[0.5, 0.5], [0.5, 0.5]]]
        >>> round(float(generalized_dice([[0, 1]], y_pred)[0]), 4)
        0.5
    """
    checked_flag(from_logits, "`from_logits` of generalized_dice")
    return _generalized_dice(y_true, predicted(y_pred, from_logits))


def _generalized_dice(y_true, prediction, name="generalized_dice"):
    overlap, targets, predictions = _class_sums(name, y_true, prediction)
    present = ops.greater(targets, 0.0)
    # Without `initial` Keras takes no minimum over an empty batch.
    smallest = ops.min(
        ops.where(present, targets, np.inf),
        axis=-1,
        keepdims=True,
        initial=np.inf,
    )
    volume = ops.where(present, targets, smallest)
    weight = 1.0 / ops.square(volume)  # 0 without labels
    numerator = 2.0 * ops.sum(weight * overlap, axis=-1)
    denominator = ops.sum(weight * (targets + predictions), axis=-1)
    some = ops.greater(denominator, 0.0)
    return nonnegative(1.0 - numerator / ops.where(some, denominator, 1.0))


def focal_tversky(
    y_true: TensorLike,
    y_pred: TensorLike,
    *,
    alpha: float = 0.7,
    beta: float = 0.3,
    gamma: float = 4.0 / 3.0,
    from_logits: bool = False,
) -> Tensor:
    """Tversky loss that stresses the classes that overlap badly.

    `loss = mean((1 - ti) ** (1 / gamma))` over the classes, with `ti = tp / (tp
    + alpha * fn + beta * fp)`, each a sum over the places.
    `alpha` weighs false negatives, as in the reference. In Keras' Tversky loss
    it weighs false positives from Keras 3.16 on.

    Args:
        y_true: One-hot labels, `(batch, d0, ..., dN, classes)`, or integers,
            `(batch, d0, ..., dN)`.
        y_pred: Probabilities, `(batch, d0, ..., dN, classes)`.
        alpha: Weight of false negatives.
        beta: Weight of false positives.
        gamma: Focusing parameter; 1 gives the Tversky loss.
        from_logits: Whether `y_pred` holds logits.

    Returns:
        Per-sample losses in [0, 1], `(batch,)`, float32 at least.

    Raises:
        ValueError: if the shapes do not fit; in eager mode, if a label is not
            among the classes.

    Reference:
        Abraham, Khan, "A Novel Focal Tversky Loss Function with Improved
        Attention U-Net for Lesion Segmentation", ISBI 2019.

    Example:
        >>> y_pred = [[[0.5, 0.5], [0.5, 0.5]]]
        >>> round(float(focal_tversky([[0, 1]], y_pred, gamma=1.0)[0]), 4)
        0.5
    """
    alpha = checked_non_negative(alpha, "`alpha` of focal_tversky")
    beta = checked_non_negative(beta, "`beta` of focal_tversky")
    gamma = checked_positive(gamma, "`gamma` of focal_tversky")
    checked_flag(from_logits, "`from_logits` of focal_tversky")
    prediction = predicted(y_pred, from_logits)
    return _focal_tversky(y_true, prediction, alpha, beta, gamma)


def _focal_tversky(
    y_true, prediction, alpha, beta, gamma, name="focal_tversky"
):
    overlap, targets, predictions = _class_sums(name, y_true, prediction)
    missed, wrong = targets - overlap, predictions - overlap
    errors = alpha * missed + beta * wrong
    # 1 - ti = errors / (overlap + errors), which loses no digits near 0. Its
    # root has no finite gradient at 0.
    distance = (errors + _EPSILON) / (overlap + errors + _EPSILON)
    absent = ops.less_equal(overlap + errors, 0.0)
    distance = ops.where(absent, _EPSILON, distance)
    return ops.mean(ops.power(distance, 1.0 / gamma), axis=-1)


def _class_sums(name, y_true, prediction):
    """Sums over the places, `(batch, classes)`: overlap, targets, predicted."""
    p = prediction.probabilities()
    y_true = one_hot_like(name, y_true, p)
    places = tuple(range(1, len(p.shape) - 1))
    return (
        ops.sum(y_true * p, axis=places),
        ops.sum(y_true, axis=places),
        ops.sum(p, axis=places),
    )


@keras.saving.register_keras_serializable("keras_losskit")
class GeneralizedDice(OverlapLoss, ClassLoss):
    """Dice loss with classes weighted by their inverse squared volume.

    `loss = reduction(generalized_dice(y_true, y_pred))`.

    Args:
        from_logits: Whether `y_pred` holds logits rather than probabilities.
        reduction, name, dtype, weight: See `Loss`.

    Reference:
        Sudre et al., "Generalised Dice Overlap as a Deep Learning Loss
        Function for Highly Unbalanced Segmentations", DLMIA 2017.

    Example:
        >>> loss = GeneralizedDice(from_logits=True)
        >>> round(float(loss([[0, 1]], [[[0.0, 0.0], [0.0, 0.0]]])), 4)
        0.5
    """

    def __init__(
        self,
        from_logits: bool = False,
        reduction: ReductionLike = "sum_over_batch_size",
        name: str | None = "generalized_dice",
        dtype: DType | None = None,
        *,
        weight: Weight = 1.0,
    ):
        self.from_logits = from_logits
        super().__init__(reduction, name, dtype, weight=weight)

    def call_on_logits(self, y_true: TensorLike, logits: Predicted) -> Tensor:
        """`call`, from what other losses derived from the same logits."""
        return _generalized_dice(y_true, logits, self.name)


@keras.saving.register_keras_serializable("keras_losskit")
class FocalTversky(OverlapLoss, ClassLoss):
    """Tversky loss that stresses the classes that overlap badly.

    `loss = reduction(focal_tversky(y_true, y_pred))`. `alpha` weighs false
    negatives, as in the reference; in `Tversky` it weighs false positives from
    Keras 3.16 on.

    Args:
        alpha: Weight of false negatives.
        beta: Weight of false positives.
        gamma: Focusing parameter; 1 gives the Tversky loss.
        from_logits: Whether `y_pred` holds logits rather than probabilities.
        reduction, name, dtype, weight: See `Loss`.

    Raises:
        ValueError: if `alpha` or `beta` is negative, or `gamma` not positive.

    Reference:
        Abraham, Khan, "A Novel Focal Tversky Loss Function with Improved
        Attention U-Net for Lesion Segmentation", ISBI 2019.

    Example:
        >>> loss = FocalTversky(gamma=1.0, from_logits=True)
        >>> round(float(loss([[0, 1]], [[[0.0, 0.0], [0.0, 0.0]]])), 4)
        0.5
    """

    def __init__(
        self,
        alpha: float = 0.7,
        beta: float = 0.3,
        gamma: float = 4.0 / 3.0,
        from_logits: bool = False,
        reduction: ReductionLike = "sum_over_batch_size",
        name: str | None = "focal_tversky",
        dtype: DType | None = None,
        *,
        weight: Weight = 1.0,
    ):
        self.alpha = alpha
        self.beta = beta
        self.gamma = gamma
        self.from_logits = from_logits
        super().__init__(reduction, name, dtype, weight=weight)

    def call_on_logits(self, y_true: TensorLike, logits: Predicted) -> Tensor:
        """`call`, from what other losses derived from the same logits."""
        return _focal_tversky(
            y_true, logits, self.alpha, self.beta, self.gamma, self.name
        )
