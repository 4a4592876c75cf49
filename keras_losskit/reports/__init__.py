"""Tables of what the loss of a model is made of."""

from keras_losskit.reports.gradients import TermGradients
from keras_losskit.reports.gradients import gradient_report
from keras_losskit.reports.noise_scale import NoiseScale
from keras_losskit.reports.noise_scale import gradient_noise_scale
from keras_losskit.reports.samples import SampleReport
from keras_losskit.reports.samples import sample_report
from keras_losskit.reports.summary_table import summary

__all__ = [
    "NoiseScale",
    "SampleReport",
    "TermGradients",
    "gradient_noise_scale",
    "gradient_report",
    "sample_report",
    "summary",
]
