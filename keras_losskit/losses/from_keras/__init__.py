"""Every loss of `keras.losses`, with operators and a full config."""

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

__all__ = [
    "BinaryCrossentropy",
    "BinaryFocalCrossentropy",
    "CTC",
    "CategoricalCrossentropy",
    "CategoricalFocalCrossentropy",
    "CategoricalGeneralizedCrossEntropy",
    "CategoricalHinge",
    "Circle",
    "CosineSimilarity",
    "Dice",
    "Hinge",
    "Huber",
    "KLDivergence",
    "LogCosh",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanSquaredError",
    "MeanSquaredLogarithmicError",
    "Poisson",
    "SparseCategoricalCrossentropy",
    "SparseCategoricalFocalCrossentropy",
    "SquaredHinge",
    "Tversky",
]
