"""Batches of whatever `fit` takes: arrays, or a data set of batches."""

import keras
import numpy as np
from keras import ops

from keras_losskit._support.checks import refused


def batches_of(x, y=None, sample_weight=None, batch_size=32):
    """`(x, y, sample_weight)` of batch after batch.

    Args:
        x: Nest of arrays, or a `tf.data.Dataset`, `PyDataset`, `DataLoader` or
            another iterable of batches.
        y: Nest of labels; beside arrays only.
        sample_weight: Nest of sample weights; beside arrays only.
        batch_size: Number of samples in a batch of arrays.

    Raises:
        ValueError: for no samples, arrays that differ in their number, or
            labels beside a data set.
    """
    if is_data_set(x):
        if y is not None or sample_weight is not None:
            raise ValueError(
                "Expected no labels or sample weights beside a data set, whose "
                f"batches hold them. Received: {type(x).__name__} and more"
            )
        for batch in batches_of_data_set(x):
            batch = keras.tree.map_structure(readable, batch)
            yield keras.utils.unpack_x_y_sample_weight(batch)
        return
    data = keras.tree.map_structure(readable, (x, y, sample_weight))
    count = count_of(data)
    for start in range(0, count, batch_size):
        yield part_of(data, slice(start, start + batch_size))


def part_of(data, samples):
    """The samples of a slice, of each array of a nest."""
    return keras.tree.map_structure(
        lambda array: None if array is None else array[samples], data
    )


def is_data_set(x):
    """Whether `x` gives batches, and is no nest of arrays."""
    if isinstance(x, keras.utils.PyDataset):
        return True
    if isinstance(x, dict | list | tuple) or is_array(x):
        return False
    return hasattr(x, "__iter__") or hasattr(x, "__getitem__")


def refuse_data_set(x, owner):
    """Refuse a data set as the inputs of one batch.

    Args:
        x: What was given.
        owner: What was given it, for the error.

    Raises:
        TypeError: if it is one.
    """
    if is_data_set(x):
        raise refused(
            x,
            f"`x` of {owner} to be the inputs of one batch, arrays",
            remedy="Give a batch of it, such as `*next(iter(data))`",
        )


def is_read_once(x):
    """Whether `x` is a data set that gives its batches once, a generator."""
    # Not by `iter`: a `DataLoader` draws a seed for each iterator.
    return is_data_set(x) and hasattr(x, "__next__")


def is_array(x):
    """Whether `x` is a tensor or array, of any framework."""
    return hasattr(x, "shape")  # they share no base


def batches_of_data_set(data):
    """The batches of a data set, one epoch of it."""
    if not isinstance(data, keras.utils.PyDataset):
        yield from data
        return
    for index in range(data.num_batches):
        yield data[index]


def readable(array):
    """A tensor of the backend, or a NumPy array."""
    return array if array is None or ops.is_tensor(array) else np.asarray(array)


def count_of(data, least=1):
    """The number of samples of a nest of arrays.

    Args:
        data: The nest.
        least: The smallest number that is right, 0 or 1.

    Raises:
        ValueError: for fewer, or arrays that differ in their number.
    """
    arrays = [a for a in keras.tree.flatten(data) if a is not None]
    counts = {a.shape[0] if len(a.shape) else -1 for a in arrays}
    if len(counts) != 1 or min(counts) < least:
        raise ValueError(
            "Expected arrays of one sample or more, all of the same number. "
            f"Received: shapes {[tuple(a.shape) for a in arrays]}"
        )
    return counts.pop()
