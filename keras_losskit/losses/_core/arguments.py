"""The arguments of this package's losses: what they may be, and which are set.

What a constructor takes beyond the arguments of every loss are its settings. It
stores each under its name, whence the config, the repr and what Keras' own
constructor is given.
"""

import dataclasses
import functools
import inspect
import math
import operator
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_losskit import _origin
from keras_losskit._support import checks
from keras_losskit.losses._core.refusals import refuse_as_loss


def checked_integer(value, what):
    """Return `value` as an int; booleans and floats are none."""
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise checks.refused(value, f"{what} to be a whole number") from None


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
        for factor in value:
            checks.checked_non_negative(factor, f"each of {what}")
    elif not (keras.ops.is_tensor(value) or np.ndim(value)):
        checks.checked_non_negative(value, what)


def checked_open_fraction(value, what):
    """Return `value` as a float inside (0, 1); see `checked_number`."""
    number = checks.checked_number(value, what)
    if not 0.0 < number < 1.0:
        raise checks.refused(
            value, f"{what} to be inside (0, 1)", error=ValueError
        )
    return number


def checked_below_1(value, what):
    """Return `value` as a float in [0, 1); see `checked_number`."""
    number = checks.checked_non_negative(value, what)
    if number >= 1.0:
        raise checks.refused(value, f"{what} to be below 1", error=ValueError)
    return number


def check_moved(value, what):
    """As `checked_fraction`; the loss says what came to stand for a name."""
    if not isinstance(value, str):
        checks.checked_fraction(value, what)


def check_ignored(value, what):
    """Refuse what is not a number; NaN marks missing labels."""
    if not (isinstance(value, float) and math.isnan(value)):
        checks.checked_number(value, what)


def checked_arguments(value, what):
    """Return `value` as a dict if it is one of arguments."""
    if not isinstance(value, dict) or not all(
        isinstance(key, str) for key in value
    ):
        raise checks.refused(value, f"{what} to be a dict of arguments by name")
    return dict(value)


def check_loss_function(value, what, **arguments):
    """Refuse what is not a function of labels, predictions and `arguments`."""
    given = ", ".join(["y_true", "y_pred", *arguments])
    expected = f"{what} to be a function of ({given})"
    refuse_as_loss(value, expected)
    wrong = isinstance(value, keras.layers.Layer | type) or not callable(value)
    if wrong or not checks.takes(value, "y_true", "y_pred", **arguments):
        raise checks.refused(value, expected)


def check_names(value, what):
    """Refuse what is not a list of names."""
    names = checks.checked_list(value, what, "a list of names")
    if not names:
        raise checks.refused(value, f"{what} to hold a name", error=ValueError)
    for name in names:
        checks.checked_name(name, f"each of {what}")


def check_weights(value, what):
    """Refuse what is neither a weight for each part nor a name for them."""
    if isinstance(value, str | Iterator):
        return  # the loss knows which names there are
    if not checks.checked_list(value, what, "a weight for each part"):
        raise checks.refused(
            value, f"{what} to hold a weight", error=ValueError
        )


def check_losses(value, what):
    """Refuse what is not a list; what is in it is looked at one by one."""
    if not isinstance(value, Iterator):
        checks.checked_list(value, what, "a list of losses")


CHECKS = {
    "alpha": check_balance,
    "apply_class_balancing": checks.checked_flag,
    "arguments": checked_arguments,
    "axis": check_axes,
    "beta": checks.checked_non_negative,
    "chunk_size": checks.checked_count,
    "delta": checks.checked_positive,
    "elementwise": checks.checked_flag,
    "epsilon": checks.checked_number,
    "from_logits": checks.checked_flag,
    "full": checks.checked_flag,
    "gamma": checks.checked_non_negative,
    "gamma_negative": checks.checked_non_negative,
    "gamma_positive": checks.checked_non_negative,
    "ignore_class": checked_integer,
    "ignore_value": check_ignored,
    "integer_labels": checks.checked_flag,
    "label_smoothing": checks.checked_fraction,
    "layer": checks.checked_name,
    "levels": checks.checked_count,
    "losses": check_losses,
    "margin": checks.checked_number,
    "min_variance": checks.checked_positive,
    "name": checks.checked_name,
    "names": check_names,
    "normalize": checks.checked_flag,
    "per_image": checks.checked_flag,
    "q": checked_open_fraction,
    "quantile": checked_open_fraction,
    "remove_diagonal": checks.checked_flag,
    "softcap": checks.checked_positive,
    "temperature": checks.checked_positive,
    "weights": check_weights,
    "z_loss": checks.checked_non_negative,
}
#: Where a class means something else by a name.
OF_CLASS = {
    ("alpha", "FocalTversky"): checks.checked_non_negative,
    ("epsilon", "Charbonnier"): checks.checked_positive,
    ("gamma", "FocalTversky"): checks.checked_positive,
    ("loss", "Components"): check_loss_function,
    ("margin", "AsymmetricLoss"): checked_below_1,
    ("weights", "Components"): functools.partial(
        checks.checked_mapping, expected="{name: weight}"
    ),
    # Keras has a say of its own, which differs between versions.
    ("delta", "Huber"): checks.checked_number,
    ("label_smoothing", "SparseCategoricalCrossentropy"): check_moved,
}

#: What every loss takes, beside its settings.
COMMON = {"self", "reduction", "name", "dtype", "weight"}


@dataclasses.dataclass(frozen=True)
class Parameters:
    """What the constructor of a loss of this package takes.

    Args:
        of: The name of its class.
        signature: Its signature.
        checks: What its arguments may be, `{name: (check, default)}`.
        settings: The names of its settings.
        of_keras: Those that the constructor of Keras' class takes as well.
    """

    of: str
    signature: inspect.Signature
    checks: Mapping[str, Any]
    settings: tuple[str, ...]
    of_keras: frozenset[str]


#: What a loss function does without where it is None.
MAY_BE_NONE = frozenset({"chunk_size", "ignore_class", "softcap"})


def check_settings(owner, **settings):
    """Refuse settings that a loss function cannot use.

    Args:
        owner: Name of the function.
        **settings: What it was given, by names that the table knows.
    """
    for name, value in settings.items():
        if value is not None or name not in MAY_BE_NONE:
            CHECKS[name](value, f"`{name}` of {owner}")


def parameters_of(cls):
    """The `Parameters` of the class of this package that `cls` extends."""
    return _parameters_of(
        next(c for c in cls.__mro__ if _origin.package_of(c) == "keras_losskit")
    )


@functools.cache  # classes of this package stay anyway
def _parameters_of(cls):
    signature = inspect.signature(cls.__init__)
    checked_by = {
        name: (check, parameter.default)
        for name, parameter in signature.parameters.items()
        if (check := OF_CLASS.get((name, cls.__name__)) or CHECKS.get(name))
    }
    settings = tuple(x for x in signature.parameters if x not in COMMON)
    of_keras = next(filter(_origin.is_keras_class, cls.__mro__))
    taken = inspect.signature(of_keras.__init__).parameters
    return Parameters(
        of=cls.__name__,
        signature=signature,
        checks=checked_by,
        settings=settings,
        of_keras=frozenset(settings) & frozenset(taken),
    )


def stored_settings(loss):
    """The settings of a loss of this package, `{name: value}`."""
    settings = parameters_of(type(loss)).settings
    return {name: getattr(loss, name) for name in settings}


def check_arguments(cls, args, kwargs):
    """Refuse arguments by position or name that `cls` cannot use."""
    parameters = parameters_of(cls)
    try:
        given = parameters.signature.bind(None, *args, **kwargs).arguments
    except TypeError:
        return  # the constructor says what is wrong with them
    for name, value in given.items():
        checked(parameters, name, value)


def checked(parameters, name, value):
    """The normal form of the argument `name` of a loss, or an error."""
    check, default = parameters.checks.get(name, (None, None))
    if check is None or value is default or (name == "name" and value is None):
        return value
    normal = check(value, f"`{name}` of {parameters.of}")
    return value if normal is None else normal
