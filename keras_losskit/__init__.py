"""Composable, named and separately logged losses for Keras 3."""

import importlib
import typing

from keras_losskit import extra
from keras_losskit import layers
from keras_losskit import losses
from keras_losskit import reductions
from keras_losskit import schedules
from keras_losskit import weighting
from keras_losskit._support.replicas import data_parallel
from keras_losskit._support.sample_ids import with_ids
from keras_losskit.container import LossesContainer
from keras_losskit.models import LossTermsMixin
from keras_losskit.models import Model
from keras_losskit.models import Sequential
from keras_losskit.models import unwrap
from keras_losskit.models import wrap
from keras_losskit.penalties import Penalty
from keras_losskit.penalties import collect_losses
from keras_losskit.terms import LossTerm
from keras_losskit.terms import LossTerms

if typing.TYPE_CHECKING:
    from keras_losskit import callbacks
    from keras_losskit import testing
    from keras_losskit.plotting import plot_gradient_conflicts
    from keras_losskit.plotting import plot_samples
    from keras_losskit.plotting import plot_terms
    from keras_losskit.plotting import plot_weights
    from keras_losskit.reports import NoiseScale
    from keras_losskit.reports import SampleReport
    from keras_losskit.reports import TermGradients
    from keras_losskit.reports import gradient_noise_scale
    from keras_losskit.reports import gradient_report
    from keras_losskit.reports import sample_report
    from keras_losskit.reports import summary
    from keras_losskit.web import report
else:
    # What only looks at a loss is imported when it is first asked for. A file
    # with a model needs none of it: all that may stand in one is registered
    # with Keras by the imports above.
    _LATER = {
        "NoiseScale": "reports",
        "SampleReport": "reports",
        "TermGradients": "reports",
        "gradient_noise_scale": "reports",
        "gradient_report": "reports",
        "plot_gradient_conflicts": "plotting",
        "plot_samples": "plotting",
        "plot_terms": "plotting",
        "plot_weights": "plotting",
        "report": "web",
        "sample_report": "reports",
        "summary": "reports",
    }

    def __getattr__(name):
        if name in ("callbacks", "testing"):
            return importlib.import_module(f"{__name__}.{name}")
        if name in _LATER:
            module = importlib.import_module(f"{__name__}.{_LATER[name]}")
            return getattr(module, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__():
        return sorted({*globals(), *__all__})


__version__ = "0.1.0"

__all__ = [
    "LossTerm",
    "LossTerms",
    "LossTermsMixin",
    "LossesContainer",
    "Model",
    "NoiseScale",
    "Penalty",
    "SampleReport",
    "Sequential",
    "TermGradients",
    "callbacks",
    "collect_losses",
    "data_parallel",
    "extra",
    "gradient_noise_scale",
    "gradient_report",
    "layers",
    "losses",
    "plot_gradient_conflicts",
    "plot_samples",
    "plot_terms",
    "plot_weights",
    "reductions",
    "report",
    "sample_report",
    "schedules",
    "summary",
    "testing",
    "unwrap",
    "weighting",
    "with_ids",
    "wrap",
]
