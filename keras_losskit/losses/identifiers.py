"""From what a user writes in `compile(loss=...)` to a loss object, and back."""

import inspect
from typing import Any

import keras
import numpy as np

from keras_losskit import _keras
from keras_losskit import _weights as weights_lib
from keras_losskit._types import Config
from keras_losskit._types import LossLike
from keras_losskit._types import Structure
from keras_losskit.losses import _catalogue
from keras_losskit.losses._core.composition import WeightedSum
from keras_losskit.losses._core.configs import serialized_function
from keras_losskit.losses._core.configs import serialized_loss
from keras_losskit.losses._core.function import FunctionLoss
from keras_losskit.losses._core.loss import LossMixin
from keras_losskit.losses._core.names import has_made_up_name
from keras_losskit.losses._core.names import snake_case
from keras_losskit.losses._core.names import written_name
from keras_losskit.losses._core.refusals import refuse_as_loss
from keras_losskit.losses._core.values import has_shape
from keras_losskit.losses.wrappers.components import with_components

_BY_SHAPE = ("crossentropy", "ce")


def get(
    identifier: LossLike | Config | None,
    y_true: Structure | None = None,
    y_pred: Structure | None = None,
) -> Any:
    """The loss that `identifier` stands for, composable.

    Args:
        identifier: A name (`"mse"`, `"mean_squared_error"`,
            `"MeanSquaredError"`, also `"crossentropy"` and `"ce"`, which are
            resolved from the shapes), the name that a custom loss is
            registered under (`"package>MyLoss"`) or has in a
            `keras.saving.custom_object_scope`, a function, a `Loss` object or
            class, the config of one, or `None`.
        y_true: Targets, or symbolic ones; needed for `"crossentropy"`, and to
            find the keys of a loss that returns a dict.
        y_pred: Predictions, likewise.

    Returns:
        A `keras.losses.Loss` with operators, named as Keras names it in logs;
        `None` for `None`.

    Raises:
        ValueError: if `identifier` stands for no loss, or the shapes that it
            needs are missing.
        TypeError: if it is something else that can be called: a metric, a
            schedule, a reduction, a weighting or a regularizer.

    Example:
        >>> 0.5 * get("mse") + get(lambda y_true, y_pred: y_pred - y_true)
        0.5 * mse + lambda
    """
    if identifier is None:
        return None
    if isinstance(identifier, str):
        return _named(identifier, y_true, y_pred)
    if isinstance(identifier, dict):
        identifier = deserialize(identifier)
    refuse_as_loss(identifier, "a loss: a name, a function or an object")
    if inspect.isclass(identifier):
        identifier = identifier()  # type: ignore[assignment]  # a loss
    if isinstance(identifier, keras.losses.Loss):
        return _discovered(_composable(identifier), y_true, y_pred)
    if callable(identifier):
        return _discovered(_from_function(identifier), y_true, y_pred)
    raise ValueError(
        "Expected a loss to be a name, a function or a `keras.losses.Loss`. "
        f"Received: {identifier!r}"
    )


def _named(name, y_true, y_pred):
    own = keras.saving.get_registered_object(name)
    if own is not None:
        return get(_unnumbered(own), y_true, y_pred)
    cls = (
        _crossentropy(name, y_true, y_pred)
        if name.lower() in _BY_SHAPE
        else _catalogue.BY_NAME.get(name)
    )
    if cls is None:
        # A loss that only a newer Keras has; an unknown name is its error.
        return get(keras.losses.get(name))
    # The name of a class stands for an object of it, with its own name.
    loss = cls() if name == cls.__name__ else cls(name=name)
    loss.named_by_itself = True
    return loss


def _unnumbered(own):
    """A registered function, or an object of a class without Keras' number.

    A loss that bears no name is `my_loss`, `my_loss_1` and so on: a name in
    logs that depends on what was made before.
    """
    if not inspect.isclass(own):
        return own
    loss = own()
    if isinstance(loss, keras.losses.Loss) and has_made_up_name(loss):
        loss.name = snake_case(own.__name__)
    return loss


def _from_function(fn):
    cls = _class_of_function(fn)
    if cls is None:
        return FunctionLoss(fn)
    loss = cls(name=fn.__name__)
    loss.named_by_itself = True
    return loss


def _class_of_function(fn):
    """The class of a loss function of Keras or this package, or `None`."""
    # Other callables need not be hashable.
    return _catalogue.BY_FUNCTION.get(fn) if inspect.isfunction(fn) else None


def _composable(loss):
    """`loss` with operators and a full config, its own weight taken out."""
    ours = _catalogue.FROM_KERAS.get(type(loss))
    if ours is not None:
        return ours(
            **_keras.function_arguments(loss),
            reduction=loss.reduction,
            name=loss.name,
            dtype=loss.dtype,
        )
    if isinstance(loss, LossMixin) and not weights_lib.is_one(loss.weight):
        return WeightedSum([loss])
    return loss


def _discovered(loss, y_true, y_pred):
    """`loss`, with a term for each key where a user's loss returns a dict."""
    if y_true is None or y_pred is None:
        return loss
    if not isinstance(loss, WeightedSum):
        return with_components(loss, y_true, y_pred)
    terms = [
        (_discovered(term, y_true, y_pred), weight)
        for term, weight in loss.terms
    ]
    if all(
        new is old for (new, _), (old, _) in zip(terms, loss.terms, strict=True)
    ):
        return loss
    return WeightedSum(*zip(*terms, strict=True), name=loss.name)


def _crossentropy(name, y_true, y_pred):
    """The class of the crossentropy that targets of these shapes need."""
    if y_true is None or y_pred is None:
        raise ValueError(
            f"Expected the targets and predictions with loss '{name}', which "
            "is chosen by their shapes. Received: none. Name the crossentropy: "
            "binary, categorical or sparse categorical."
        )
    targets, predictions = _shape(y_true), _shape(y_pred)
    if len(predictions) < 2 or predictions[-1] == 1:
        return _catalogue.BY_NAME["binary_crossentropy"]
    if len(targets) < len(predictions) or targets[-1] == 1:
        return _catalogue.BY_NAME["sparse_categorical_crossentropy"]
    return _catalogue.BY_NAME["categorical_crossentropy"]


def _shape(x):
    return tuple(x.shape) if has_shape(x) else np.shape(x)


def serialize(loss: LossLike | Config | None) -> Any:
    """The config of whatever `get` takes.

    Args:
        loss: A name, which stays as it is, a function that is registered, a
            `Loss` object or class, or `None`.

    Returns:
        What JSON can hold.

    Raises:
        ValueError: for a function that is not registered.

    Example:
        >>> serialize(keras.losses.Huber(delta=3.0))["config"]["delta"]
        3.0
    """
    if loss is None or isinstance(loss, str | dict):
        return loss
    refuse_as_loss(loss, "a loss: a name, a function or an object")
    if inspect.isclass(loss):
        loss = loss()  # type: ignore[assignment]  # of that class
    if isinstance(loss, keras.losses.Loss):
        return serialized_loss(loss)
    if _class_of_function(loss) is not None:
        return loss.__name__  # type: ignore[union-attr]  # a function
    return serialized_function(loss, written_name(loss))


def deserialize(config: Any) -> Any:
    """What `serialize` was given: a name, a function, a `Loss` or `None`.

    Example:
        >>> deserialize(serialize(get("mse"))).name
        'mse'
    """
    if config is None or isinstance(config, str):
        return config
    return keras.saving.deserialize_keras_object(config)
