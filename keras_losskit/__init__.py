"""Composable, named and separately logged losses for Keras 3."""

from keras_losskit.terms import LossTerm
from keras_losskit.terms import LossTerms

__version__ = "0.1.0.dev0"

__all__ = ["LossTerm", "LossTerms"]
