"""Losses that compare several outputs at once, as Keras passes them a nest."""

import dataclasses
from typing import Any

import keras

from keras_losskit import _origin
from keras_losskit._support.output_structure import StructureError
from keras_losskit._support.output_structure import is_nest


@dataclasses.dataclass(frozen=True)
class NestLoss:
    """A loss of a nest of outputs.

    Args:
        place: The nest, with the index of each output in its place.
        loss: What the user wrote.
        weight: Its weight, or None.
        name: The keys that lead to it; at the top those, or the names, of all.
    """

    place: Any
    loss: Any
    weight: Any
    name: str


def take_nest_losses(losses, loss_weights, outputs, separator):
    """Take the losses over nests out of what the user wrote.

    A custom function or loss where the outputs have a nest is one: below the
    top, where a single one is for each output, or in a list beside other
    losses of the same nest. What compares one output, such as `"mse"`, stays
    for each output of the nest.

    Args:
        losses: Nest of losses.
        loss_weights: Weights in the same structure, flat, or one for all.
        outputs: `Outputs`.
        separator: What joins the keys in a name.

    Returns:
        `(losses, loss_weights, nest_losses)`, the rest and the `NestLoss`es.
    """
    found: list[NestLoss] = []
    taker = _Taker(outputs, separator, found)
    taker.take(losses, None, outputs.skeleton, ())
    if not found:
        return losses, loss_weights, []
    found.clear()
    weights = _like_losses(loss_weights, losses)
    rest, weights = taker.take(losses, weights, outputs.skeleton, ())
    return rest, weights, found


@dataclasses.dataclass(frozen=True)
class _Taker:
    outputs: Any
    separator: str
    found: list

    def take(self, losses, weights, node, path):
        """`(losses, weights)` of one node without those over the nest."""
        if losses is None or not is_nest(node):
            return losses, weights
        if not is_nest(losses):
            if path and takes_nests(losses):
                self._note(losses, weights, node, path)
                return None, None
            return losses, weights
        if _is_list_over(losses, node):
            return self._take_each(losses, weights, node, path)
        if isinstance(losses, dict) and isinstance(node, dict):
            keys = {key: key in node for key in losses}
        elif isinstance(losses, (list, tuple)) and len(losses) == len(node):
            keys = dict.fromkeys(range(len(losses)), not isinstance(node, dict))
        else:
            return losses, weights
        taken = {
            key: self.take(
                losses[key], _at(weights, key), node[key], (*path, key)
            )
            if known
            else (losses[key], _at(weights, key))
            for key, known in keys.items()
        }
        kept = {key: loss for key, (loss, _) in taken.items()}
        weights = {key: weight for key, (_, weight) in taken.items()}
        if isinstance(losses, dict):
            return kept, weights
        return list(kept.values()), list(weights.values())

    def _take_each(self, losses, weights, node, path):
        rest = []
        for index, loss in enumerate(losses):
            weight = _at(weights, index)
            if is_nest(loss):
                rest.append(self.take(loss, weight, node, path))
            elif loss is not None:
                self._note(loss, weight, node, path)
        if len(rest) > 1:
            raise StructureError(
                "Expected at most one nest of losses in a list beside losses "
                f"of all outputs {list(self.outputs.names)}. Received: "
                f"{len(rest)}. Give an output several losses in a list of its "
                "own."
            )
        return rest[0] if rest else (None, None)

    def _note(self, loss, weight, node, path):
        if path:
            name = self.separator.join(map(str, path))
        elif isinstance(node, dict):
            name = "_".join(map(str, node))
        else:
            name = "_".join(self.outputs.names)
        self.found.append(NestLoss(node, loss, weight, name))


def takes_nests(loss):
    """Whether a loss may compare a nest of outputs: if it is a custom one."""
    if isinstance(loss, keras.losses.Loss):
        function = getattr(loss, "fn", None)  # of one made of a function
        if function is None:
            return _origin.is_users_own(type(loss).call)
        loss = function
    if isinstance(loss, str) or not callable(loss):
        return False
    of_keras = any(loss is known for known in vars(keras.losses).values())
    return not of_keras and _origin.package_of(loss) != "keras_losskit"


def _is_list_over(losses, node):
    """Whether each member of a list is for the whole nest, as in Keras."""
    if not isinstance(losses, (list, tuple)) or isinstance(node, type(losses)):
        return False
    members = [loss for loss in losses if loss is not None]
    leaves = [loss for loss in members if not is_nest(loss)]
    if len(leaves) == len(members) == len(keras.tree.flatten(node)):
        return False  # one for each output
    return bool(leaves) and all(map(takes_nests, leaves))


def _at(weights, key):
    """The weight below a key; one for all is that of each."""
    if isinstance(weights, dict):
        return weights.get(key)
    return weights[key] if is_nest(weights) else weights


def _like_losses(weights, losses):
    """Weights in the structure of the losses, which they may be given flat."""
    if not isinstance(weights, (list, tuple)):
        return weights
    try:
        keras.tree.assert_same_structure(losses, weights)
    except ValueError:
        flat = keras.tree.flatten(weights)
        if len(flat) == len(keras.tree.flatten(losses)):
            return keras.tree.pack_sequence_as(losses, flat)
    return weights
