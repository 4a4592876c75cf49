"""A term that reads the output of a layer inside the model."""

from collections.abc import Callable
from typing import Any

import keras

from keras_losskit import _keras
from keras_losskit._support.checks import checked_function
from keras_losskit._support.checks import checked_name
from keras_losskit._support.named_classes import name_of
from keras_losskit._support.precision import at_least_float32
from keras_losskit._types import Config
from keras_losskit._types import ReductionLike
from keras_losskit._types import Tensor
from keras_losskit._types import Weight
from keras_losskit.extra.context import Context
from keras_losskit.extra.extra_term import ExtraTerm
from keras_losskit.extra.extra_term import registered
from keras_losskit.penalties._add_loss import of_what_counts
from keras_losskit.penalties.collect import layers_called
from keras_losskit.penalties.collect import one_layer


@registered
class FromLayer(ExtraTerm):
    """A function of a layer's output.

    `value = sum over calls of reduction(fn(output))`. The output is the one of
    the forward pass that the compiled losses see; the model is not run again.

    Args:
        layer: Name of the layer, or its path or the end of it.
        fn: A function of the output `(batch, ...)`, floats in float32 at least,
            that returns a scalar or values `(batch, ...)`; values of the shape
            of the output's mask, or with further dimensions, are masked. Give a
            registered function to save the model.
        weight: A number, a `keras.Variable` or a schedule.
        reduction: How values become a scalar.

    Raises:
        ValueError: before training, if the model has no such layer or several.

    Example:
        >>> def mean_square(x):
        ...     return keras.ops.mean(x**2)
        >>> FromLayer("block3", mean_square, weight=0.1)
        FromLayer('block3', mean_square, weight=0.1)
    """

    reads_predictions = False

    def __init__(
        self,
        layer: str,
        fn: Callable[..., Any],
        *,
        weight: Weight = 1.0,
        reduction: ReductionLike = "sum_over_batch_size",
    ):
        super().__init__(weight=weight, reduction=reduction)
        self.layer = checked_name(
            layer, "`layer` of FromLayer, a name or path,"
        )
        self.fn = checked_function(fn, "`fn` of FromLayer", ["output"])

    def value(self, context: Context) -> Tensor:
        outputs = context.outputs_of(self._layer(context.model))
        values = [self._value_of(output) for output in outputs]
        if not values:
            raise ValueError(
                f"Expected layer '{self.layer}' to be called in the forward "
                "pass. Received: no call of it."
            )
        return sum(values[1:], values[0])

    def _value_of(self, output):
        mask = None
        if not keras.tree.is_nested(output):
            mask = _keras.get_keras_mask(output)
        output = keras.tree.map_structure(widened, output)
        values = of_what_counts(self.fn, output, mask)
        return self.reduce(values, mask)

    def prepare(self, model: keras.Model) -> None:
        self._layer(model)

    def _layer(self, model):
        return one_layer(model, self.layer, "FromLayer")

    def kept_layers(self, model: keras.Model) -> list[keras.layers.Layer]:
        return layers_called(model, self.layer)

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "layer": self.layer,
            "fn": keras.saving.serialize_keras_object(self.fn),
        }

    def __repr__(self) -> str:
        return f"FromLayer({self.layer!r}, {name_of(self.fn)}, " + (
            f"weight={self.weight!r})"
        )


def widened(x):
    """A float tensor in float32 at least; any other as it is."""
    if "float" in keras.backend.standardize_dtype(x.dtype):
        return at_least_float32(x)
    return x
