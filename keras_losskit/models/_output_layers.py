"""Output layers whose logits a step does without.

A `LinearCrossEntropy` names the layer that makes the logits of its output. In a
step of Keras' trainer that layer hands on what it is given, and the loss is
told so with an `Unprojected`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops

from keras_losskit import _keras
from keras_losskit import _origin
from keras_losskit._types import Structure
from keras_losskit.losses._core.composition import parts_of
from keras_losskit.losses._core.evaluation import is_composite
from keras_losskit.losses._core.unprojected import Projection
from keras_losskit.losses._core.unprojected import Unprojected
from keras_losskit.losses.further.linear_cross_entropy import Column
from keras_losskit.models._token_metrics import note_scores
from keras_losskit.penalties.collect import layer_path
from keras_losskit.penalties.collect import one_layer

#: The methods that show the user's own code what the model predicts.
READERS = ("train_step", "test_step", "compute_loss", "compute_metrics")


@dataclasses.dataclass(frozen=True)
class OutputLayer:
    """A layer that makes logits of features: their product with a matrix.

    Args:
        layer: A `Dense`, `EinsumDense` or `ReversibleEmbedding`.
    """

    layer: Any

    @property
    def is_embedding(self) -> bool:
        """Whether it makes logits only where it is called in reverse."""
        return isinstance(self.layer, keras.layers.ReversibleEmbedding)

    def makes_logits(self, args: Any, kwargs: Mapping[str, Any]) -> bool:
        """Whether a call with these arguments is that of a linear layer."""
        if self.layer.quantization_mode is not None:
            return False  # it rounds features too
        if not self.is_embedding:
            return True
        return bool(kwargs.get("reverse", len(args) > 1 and args[1]))

    def projection(self, dtype: str) -> Projection:
        """What it does to features of this dtype."""
        layer = self.layer
        if not self.is_embedding:
            bias = layer.bias
            return Projection(
                ops.cast(layer.kernel, dtype),
                None if bias is None else ops.convert_to_tensor(bias),
            )
        if layer.tie_weights:
            kernel = ops.transpose(ops.cast(layer.embeddings, dtype))
        else:
            kernel = ops.cast(layer.reverse_embeddings, dtype)
        return Projection(kernel, softcap=layer.logit_soft_cap)

    def unprojected(self, features: Any) -> Unprojected:
        """What a loss is given in place of the logits."""
        dtype = features.dtype
        if self.is_embedding and self.layer.reverse_dtype is not None:
            dtype = self.layer.reverse_dtype
        dtype = keras.backend.standardize_dtype(dtype)
        mask = self.mask(features)
        features = ops.cast(features, dtype)
        return Unprojected(features, self.projection(dtype), mask)

    def mask(self, features: Any) -> Any:
        """The mask that the logits would have, or None."""
        mask = _keras.get_keras_mask(features)
        if mask is None or not self.layer.supports_masking:
            return None
        return self.layer.compute_mask(features, mask)

    def logits(self, features: Any) -> Any:
        """What the layer makes of features."""
        if self.is_embedding:
            return self.layer(features, reverse=True)
        return self.layer(features)

    def check(self) -> None:
        """Refuse a layer that does more than a `Projection`, or that has more.

        Raises:
            ValueError: if it is one.
        """
        layer = self.layer
        known = (
            keras.layers.Dense,
            keras.layers.EinsumDense,
            keras.layers.ReversibleEmbedding,
        )
        wrong = None
        if not isinstance(layer, known) or _origin.is_users_own(
            type(layer).call
        ):
            wrong = f"a {type(layer).__name__}"
        elif layer.activity_regularizer is not None:
            wrong = "an activity regularizer, which reads the logits"
        elif not self.is_embedding and layer.activation not in (
            None,
            keras.activations.linear,
        ):
            wrong = f"activation={layer.activation.__name__!r}"
        elif isinstance(layer, keras.layers.EinsumDense) and not is_product(
            layer.equation
        ):
            wrong = f"equation={layer.equation!r}"
        elif isinstance(layer, keras.layers.EinsumDense) and (
            layer.bias_axes not in (None, "", layer.equation.strip()[-1])
        ):
            wrong = f"bias_axes={layer.bias_axes!r}"
        if wrong is not None:
            raise ValueError(
                f"Expected layer '{layer_path(layer)}' of LinearCrossEntropy "
                "to make logits by one matrix and a bias: a Dense without "
                "activation, an EinsumDense such as '...d,dv->...v', or a "
                f"ReversibleEmbedding. Received: {wrong}. Take "
                "SparseCategoricalCrossentropy(from_logits=True) for it."
            )


def is_product(equation):
    """Whether an `EinsumDense` multiplies the last axis by a matrix."""
    inputs, _, rest = equation.replace(" ", "").partition(",")
    kernel, _, outputs = rest.partition("->")
    return (
        len(kernel) == 2
        and inputs.endswith(kernel[0])
        and outputs == inputs[:-1] + kernel[1]
        and kernel[1] not in inputs
    )


def output_layers_of(model: Any) -> dict[Any, OutputLayer]:
    """`{layer: OutputLayer}` of the layers that losses of a model name.

    None where the user's own code would see what the model predicts.

    Raises:
        ValueError: if a layer is not there, or does not make logits, or a term
            reads its output.
    """
    container = model.compiled_loss
    losses = keras.tree.flatten(container.losses) if container else []
    names = {
        part.loss.of.layer
        for loss in losses
        if isinstance(loss, keras.losses.Loss) and is_composite(loss)
        for part in parts_of(loss)
        if isinstance(part.loss, Column)
    }
    if not names or any(_origin.overrides(model, name) for name in READERS):
        return {}
    found = {}
    for name in names:
        layer = one_layer(model, name, "LinearCrossEntropy")
        found[layer] = OutputLayer(layer)
        found[layer].check()
    for name, term in container.extra_terms.items():
        read = [x.name for x in term.kept_layers(model) if x in found]
        if read:
            raise ValueError(
                f"Expected extra term '{name}' not to read what layers return "
                f"that LinearCrossEntropy does without. Received: {read}. Take "
                "SparseCategoricalCrossentropy(from_logits=True) as the loss."
            )
    return found


def find_output_layers(model: Any) -> None:
    """Find the output layers of a model once, before its first step.

    Raises:
        ValueError: as `output_layers_of`.
    """
    state = model._losskit_state
    if state.output_layers is None:
        state.output_layers = output_layers_of(model)


def do_without_logits(model: Any) -> None:
    """Have the next pass of a model do without logits, in Keras' own step."""
    output_layers = model._losskit_state.output_layers
    if output_layers:
        model._losskit_kept_of_pass().output_layers = output_layers


def predictions_of_step(
    model: Any, y: Structure, y_pred: Structure, extra_terms: Any
) -> tuple[Structure, dict[int, Unprojected]]:
    """The outputs as extra terms read them, and those that are features.

    Args:
        model: The model.
        y: Labels.
        y_pred: The outputs of its last pass.
        extra_terms: The extra terms of its loss.

    Returns:
        `(read, {position: Unprojected})`.
    """
    output_layers = unprojected_outputs(model, y_pred)
    if not output_layers:
        return y_pred, {}
    unprojected = without_projection(y_pred, output_layers)
    note_scores(model, y, y_pred, unprojected)
    if any(term.reads_predictions for term in extra_terms):
        return with_logits(y_pred, output_layers), unprojected
    return y_pred, unprojected


def unprojected_outputs(model: Any, y_pred: Structure) -> dict[int, Any]:
    """`{position: OutputLayer}` of the outputs that are features.

    Args:
        model: The model.
        y_pred: The outputs of its last pass.

    Raises:
        ValueError: if features are no output as they are.
    """
    recorder = model._losskit_last_pass().recorder
    if recorder is None or not recorder.withheld:
        return {}
    outputs = keras.tree.flatten(y_pred)
    found = {
        position: logits
        for position, logits in recorder.withheld_at.items()
        if position < len(outputs) and outputs[position] is logits.features
    }
    for logits in recorder.withheld:
        if logits not in found.values():
            raise ValueError(
                f"Expected layer '{logits.path}' of LinearCrossEntropy to "
                "return an output of the model. Received: a model that does "
                "not. Take SparseCategoricalCrossentropy(from_logits=True) as "
                "the loss."
            )
    return {position: x.output_layer for position, x in found.items()}


def without_projection(
    y_pred: Structure, output_layers: dict[int, Any]
) -> dict[int, Unprojected]:
    """`{position: Unprojected}` of the outputs that are features."""
    flat = keras.tree.flatten(y_pred)
    return {
        position: output_layer.unprojected(flat[position])
        for position, output_layer in output_layers.items()
    }


def with_logits(y_pred: Structure, output_layers: dict[int, Any]) -> Structure:
    """The outputs with the logits computed after all."""
    flat = keras.tree.flatten(y_pred)
    for position, output_layer in output_layers.items():
        flat[position] = output_layer.logits(flat[position])
    return keras.tree.pack_sequence_as(y_pred, flat)
