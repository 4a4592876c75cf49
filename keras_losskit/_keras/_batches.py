"""Batches that the devices of a distribution on JAX do not divide."""

import functools

import keras


def spread_short_batches(iterator):
    """Let an epoch take a batch of any size, which Keras would refuse.

    Each device is given all of a batch that they do not divide, and `spread`
    has the step compute a part of it on each.

    `JAXEpochIterator._get_iterator` and `data_adapter`.

    Args:
        iterator: Of the trainer, or None.
    """
    distribution = keras.distribution.distribution()
    # Processes have a part of each batch, and would have to agree.
    if iterator is None or not splits(distribution):
        return
    if distribution.num_processes > 1:
        return
    adapter = iterator.data_adapter
    iterator._get_iterator = functools.partial(placed, adapter, distribution)


def placed(adapter, distribution):
    """The batches of a data adapter, on the devices."""

    def place(array):
        if array is None:
            return None
        layout = distribution.get_data_layout(array.shape)
        if not is_divided(array, distribution):
            nowhere = len(array.shape) * [None]
            layout = keras.distribution.TensorLayout(
                nowhere, distribution.device_mesh
            )
        return keras.distribution.distribute_tensor(array, layout)

    for batch in adapter.get_jax_iterator():
        yield keras.tree.map_structure(place, batch)


def spread(data, is_traced):
    """A batch in a step, of which each device is to compute a part.

    What is missing in the last part counts nowhere: XLA computes with the
    samples that there are, whatever the step does with them.

    Args:
        data: What the trainer hands to the step.
        is_traced: Whether a tensor is one of a step that is compiled; any
            other cannot be split unevenly.
    """
    distribution = keras.distribution.distribution()
    if not splits(distribution):
        return data

    def part(array):
        if array is None or is_divided(array, distribution):
            return array
        if not is_traced(array):
            return array
        layout = distribution.get_data_layout(array.shape)
        return keras.distribution.distribute_tensor(array, layout)

    return keras.tree.map_structure(part, data)


def splits(distribution):
    """Whether a distribution splits batches."""
    return distribution is not None and distribution.batch_dim_name is not None


def is_divided(array, distribution):
    """Whether the devices can share the samples of an array."""
    mesh = distribution.device_mesh
    sizes = dict(zip(mesh.axis_names, mesh.shape, strict=True))
    return array.shape[0] % sizes[distribution.batch_dim_name] == 0
