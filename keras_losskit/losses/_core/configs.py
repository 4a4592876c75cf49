"""Configs of losses, of whatever origin."""

import keras

from keras_losskit import _keras
from keras_losskit import _origin
from keras_losskit.losses._core.names import written_name


def serialized_loss(loss):
    """The complete config of a loss object.

    Keras' own losses leave out some of their arguments (`delta` of `Huber`,
    `axis` of `CosineSimilarity`, every `dtype`), which are added here.

    Args:
        loss: A `keras.losses.Loss`.

    Returns:
        What `keras.saving.deserialize_keras_object` takes.

    Example:
        >>> loss = keras.losses.Huber(delta=3.0)
        >>> serialized_loss(loss)["config"]["delta"]
        3.0
    """
    config = keras.saving.serialize_keras_object(loss)
    if isinstance(config, dict) and _origin.is_keras_class(type(loss)):
        arguments = _keras.function_arguments(loss)
        config["config"] = {
            **config["config"],
            **keras.saving.serialize_keras_object(arguments),
            "dtype": loss.dtype,
        }
    return config


def serialized_function(fn, name):
    """The config of a registered function or object; an error for others.

    Args:
        fn: A function, or an object with `get_config`.
        name: What the error calls its loss.

    Returns:
        What `keras.saving.deserialize_keras_object` takes.

    Raises:
        ValueError: if a loading program could not find `fn`.
    """
    if _is_registered(fn) or _is_registered(type(fn)):
        return keras.saving.serialize_keras_object(fn)
    raise ValueError(
        f"Expected the function of loss '{name}' to be registered, so that it "
        f"can be saved. Received: {written_name(fn)!r}. Define it with `def` "
        "at the top of a module, and decorate it with "
        "`@keras.saving.register_keras_serializable()`; give settings through "
        "`FunctionLoss(fn, arguments={...})`."
    )


def _is_registered(obj):
    # Any callable may bear a name; what bears none cannot be registered.
    if not hasattr(obj, "__name__"):
        return False
    name = keras.saving.get_registered_name(obj)
    return keras.saving.get_registered_object(name) is obj
