"""What all drop-in layers share: how they reduce and report penalties."""

from typing import Any
from typing import Literal

import keras
from keras import ops

from keras_losskit import _keras
from keras_losskit import _keras_hooks
from keras_losskit import _origin
from keras_losskit._types import Config
from keras_losskit._types import Structure
from keras_losskit.penalties._add_loss import AddsLosses
from keras_losskit.penalties._recorder import Calls
from keras_losskit.penalties.collect import regularizer_of

ACTIVITY_REDUCTIONS = ("sum_over_batch_size", "mean_over_elements", "sum")
REGULARIZATION_REDUCTIONS = ("sum", "mean_over_parameters")

#: Class decorator: saved as a class of this package.
registered = keras.saving.register_keras_serializable("keras_losskit")


class LossLayer(AddsLosses, _keras.LayerHooks):
    """Mixin, before a Keras layer class: penalties with a reduction.

    With the defaults the penalties are Keras', computed in float32 at least.

    Args:
        *args: As the Keras layer.
        activity_reduction: What the activity regularizer's value is divided by:
            `"sum_over_batch_size"` the batch size, as Keras;
            `"mean_over_elements"` the number of elements; `"sum"` nothing. The
            last two leave out what the output's mask leaves out: masked
            elements are 0 for the regularizer and do not count.
        regularization_reduction: `"sum"`, as Keras, or
            `"mean_over_parameters"`: each weight's penalty over its number of
            elements, so that its strength does not grow with the width.
        **kwargs: As the Keras layer.

    Raises:
        ValueError: for an unknown reduction.
    """

    regularization_reduction = "sum"

    def __init__(
        self,
        *args,
        activity_reduction: Literal[
            "sum_over_batch_size", "mean_over_elements", "sum"
        ] = "sum_over_batch_size",
        regularization_reduction: Literal[
            "sum", "mean_over_parameters"
        ] = "sum",
        **kwargs,
    ):
        checked_choice(
            self, "activity_reduction", activity_reduction, ACTIVITY_REDUCTIONS
        )
        checked_choice(
            self,
            "regularization_reduction",
            regularization_reduction,
            REGULARIZATION_REDUCTIONS,
        )
        super().__init__(*args, **kwargs)
        self.activity_reduction = activity_reduction
        self.regularization_reduction = regularization_reduction
        if self.built:  # by the constructor, before this was known
            self._losskit_after_build()

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "activity_reduction": self.activity_reduction,
            "regularization_reduction": self.regularization_reduction,
        }

    def quantize(
        self,
        mode: str | None = None,
        type_check: bool = True,
        config: Any = None,
    ) -> None:
        """As Keras, which leaves out subclasses; a drop-in layer is none."""
        drop_in = not _origin.is_users_own(type(self))
        super().quantize(mode, type_check and not drop_in, config)

    # ---------------------------------------------------------------- weights

    def add_weight(
        self, *args, regularizer: Any = None, **kwargs
    ) -> keras.Variable:
        """As Keras; the regularizer reduced as the layer says."""
        variable = super().add_weight(*args, regularizer=regularizer, **kwargs)
        self._losskit_reduce_regularizer(variable)
        return variable

    def _losskit_after_build(self) -> None:
        """Reduce the regularizers of weights that sublayers made."""
        for variable in self.weights:
            self._losskit_reduce_regularizer(variable)

    def _losskit_reduce_regularizer(self, variable):
        regularizer = regularizer_of(variable)
        if (
            regularizer is not None
            and self.regularization_reduction == "mean_over_parameters"
            and not isinstance(regularizer, MeanOverParameters)
        ):
            variable.regularizer = MeanOverParameters(regularizer)

    def __call__(self, *args, **kwargs) -> Structure:
        # A pass that is recorded watches this layer as any other.
        if _keras_hooks.watcher() is not None:
            return super().__call__(*args, **kwargs)
        return Calls().run(super().__call__, *args, **kwargs)


def checked_choice(layer, argument, value, choices):
    """Reject a value that is not among the choices."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(
            f"Expected `{argument}` of {type(layer).__name__} to be one of "
            f"{choices}. Received: {argument}={value!r}"
        )


@registered
class MeanOverParameters(keras.regularizers.Regularizer):
    """A regularizer's value over the number of elements of the weight.

    `value = regularizer(x) / size(x)`.

    Args:
        regularizer: A function of a tensor.

    Example:
        >>> regularizer = MeanOverParameters(keras.regularizers.L2(1.0))
        >>> float(regularizer(2.0 * ops.ones((5, 3))))
        4.0
    """

    def __init__(self, regularizer):
        self.regularizer = keras.regularizers.get(regularizer)

    def __call__(self, x):
        value = self.regularizer(x)
        return value / ops.cast(ops.size(x), value.dtype)

    def get_config(self):
        serialized = keras.regularizers.serialize(self.regularizer)
        return {"regularizer": serialized}
