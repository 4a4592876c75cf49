"""Files of weights: whether a model can read one, before it reads it."""

import keras

from keras_losskit import _keras
from keras_losskit.container._arguments import copy_weighting


def check_weighting_state(weighting, path, skip_mismatch):
    """Refuse a file with state that the weighting of a model cannot take.

    A copy of the weighting reads it first, alone. Keras itself reads the rest
    of a model all the same, and forgets the error of what it finds by two
    names, as it does a loss.

    Args:
        weighting: A `Weighting`.
        path: Path of the file.
        skip_mismatch: Whether to warn only.

    Raises:
        ValueError: if it has, and `skip_mismatch` is False.
    """
    if str(path).endswith((".keras", ".weights.h5", ".weights.json")):
        alone = OnlyWeighting(copy_weighting(weighting))
        alone.load_weights(path, skip_mismatch=skip_mismatch)


class OnlyWeighting(keras.Model):
    """A model with a weighting where a file has that of a model's loss.

    Args:
        weighting: A `Weighting`.
    """

    def __init__(self, weighting):
        super().__init__()
        # Tracked, it would be found by two names here too.
        _keras.set_untracked(self, "compiled_loss", Shelf())
        self.compiled_loss.weighting = weighting
        self.built = True

    def load_own_variables(self, store):
        """Leave what a model has itself in the file."""


class Shelf(_keras.Saveable):
    """Stands for a loss that has a weighting and nothing else."""
