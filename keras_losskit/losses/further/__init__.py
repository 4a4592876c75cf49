"""Losses that Keras lacks."""

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

__all__ = [
    "AsymmetricLoss",
    "Charbonnier",
    "Distillation",
    "FocalTversky",
    "GaussianNLL",
    "GeneralizedDice",
    "KLToStandardNormal",
    "LovaszSoftmax",
    "Pinball",
    "Poly1",
    "asymmetric_loss",
    "charbonnier",
    "distillation",
    "focal_tversky",
    "gaussian_nll",
    "generalized_dice",
    "kl_to_standard_normal",
    "lovasz_softmax",
    "pinball",
    "poly1",
]
