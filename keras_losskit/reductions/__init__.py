"""How per-sample values, sample weights and a mask become one scalar.

A reduction is any callable `(values, sample_weight=None, mask=None) -> scalar`:
one of Keras' names, an instance of `Reduction`, or a custom function.
"""

from keras_losskit.reductions.class_weighted import ClassWeighted
from keras_losskit.reductions.reduction import Reduction
from keras_losskit.reductions.reduction import get
from keras_losskit.reductions.reduction import is_unreduced
from keras_losskit.reductions.reduction import serialize
from keras_losskit.reductions.selection import MeanNonZero
from keras_losskit.reductions.selection import Threshold
from keras_losskit.reductions.selection import TopK
from keras_losskit.reductions.selection import TrimmedMean
from keras_losskit.reductions.tail import CVaR
from keras_losskit.reductions.tail import Quantile
from keras_losskit.reductions.tail import Tilted

__all__ = [
    "CVaR",
    "ClassWeighted",
    "MeanNonZero",
    "Quantile",
    "Reduction",
    "Threshold",
    "Tilted",
    "TopK",
    "TrimmedMean",
    "get",
    "is_unreduced",
    "serialize",
]
