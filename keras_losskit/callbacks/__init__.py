"""Callbacks that watch the terms of a loss, or set their weights.

They work beside Keras' own: `EarlyStopping(monitor="val_compiled_loss",
mode="min")`, `ModelCheckpoint`, `CSVLogger` and `BackupAndRestore` read the
same logs.
"""

from keras_losskit.callbacks.gradient_report import GradientReport
from keras_losskit.callbacks.gradient_report import RecordedReport
from keras_losskit.callbacks.live_report import LiveReport
from keras_losskit.callbacks.noise_scale import GradientNoiseScale
from keras_losskit.callbacks.non_finite import TerminateOnNonFiniteTerm
from keras_losskit.callbacks.sample_history import SampleHistory
from keras_losskit.callbacks.set_loss_weight import SetLossWeight
from keras_losskit.callbacks.tensorboard import TermTensorBoard
from keras_losskit.callbacks.term_history import TermHistory
from keras_losskit.callbacks.term_logger import TermLogger

__all__ = [
    "GradientNoiseScale",
    "GradientReport",
    "LiveReport",
    "RecordedReport",
    "SampleHistory",
    "SetLossWeight",
    "TermHistory",
    "TermLogger",
    "TermTensorBoard",
    "TerminateOnNonFiniteTerm",
]
