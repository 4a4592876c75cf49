"""The compiled losses: from `y_true` and `y_pred` to one term per loss."""

import dataclasses
from typing import Any

import keras

from keras_losskit import _weights as weights_lib
from keras_losskit import losses as losses_lib
from keras_losskit._support.output_structure import Outputs
from keras_losskit._support.output_structure import StructureError
from keras_losskit._support.output_structure import is_nest
from keras_losskit._support.output_structure import spread
from keras_losskit._support.output_structure import spread_data
from keras_losskit.terms import LossTerm
from keras_losskit.terms import duplicates
from keras_losskit.terms import multiply
from keras_losskit.terms import unique_names


@dataclasses.dataclass(frozen=True)
class OutputLoss:
    """One loss of one output, with its place and its names.

    Args:
        index: Index of its output.
        loss: A `keras.losses.Loss`.
        weight: The user's `loss_weights` entry.
        names: Name of the term, or of each part of a composite.
        part_weights: The weights inside the composite, 1.0 for a plain loss.
    """

    index: int
    loss: Any
    weight: Any
    names: tuple
    part_weights: tuple

    def values(self, y_true, y_pred, sample_weight):
        """Reduced, unweighted scalars, one per name."""
        if is_composite(self.loss):
            return self.loss.part_values(y_true, y_pred, sample_weight)
        return [losses_lib.evaluate(self.loss, y_true, y_pred, sample_weight)]


def is_composite(loss):
    """Whether `loss` consists of parts that are terms of their own."""
    return hasattr(loss, "part_values")


class OutputLosses:
    """Losses laid over the outputs of a model.

    Args:
        losses: Nest of losses, as `keras.Model.compile(loss=...)` takes it and
            as tf.keras took it.
        loss_weights: Nest of weights for them, or one for all.
        output_names: Flat names of the outputs, or None.
    """

    def __init__(self, losses, loss_weights, output_names):
        self._losses = losses
        self._loss_weights = loss_weights
        self._output_names = output_names
        self.outputs = None
        self.entries = ()
        #: All weights as the user gave them, by term name.
        self.weights = {}

    def build(self, y_true, y_pred, separator="_"):
        """Resolve losses, weights and names for outputs like `y_pred`.

        Args:
            y_true: Nest of labels.
            y_pred: Nest of predictions.
            separator: See `Outputs.of`.

        Raises:
            StructureError: for losses or weights that fit no output.
            ValueError: for labels missing altogether, or two terms of one
                name.
        """
        self.outputs = Outputs.of(y_pred, self._output_names, separator)
        per_output = spread(self._losses, self.outputs, argument="loss")
        per_output = [as_list(entry) for entry in per_output]
        weights = self._spread_weights(per_output)
        wanted = [i for i, entry in enumerate(per_output) if any_loss(entry)]
        labels = self._labels(y_true, wanted)
        predictions = keras.tree.flatten(y_pred)
        entries = []
        for index in wanted:
            entries += self._build_output(
                index,
                per_output[index],
                weights[index],
                labels[index],
                predictions[index],
                several_outputs=len(wanted) > 1,
            )
        self.entries = with_names_of_their_own(entries)
        self.weights = {
            name: weights_lib.multiply_weights(entry.weight, part_weight)
            for entry in self.entries
            for name, part_weight in zip(
                entry.names, entry.part_weights, strict=True
            )
        }

    def _build_output(
        self, index, given, weights, y_true, y_pred, several_outputs
    ):
        output = self.outputs.names[index]
        resolved = [
            (resolve(loss, y_true, y_pred, output), weight)
            for loss, weight in zip(given, weights, strict=True)
            if loss is not None
        ]
        parts = [parts_of(loss) for loss, _ in resolved]
        local_names = iter(
            names_of_terms([p for ps in parts for p in ps], resolved, output)
        )
        count = sum(len(ps) for ps in parts)
        entries = []
        for (loss, weight), loss_parts in zip(resolved, parts, strict=True):
            names = tuple(next(local_names) for _ in loss_parts)
            if several_outputs:
                names = tuple(
                    output if count == 1 else f"{output}_{name}"
                    for name in names
                )
            entries.append(
                OutputLoss(
                    index,
                    loss,
                    weights_lib.check_weight(weight, name=names[0]),
                    names,
                    tuple(weight for _, weight in loss_parts),
                )
            )
        return entries

    def specs(self):
        """A `LossTerm` without value for every term."""
        return [
            LossTerm(
                name,
                "compiled",
                None,
                output=self.outputs.names[entry.index],
            )
            for entry in self.entries
            for name in entry.names
        ]

    def _spread_weights(self, per_output):
        """A list of weights per output, one per loss of it."""
        given = self._loss_weights
        total = sum(len(entry) for entry in per_output)
        try:
            entries = spread(given, self.outputs, argument="loss_weights")
            return [
                weights_of(entry, len(losses), self.outputs.names[index])
                for index, (entry, losses) in enumerate(
                    zip(entries, per_output, strict=True)
                )
            ]
        except StructureError:
            if isinstance(given, dict):
                raise
            flat = keras.tree.flatten(given)
            if len(flat) != total:
                raise StructureError(
                    "`loss_weights` must match the number of losses, got "
                    f"{total} losses and {len(flat)} weights. Expected a "
                    f"weight for each of the outputs {self.outputs.names}. "
                    f"Received: loss_weights={given}"
                ) from None
            flat = iter(flat)
            return [[next(flat) for _ in losses] for losses in per_output]

    def _labels(self, y_true, wanted):
        labels = spread_data(
            y_true, self.outputs, argument="y_true", wanted=wanted
        )
        if wanted and all(labels[index] is None for index in wanted):
            names = [self.outputs.names[index] for index in wanted]
            raise ValueError(
                f"Target data is missing. Expected labels for {names}, which "
                "have a loss. Received: y_true=None"
            )
        return labels

    def terms(self, y_true, y_pred, sample_weight, clock):
        """Evaluate every loss whose output has labels.

        Args:
            y_true: Nest of labels; an output without labels is left out.
            y_pred: Nest of predictions, with their Keras masks.
            sample_weight: Nest of sample weights, or one for all.
            clock: `(step, epoch)` for weights that move.

        Returns:
            A list of `LossTerm` of kind `"compiled"`.
        """
        if not self.entries:
            return []
        count = len(keras.tree.flatten(y_pred))
        if count != len(self.outputs):
            raise StructureError(
                f"Expected predictions for {list(self.outputs.names)}. "
                f"Received: {count} tensors"
            )
        predictions = spread_data(y_pred, self.outputs, argument="y_pred")
        labels = self._labels(y_true, sorted({e.index for e in self.entries}))
        sample_weights = spread_data(
            sample_weight, self.outputs, argument="sample_weight"
        )
        terms = []
        for entry in self.entries:
            if labels[entry.index] is None:
                continue
            values = entry.values(
                labels[entry.index],
                predictions[entry.index],
                sample_weights[entry.index],
            )
            terms += self._terms_of(entry, values, clock)
        return terms

    def _terms_of(self, entry, values, clock):
        weight = weights_lib.weight_value(entry.weight, *clock)
        for name, value, part_weight in zip(
            entry.names, values, entry.part_weights, strict=True
        ):
            check_scalar(name, value)
            inner = weights_lib.weight_value(part_weight, *clock)
            yield LossTerm(
                name,
                "compiled",
                value,
                weight=multiply(weight, inner),
                output=self.outputs.names[entry.index],
                inner_weight=inner,
            )


def resolve(loss, y_true, y_pred, output):
    """The loss object of an output, which an error names."""
    try:
        return losses_lib.get(loss, y_true, y_pred)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"Expected a loss for output '{output}': a name, a function or a "
            f"`keras.losses.Loss`. Received: {loss!r}. {error}"
        ) from error


def with_names_of_their_own(entries):
    """Entries renamed where the term of one output bears another's name."""
    names = iter(
        unique_names(name for entry in entries for name in entry.names)
    )
    return tuple(
        dataclasses.replace(
            entry, names=tuple(next(names) for _ in entry.names)
        )
        for entry in entries
    )


def as_list(entry):
    """The losses of one output as a list."""
    if entry is None:
        return []
    entry = unwrapped(entry)
    return list(entry) if is_nest(entry) else [entry]


def unwrapped(entry):
    """`entry` out of the list of one output, where it is a list itself."""
    while is_nest(entry) and len(entry) == 1 and is_nest(entry[0]):
        entry = entry[0]
    return entry


def any_loss(losses):
    """Whether at least one of the losses of an output is given."""
    return any(loss is not None for loss in losses)


def weights_of(entry, count, output):
    """The weights of the `count` losses of one output."""
    if entry is None:
        return [1.0] * count
    entry = unwrapped(entry)
    if is_nest(entry) and len(entry) == 1:
        entry = entry[0]  # of the one output, not of one of its losses
    if not isinstance(entry, (list, tuple)):
        return [entry] * count
    if len(entry) != count:
        raise StructureError(
            f"`loss_weights` must match the number of losses, got {count} "
            f"losses and {len(entry)} weights for output '{output}'."
        )
    return [1.0 if weight is None else weight for weight in entry]


def parts_of(loss):
    """`(name, weight)` of every part of a composite, or of the loss itself."""
    if is_composite(loss):
        return [(part.name, part.weight) for part in loss.parts]
    return [(loss.name, 1.0)]


def names_of_terms(parts, resolved, output):
    """Names of an output's terms; a clash the user wrote is an error."""
    names = [name for name, _ in parts]
    written = {
        loss.name
        for loss, _ in resolved
        if not is_composite(loss) and not losses_lib.has_default_name(loss)
    }
    clash = [name for name in duplicates(names) if name in written]
    if clash:
        raise ValueError(
            f"Expected the losses of output '{output}' to have names of their "
            f"own. Received twice: {clash}. Give one of them another `name=`."
        )
    return unique_names(names)


def check_scalar(name, value):
    """Refuse a loss that was not reduced; a vector cannot be minimised."""
    if len(value.shape) != 0:
        raise ValueError(
            f"Expected the loss of term '{name}' to be a scalar. Received: "
            f"shape {tuple(value.shape)}. A loss with `reduction=None` cannot "
            "be trained on: give it a reduction such as "
            '"sum_over_batch_size" or "sum".'
        )
