"""Keras' overlap losses."""

import keras

from keras_losskit._types import DType
from keras_losskit._types import KerasLoss
from keras_losskit._types import ReductionLike
from keras_losskit._types import Tensor
from keras_losskit._types import TensorLike
from keras_losskit._types import Weight
from keras_losskit.losses._core.logits import Logits
from keras_losskit.losses._core.logits import Predicted
from keras_losskit.losses._core.overlap_masks import OverlapLoss


class OverlapAlongAxes(OverlapLoss):
    """Base of Keras' overlap losses, with a softmax if asked for."""

    axis: int | tuple[int, ...] | None

    def call(self, y_true: TensorLike, y_pred: TensorLike) -> Tensor:
        if self.from_logits:
            return self.call_on_logits(y_true, Logits(y_pred))
        return super().call(y_true, y_pred)

    def call_on_logits(self, y_true: TensorLike, logits: Predicted) -> Tensor:
        """`call`, from what other losses derived from the same logits."""
        return super().call(y_true, logits.probabilities())

    @property
    def values_follow_batch(self) -> bool:
        """Whether the values have the batch in front."""
        axes = (self.axis,) if isinstance(self.axis, int) else self.axis
        return axes is not None and all(axis > 0 for axis in axes)


@keras.saving.register_keras_serializable("keras_losskit")
class Dice(OverlapAlongAxes, KerasLoss[keras.losses.Dice]):
    """Dice loss: one less the overlap of targets and predictions.

    `loss = 1 - 2 * sum(y_true * p) / (sum(y_true) + sum(p) + epsilon)`, the
    sums over `axis`.

    Args:
        axis: Axes of the sums, an int or a tuple; `None` for all, the batch
            included.
        from_logits: Whether to take a softmax over the last axis first.
        reduction, name, dtype, weight: See `Loss`.

    Reference:
        Milletari, Navab, Ahmadi, "V-Net", 3DV 2016.

    Example:
        >>> loss = Dice()
        >>> round(float(loss([[1.0, 0.0]], [[0.5, 0.5]])), 4)
        0.5
    """

    def __init__(
        self,
        reduction: ReductionLike = "sum_over_batch_size",
        name: str | None = "dice",
        axis: int | tuple[int, ...] | None = None,
        dtype: DType | None = None,
        *,
        from_logits: bool = False,
        weight: Weight = 1.0,
    ):
        self.axis = axis
        self.from_logits = from_logits
        super().__init__(reduction, name, dtype, weight=weight)


@keras.saving.register_keras_serializable("keras_losskit")
class Tversky(OverlapAlongAxes, KerasLoss[keras.losses.Tversky]):
    """Tversky loss: Dice loss with weights for either kind of error.

    `loss = 1 - tp / (tp + alpha * fp + beta * fn + epsilon)`, with `tp =
    sum(y_true * p)`, `fp = sum((1 - y_true) * p)` and `fn = sum(y_true * (1 -
    p))` over `axis`. Before 3.16 Keras has `fp` and `fn` the other way round,
    and so has this loss: unless `alpha` equals `beta`, its value depends on the
    version. That of `FocalTversky` does not.

    Args:
        alpha: Weight of `fp`, false positives; of `fn` before Keras 3.16.
        beta: Weight of `fn`, false negatives; of `fp` before Keras 3.16.
        axis: Axes of the sums, an int or a tuple; `None` for all, the batch
            included.
        from_logits: Whether to take a softmax over the last axis first.
        reduction, name, dtype, weight: See `Loss`.

    Reference:
        Salehi, Erdogmus, Gholipour, "Tversky Loss Function for Image
        Segmentation", MLMI 2017.

    Example:
        >>> loss = Tversky()
        >>> round(float(loss([[1.0, 0.0]], [[0.5, 0.5]])), 4)
        0.5
    """

    def __init__(
        self,
        alpha: float = 0.5,
        beta: float = 0.5,
        reduction: ReductionLike = "sum_over_batch_size",
        name: str | None = "tversky",
        axis: int | tuple[int, ...] | None = None,
        dtype: DType | None = None,
        *,
        from_logits: bool = False,
        weight: Weight = 1.0,
    ):
        self.alpha = alpha
        self.beta = beta
        self.axis = axis
        self.from_logits = from_logits
        super().__init__(reduction, name, dtype, weight=weight)
