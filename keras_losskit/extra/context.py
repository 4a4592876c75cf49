"""What a term that reads the inside of the model can see."""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras

from keras_losskit._support.output_structure import Outputs
from keras_losskit._support.output_structure import spread_data
from keras_losskit._types import Structure
from keras_losskit._types import Tensor


@dataclasses.dataclass(frozen=True)
class Context:
    """The batch of a step and the model it went through.

    Args:
        model: The model.
        x: Inputs.
        y_true: Labels.
        y_pred: Predictions.
        sample_weight: Sample weights.
        training: Whether this is a training step.
        compiled: `y_pred -> scalar`, the weighted sum of the compiled losses on
            the labels of the batch; the container fills it in.
    """

    model: Any = None
    x: Any = None
    y_true: Any = None
    y_pred: Any = None
    sample_weight: Any = None
    training: bool = True
    compiled: Callable | None = None

    def outputs_of(self, layer: keras.layers.Layer) -> list[Structure]:
        """The outputs of `layer` in the forward pass, one per call.

        Raises:
            ValueError: if the model does not keep outputs.
        """
        kept = getattr(self.model, "_losskit_kept_outputs", None)
        if kept is None:
            raise ValueError(
                "Expected a keras_losskit.Model, which keeps the output of "
                f"layer '{layer.name}' during its forward pass. Received: a "
                f"{type(self.model).__name__}. Use `keras_losskit.wrap(model)`."
            )
        return kept(layer)

    def sample_weights(self) -> list[Tensor | None]:
        """The sample weights of each output, flat; None where it has none."""
        names = getattr(self.model, "output_names", None)
        outputs = Outputs.of(self.y_pred, names, separator="/")
        return spread_data(
            self.sample_weight, outputs, argument="sample_weight"
        )

    def loss_at(self, x: Structure) -> Tensor:
        """The compiled losses where the inputs are `x`.

        The model's state, seeds and penalties are left as they are.

        Raises:
            ValueError: outside of a step, where no labels are compared.
        """
        if self.compiled is None:
            raise ValueError(
                "Expected a Context from a LossesContainer in a step, which "
                "knows the compiled losses. Received: one without `compiled`. "
                "Give it yourself: Context(model, x, compiled=lambda y_pred: "
                "loss(y_true, y_pred))."
            )
        return self.compiled(self.model._losskit_call_aside(x, self.training))
