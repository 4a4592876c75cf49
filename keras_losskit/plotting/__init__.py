"""Pictures of the terms of a loss, with matplotlib.

Drawn at 800 pixels wide, in the colours of Okabe and Ito, which people with any
kind of colour vision can tell apart. Nothing is shown: a notebook does so by
itself, a script calls `matplotlib.pyplot.show()` or `figure.savefig(...)`.
"""

from keras_losskit.plotting.conflicts import plot_gradient_conflicts
from keras_losskit.plotting.history import plot_terms
from keras_losskit.plotting.history import plot_weights
from keras_losskit.plotting.samples import plot_samples

__all__ = [
    "plot_gradient_conflicts",
    "plot_samples",
    "plot_terms",
    "plot_weights",
]
