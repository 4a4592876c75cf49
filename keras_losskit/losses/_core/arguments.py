"""What the arguments of this package's losses may be, by their names."""

import functools
import inspect
import math
import operator
from collections.abc import Iterator

import keras
import numpy as np

from keras_losskit._support.checks import checked_count
from keras_losskit._support.checks import checked_flag
from keras_losskit._support.checks import checked_fraction
from keras_losskit._support.checks import checked_function
from keras_losskit._support.checks import checked_list
from keras_losskit._support.checks import checked_mapping
from keras_losskit._support.checks import checked_name
from keras_losskit._support.checks import checked_non_negative
from keras_losskit._support.checks import checked_number
from keras_losskit._support.checks import checked_positive
from keras_losskit._support.checks import refused
from keras_losskit.losses._core.refusals import refuse_as_loss


def checked_integer(value, what):
    """Return `value` as an int; booleans and floats are none."""
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise refused(value, f"{what} to be a whole number") from None


def check_axes(value, what):
    """Refuse what is neither an axis nor several."""
    if isinstance(value, list | tuple):
        for axis in value:
            checked_integer(axis, f"each of {what}")
    else:
        checked_integer(value, what)


def check_balance(value, what):
    """Refuse what is neither a factor of all classes nor one for each."""
    if isinstance(value, list | tuple):
        for factor in checked_list(value, what, "a number for each class"):
            checked_non_negative(factor, f"each of {what}")
    elif not (keras.ops.is_tensor(value) or np.ndim(value)):
        checked_non_negative(value, what)


def check_open_fraction(value, what):
    """Refuse what is not between 0 and 1."""
    if not 0.0 < checked_number(value, what) < 1.0:
        raise refused(value, f"{what} to be between 0 and 1", error=ValueError)


def check_moved(value, what):
    """As `checked_fraction`; the loss says what came to stand for a name."""
    if not isinstance(value, str):
        checked_fraction(value, what)


def check_ignored(value, what):
    """Refuse what is not a number; NaN marks missing labels."""
    if not (isinstance(value, float) and math.isnan(value)):
        checked_number(value, what)


def check_arguments_by_name(value, what):
    """Refuse what is not a dict of arguments."""
    if not isinstance(value, dict) or not all(
        isinstance(key, str) for key in value
    ):
        raise refused(value, f"{what} to be a dict of arguments by name")


def check_loss_function(value, what):
    """Refuse what is not a function of labels and predictions."""
    expected = f"{what} to be a function of (y_true, y_pred)"
    refuse_as_loss(value, expected)
    if isinstance(value, keras.layers.Layer):
        raise refused(value, expected)
    checked_function(value, what, ["y_true", "y_pred"])


def check_names(value, what):
    """Refuse what is not a list of names."""
    names = checked_list(value, what, "a list of names")
    if not names:
        raise refused(value, f"{what} to hold a name", error=ValueError)
    for name in names:
        checked_name(name, f"each of {what}")


def check_weights(value, what):
    """Refuse what is neither a weight for each part nor a name for them."""
    if isinstance(value, str | Iterator):
        return  # the loss knows which names there are
    if not checked_list(value, what, "a weight for each part"):
        raise refused(value, f"{what} to hold a weight", error=ValueError)


def check_weights_by_name(value, what):
    """Refuse what is not a dict of weights."""
    checked_mapping(value, what, "{name: weight}")


def check_losses(value, what):
    """Refuse what is not a list; what is in it is looked at one by one."""
    if not isinstance(value, Iterator):
        checked_list(value, what, "a list of losses")


CHECKS = {
    "alpha": check_balance,
    "apply_class_balancing": checked_flag,
    "arguments": check_arguments_by_name,
    "axis": check_axes,
    "beta": checked_non_negative,
    "delta": checked_positive,
    "elementwise": checked_flag,
    "fn": check_loss_function,
    "from_logits": checked_flag,
    "full": checked_flag,
    "gamma": checked_non_negative,
    "ignore_class": checked_integer,
    "ignore_value": check_ignored,
    "integer_labels": checked_flag,
    "label_smoothing": checked_fraction,
    "levels": checked_count,
    "losses": check_losses,
    "margin": checked_number,
    "name": checked_name,
    "names": check_names,
    "normalize": checked_flag,
    "per_image": checked_flag,
    "q": check_open_fraction,
    "remove_diagonal": checked_flag,
    "weights": check_weights,
}
#: Where a class means something else by a name.
OF_CLASS = {
    ("loss", "Components"): check_loss_function,
    ("weights", "Components"): check_weights_by_name,
    # Keras has a say of its own, which differs between versions.
    ("delta", "Huber"): checked_number,
    ("label_smoothing", "SparseCategoricalCrossentropy"): check_moved,
}


@functools.cache
def parameters_of(cls):
    """The signature of the constructor, and the checks of its arguments."""
    signature = inspect.signature(cls.__init__)
    checks = {}
    for name, parameter in signature.parameters.items():
        check = OF_CLASS.get((name, cls.__name__)) or CHECKS.get(name)
        if check is not None:
            checks[name] = check, parameter.default
    return signature, checks


def check_arguments(cls, args, kwargs):
    """Refuse arguments that a loss of this package cannot use.

    Args:
        cls: The class of the loss.
        args: Arguments by position.
        kwargs: Arguments by name.

    Raises:
        TypeError: if one is not of its kind.
        ValueError: if one is out of its range.
    """
    signature, checks = parameters_of(cls)
    try:
        given = signature.bind(None, *args, **kwargs).arguments
    except TypeError:
        return  # the constructor says what is wrong with them
    for name, (check, default) in checks.items():
        value = given.get(name, default)
        if value is not default and not (name == "name" and value is None):
            check(value, f"`{name}` of {cls.__name__}")
