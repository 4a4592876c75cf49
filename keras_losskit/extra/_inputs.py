"""The inputs of a model that have a gradient: those of floating point."""

from collections.abc import Callable

import keras
from keras import ops

from keras_losskit._types import Structure
from keras_losskit._types import Tensor


def floating_inputs(
    x: Structure,
) -> tuple[list[Tensor], Callable[[list[Tensor]], Structure]]:
    """The floating-point leaves of a nest, and what puts others in their place.

    Args:
        x: A nest of tensors or arrays.

    Returns:
        `(leaves, packed)`; `packed(values)` is the nest with these leaves
        replaced, and all others as they were.

    Raises:
        ValueError: if there is none.
    """
    leaves = [ops.convert_to_tensor(leaf) for leaf in keras.tree.flatten(x)]
    dtypes = [keras.backend.standardize_dtype(leaf.dtype) for leaf in leaves]
    free = [
        index
        for index, dtype in enumerate(dtypes)
        if keras.backend.is_float_dtype(dtype)
    ]
    if not free:
        raise ValueError(
            "Expected inputs of floating point, by which there is a gradient. "
            f"Received: {dtypes}"
        )

    def packed(values):
        replaced = list(leaves)
        for index, value in zip(free, values, strict=True):
            replaced[index] = value
        return keras.tree.pack_sequence_as(x, replaced)

    return [leaves[index] for index in free], packed
