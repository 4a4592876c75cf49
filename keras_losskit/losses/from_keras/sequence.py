"""Keras' sequence losses."""

import keras
from keras import ops

from keras_losskit._support.counting import Flags
from keras_losskit._types import DType
from keras_losskit._types import KerasLoss
from keras_losskit._types import ReductionLike
from keras_losskit._types import Tensor
from keras_losskit._types import TensorLike
from keras_losskit._types import Weight
from keras_losskit.losses._core.labels import check_labels
from keras_losskit.losses._core.logits import Logits
from keras_losskit.losses._core.logits import nonnegative
from keras_losskit.losses._core.loss import LossMixin


@keras.saving.register_keras_serializable("keras_losskit")
class CTC(LossMixin, KerasLoss[keras.losses.CTC]):
    """Connectionist temporal classification.

    `loss = -log(p(y_true))`, summed over all alignments with the logits; label
    0 is the blank. It pads the targets at their end, as does every label below
    0, wherever it stands.

    Args:
        reduction, name, dtype, weight: See `Loss`.

    Raises:
        ValueError: in a call, if the shapes do not fit; in eager mode, if a
            label is not among the classes.

    Reference:
        Graves et al., "Connectionist Temporal Classification", ICML 2006.

    Example:
        >>> loss = CTC()
        >>> round(float(loss([[1]], [[[0.0, 2.0]]])), 4)
        0.1269
    """

    #: Predictions are always logits.
    from_logits = True
    counts_places = True

    def __init__(
        self,
        reduction: ReductionLike = "sum_over_batch_size",
        name: str | None = "ctc",
        dtype: DType | None = None,
        *,
        weight: Weight = 1.0,
    ):
        super().__init__(reduction, name, dtype, weight=weight)

    def call(self, y_true: TensorLike, y_pred: TensorLike) -> Tensor:
        if 0 in y_pred.shape:
            # PyTorch refuses an empty batch.
            return ops.sum(y_pred, axis=(1, 2))
        labels = ops.cast(y_true, "int32")
        if len(labels.shape) == 2:
            labels = _padded_at_the_end(labels)
            check_labels(self.name, labels, y_pred.shape[-1])
        return nonnegative(super().call(labels, y_pred))

    def flags_of_places(self, kept: Tensor) -> Flags:
        """What a mask of labels says of predictions: of whole samples only."""
        return Flags(masks=(_any_label(kept),), fill=True)

    def call_on_places(
        self, y_true: TensorLike, prediction: Logits, kept: Tensor
    ) -> tuple[Tensor, Tensor]:
        """`call` over the labels that are kept.

        Args:
            y_true: Labels, `(batch, length)`.
            prediction: `Logits`, `(batch, steps, classes)`.
            kept: Booleans of samples or labels, `(batch, ...)`.

        Returns:
            `(values, mask)`, both `(batch,)`: the mask is of the samples that
            have a label.
        """
        places = kept
        while len(places.shape) < len(y_true.shape):
            places = ops.expand_dims(places, axis=-1)
        labels = ops.where(places, y_true, -1)
        return self.call(labels, prediction.tensor), _any_label(kept)


def _any_label(kept):
    """The samples of which a label is kept, `(batch,)`."""
    return ops.any(kept, axis=-1) if len(kept.shape) > 1 else kept


def _padded_at_the_end(labels):
    """Integer labels in their order, zeros after them for those below 0.

    Keras counts the labels that are not 0 and takes as many from the start.
    """
    length = labels.shape[-1] or ops.shape(labels)[-1]
    padding = ops.less(labels, 0)
    position = ops.arange(length, dtype="int32")
    order = ops.argsort(ops.where(padding, position + length, position))
    return ops.take_along_axis(ops.where(padding, 0, labels), order, axis=-1)
