"""What `wrt=` and `terms=` of a weighting pick, by object, name or pattern."""

import re

import keras

from keras_losskit._support.checks import checked_list
from keras_losskit._support.checks import checked_pattern
from keras_losskit._support.paths import path_matches


class VariableSelection:
    """The variables that `wrt=` picks from those of a model.

    No attribute of a Keras layer for Keras to track: the layers stay the
    model's.

    Args:
        given: A layer, a regular expression for the paths of variables, or a
            list of them; also `{"layer": path}`, what stands for a layer in a
            config.

    Raises:
        ValueError: for anything else, or nothing at all.
    """

    def __init__(self, given):
        parts = given if isinstance(given, (list, tuple)) else [given]
        for part in parts:
            if isinstance(part, str):
                checked_pattern(part, "each pattern of `wrt`")
            elif not (
                is_layer_config(part) or isinstance(part, keras.layers.Layer)
            ):
                raise ValueError(
                    "Expected `wrt` to be a layer, a pattern of variables' "
                    f"paths, or a list of them. Received: {part!r}"
                )
        if not parts:
            raise ValueError(
                "Expected `wrt` to pick at least one layer; None is for all "
                f"variables. Received: wrt={given!r}"
            )
        self.parts = tuple(parts)

    def pick(self, variables):
        """Those of `variables` that are picked, in their order.

        Args:
            variables: List of the model's trainable `keras.Variable`s.

        Raises:
            ValueError: if a layer or pattern finds none of them.
        """
        picked = set()
        for part in self.parts:
            found = {id(variable) for variable in found_by(part, variables)}
            if not found:
                raise ValueError(
                    "Expected each part of `wrt` to find trainable variables "
                    f"of the model. Received: {shown(part)}, which finds none "
                    f"of {[variable.path for variable in variables]}"
                )
            picked |= found
        return [variable for variable in variables if id(variable) in picked]

    def as_config(self):
        """A list of what `VariableSelection` takes, without objects."""
        return [shown(part) for part in self.parts]


def is_layer_config(part):
    """Whether `part` is what stands for a layer in a config."""
    return (
        isinstance(part, dict)
        and set(part) == {"layer"}
        and isinstance(part["layer"], str)
    )


def found_by(part, variables):
    """The variables that one part of a `VariableSelection` finds."""
    if isinstance(part, str):
        return [v for v in variables if path_matches(part, v.path)]
    if isinstance(part, dict):
        path = part["layer"]
        found = [v for v in variables if v.path.startswith(f"{path}/")]
        # A model that was loaded may have another name.
        below = "[^/]+/" + re.escape(path.partition("/")[2]) + "/.*"
        return found or [v for v in variables if re.fullmatch(below, v.path)]
    own = {id(variable) for variable in part.trainable_variables}
    return [variable for variable in variables if id(variable) in own]


def shown(part):
    """A part of a `VariableSelection`, a layer by its path."""
    if isinstance(part, keras.layers.Layer):
        return {"layer": part.path or part.name}
    return part


def checked_names(given, what):
    """`given`, a name or pattern or a list of them, as a tuple."""
    expected = "a name, a regular expression or a list of these"
    names = (
        [given]
        if isinstance(given, str)
        else checked_list(given, what, expected)
    )
    for name in names:
        checked_pattern(name, f"each of {what}")
    if not names:
        raise ValueError(
            f"Expected {what} to have at least one name; None is for all. "
            f"Received: {given!r}"
        )
    return tuple(names)


def named(patterns, names, what):
    """Those of `names` that are in `patterns` or that one of them matches.

    Args:
        patterns: Names and regular expressions.
        names: List of names.
        what: What the patterns were given for, as the error calls it.

    Raises:
        ValueError: if one of them matches none.

    Example:
        >>> named(("a", "digit_.*"), ["digit_ce", "b", "a"], "`terms`")
        ['digit_ce', 'a']
    """
    found = set()
    for pattern in patterns:
        matched = {
            name
            for name in names
            if name == pattern or re.fullmatch(pattern, name)
        }
        if not matched:
            raise ValueError(
                f"Expected each of {what} to match a term that a weighting "
                f"can weigh. Received: {pattern!r}, which matches none of "
                f"{list(names)}. Penalties keep the weight of their Penalty; "
                "names of `add_loss` are known once a model has been called, "
                "to a container by itself after "
                "`container.build(y_true, y_pred, model.losses)`."
            )
        found |= matched
    return [name for name in names if name in found]
