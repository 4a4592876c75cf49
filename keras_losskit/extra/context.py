"""What a term that reads the inside of the model can see."""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras

from keras_losskit._keras_hooks import HasTerms
from keras_losskit._support.output_structure import Outputs
from keras_losskit._support.output_structure import names_of_outputs
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
        moves: Whether the state of terms moves on: a teacher that follows the
            model, or a generator of random numbers. `fit` says so in training;
            in a custom loop that is not compiled, say it yourself.
        compiled: `y_pred -> scalar`, the weighted sum of the compiled losses on
            the labels of the batch; the container fills it in.
    """

    model: Any = None
    x: Any = None
    y_true: Any = None
    y_pred: Any = None
    sample_weight: Any = None
    training: bool = True
    moves: bool = False
    compiled: Callable | None = None

    def outputs_of(self, layer: keras.layers.Layer) -> list[Structure]:
        """The outputs of `layer` in the forward pass, one per call.

        Raises:
            ValueError: if the model does not keep outputs.
        """
        if not isinstance(self.model, HasTerms):
            raise ValueError(
                "Expected a keras_losskit.Model, which keeps the output of "
                f"layer '{layer.name}' during its forward pass. Received: a "
                f"{type(self.model).__name__}. Use `keras_losskit.wrap(model)`."
            )
        return self.model._losskit_kept_outputs(layer)

    def sample_weights(self) -> list[Tensor | None]:
        """The sample weights of each output, flat; None where it has none."""
        return spread_data(
            self.sample_weight, self._outputs(), argument="sample_weight"
        )

    def output(self, name: str | None) -> tuple[int, Tensor | None]:
        """The position of an output among all, flat, and its labels.

        Args:
            name: Name of the output; None for the only one.

        Returns:
            `(position, labels)`; the labels are None where it has none.

        Raises:
            ValueError: if there is no such output, or no name and several.
        """
        outputs = self._outputs()
        names = list(outputs.names)
        if name is None and len(names) == 1:
            name = names[0]
        if name not in names:
            raise ValueError(
                f"Expected `output` to be one of {names}. Received: "
                f"output={name!r}"
            )
        labels = spread_data(self.y_true, outputs, argument="y_true")
        position = names.index(name)
        return position, labels[position]

    def _outputs(self):
        names = names_of_outputs(self.model)
        return Outputs.of(self.y_pred, names, separator="/")

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
