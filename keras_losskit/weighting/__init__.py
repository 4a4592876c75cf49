"""Weightings: what sets weights over and above the user's own.

A weighting maps one statistic of the terms to one weight per term: the vector
of their values, or the Gramian of their gradients. A `SampleWeighting` maps the
values of the samples of a batch to one weight per sample.
"""

from keras_losskit.weighting.aligned_mtl import AlignedMTL
from keras_losskit.weighting.cagrad import CAGrad
from keras_losskit.weighting.causal import Causal
from keras_losskit.weighting.dynamic_weight_average import DynamicWeightAverage
from keras_losskit.weighting.equal import Equal
from keras_losskit.weighting.geometric_mean import GeometricMean
from keras_losskit.weighting.gradnorm import GradNorm
from keras_losskit.weighting.gramian import GradientWeighting
from keras_losskit.weighting.group_dro import GroupDRO
from keras_losskit.weighting.imtl import IMTLGradient
from keras_losskit.weighting.imtl import IMTLLoss
from keras_losskit.weighting.learning_rate_annealing import (
    LearningRateAnnealing,
)
from keras_losskit.weighting.mgda import MGDA
from keras_losskit.weighting.pcgrad import PCGrad
from keras_losskit.weighting.random_loss_weighting import RandomLossWeighting
from keras_losskit.weighting.relobralo import ReLoBRaLo
from keras_losskit.weighting.residual_based_attention import (
    ResidualBasedAttention,
)
from keras_losskit.weighting.sample_selection import SelfPaced
from keras_losskit.weighting.sample_selection import SmallLoss
from keras_losskit.weighting.sample_weighting import SampleWeighting
from keras_losskit.weighting.self_adaptive import SelfAdaptive
from keras_losskit.weighting.softadapt import SoftAdapt
from keras_losskit.weighting.uncertainty import Uncertainty
from keras_losskit.weighting.upgrad import UPGrad
from keras_losskit.weighting.weighting import Weighting

__all__ = [
    "MGDA",
    "AlignedMTL",
    "CAGrad",
    "Causal",
    "DynamicWeightAverage",
    "Equal",
    "GeometricMean",
    "GradNorm",
    "GradientWeighting",
    "GroupDRO",
    "IMTLGradient",
    "IMTLLoss",
    "LearningRateAnnealing",
    "PCGrad",
    "RandomLossWeighting",
    "ReLoBRaLo",
    "ResidualBasedAttention",
    "SampleWeighting",
    "SelfAdaptive",
    "SelfPaced",
    "SmallLoss",
    "SoftAdapt",
    "UPGrad",
    "Uncertainty",
    "Weighting",
]
