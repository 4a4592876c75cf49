"""The compiled losses: from `y_true` and `y_pred` to one term per loss."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_losskit import _weights as weights_lib
from keras_losskit._support.output_structure import StructureError
from keras_losskit._support.output_structure import spread_data
from keras_losskit._support.scopes import VariableReads
from keras_losskit.losses._core.traits import traits_of
from keras_losskit.reductions._sample_values import current_watch
from keras_losskit.terms import LossTerm
from keras_losskit.terms import multiply


@dataclasses.dataclass(frozen=True)
class LossPart:
    """One compiled term: a loss of one output, or one part of a composite.

    Args:
        name: Name of the term.
        output: Name of the output.
        loss: The `keras.losses.Loss` that it comes from.
        weight: The user's `loss_weights` entry.
        inner_weight: The weight inside the composite, 1.0 for a plain loss.
        logged_output: What the logs call the output, by default its name.
    """

    name: str
    output: str
    loss: Any
    weight: Any
    inner_weight: Any
    logged_output: str | None = None

    @property
    def product(self):
        """Both weights in one."""
        return weights_lib.multiply_weights(self.weight, self.inner_weight)

    def term(self, value, clock):
        """The `LossTerm` of a value, its weights read at `(step, epoch)`."""
        weight = weights_lib.weight_value(self.weight, *clock)
        inner = weights_lib.weight_value(self.inner_weight, *clock)
        return LossTerm(
            self.name,
            "compiled",
            value,
            weight=multiply(weight, inner),
            output=self.output,
            inner_weight=inner,
        )


@dataclasses.dataclass(frozen=True)
class OutputLoss:
    """One loss of an output, or of a nest: what gives the values of its parts.

    Args:
        place: Index of its output; of a loss over a nest of outputs, the nest
            with the index of each.
        parts: Its `LossPart`s: itself, or those of a composite.
        values: `(y_true, y_pred, sample_weight) -> scalars`, one per part,
            reduced and unweighted.
        needs_labels: Whether there is no value without labels.
    """

    place: Any
    parts: tuple[LossPart, ...]
    values: Callable
    needs_labels: bool = True

    @functools.cached_property
    def indices(self):
        """Indices of the outputs that it compares."""
        return keras.tree.flatten(self.place)

    @property
    def names(self):
        """The names of its parts, in words."""
        return ", ".join(f"'{part.name}'" for part in self.parts)

    def evaluate(self, y_true, y_pred, sample_weight):
        """The values of its parts; an error says which term it is of."""
        try:
            return self.values(y_true, y_pred, sample_weight)
        except Exception as error:
            error.add_note(
                f"While computing {self.names} of output "
                f"'{self.parts[0].output}' from labels {shapes_of(y_true)} and "
                f"predictions {shapes_of(y_pred)}."
            )
            raise


@dataclasses.dataclass(frozen=True)
class OutputLosses:
    """Losses laid over the outputs of a model.

    Args:
        outputs: `Outputs`; None for no losses at all.
        losses: The `OutputLoss`es.
    """

    outputs: Any = None
    losses: tuple[OutputLoss, ...] = ()

    @property
    def parts(self):
        """The terms, each with its weights, in the order of the outputs."""
        return [part for loss in self.losses for part in loss.parts]

    @functools.cached_property
    def wanted(self):
        """Indices of the outputs that have a loss."""
        return sorted({i for loss in self.losses for i in loss.indices})

    @functools.cached_property
    def labelled(self):
        """Indices of the outputs that have a loss that needs labels."""
        return sorted(
            {i for x in self.losses if x.needs_labels for i in x.indices}
        )

    def check_labels(self, labels):
        """Refuse labels per output where they are missing altogether."""
        if any(not loss.needs_labels for loss in self.losses):
            return
        wanted = self.wanted
        if wanted and all(labels[index] is None for index in wanted):
            names = [self.outputs.names[index] for index in wanted]
            raise ValueError(
                f"Target data is missing. Expected labels for {names}, which "
                "have a loss. Received: y_true=None"
            )

    def refuse_readers(self, unprojected):
        """Refuse losses that would read logits which are not there.

        Args:
            unprojected: See `terms`.

        Raises:
            ValueError: if there are some.
        """
        for loss in self.losses:
            if unprojected.keys().isdisjoint(loss.indices):
                continue
            readers = [
                part.name
                for part in loss.parts
                if not traits_of(part.loss).takes_features
            ]
            if readers or not isinstance(loss.place, int):
                raise ValueError(
                    "Expected LinearCrossEntropy to be the only loss of output "
                    f"'{loss.parts[0].output}', whose logits it does without. "
                    f"Received beside it: {readers}. Take "
                    "SparseCategoricalCrossentropy(from_logits=True) in its "
                    "place."
                )

    def terms(self, y_true, y_pred, sample_weight, clock, unprojected=None):
        """Evaluate every loss whose output has labels, or that needs none.

        Args:
            y_true: Nest of labels; an output without them is left out.
            y_pred: Nest of predictions, with their Keras masks.
            sample_weight: Nest of sample weights, or one for all.
            clock: `(step, epoch)` for weights that move.
            unprojected: `{position: Unprojected}` of the predictions, flat,
                that are what the output layer was given, and no logits.

        Returns:
            A list of `LossTerm` of kind `"compiled"`.
        """
        if not self.losses:
            return []
        outputs = self.outputs
        count = len(keras.tree.flatten(y_pred))
        if count != len(outputs):
            raise StructureError(
                f"Expected predictions for {list(outputs.names)}. "
                f"Received: {count} tensors"
            )
        predictions = spread_data(y_pred, outputs, argument="y_pred")
        if unprojected:
            self.refuse_readers(unprojected)
            for index, features in unprojected.items():
                predictions[index] = features
        labels = spread_data(
            y_true, outputs, argument="y_true", wanted=self.wanted
        )
        self.check_labels(labels)
        sample_weights = spread_data(
            sample_weight, outputs, argument="sample_weight"
        )
        terms = []
        reads, watch = VariableReads.current(), current_watch()
        for loss in self.losses:
            if reads is not None:
                reads.reader = loss.names
            y_true = picked(labels, loss.place)
            if any(labels[i] is None for i in loss.indices):
                if loss.needs_labels:
                    continue
                y_true = picked(predictions, loss.place)
            compared = y_true, picked(predictions, loss.place)
            values = loss.evaluate(
                *compared, weight_at(sample_weights, loss.place)
            )
            if watch is not None:
                names = [part.name for part in loss.parts]
                watch.assign(names, values, *compared)
            for part, value in zip(loss.parts, values, strict=True):
                check_scalar(part.name, value)
                terms.append(part.term(value, clock))
        if reads is not None:
            reads.reader = None
        return terms


def shapes_of(tensors):
    """The shapes of a nest of tensors, for an error."""
    shapes = [np.shape(tensor) for tensor in keras.tree.flatten(tensors)]
    return " and ".join(f"of shape {tuple(shape)}" for shape in shapes)


def picked(tensors, place):
    """The tensor of an output, or the nest of those of several."""
    if isinstance(place, int):
        return tensors[place]
    return keras.tree.map_structure(lambda index: tensors[index], place)


def weight_at(sample_weights, place):
    """The sample weights of an output; of several, the mean of theirs."""
    if isinstance(place, int):
        return sample_weights[place]
    weights = [sample_weights[index] for index in keras.tree.flatten(place)]
    if all(weight is None for weight in weights):
        return None
    # One weight for all comes from Keras as one for each output.
    weights = [1.0 if weight is None else weight for weight in weights]
    return sum(weights) / len(weights)


def check_scalar(name, value):
    """Refuse a loss that was not reduced; a vector cannot be minimised."""
    if len(value.shape) != 0:
        raise ValueError(
            f"Expected the loss of term '{name}' to be a scalar. Received: "
            f"shape {tuple(value.shape)}. A loss with `reduction=None` cannot "
            "be trained on: give it a reduction such as "
            '"sum_over_batch_size" or "sum".'
        )
