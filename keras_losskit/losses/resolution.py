"""From what a user writes in `compile(loss=...)` to a loss object."""

import inspect

import keras
import numpy as np

from keras_losskit.losses.function import FunctionLoss

_BY_SHAPE = ("crossentropy", "ce")


def get(identifier, y_true=None, y_pred=None):
    """The loss that `identifier` stands for.

    Args:
        identifier: A string that Keras knows (`"mse"`, `"MeanSquaredError"`,
            also `"crossentropy"` and `"ce"`, which are resolved from the
            shapes), a function, a `Loss` object or class, the config of one, or
            `None`.
        y_true: Targets, or anything with their `shape`; needed for
            `"crossentropy"`.
        y_pred: Predictions, likewise.

    Returns:
        A `keras.losses.Loss` named as Keras names it in logs; `None` for
        `None`.

    Raises:
        ValueError: if `identifier` stands for no loss, or the shapes that it
            needs are missing.

    Example:
        >>> get("mse").name
        'mse'
    """
    if identifier is None:
        return None
    name = None
    if isinstance(identifier, str):
        name = identifier
        if identifier.lower() in _BY_SHAPE:
            identifier = _crossentropy(identifier, y_true, y_pred)
        identifier = keras.losses.get(identifier)
    elif isinstance(identifier, dict):
        identifier = keras.losses.deserialize(identifier)
    if inspect.isclass(identifier):
        identifier = identifier()
    if isinstance(identifier, keras.losses.Loss):
        return identifier
    if callable(identifier):
        return FunctionLoss(identifier, name=name)
    raise ValueError(
        "Expected a loss to be a name, a function or a `keras.losses.Loss`. "
        f"Received: {identifier!r}"
    )


def _crossentropy(identifier, y_true, y_pred):
    """The name of the crossentropy that targets of these shapes need."""
    if y_true is None or y_pred is None:
        raise ValueError(
            f"Expected the targets and predictions with loss '{identifier}', "
            "which is chosen by their shapes. Received: none. Name the "
            "crossentropy: binary, categorical or sparse categorical."
        )
    targets, predictions = _shape(y_true), _shape(y_pred)
    if len(predictions) < 2 or predictions[-1] == 1:
        return "binary_crossentropy"
    if len(targets) < len(predictions) or targets[-1] == 1:
        return "sparse_categorical_crossentropy"
    return "categorical_crossentropy"


def _shape(x):
    return tuple(x.shape) if hasattr(x, "shape") else np.shape(x)
