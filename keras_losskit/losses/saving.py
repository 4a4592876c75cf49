"""Writing losses to a config and reading them back."""

import re

import keras

from keras_losskit.losses.resolution import get


def serialize(identifier):
    """The config of a loss: strings stay, objects and functions are written.

    Raises:
        ValueError: for a function that cannot be found again when loading.
    """
    if identifier is None or isinstance(identifier, (str, dict)):
        return identifier
    return keras.saving.serialize_keras_object(get(identifier))


def deserialize(config):
    """The loss of a config."""
    if config is None or isinstance(config, str):
        return config
    return keras.saving.deserialize_keras_object(config)


def has_default_name(loss):
    """Whether the user left the name of `loss` to its class or function."""
    snake = re.sub(r"(?<!^)(?=[A-Z])", "_", type(loss).__name__).lower()
    return loss.name == snake or hasattr(loss, "fn") or hasattr(loss, "_fn")
