"""Losses around losses: masks, deep supervision, values by name."""

from keras_losskit.losses.wrappers.components import Components
from keras_losskit.losses.wrappers.deep_supervision import DeepSupervision
from keras_losskit.losses.wrappers.masked import Masked

__all__ = [
    "Components",
    "DeepSupervision",
    "Masked",
]
