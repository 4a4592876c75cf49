"""Losses `loss(y_true, y_pred)` that can be composed, named and weighted.

Every loss of `keras.losses`, under its name, with operators and a full config;
classes that combine losses; and losses that Keras lacks.
"""

from keras.losses import binary_crossentropy
from keras.losses import binary_focal_crossentropy
from keras.losses import categorical_crossentropy
from keras.losses import categorical_focal_crossentropy
from keras.losses import categorical_generalized_cross_entropy
from keras.losses import categorical_hinge
from keras.losses import circle
from keras.losses import cosine_similarity
from keras.losses import ctc
from keras.losses import dice
from keras.losses import hinge
from keras.losses import huber
from keras.losses import kl_divergence
from keras.losses import log_cosh
from keras.losses import mean_absolute_error
from keras.losses import mean_absolute_percentage_error
from keras.losses import mean_squared_error
from keras.losses import mean_squared_logarithmic_error
from keras.losses import poisson
from keras.losses import sparse_categorical_crossentropy
from keras.losses import squared_hinge
from keras.losses import tversky

from keras_losskit.losses._core.composition import Part
from keras_losskit.losses._core.composition import WeightedSum
from keras_losskit.losses._core.evaluation import evaluate
from keras_losskit.losses._core.function import FunctionLoss
from keras_losskit.losses._core.loss import Loss
from keras_losskit.losses._core.names import has_default_name
from keras_losskit.losses.from_keras import CTC
from keras_losskit.losses.from_keras import BinaryCrossentropy
from keras_losskit.losses.from_keras import BinaryFocalCrossentropy
from keras_losskit.losses.from_keras import CategoricalCrossentropy
from keras_losskit.losses.from_keras import CategoricalFocalCrossentropy
from keras_losskit.losses.from_keras import CategoricalGeneralizedCrossEntropy
from keras_losskit.losses.from_keras import CategoricalHinge
from keras_losskit.losses.from_keras import Circle
from keras_losskit.losses.from_keras import CosineSimilarity
from keras_losskit.losses.from_keras import Dice
from keras_losskit.losses.from_keras import Hinge
from keras_losskit.losses.from_keras import Huber
from keras_losskit.losses.from_keras import KLDivergence
from keras_losskit.losses.from_keras import LogCosh
from keras_losskit.losses.from_keras import MeanAbsoluteError
from keras_losskit.losses.from_keras import MeanAbsolutePercentageError
from keras_losskit.losses.from_keras import MeanSquaredError
from keras_losskit.losses.from_keras import MeanSquaredLogarithmicError
from keras_losskit.losses.from_keras import Poisson
from keras_losskit.losses.from_keras import SparseCategoricalCrossentropy
from keras_losskit.losses.from_keras import SparseCategoricalFocalCrossentropy
from keras_losskit.losses.from_keras import SquaredHinge
from keras_losskit.losses.from_keras import Tversky
from keras_losskit.losses.further import AsymmetricLoss
from keras_losskit.losses.further import Charbonnier
from keras_losskit.losses.further import Distillation
from keras_losskit.losses.further import FocalTversky
from keras_losskit.losses.further import GaussianNLL
from keras_losskit.losses.further import GeneralizedDice
from keras_losskit.losses.further import KLToStandardNormal
from keras_losskit.losses.further import LovaszSoftmax
from keras_losskit.losses.further import Pinball
from keras_losskit.losses.further import Poly1
from keras_losskit.losses.further import asymmetric_loss
from keras_losskit.losses.further import charbonnier
from keras_losskit.losses.further import distillation
from keras_losskit.losses.further import focal_tversky
from keras_losskit.losses.further import gaussian_nll
from keras_losskit.losses.further import generalized_dice
from keras_losskit.losses.further import kl_to_standard_normal
from keras_losskit.losses.further import lovasz_softmax
from keras_losskit.losses.further import pinball
from keras_losskit.losses.further import poly1
from keras_losskit.losses.identifiers import deserialize
from keras_losskit.losses.identifiers import get
from keras_losskit.losses.identifiers import serialize
from keras_losskit.losses.wrappers import Components
from keras_losskit.losses.wrappers import DeepSupervision
from keras_losskit.losses.wrappers import Masked

try:
    from keras.losses import sparse_categorical_focal_crossentropy
except ImportError:  # before Keras 3.16
    from keras_losskit.losses.from_keras.sparse import (
        sparse_categorical_focal_crossentropy,
    )

__all__ = [
    "AsymmetricLoss",
    "BinaryCrossentropy",
    "BinaryFocalCrossentropy",
    "CTC",
    "CategoricalCrossentropy",
    "CategoricalFocalCrossentropy",
    "CategoricalGeneralizedCrossEntropy",
    "CategoricalHinge",
    "Charbonnier",
    "Circle",
    "Components",
    "CosineSimilarity",
    "DeepSupervision",
    "Dice",
    "Distillation",
    "FocalTversky",
    "FunctionLoss",
    "GaussianNLL",
    "GeneralizedDice",
    "Hinge",
    "Huber",
    "KLDivergence",
    "KLToStandardNormal",
    "LogCosh",
    "Loss",
    "LovaszSoftmax",
    "Masked",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanSquaredError",
    "MeanSquaredLogarithmicError",
    "Part",
    "Pinball",
    "Poisson",
    "Poly1",
    "SparseCategoricalCrossentropy",
    "SparseCategoricalFocalCrossentropy",
    "SquaredHinge",
    "Tversky",
    "WeightedSum",
    "asymmetric_loss",
    "binary_crossentropy",
    "binary_focal_crossentropy",
    "categorical_crossentropy",
    "categorical_focal_crossentropy",
    "categorical_generalized_cross_entropy",
    "categorical_hinge",
    "charbonnier",
    "circle",
    "cosine_similarity",
    "ctc",
    "deserialize",
    "dice",
    "distillation",
    "evaluate",
    "focal_tversky",
    "gaussian_nll",
    "generalized_dice",
    "get",
    "has_default_name",
    "hinge",
    "huber",
    "kl_divergence",
    "kl_to_standard_normal",
    "log_cosh",
    "lovasz_softmax",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_error",
    "mean_squared_logarithmic_error",
    "pinball",
    "poisson",
    "poly1",
    "serialize",
    "sparse_categorical_crossentropy",
    "sparse_categorical_focal_crossentropy",
    "squared_hinge",
    "tversky",
]
