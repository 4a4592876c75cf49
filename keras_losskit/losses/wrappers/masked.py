"""`Masked`: a loss that leaves out targets of one value."""

import keras
from keras import ops

from keras_losskit import _keras
from keras_losskit._types import LossObject
from keras_losskit._types import Tensor
from keras_losskit._types import TensorLike
from keras_losskit.losses._core.composition import Part
from keras_losskit.losses._core.composition import values_of
from keras_losskit.losses._core.evaluation import is_composite
from keras_losskit.losses._core.evaluation import own_weight
from keras_losskit.losses._core.evaluation import without_lists
from keras_losskit.losses._core.refusals import checked_loss
from keras_losskit.losses._core.unprojected import Unprojected
from keras_losskit.losses.wrappers._wrapper import Wrapper
from keras_losskit.reductions._alignment import align


@keras.saving.register_keras_serializable("keras_losskit")
class Masked(Wrapper):
    """A loss that leaves out the targets that have one value.

    The loss sees 0 there, and its reduction a mask, so that a mean is taken
    over the remaining targets. If none remain, the loss is 0. An overlap loss
    (`Dice`, `Tversky`, `GeneralizedDice`, `FocalTversky`, `LovaszSoftmax`) sums
    over the remaining places, and `CTC` spells the remaining labels.

    If targets have as many features or classes as the predictions, a sample (or
    step, or pixel) is left out if all of its features are `ignore_value`. With
    `elementwise=True` features are left out one by one: the loss then sees
    every feature as a sample of one feature, which is right for losses that
    average over features.

    Args:
        loss: A `keras.losses.Loss`, or a composite.
        ignore_value: The value, such as 255 or -1; NaN is possible.
        elementwise: Whether to leave out features one by one.
        name: The term's name. Defaults to that of `loss`; the terms of a
            composite keep theirs.

    Raises:
        TypeError: if `loss` is not a loss.
        ValueError: in a call, for a loss that returns one scalar for a batch
            and does not use masks.

    Example:
        >>> from keras_losskit import losses
        >>> mse = losses.MeanSquaredError()
        >>> float(Masked(mse, ignore_value=-1)([[1], [-1]], [[3.0], [9.0]]))
        4.0
    """

    def __init__(
        self,
        loss: LossObject,
        ignore_value: float,
        *,
        elementwise: bool = False,
        name: str | None = None,
    ):
        loss = checked_loss(loss, "the loss of Masked")
        super().__init__(name=name or loss.name)
        self.loss = loss
        self.ignore_value = ignore_value
        self.elementwise = elementwise

    @property
    def parts(self) -> tuple[Part, ...]:
        """The terms, as a tuple of `Part`."""
        if is_composite(self.loss):
            return tuple(self.loss.parts)
        return (Part(self.name, own_weight(self.loss), self.loss),)

    def part_values(
        self,
        y_true: TensorLike,
        y_pred: TensorLike,
        sample_weight: TensorLike | None = None,
        mask: TensorLike | None = None,
    ) -> list[Tensor]:
        y_true = ops.convert_to_tensor(without_lists(y_true))
        predicted = _keras.get_keras_mask(y_pred)
        if not isinstance(y_pred, Unprojected):
            y_pred = ops.convert_to_tensor(without_lists(y_pred))
        valid = ops.not_equal(y_true, self.ignore_value)
        if self.ignore_value != self.ignore_value:  # NaN
            valid = ops.logical_not(ops.isnan(y_true))
        if self.elementwise or len(y_true.shape) == len(y_pred.shape) == 1:
            # Without features these are samples, which a loss would average.
            y_true = ops.expand_dims(y_true, axis=-1)
            y_pred = ops.expand_dims(y_pred, axis=-1)
            kept = ops.expand_dims(valid, axis=-1)
        elif len(y_true.shape) == len(y_pred.shape):
            kept = ops.any(valid, axis=-1, keepdims=True)
            valid = ops.squeeze(kept, axis=-1)
        else:
            kept = valid
        y_true = ops.where(kept, y_true, ops.zeros_like(y_true))
        for other in (mask, predicted):
            if other is not None:
                other = ops.cast(ops.convert_to_tensor(other), "bool")
                valid = ops.logical_and(valid, align(other, valid, "mask"))
        return values_of(self.loss, y_true, y_pred, sample_weight, valid)
