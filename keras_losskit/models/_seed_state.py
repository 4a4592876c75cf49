"""Saving the state of a model's seed generators, which Keras leaves out."""

import functools

import keras

from keras_losskit import _keras


class SeedState(keras.layers.Layer):
    """Writes the seeds of `model` to a file and reads them back.

    Keras saves a dropout layer's configured seed but not how far its generator
    has come, so that a loaded model drops other units than the saved one would.

    Args:
        model: The model.
    """

    def __init__(self, model):
        super().__init__(name="seed_state")
        # A function and not the model: Keras follows every attribute that can
        # be saved, and this one would lead back to where it came from.
        self._generators = functools.partial(_keras.seed_generators, model)
        self.built = True

    def save_own_variables(self, store):
        """Write one entry per generator."""
        for index, generator in enumerate(self._generators()):
            store[str(index)] = generator.state

    def load_own_variables(self, store):
        """Read them; a file that has none, or others, changes nothing."""
        generators = self._generators()
        if len(store.keys()) != len(generators):
            return
        for index, generator in enumerate(generators):
            generator.state.assign(store[str(index)])
