"""Losses `loss(y_true, y_pred)` that can be composed, named and weighted.

Every loss of `keras.losses`, under its name, with operators and a full config;
what makes sums of them; and losses that Keras lacks.
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

from keras_losskit.losses.base import Loss
from keras_losskit.losses.categorical import CategoricalCrossentropy
from keras_losskit.losses.categorical import CategoricalFocalCrossentropy
from keras_losskit.losses.classification import AsymmetricLoss
from keras_losskit.losses.classification import Poly1
from keras_losskit.losses.classification import asymmetric_loss
from keras_losskit.losses.classification import poly1
from keras_losskit.losses.components import Components
from keras_losskit.losses.composition import Part
from keras_losskit.losses.composition import WeightedSum
from keras_losskit.losses.deep_supervision import DeepSupervision
from keras_losskit.losses.divergence import Distillation
from keras_losskit.losses.divergence import distillation
from keras_losskit.losses.evaluation import evaluate
from keras_losskit.losses.function import FunctionLoss
from keras_losskit.losses.gaussian import GaussianNLL
from keras_losskit.losses.gaussian import KLToStandardNormal
from keras_losskit.losses.gaussian import gaussian_nll
from keras_losskit.losses.gaussian import kl_to_standard_normal
from keras_losskit.losses.lovasz import LovaszSoftmax
from keras_losskit.losses.lovasz import lovasz_softmax
from keras_losskit.losses.margin import CategoricalHinge
from keras_losskit.losses.margin import Hinge
from keras_losskit.losses.margin import SquaredHinge
from keras_losskit.losses.masked import Masked
from keras_losskit.losses.naming import has_default_name
from keras_losskit.losses.overlap import FocalTversky
from keras_losskit.losses.overlap import GeneralizedDice
from keras_losskit.losses.overlap import focal_tversky
from keras_losskit.losses.overlap import generalized_dice
from keras_losskit.losses.probabilistic import BinaryCrossentropy
from keras_losskit.losses.probabilistic import BinaryFocalCrossentropy
from keras_losskit.losses.probabilistic import (
    CategoricalGeneralizedCrossEntropy,
)
from keras_losskit.losses.probabilistic import KLDivergence
from keras_losskit.losses.probabilistic import Poisson
from keras_losskit.losses.regression import Huber
from keras_losskit.losses.regression import LogCosh
from keras_losskit.losses.regression import MeanAbsoluteError
from keras_losskit.losses.regression import MeanAbsolutePercentageError
from keras_losskit.losses.regression import MeanSquaredError
from keras_losskit.losses.regression import MeanSquaredLogarithmicError
from keras_losskit.losses.resolution import deserialize
from keras_losskit.losses.resolution import get
from keras_losskit.losses.resolution import serialize
from keras_losskit.losses.robust import Charbonnier
from keras_losskit.losses.robust import Pinball
from keras_losskit.losses.robust import charbonnier
from keras_losskit.losses.robust import pinball
from keras_losskit.losses.segmentation import Dice
from keras_losskit.losses.segmentation import Tversky
from keras_losskit.losses.sequence import CTC
from keras_losskit.losses.similarity import Circle
from keras_losskit.losses.similarity import CosineSimilarity
from keras_losskit.losses.sparse import SparseCategoricalCrossentropy
from keras_losskit.losses.sparse import SparseCategoricalFocalCrossentropy

try:
    from keras.losses import sparse_categorical_focal_crossentropy
except ImportError:  # before Keras 3.16
    from keras_losskit.losses.sparse import (
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
