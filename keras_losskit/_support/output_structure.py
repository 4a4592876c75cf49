"""Laying what a user gives (losses, weights, labels) over a model's outputs.

The outputs are a nest (a tensor, or lists, tuples and dicts of them). All other
structures may be given in less: one for all, by name, in part, or flat. The
rules are those of tf.keras' `LossesContainer` and of Keras 3's `CompileLoss`
together; whatever neither accepts is refused with the path that is at fault.
"""

import dataclasses

import keras
import numpy as np

from keras_losskit.terms import unique_names


class StructureError(KeyError, ValueError):
    """A structure that does not fit the outputs of the model.

    Both errors Keras raises for it; unlike `KeyError` it prints as written.
    """

    __str__ = Exception.__str__


@dataclasses.dataclass(frozen=True)
class Outputs:
    """The shape of a model's outputs, without the tensors.

    Args:
        skeleton: The nest of the outputs with the index of each in its place.
        names: The name of each, in flattened order.
        unnamed: `{index: the keys around it}` of the members of lists that have
            no name but their place.
    """

    skeleton: object
    names: tuple
    unnamed: dict = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, y_pred, output_names=None, separator="_"):
        """Skeleton and names of `y_pred`.

        Args:
            y_pred: Nest of tensors or `KerasTensor`s.
            output_names: Flat names, as `keras.Model.output_names`; without
                them tf.keras' pseudo names (`output_1`, `b_1`).
            separator: What joins the keys of a nested output: `"/"` inside
                `fit`, as Keras, or `"_"`, as tf.keras.
        """
        paths = [path for path, _ in keras.tree.flatten_with_path(y_pred)]
        unnamed = {}
        if output_names is None or len(output_names) != len(paths):
            names = [pseudo_name(path, separator) for path in paths]
            unnamed = {
                index: path[:-1]
                for index, path in enumerate(paths)
                if path and isinstance(path[-1], int)
            }
        else:
            names = [
                name_of_path(path, name, separator)
                for path, name in zip(paths, output_names, strict=True)
            ]
        skeleton = keras.tree.pack_sequence_as(y_pred, list(range(len(paths))))
        skeleton = with_keys_of(skeleton, y_pred)
        return cls(skeleton, unique_names(names), unnamed)

    def __len__(self):
        return len(self.names)


def names_of_outputs(model):
    """Flat names of a model's outputs; None where it has none, as subclassed.

    Args:
        model: A `keras.Model`, or None.
    """
    return getattr(model, "output_names", None)


def pseudo_name(path, separator):
    """Name of an unnamed output, counted from one as in tf.keras."""
    if not path:
        return "output_1"
    keys = [str(k + 1) if isinstance(k, int) else str(k) for k in path]
    name = separator.join(keys)
    return f"output_{name}" if isinstance(path[0], int) else name


def name_of_path(path, name, separator):
    """Name of a named output: a dict's own keys win over the layer's name."""
    if not path or isinstance(path[-1], int):
        path = (*path[:-1], name)
    return separator.join(str(key) for key in path)


def is_nest(structure):
    """Whether `structure` is a dict, list or tuple (a loss' config is not)."""
    if isinstance(structure, dict):
        return not {"class_name", "config"} <= set(structure)
    return isinstance(structure, (list, tuple))


def spread(structure, outputs, *, argument):
    """Lay `structure` over `outputs`.

    Args:
        structure: One leaf for all outputs, or a nest like the outputs, or
            flat, or a dict by output name; parts may be missing or `None`.
        outputs: `Outputs`.
        argument: What the user calls it, for the error.

    Returns:
        A list with an entry per output, `None` where nothing was given. An
        entry may itself be a list: that is for the caller to interpret.

    Raises:
        StructureError: naming the path that has no place in the outputs.
    """
    entries = [None] * len(outputs)
    _spread(structure, outputs.skeleton, (), outputs, entries, argument)
    return entries


def _spread(structure, node, path, outputs, entries, argument):
    if structure is None:
        return
    if isinstance(structure, dict) and is_nest(structure):
        _spread_dict(structure, node, path, outputs, entries, argument)
    elif not is_nest(node):
        entries[node] = structure
    elif not is_nest(structure):
        for index in keras.tree.flatten(node):
            entries[index] = structure
    else:
        _spread_sequence(structure, node, path, outputs, entries, argument)


def _spread_dict(structure, node, path, outputs, entries, argument):
    if isinstance(node, dict):
        for key, value in structure.items():
            if key not in node:
                raise _lost(path + (key,), outputs, argument)
            _spread(value, node[key], (*path, key), outputs, entries, argument)
        return
    # By output name: the model's outputs are a list, or a single one.
    indices = keras.tree.flatten(node)
    unknown = set(structure) - {outputs.names[index] for index in indices}
    if unknown and (path or not is_nest(node)):
        raise _lost((*path, sorted(unknown, key=str)[0]), outputs, argument)
    if unknown:
        raise _unknown(structure, unknown, outputs.names, argument)
    for index in indices:
        name = outputs.names[index]
        if name in structure:
            entry = structure[name]
            _spread(entry, index, (*path, name), outputs, entries, argument)


def _unknown(structure, unknown, names, argument):
    return StructureError(
        f"Expected keys {list(names)} in {argument} dict, but found "
        f"{argument}.keys()={list(structure)}. Received unknown: "
        f"{sorted(unknown, key=str)}"
    )


def _spread_sequence(structure, node, path, outputs, entries, argument):
    same_kind = isinstance(node, (list, tuple))
    if same_kind and len(structure) == len(node):
        for key, (value, child) in enumerate(zip(structure, node, strict=True)):
            _spread(value, child, (*path, key), outputs, entries, argument)
        return
    indices = keras.tree.flatten(node)
    flat = not any(is_nest(value) for value in structure)
    if flat and len(structure) == len(indices):
        for index, value in zip(indices, structure, strict=True):
            entries[index] = value
        return
    if same_kind and len(structure) > len(node):
        raise _lost((*path, len(node)), outputs, argument)
    raise StructureError(
        f"Expected `{argument}` at path {path} to have the structure of the "
        f"model's outputs {list(outputs.names)}. Received a "
        f"{type(structure).__name__} of {len(structure)}"
    )


def _lost(path, outputs, argument):
    where = "the model's output (`y_pred`)"
    if len(path) == 1 and isinstance(path[0], str):
        where = f"either {where} or the names of its outputs"
    return StructureError(
        f"The path: {path} in the `{argument}` argument, can't be found in "
        f"{where}. Expected one of the outputs {list(outputs.names)}. "
        f"Received: {path[-1]!r}"
    )


def with_keys_of(skeleton, y_pred):
    """The skeleton with its keys in the order of the outputs.

    On PyTorch Keras sorts those of a nest that it packs.
    """
    if isinstance(y_pred, dict) and isinstance(skeleton, dict):
        return {
            k: with_keys_of(skeleton[k], part) for k, part in y_pred.items()
        }
    return skeleton


def in_order_of(losses, skeleton):
    """Indices of outputs as Keras' list has their losses: as the user wrote.

    Args:
        losses: Nest of losses; a dict, in the order of its keys.
        skeleton: Nest of the outputs with the index of each in its place.
    """
    if isinstance(losses, dict) and isinstance(skeleton, dict):
        keys = [key for key in losses if key in skeleton]
        parts = [(losses[key], skeleton[key]) for key in keys]
    elif (
        isinstance(losses, list | tuple)
        and isinstance(skeleton, list | tuple)
        and len(losses) == len(skeleton)
    ):
        parts = zip(losses, skeleton, strict=True)
    elif isinstance(skeleton, dict):
        parts = ((losses, part) for part in skeleton.values())
    else:
        return keras.tree.flatten(skeleton)
    return [index for part in parts for index in in_order_of(*part)]


def spread_data(data, outputs, *, argument, wanted=()):
    """Lay labels or sample weights over `outputs`.

    Args:
        data: As for `spread`; for a single output also numbers in lists. Labels
            may be given in order, for the outputs that have a loss only.
        outputs: `Outputs`.
        argument: What the user calls it, for the error.
        wanted: Indices of the outputs that have a loss.

    Returns:
        A list with a tensor or `None` per output.

    Raises:
        StructureError: where structures differ.
    """
    if data is None:
        return [None] * len(outputs)
    try:
        entries = spread(data, outputs, argument=argument)
    except StructureError as error:
        flat = keras.tree.flatten(data)
        misnamed = isinstance(data, dict) and len(wanted) > 1
        if misnamed or len(flat) != len(wanted):
            raise _different(data, outputs, argument, error) from None
        entries = [None] * len(outputs)
        for index, value in zip(wanted, flat, strict=True):
            entries[index] = value
    return [_one_array(entry, outputs, argument) for entry in entries]


def _one_array(entry, outputs, argument):
    if not isinstance(entry, (list, tuple, dict)):
        return entry
    leaves = keras.tree.flatten(entry)
    if any(np.shape(leaf) for leaf in leaves):
        if len(leaves) == 1:
            return leaves[0]
        raise _different(entry, outputs, argument, "")
    return keras.ops.convert_to_tensor(entry)


def _different(data, outputs, argument, why):
    def stars(structure):
        return keras.tree.map_structure(lambda _: "*", structure)

    return StructureError(
        f"{argument} and y_pred have different structures.\n"
        f"{argument}: {stars(data)}\n"
        f"y_pred: {stars(outputs.skeleton)}, named {list(outputs.names)}\n"
        f"{why}"
    )


def like_outputs(data, y_pred, names, argument="sample_weight"):
    """Data by name in the nest of the outputs, for Keras' metrics.

    Args:
        data: A dict of sample weights or labels; may be partial.
        y_pred: Nest of predictions.
        names: Flat names of the outputs, or None.
        argument: What the user calls it, for the error.
    """
    outputs = Outputs.of(y_pred, names, "/")
    flat = spread_data(data, outputs, argument=argument)
    return keras.tree.pack_sequence_as(y_pred, flat)


def like_labels(sample_weight, labels, names):
    """Sample weights by name, or for some outputs, in the nest of the labels.

    Keras' array adapter wants the two alike; `None` stands for an output that
    has no weights. Another structure is left for Keras to refuse.

    Args:
        sample_weight: Nest of sample weights.
        labels: Nest of labels.
        names: Flat names of the outputs, or None.

    Raises:
        StructureError: naming the key that has no labels.
    """
    if not isinstance(sample_weight, dict):
        return sample_weight
    if isinstance(labels, dict):
        keys = list(labels)
    elif isinstance(labels, (list, tuple)):
        # A subclassed model has no names; its outputs are counted.
        keys = names or [pseudo_name((i,), "/") for i in range(len(labels))]
    else:
        return sample_weight
    unknown = set(sample_weight) - set(keys)
    if unknown:
        raise _unknown(sample_weight, unknown, keys, "sample_weight")
    if len(keys) != len(labels):
        return sample_weight
    weights = [sample_weight.get(key) for key in keys]
    if isinstance(labels, dict):
        return dict(zip(keys, weights, strict=True))
    return type(labels)(weights)


def map_leaves(function, structure, is_leaf=lambda entry: False):
    """Apply `function` to every leaf of a nest of losses or weights.

    Args:
        function: Of a leaf.
        structure: The nest; `None` stays.
        is_leaf: Tells a dict that is a leaf, such as the config of one, from a
            dict of leaves.
    """
    if structure is None:
        return None
    if not is_nest(structure) or is_leaf(structure):
        return function(structure)
    if isinstance(structure, dict):
        return {
            key: map_leaves(function, value, is_leaf)
            for key, value in structure.items()
        }
    return [map_leaves(function, value, is_leaf) for value in structure]
