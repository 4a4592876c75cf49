"""In which dtype losses are added up."""

import keras
from keras import ops


def at_least_float32(values):
    """`values` as a tensor that can be added up: float64 or float32.

    Sums overflow in half precision.
    """
    if not ops.is_tensor(values):
        values = ops.convert_to_tensor(values)
    if keras.backend.standardize_dtype(values.dtype) in ("float32", "float64"):
        return values
    return ops.cast(values, "float32")
