"""`DeepSupervision`: one loss over predictions of several resolutions."""

from collections.abc import Sequence
from typing import Literal

import keras
import numpy as np
from keras import ops

from keras_losskit import _weights as weights_lib
from keras_losskit._types import LossObject
from keras_losskit._types import Tensor
from keras_losskit._types import TensorLike
from keras_losskit._types import Weight
from keras_losskit.losses._core.composition import Part
from keras_losskit.losses._core.composition import WeightedSum
from keras_losskit.losses._core.composition import parts_of
from keras_losskit.losses._core.composition import values_of
from keras_losskit.losses._core.evaluation import weighted_total
from keras_losskit.losses._core.evaluation import without_lists
from keras_losskit.losses._core.refusals import checked_loss
from keras_losskit.losses._core.refusals import refuse_symbolic
from keras_losskit.losses.wrappers._wrapper import Wrapper


@keras.saving.register_keras_serializable("keras_losskit")
class Resized(Wrapper):
    """A loss whose targets are resized to its predictions.

    `loss(nearest(y_true), y_pred)`: a target's value at the place `floor(i *
    size / smaller)`, along every spatial axis.

    Args:
        loss: A `keras.losses.Loss`, or a composite.
        name: Name of the whole. Defaults to that of `loss`.

    Example:
        >>> from keras_losskit import losses
        >>> loss = Resized(losses.MeanAbsoluteError())
        >>> y_true, y_pred = np.ones((1, 4, 4, 1)), np.zeros((1, 2, 2, 1))
        >>> float(loss(y_true, y_pred))
        1.0
    """

    def __init__(self, loss, *, name=None):
        super().__init__(name=name or loss.name)
        self.loss = loss

    @property
    def parts(self):
        """The terms of the loss, as a tuple of `Part`."""
        return parts_of(self.loss)

    def part_values(self, y_true, y_pred, sample_weight=None, mask=None):
        y_true, sample_weight, mask = (
            None if x is None else resized(x, y_pred)
            for x in (y_true, sample_weight, mask)
        )
        return values_of(self.loss, y_true, y_pred, sample_weight, mask)


@keras.saving.register_keras_serializable("keras_losskit")
class DeepSupervision(Wrapper):
    """One loss over predictions of several resolutions.

    `loss = sum(weights[i] * loss(nearest(y_true), y_pred[i]))`, from the full
    resolution, level 0, down.

    By itself it takes a list of predictions. For `compile`, where every output
    has a separate loss, `per_output` returns these losses.

    Args:
        loss: A `keras.losses.Loss`, or a composite.
        weights: `"same"`: 1 for every level; `"exp"`: `0.5 ** level`; or a list
            with a weight for each.
        levels: Number of levels, needed for the names of the terms where
            `weights` is not a list.
        name: Name of the whole. Defaults to that of `loss`.

    Raises:
        TypeError: if `loss` is not a loss.
        ValueError: for other weights, or another number of predictions.

    Reference:
        Lee et al., "Deeply-Supervised Nets", AISTATS 2015.

    Example:
        >>> from keras_losskit import losses
        >>> mae = losses.MeanAbsoluteError(name="mae")
        >>> loss = DeepSupervision(mae, "exp", levels=2)
        >>> loss
        mae_level_0 + 0.5 * mae_level_1
        >>> y_pred = [np.zeros((1, 4, 4, 1)), np.zeros((1, 2, 2, 1))]
        >>> float(loss(np.ones((1, 4, 4, 1)), y_pred))
        1.5
    """

    def __init__(
        self,
        loss: LossObject,
        weights: Literal["same", "exp"] | Sequence[Weight] = "exp",
        *,
        levels: int | None = None,
        name: str | None = None,
    ):
        loss = checked_loss(loss, "the loss of DeepSupervision")
        super().__init__(name=name or loss.name)
        if isinstance(weights, str):
            if weights not in ("same", "exp"):
                raise ValueError(
                    "Expected `weights` to be 'same', 'exp' or a list. "
                    f"Received: weights={weights!r}"
                )
        else:
            weights = [
                weights_lib.check_weight(weight, name=f"level_{level}")
                for level, weight in enumerate(weights)
            ]
            if levels not in (None, len(weights)):
                raise ValueError(
                    f"Expected {levels} weights. Received: {len(weights)}"
                )
            levels = len(weights)
        self.loss = loss
        self.weights = weights
        self.levels = levels

    @property
    def parts(self) -> tuple[Part, ...]:
        """The terms, level by level, as a tuple of `Part`."""
        if self.levels is None:
            raise ValueError(
                f"Expected `levels` of DeepSupervision '{self.name}', so that "
                "its terms have names. Received: levels=None"
            )
        return self._parts(self.levels)

    def _parts(self, levels):
        return tuple(
            Part(
                f"{part.name}_level_{level}",
                weights_lib.multiply_weights(
                    self._level_weight(level), part.weight
                ),
                part.loss,
            )
            for level in range(levels)
            for part in parts_of(self.loss)
        )

    def _level_weight(self, level):
        if self.weights == "same":
            return 1.0
        return 0.5**level if self.weights == "exp" else self.weights[level]

    def per_output(self, levels: int | None = None) -> list[WeightedSum]:
        """A loss for each output of a model, from the full resolution down.

        Args:
            levels: Number of outputs, where it is not known yet.

        Returns:
            List of losses, for `compile(loss=...)`.
        """
        levels = levels or self.levels
        if levels is None or self.levels not in (None, levels):
            raise ValueError(
                f"Expected `levels` to be {self.levels or 'a number'}. "
                f"Received: levels={levels}"
            )
        return [
            Resized(self.loss) * self._level_weight(level)
            for level in range(levels)
        ]

    def part_values(
        self,
        y_true: TensorLike,
        y_pred: TensorLike,
        sample_weight: TensorLike | None = None,
        mask: TensorLike | None = None,
    ) -> list[Tensor]:
        count = len(y_pred) if isinstance(y_pred, list | tuple) else "one"
        if count == "one" or self.levels not in (None, count):
            raise ValueError(
                f"Expected loss '{self.name}' to receive a list of "
                f"{self.levels or 'several'} predictions. Received: {count}. "
                "In `compile`, give the losses of `per_output`."
            )
        level, values = Resized(self.loss), []
        for x in y_pred:
            values += level.part_values(y_true, x, sample_weight, mask)
        return values

    def __call__(
        self,
        y_true: TensorLike,
        y_pred: TensorLike,
        sample_weight: TensorLike | None = None,
    ) -> Tensor:
        """The weighted sum, a scalar."""
        refuse_symbolic(self, y_true, y_pred)
        values = self.part_values(y_true, y_pred, sample_weight)
        parts = self._parts(len(y_pred))
        return weighted_total(values, [part.weight for part in parts])

    def __repr__(self) -> str:
        if self.levels is None:
            return f"DeepSupervision({self.loss!r}, {self.weights!r})"
        return super().__repr__()


def resized(x, y_pred):
    """`x` at the resolution of `y_pred`, by the nearest neighbour.

    Args:
        x: Targets, weights or a mask: `(batch, *spatial)`, with or without
            channels; what has no spatial axes stays as it is.
        y_pred: Predictions, `(batch, *smaller, channels)`, or with the channels
            first where that is Keras' `image_data_format`.

    Returns:
        `x` with the spatial axes of `y_pred`, of the same dtype.

    Raises:
        ValueError: if a spatial size is not static.
    """
    x = ops.convert_to_tensor(without_lists(x))
    shape = ops.convert_to_tensor(y_pred).shape
    first = keras.config.image_data_format() == "channels_first"
    spatial = shape[2:] if first else shape[1:-1]
    if len(x.shape) <= len(spatial):
        return x
    start = 2 if first and len(x.shape) == len(shape) else 1
    for axis, smaller in enumerate(spatial, start):
        size = x.shape[axis]
        if size is None or smaller is None:
            raise ValueError(
                "Expected static spatial sizes. Received: targets "
                f"{tuple(x.shape)}, predictions {tuple(shape)}"
            )
        if size != smaller:
            index = np.arange(smaller) * size // smaller
            x = ops.take(x, index.astype("int32"), axis=axis)
    return x
