"""Losses as the user wrote them, laid over the outputs of a model."""

import dataclasses
import warnings

import keras

from keras_losskit import _weights as weights_lib
from keras_losskit import losses as losses_lib
from keras_losskit._support.output_structure import Outputs
from keras_losskit._support.output_structure import StructureError
from keras_losskit._support.output_structure import is_nest
from keras_losskit._support.output_structure import spread
from keras_losskit._support.output_structure import spread_data
from keras_losskit.container._nest_losses import take_nest_losses
from keras_losskit.container._output_losses import LossPart
from keras_losskit.container._output_losses import OutputLoss
from keras_losskit.container._output_losses import OutputLosses
from keras_losskit.container._output_losses import picked
from keras_losskit.losses._core.composition import parts_of
from keras_losskit.losses._core.composition import values_function
from keras_losskit.losses._core.evaluation import is_composite
from keras_losskit.terms import duplicates
from keras_losskit.terms import unique_names


def lay_losses(container, y_true, y_pred, separator="_"):
    """Resolve losses, weights and names for outputs like `y_pred`.

    Args:
        container: A `LossesContainer`, with `losses` as
            `keras.Model.compile(loss=...)` takes them and as tf.keras took
            them, `loss_weights` for each or one for all, and `output_names`.
        y_true: Nest of labels.
        y_pred: Nest of predictions.
        separator: See `Outputs.of`.

    Returns:
        `OutputLosses`.

    Raises:
        StructureError: for losses or weights that fit no output.
        ValueError: for labels missing altogether, or two terms of one name.
    """
    outputs = Outputs.of(y_pred, container.output_names, separator)
    losses, loss_weights, nest_losses = take_nest_losses(
        container.losses, container.loss_weights, outputs, separator
    )
    per_output = spread(losses, outputs, argument="loss")
    per_output = [as_list(entry) for entry in per_output]
    weights = spread_weights(loss_weights, outputs, per_output)
    wanted = [i for i, entry in enumerate(per_output) if any_loss(entry)]
    nested = [i for n in nest_losses for i in keras.tree.flatten(n.place)]
    labels = spread_data(
        y_true, outputs, argument="y_true", wanted=sorted({*wanted, *nested})
    )
    predictions = keras.tree.flatten(y_pred)
    laid = []
    for nest in nest_losses:
        tensors = picked(labels, nest.place), picked(predictions, nest.place)
        loss = resolve(nest.loss, *tensors, nest.name)
        weight = 1.0 if nest.weight is None else nest.weight
        laid += losses_of_output(
            nest.place, nest.name, [(loss, weight)], several_outputs=True
        )
    for index in wanted:
        output = outputs.names[index]
        weighted_losses = [
            (resolve(loss, labels[index], predictions[index], output), weight)
            for loss, weight in zip(
                per_output[index], weights[index], strict=True
            )
            if loss is not None
        ]
        laid += losses_of_output(
            index,
            output,
            weighted_losses,
            several_outputs=len(wanted) > 1 or bool(nest_losses),
        )
    if separator == "/":
        laid = called_by_losses(laid, outputs)
    found = OutputLosses(outputs, with_names_of_their_own(laid))
    found.check_labels(labels)
    if isinstance(y_true, dict):
        warn_of_missing_keys(y_true, [outputs.names[i] for i in found.labelled])
    return found


def losses_of_output(place, output, weighted_losses, several_outputs):
    """The `OutputLoss`es of one output.

    Args:
        place: Index of the output, or a nest of indices.
        output: Its name.
        weighted_losses: List of `(loss, weight)`.
        several_outputs: Whether others have losses too.
    """
    losses = [loss for loss, _ in weighted_losses]
    parts = [parts_of(loss) for loss in losses]
    names = [part.name for loss_parts in parts for part in loss_parts]
    names = names_of_terms(names, losses, output)
    if several_outputs:
        single = len(names) == 1
        names = [output if single else f"{output}_{name}" for name in names]
    unused = iter(names)
    laid = []
    for (loss, weight), loss_parts in zip(weighted_losses, parts, strict=True):
        own = [next(unused) for _ in loss_parts]
        weight = weights_lib.check_weight(weight, name=own[0])
        laid.append(
            OutputLoss(
                place,
                tuple(
                    LossPart(name, output, part.loss, weight, part.weight)
                    for name, part in zip(own, loss_parts, strict=True)
                ),
                values_function(loss),
                needs_labels(loss),
            )
        )
    return laid


def called_by_losses(laid, outputs):
    """Call outputs without a name by their loss, as Keras does in `fit`.

    Unless two names were the same: Keras logs but one of them.

    Args:
        laid: List of `OutputLoss`es.
        outputs: `Outputs`.
    """
    unnamed = {} if len(laid) == 1 else outputs.unnamed
    named = [
        called_by_loss(loss, unnamed[loss.place])
        if isinstance(loss.place, int) and loss.place in unnamed
        else loss
        for loss in laid
    ]
    names = [part.name for loss in named for part in loss.parts]
    return laid if duplicates(names) else named


def called_by_loss(loss, keys):
    """An `OutputLoss` of one part, called by it."""
    if len(loss.parts) > 1:
        return loss
    name = "/".join([*map(str, keys), loss.parts[0].loss.name])
    part = dataclasses.replace(loss.parts[0], name=name, logged_output=name)
    return dataclasses.replace(loss, parts=(part,))


def needs_labels(loss):
    """Whether a loss has no value without labels."""
    if is_composite(loss):
        return any(needs_labels(part.loss) for part in loss.parts)
    return getattr(loss, "needs_labels", True)  # Keras' losses do not say


def warn_of_missing_keys(y_true, names):
    """Warn, once per `compile`, of outputs whose loss is left out.

    An explicit `None` is no oversight.

    Args:
        y_true: Nest of labels.
        names: Names of the outputs whose losses need labels.
    """
    if not isinstance(y_true, dict):
        return
    missing = [name for name in names if name.split("/")[0] not in y_true]
    if missing and len(missing) < len(names):
        warnings.warn(
            f"Expected labels for {names}, which have a loss. Received: "
            f"labels for {list(y_true)}. The loss of {missing} is left out; "
            "give None as its labels to say that this is meant.",
            stacklevel=2,
        )


def spread_weights(loss_weights, outputs, per_output):
    """A list of weights per output, one per loss of it."""
    total = sum(len(entry) for entry in per_output)
    try:
        entries = spread(loss_weights, outputs, argument="loss_weights")
        return [
            weights_of(entry, len(losses), outputs.names[index])
            for index, (entry, losses) in enumerate(
                zip(entries, per_output, strict=True)
            )
        ]
    except StructureError:
        if isinstance(loss_weights, dict):
            raise
        flat = keras.tree.flatten(loss_weights)
        if len(flat) != total:
            raise StructureError(
                "`loss_weights` must match the number of losses, got "
                f"{total} losses and {len(flat)} weights. Expected a "
                f"weight for each of the outputs {outputs.names}. "
                f"Received: loss_weights={loss_weights}"
            ) from None
        flat = iter(flat)
        return [[next(flat) for _ in losses] for losses in per_output]


def resolve(loss, y_true, y_pred, output):
    """The loss object of an output, which an error names."""
    try:
        return losses_lib.get(loss, y_true, y_pred)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"Expected a loss for output '{output}': a name, a function or a "
            f"`keras.losses.Loss`. Received: {loss!r}. {error}"
        ) from error


def with_names_of_their_own(laid):
    """Losses renamed where the term of one output bears another's name."""
    names = iter(
        unique_names(part.name for loss in laid for part in loss.parts)
    )
    return tuple(
        dataclasses.replace(
            loss,
            parts=tuple(
                dataclasses.replace(part, name=next(names))
                for part in loss.parts
            ),
        )
        for loss in laid
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


def names_of_terms(names, losses, output):
    """Names of an output's terms; a clash the user wrote is an error.

    Args:
        names: Those of the parts of all its losses.
        losses: Its losses.
        output: Its name.
    """
    written = {
        loss.name
        for loss in losses
        if not is_composite(loss) and not losses_lib.has_default_name(loss)
    }
    clash = [name for name in duplicates(names) if name in written]
    if clash:
        raise ValueError(
            f"Expected the losses of output '{output}' to have names of their "
            f"own. Received twice: {clash}. Give one of them another `name=`."
        )
    return unique_names(names)
