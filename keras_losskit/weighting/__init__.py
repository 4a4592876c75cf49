"""Weightings: what sets weights over and above the user's own.

A weighting maps one statistic of the terms to one weight per term.
"""

from keras_losskit.weighting.base import Weighting
from keras_losskit.weighting.dynamic_weight_average import DynamicWeightAverage
from keras_losskit.weighting.equal import Equal
from keras_losskit.weighting.geometric_mean import GeometricMean
from keras_losskit.weighting.imtl import IMTLLoss
from keras_losskit.weighting.random_loss_weighting import RandomLossWeighting
from keras_losskit.weighting.relobralo import ReLoBRaLo
from keras_losskit.weighting.softadapt import SoftAdapt
from keras_losskit.weighting.uncertainty import Uncertainty

__all__ = [
    "DynamicWeightAverage",
    "Equal",
    "GeometricMean",
    "IMTLLoss",
    "RandomLossWeighting",
    "ReLoBRaLo",
    "SoftAdapt",
    "Uncertainty",
    "Weighting",
]
