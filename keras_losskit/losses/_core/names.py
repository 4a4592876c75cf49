"""Names of losses, and whether their user chose them."""

import inspect
import re

import keras

from keras_losskit._support.checks import checked_instance
from keras_losskit._types import LossObject
from keras_losskit.losses._core.traits import traits_of


def snake_case(name):
    """`name` as Keras writes it in logs: `MeanSquaredError` with underscores.

    Example:
        >>> snake_case("MeanSquaredError"), snake_case("<lambda>")
        ('mean_squared_error', 'lambda')
    """
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def function_name(fn):
    """The name of a term whose loss is the function `fn`.

    Example:
        >>> function_name(lambda y_true, y_pred: y_pred)
        'lambda'
    """
    # A callable object of any origin may have a `name`.
    return snake_case(getattr(fn, "name", None) or written_name(fn))


def written_name(fn):
    """The name that the code gives to a function, or to the class of `fn`."""
    # Functions have it, objects that are called mostly not.
    return getattr(fn, "__name__", None) or type(fn).__name__


def has_default_name(loss: LossObject) -> bool:
    """Whether `loss` bears a name that its user did not write.

    Args:
        loss: A `keras.losses.Loss`.

    Example:
        >>> import keras
        >>> has_default_name(keras.losses.Huber())
        True
        >>> has_default_name(keras.losses.Huber(name="h"))
        False
    """
    what = "`loss` of has_default_name"
    checked_instance(loss, keras.losses.Loss, what, "a loss")
    if traits_of(loss).named_by_itself:
        return True
    parameters = inspect.signature(type(loss).__init__).parameters
    default = parameters["name"].default if "name" in parameters else None
    if isinstance(default, str):
        return loss.name == default
    return has_made_up_name(loss)


def has_made_up_name(loss):
    """Whether Keras named `loss`, which numbers such names: `my_loss_1`."""
    made_up = snake_case(type(loss).__name__)
    return re.fullmatch(rf"{re.escape(made_up)}(_\d+)?", loss.name) is not None
