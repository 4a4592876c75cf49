"""Batches that the devices of a distribution do not divide."""

import keras

from keras_losskit import _backend
from keras_losskit import _keras


def with_spread_batch(arguments):
    """The arguments of a step, whose batch is spread over the devices.

    Args:
        arguments: Of `train_step` or `test_step`, the batch last.
    """
    if keras.config.backend() != "jax" or not arguments:
        return arguments
    *state, data = arguments
    return *state, _keras.spread(data, _backend.is_tracer)
