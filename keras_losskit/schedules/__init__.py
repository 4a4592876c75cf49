"""Schedules: weights as functions of the step or the epoch.

Steps and epochs count from 0: the first batch sees step 0 and epoch 0. A
schedule over epochs holds one value throughout an epoch.
"""

from keras_losskit.schedules.learning_rate import FromLearningRateSchedule
from keras_losskit.schedules.piecewise import Piecewise
from keras_losskit.schedules.ramps import Cosine
from keras_losskit.schedules.ramps import Cyclical
from keras_losskit.schedules.ramps import Exponential
from keras_losskit.schedules.ramps import Linear
from keras_losskit.schedules.schedule import Schedule

__all__ = [
    "Cosine",
    "Cyclical",
    "Exponential",
    "FromLearningRateSchedule",
    "Linear",
    "Piecewise",
    "Schedule",
]
