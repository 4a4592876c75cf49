"""What the losses around one other loss have in common: their config."""

from typing import Self

import keras

from keras_losskit import _weights as weights_lib
from keras_losskit._types import Config
from keras_losskit.losses._core.arguments import stored_settings
from keras_losskit.losses._core.composition import Composite
from keras_losskit.losses._core.configs import serialized_loss
from keras_losskit.reductions.reduction import without_version


class Wrapper(Composite):
    """Base of the composites that are made of one `loss`.

    A constructor stores its settings under their names, whence the config.
    """

    def get_config(self) -> Config:
        config = stored_settings(self)
        config["loss"] = serialized_loss(config["loss"])
        _convert_weights(config, weights_lib.serialize_weight)
        return {**config, "name": self.name, "version": self.version}

    @classmethod
    def from_config(cls, config: Config) -> Self:
        config = without_version(cls, config)
        config["loss"] = keras.saving.deserialize_keras_object(config["loss"])
        _convert_weights(config, weights_lib.deserialize_weight)
        return cls(**config)


def _convert_weights(config, convert):
    """Convert each of the weights of a config, if it has a list or dict."""
    weights = config.get("weights")
    if isinstance(weights, dict):
        config["weights"] = {key: convert(x) for key, x in weights.items()}
    elif isinstance(weights, list):
        config["weights"] = [convert(x) for x in weights]
