"""Parts of a batch that are computed apart, and what they have in common.

Where a batch is split, each replica computes its own part of it, and the
trainer adds up the gradients (`tf.distribute`) or averages them (PyTorch). The
functions here turn what one replica has into its *part* of a value of the whole
batch: the parts have the gradients that lead to those of the whole, however
unevenly it is split. With one replica, and on JAX, whose arrays are whole
batches, they change nothing.
"""

import contextlib
import dataclasses
import threading
from contextlib import AbstractContextManager
from typing import Any

import keras
from keras import ops

from keras_losskit import _backend


class PerThread(threading.local):
    """Attributes that each thread has for itself.

    `tf.distribute` has a thread for each replica, and they take turns wherever
    replicas exchange values. A copy starts without attributes.
    """

    def __reduce__(self):
        return type(self), ()


class Apart(PerThread):
    """Whether this thread computes its part of a batch by itself."""

    active = False


_apart = Apart()


def data_parallel(group: Any = None) -> AbstractContextManager[None]:
    """Context manager for the loss of a batch that PyTorch processes share.

    Inside, every process gets the terms of the whole batch: they exchange
    counts and values, and their gradients, averaged as
    `torch.nn.parallel.DistributedDataParallel` does it, are those of one
    process with the whole batch. All processes have to enter it and compute the
    same losses in the same order. Outside of it nothing is exchanged.

    Where the trainer knows of the replicas, `tf.distribute` and
    `keras.distribution`, it is not needed and does nothing.

    Args:
        group: A `torch.distributed` process group. Defaults to all processes.

    Returns:
        A context manager.

    Raises:
        RuntimeError: on PyTorch, if `torch.distributed` is not initialized.

    Example:
        >>> import keras_losskit as losskit
        >>> container = losskit.LossesContainer("mse")
        >>> def total(y, y_pred, processes):
        ...     if processes == 1:
        ...         return container.compute(y, y_pred).total
        ...     with losskit.data_parallel():
        ...         return container.compute(y, y_pred).total
        >>> float(total(ops.zeros((4, 1)), ops.ones((4, 1)), processes=1))
        1.0
    """
    return _backend.data_parallel(group)


@contextlib.contextmanager
def of_trainer(group):
    """`data_parallel` where Keras' trainer knows a process group, or nothing.

    Args:
        group: What `_keras.process_group` gives.

    Yields:
        Whether there is one.
    """
    if group is None:
        yield False
        return
    with data_parallel(group):
        yield True


@contextlib.contextmanager
def local_only():
    """Inside, reductions are those of this replica's part by itself.

    For the forward pass, in which replicas need not come by the same places.
    """
    outer = _apart.active
    _apart.active = True
    try:
        yield
    finally:
        _apart.active = outer


def writes():
    """Whether this process writes files and prints, for all that train."""
    return _backend.is_first_process()


def num_parts():
    """The number of parts that a batch is split into."""
    if _apart.active:
        return 1
    return _backend.num_replicas() * _backend.num_processes()


def total_of(count):
    """The sum of a number, or of a scalar without gradient, over replicas."""
    if num_parts() == 1:
        return count
    count = ops.cast(count, "float32")
    return _backend.sum_over_replicas([count], few=True)[0]


def part_of_sum(value):
    """This replica's part of the sum of `value` over replicas."""
    return value if num_parts() == 1 else value * _backend.num_processes()


def part_of_mean(value):
    """This replica's part of the mean of `value` over replicas."""
    return value if num_parts() == 1 else value / _backend.num_replicas()


def gathered(tensor):
    """What all replicas have, one after the other; see `_backend.jax`."""
    return tensor if num_parts() == 1 else _backend.gathered(tensor)


def owned(rows, own):
    """This replica's rows of what is in the order of `gathered(own)`."""
    return rows if num_parts() == 1 else _backend.owned(rows, own)


def part_of_common(value):
    """This replica's part of a value that all computed alike.

    Each has the gradient through what is its own, of which the sum is that of
    the whole.
    """
    if num_parts() == 1:
        return value
    fixed = ops.stop_gradient(value)
    slope = part_of_sum(value - fixed)
    return slope + part_of_mean(fixed)


def batch_share(batch):
    """This replica's part of 1, by its share of the samples.

    Args:
        batch: A nest of tensors `(batch, ...)`.

    Returns:
        1.0 for one replica, else a scalar; 0 without samples.
    """
    if num_parts() == 1:
        return 1.0
    first = next(x for x in keras.tree.flatten(batch) if x is not None)
    size = ops.cast(ops.shape(first)[0], "float32")
    return part_of_sum(ops.divide_no_nan(size, total_of(size)))


def shared(terms, share):
    """Terms that every replica has by itself, as parts of those of the batch.

    Args:
        terms: List of `LossTerm`.
        share: Of `batch_share`: what this replica's value counts for.
    """
    if isinstance(share, float):
        return terms
    return [dataclasses.replace(t, value=t.value * share) for t in terms]


def undo_share(value, share):
    """What `value` is a part of, by a share that is applied to it later."""
    return (
        value if isinstance(share, float) else ops.divide_no_nan(value, share)
    )


def whole(value):
    """What all replicas agree on, from the part of it that each has."""
    count = _backend.num_replicas()
    return value if count == 1 else value * count


def global_batch_size(size):
    """How many samples a metric is to count for `size` of this replica.

    The metrics of `tf.distribute` add up by themselves.
    """
    return size if _backend.num_processes() == 1 else total_of(size)


def whole_gradients(gradients):
    """Gradients of the whole batch, from those of this replica's part."""
    sums = _backend.sum_over_replicas(gradients)
    processes = _backend.num_processes()
    return sums if processes == 1 else [each / processes for each in sums]


def for_optimizer(gradients):
    """Gradients of this replica's part, as the optimizer takes them.

    It adds up over replicas by itself; over processes nobody does.
    """
    if _backend.num_processes() == 1:
        return gradients
    return whole_gradients(gradients)


def all_reduced(terms):
    """Terms whose values are those of the whole batch on every replica.

    A term keeps the gradient of its part. What is derived from values, such as
    the weights of a weighting, is thus the same everywhere.

    Args:
        terms: List of `LossTerm`, whose values are parts.

    Returns:
        A list of `LossTerm`.
    """
    count = num_parts()
    if count == 1 or not terms:
        return terms
    own = ops.stack([ops.cast(term.value, "float32") for term in terms])
    own = ops.stop_gradient(own)
    (sums,) = _backend.sum_over_replicas([own], few=True)
    others = ops.unstack(sums / count - own, len(terms))
    return [
        dataclasses.replace(
            term, value=term.value + ops.cast(other, term.value.dtype)
        )
        for term, other in zip(terms, others, strict=True)
    ]
