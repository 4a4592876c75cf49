"""Overlap losses, which sum over the places of a sample themselves."""

from keras import ops

from keras_losskit._support.counting import Flags
from keras_losskit._types import Tensor
from keras_losskit._types import TensorLike
from keras_losskit.losses._core.labels import one_hot_like
from keras_losskit.losses._core.logits import Predicted
from keras_losskit.losses._core.logits import Probabilities
from keras_losskit.losses._core.loss import LossMixin
from keras_losskit.losses._core.loss import OnLogits


class OverlapLoss(OnLogits, LossMixin):
    """Base of the losses without a value per place that a mask could leave out.

    A place where targets and probabilities are 0 adds nothing to the sums; a
    sample of which nothing is kept is left out if samples have separate values.
    """

    counts_places = True

    def flags_of_places(self, kept: Tensor) -> Flags:
        """What a mask of samples or places says of targets and predictions."""
        return Flags(masks=(kept,), fill=True)

    def call_on_places(
        self, y_true: TensorLike, prediction: Predicted, kept: TensorLike
    ) -> tuple[Tensor, Tensor | None]:
        """`call_on_logits` over the places that are kept.

        Args:
            y_true: One-hot labels or integers.
            prediction: `Logits` or `Probabilities`, `(batch, ..., classes)`.
            kept: Booleans of samples or places, `(batch, ...)`.

        Returns:
            `(values, mask)`: the mask is of the samples that have a place, None
            for values of the whole batch, which are 0 if nothing is kept.
        """
        p = prediction.probabilities()
        weight = ops.cast(kept, p.dtype)
        while len(weight.shape) < len(p.shape):
            weight = ops.expand_dims(weight, axis=-1)
        y_true = one_hot_like(self.name, y_true, p)
        values = self.call_on_logits(y_true * weight, Probabilities(p * weight))
        if self.values_follow_batch:
            return values, ops.any(kept, axis=tuple(range(1, len(kept.shape))))
        return ops.where(ops.any(kept), values, ops.zeros_like(values)), None
