"""Models that train on a `LossesContainer` and log every term."""

from keras_losskit.models.mixin import LossTermsMixin
from keras_losskit.models.model import Model
from keras_losskit.models.model import Sequential
from keras_losskit.models.wrapping import unwrap
from keras_losskit.models.wrapping import wrap

__all__ = [
    "LossTermsMixin",
    "Model",
    "Sequential",
    "unwrap",
    "wrap",
]
