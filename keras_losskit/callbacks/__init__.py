"""Callbacks over the terms of a loss: watching them, and setting weights.

They work beside Keras' own: `EarlyStopping(monitor="val_compiled_loss",
mode="min")`, `ModelCheckpoint`, `CSVLogger` and `BackupAndRestore` read the
same logs.
"""

from keras_losskit.callbacks.gradients import GradientReport
from keras_losskit.callbacks.gradients import RecordedReport
from keras_losskit.callbacks.history import TermHistory
from keras_losskit.callbacks.non_finite import TerminateOnNonFiniteTerm
from keras_losskit.callbacks.tensorboard import TermTensorBoard
from keras_losskit.callbacks.weights import SetLossWeight

__all__ = [
    "GradientReport",
    "RecordedReport",
    "SetLossWeight",
    "TermHistory",
    "TermTensorBoard",
    "TerminateOnNonFiniteTerm",
]
