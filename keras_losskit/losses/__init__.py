"""Losses `loss(y_true, y_pred)` that can be composed, named and weighted."""

from keras_losskit.losses.evaluation import evaluate
from keras_losskit.losses.function import FunctionLoss
from keras_losskit.losses.resolution import get
from keras_losskit.losses.saving import deserialize
from keras_losskit.losses.saving import has_default_name
from keras_losskit.losses.saving import serialize

__all__ = [
    "FunctionLoss",
    "deserialize",
    "evaluate",
    "get",
    "has_default_name",
    "serialize",
]
