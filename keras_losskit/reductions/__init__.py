"""How per-sample values, sample weights and a mask become one scalar.

A reduction is any callable `(values, sample_weight=None, mask=None) -> scalar`:
one of Keras' names, an instance of `Reduction`, or a function of your own.
"""

from keras_losskit.reductions.base import Reduction
from keras_losskit.reductions.base import get
from keras_losskit.reductions.base import is_unreduced
from keras_losskit.reductions.base import serialize

__all__ = ["Reduction", "get", "is_unreduced", "serialize"]
