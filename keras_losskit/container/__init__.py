"""`LossesContainer`: all terms of a model, valued, weighted and logged."""

from keras_losskit.container.container import LossesContainer

__all__ = [
    "LossesContainer",
]
