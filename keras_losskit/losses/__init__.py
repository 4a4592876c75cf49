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
from keras_losskit.losses.from_keras.categorical import CategoricalCrossentropy
from keras_losskit.losses.from_keras.categorical import (
    CategoricalFocalCrossentropy,
)
from keras_losskit.losses.from_keras.margin import CategoricalHinge
from keras_losskit.losses.from_keras.margin import Hinge
from keras_losskit.losses.from_keras.margin import SquaredHinge
from keras_losskit.losses.from_keras.probabilistic import BinaryCrossentropy
from keras_losskit.losses.from_keras.probabilistic import (
    BinaryFocalCrossentropy,
)
from keras_losskit.losses.from_keras.probabilistic import (
    CategoricalGeneralizedCrossEntropy,
)
from keras_losskit.losses.from_keras.probabilistic import KLDivergence
from keras_losskit.losses.from_keras.probabilistic import Poisson
from keras_losskit.losses.from_keras.regression import Huber
from keras_losskit.losses.from_keras.regression import LogCosh
from keras_losskit.losses.from_keras.regression import MeanAbsoluteError
from keras_losskit.losses.from_keras.regression import (
    MeanAbsolutePercentageError,
)
from keras_losskit.losses.from_keras.regression import MeanSquaredError
from keras_losskit.losses.from_keras.regression import (
    MeanSquaredLogarithmicError,
)
from keras_losskit.losses.from_keras.segmentation import Dice
from keras_losskit.losses.from_keras.segmentation import Tversky
from keras_losskit.losses.from_keras.sequence import CTC
from keras_losskit.losses.from_keras.similarity import Circle
from keras_losskit.losses.from_keras.similarity import CosineSimilarity
from keras_losskit.losses.from_keras.sparse import SparseCategoricalCrossentropy
from keras_losskit.losses.from_keras.sparse import (
    SparseCategoricalFocalCrossentropy,
)
from keras_losskit.losses.further.classification import AsymmetricLoss
from keras_losskit.losses.further.classification import Poly1
from keras_losskit.losses.further.classification import asymmetric_loss
from keras_losskit.losses.further.classification import poly1
from keras_losskit.losses.further.gaussian import GaussianNLL
from keras_losskit.losses.further.gaussian import KLToStandardNormal
from keras_losskit.losses.further.gaussian import gaussian_nll
from keras_losskit.losses.further.gaussian import kl_to_standard_normal
from keras_losskit.losses.further.knowledge_distillation import Distillation
from keras_losskit.losses.further.knowledge_distillation import distillation
from keras_losskit.losses.further.linear_cross_entropy import LinearCrossEntropy
from keras_losskit.losses.further.linear_cross_entropy import (
    linear_cross_entropy,
)
from keras_losskit.losses.further.lovasz import LovaszSoftmax
from keras_losskit.losses.further.lovasz import lovasz_softmax
from keras_losskit.losses.further.overlap import FocalTversky
from keras_losskit.losses.further.overlap import GeneralizedDice
from keras_losskit.losses.further.overlap import focal_tversky
from keras_losskit.losses.further.overlap import generalized_dice
from keras_losskit.losses.further.robust import Charbonnier
from keras_losskit.losses.further.robust import Pinball
from keras_losskit.losses.further.robust import charbonnier
from keras_losskit.losses.further.robust import pinball
from keras_losskit.losses.identifiers import deserialize
from keras_losskit.losses.identifiers import get
from keras_losskit.losses.identifiers import serialize
from keras_losskit.losses.wrappers.components import Components
from keras_losskit.losses.wrappers.deep_supervision import DeepSupervision
from keras_losskit.losses.wrappers.masked import Masked

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
    "LinearCrossEntropy",
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
    "linear_cross_entropy",
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
