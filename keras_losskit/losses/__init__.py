"""Losses `loss(y_true, y_pred)` that can be composed, named and weighted."""

from keras_losskit.losses.evaluation import evaluate
from keras_losskit.losses.function import FunctionLoss
from keras_losskit.losses.resolution import get

__all__ = ["FunctionLoss", "evaluate", "get"]
