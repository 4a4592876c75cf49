"""Weightings: what sets weights over and above the user's own.

A weighting maps one statistic of the terms to one weight per term: the vector
of their values, or the Gramian of their gradients.
"""

from keras_losskit.weighting.aligned_mtl import AlignedMTL
from keras_losskit.weighting.cagrad import CAGrad
from keras_losskit.weighting.dynamic_weight_average import DynamicWeightAverage
from keras_losskit.weighting.equal import Equal
from keras_losskit.weighting.geometric_mean import GeometricMean
from keras_losskit.weighting.gradnorm import GradNorm
from keras_losskit.weighting.gramian import GradientWeighting
from keras_losskit.weighting.imtl import IMTLGradient
from keras_losskit.weighting.imtl import IMTLLoss
from keras_losskit.weighting.learning_rate_annealing import (
    LearningRateAnnealing,
)
from keras_losskit.weighting.mgda import MGDA
from keras_losskit.weighting.pcgrad import PCGrad
from keras_losskit.weighting.random_loss_weighting import RandomLossWeighting
from keras_losskit.weighting.relobralo import ReLoBRaLo
from keras_losskit.weighting.softadapt import SoftAdapt
from keras_losskit.weighting.uncertainty import Uncertainty
from keras_losskit.weighting.upgrad import UPGrad
from keras_losskit.weighting.weighting import Weighting

__all__ = [
    "MGDA",
    "AlignedMTL",
    "CAGrad",
    "DynamicWeightAverage",
    "Equal",
    "GeometricMean",
    "GradNorm",
    "GradientWeighting",
    "IMTLGradient",
    "IMTLLoss",
    "LearningRateAnnealing",
    "PCGrad",
    "RandomLossWeighting",
    "ReLoBRaLo",
    "SoftAdapt",
    "UPGrad",
    "Uncertainty",
    "Weighting",
]
