"""Which loss bears which name.

Keras' functions and aliases are written down here, rather than collected from
Keras: a test compares them with Keras', and fails when it adds one.
"""

import keras

from keras_losskit.losses.from_keras import categorical
from keras_losskit.losses.from_keras import margin
from keras_losskit.losses.from_keras import probabilistic
from keras_losskit.losses.from_keras import regression
from keras_losskit.losses.from_keras import segmentation
from keras_losskit.losses.from_keras import sequence
from keras_losskit.losses.from_keras import similarity
from keras_losskit.losses.from_keras import sparse
from keras_losskit.losses.further import classification
from keras_losskit.losses.further import gaussian
from keras_losskit.losses.further import knowledge_distillation
from keras_losskit.losses.further import lovasz
from keras_losskit.losses.further import overlap
from keras_losskit.losses.further import robust

#: The losses that Keras has, by the name of their function.
KERAS_LOSSES = {
    "binary_crossentropy": probabilistic.BinaryCrossentropy,
    "binary_focal_crossentropy": probabilistic.BinaryFocalCrossentropy,
    "categorical_crossentropy": categorical.CategoricalCrossentropy,
    "categorical_focal_crossentropy": (
        categorical.CategoricalFocalCrossentropy
    ),
    "categorical_generalized_cross_entropy": (
        probabilistic.CategoricalGeneralizedCrossEntropy
    ),
    "categorical_hinge": margin.CategoricalHinge,
    "circle": similarity.Circle,
    "cosine_similarity": similarity.CosineSimilarity,
    "ctc": sequence.CTC,
    "dice": segmentation.Dice,
    "hinge": margin.Hinge,
    "huber": regression.Huber,
    "kl_divergence": probabilistic.KLDivergence,
    "log_cosh": regression.LogCosh,
    "mean_absolute_error": regression.MeanAbsoluteError,
    "mean_absolute_percentage_error": regression.MeanAbsolutePercentageError,
    "mean_squared_error": regression.MeanSquaredError,
    "mean_squared_logarithmic_error": regression.MeanSquaredLogarithmicError,
    "poisson": probabilistic.Poisson,
    "sparse_categorical_crossentropy": sparse.SparseCategoricalCrossentropy,
    "sparse_categorical_focal_crossentropy": (
        sparse.SparseCategoricalFocalCrossentropy
    ),
    "squared_hinge": margin.SquaredHinge,
    "tversky": segmentation.Tversky,
}

_FURTHER = {
    classification.asymmetric_loss: classification.AsymmetricLoss,
    robust.charbonnier: robust.Charbonnier,
    knowledge_distillation.distillation: knowledge_distillation.Distillation,
    overlap.focal_tversky: overlap.FocalTversky,
    gaussian.gaussian_nll: gaussian.GaussianNLL,
    overlap.generalized_dice: overlap.GeneralizedDice,
    gaussian.kl_to_standard_normal: gaussian.KLToStandardNormal,
    lovasz.lovasz_softmax: lovasz.LovaszSoftmax,
    robust.pinball: robust.Pinball,
    classification.poly1: classification.Poly1,
}

#: The losses that Keras lacks, likewise.
FURTHER_LOSSES = {fn.__name__: cls for fn, cls in _FURTHER.items()}

#: Keras' short names; each also in capitals.
ALIASES = {
    "bce": "binary_crossentropy",
    "kld": "kl_divergence",
    "mae": "mean_absolute_error",
    "mape": "mean_absolute_percentage_error",
    "mse": "mean_squared_error",
    "msle": "mean_squared_logarithmic_error",
}

#: What only a later Keras than the installed one has.
LATER = KERAS_LOSSES.keys() - vars(keras.losses)

_INSTALLED = {
    name: cls for name, cls in KERAS_LOSSES.items() if name not in LATER
}

BY_FUNCTION = {
    sparse.sparse_categorical_focal_crossentropy: (
        sparse.SparseCategoricalFocalCrossentropy
    ),
    **{vars(keras.losses)[name]: cls for name, cls in _INSTALLED.items()},
    **_FURTHER,
}

FROM_KERAS = {
    vars(keras.losses)[cls.__name__]: cls for cls in _INSTALLED.values()
}

BY_NAME = {
    **KERAS_LOSSES,
    **FURTHER_LOSSES,
    **{cls.__name__: cls for cls in FURTHER_LOSSES.values()},
    **{cls.__name__: cls for cls in KERAS_LOSSES.values()},
    **{alias: KERAS_LOSSES[name] for alias, name in ALIASES.items()},
    **{alias.upper(): KERAS_LOSSES[name] for alias, name in ALIASES.items()},
}
