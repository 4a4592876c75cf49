"""Terms that read the inside of the model."""

from keras_losskit.extra.adversarial import FGSM
from keras_losskit.extra.adversarial import PGD
from keras_losskit.extra.context import Context
from keras_losskit.extra.ema_teacher import EMATeacher
from keras_losskit.extra.extra_term import ExtraTerm
from keras_losskit.extra.from_layer import FromLayer
from keras_losskit.extra.from_teacher import FromTeacher
from keras_losskit.extra.from_weights import FromWeights
from keras_losskit.extra.from_weights import group_lasso
from keras_losskit.extra.from_weights import orthogonality
from keras_losskit.extra.from_weights import spectral_norm
from keras_losskit.extra.gradient_penalty import GradientPenalty
from keras_losskit.extra.gradient_penalty import input_gradient

__all__ = [
    "Context",
    "EMATeacher",
    "ExtraTerm",
    "FGSM",
    "FromLayer",
    "FromTeacher",
    "FromWeights",
    "GradientPenalty",
    "PGD",
    "group_lasso",
    "input_gradient",
    "orthogonality",
    "spectral_norm",
]
