"""In which dtype losses are added up."""

import keras
from keras import ops


def at_least_float32(tensor):
    """`tensor` in float32 if it is narrower or no float, else as it is."""
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    if dtype in ("float32", "float64"):
        return tensor
    return ops.cast(tensor, "float32")
