"""Ids that travel with the samples: `with_ids`, and the way out of `x`."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_losskit import _backend
from keras_losskit import _origin
from keras_losskit._support.batches import count_of
from keras_losskit._support.batches import is_data_set
from keras_losskit._support.batches import readable
from keras_losskit._types import Structure

#: The reserved key of the ids beside the inputs, and that of the inputs. An
#: ordinary dict, so that whatever carries inputs carries it as well.
IDS, INPUTS = "keras_losskit_ids", "keras_losskit_inputs"

#: Ids are int32, so that every framework takes them.
LIMIT = 2**31


def with_ids(x: Structure, ids: Any = None) -> Any:
    """Inputs, or a data set, in which each sample bears its number.

    `fit`, `evaluate` and `predict` of a model of this package take it wherever
    they take `x`: the model takes the numbers out before any layer sees them.

    Args:
        x: Inputs, a nest of arrays; a `tf.data.Dataset` of single samples, as
            they come before `shuffle` and `batch`; a torch `DataLoader` with a
            data set that has a length; or a `PyDataset`.
        ids: Integers from 0 on, one for each sample, `(samples,)`. Defaults to
            the positions. For a `PyDataset` a function from the number of a
            batch to its ids; defaults to consecutive ones, for which all
            batches but the last have one size.

    Returns:
        A dict for inputs, for a data set one of its kind.

    Raises:
        ValueError: for ids that are no integers, negative, 2**31 or more, not
            one per sample, or given for a data set that numbers its samples
            itself; for inputs that have ids; when it is read, for a
            `PyDataset` with batches of several sizes and no `ids`.
        TypeError: for data of another kind, such as a generator.

    Example:
        >>> x = with_ids(np.zeros((3, 2)))
        >>> x["keras_losskit_ids"].tolist()
        [0, 1, 2]
    """
    if not is_data_set(x):
        return inputs_with_ids(x, ids)
    if isinstance(x, keras.utils.PyDataset):
        return NumberedPyDataset(x, ids)
    if ids is not None:
        raise ValueError(
            "Expected `ids` of with_ids beside arrays or a PyDataset only; the "
            "samples of another data set are numbered as they come. Received: "
            f"ids beside {type(x).__name__}"
        )
    package = _origin.package_of(type(x))
    if package == "tensorflow":
        return x.enumerate().map(numbered_elements)
    if package == "torch":
        return numbered_loader(x)
    raise TypeError(
        "Expected `x` of with_ids to be inputs, a tf.data.Dataset, a PyDataset "
        f"or a torch DataLoader. Received: {x!r} (of type {type(x).__name__})"
    )


def inputs_with_ids(x, ids=None):
    """Arrays beside the ids of their samples."""
    refuse_ids(x)
    x = keras.tree.map_structure(readable, x)
    count = count_of(x)
    if ids is None:
        return {IDS: np.arange(count, dtype="int32"), INPUTS: x}
    return {IDS: checked_ids(ids, count), INPUTS: x}


def refuse_ids(x):
    """Refuse inputs that `with_ids` has numbered already."""
    if split_ids(x)[1] is not None:
        raise ValueError(
            "Expected `x` of with_ids to have no ids yet. Received: what "
            "with_ids returned"
        )


def checked_ids(ids, count):
    """Ids of samples as int32, `(count,)`.

    Raises:
        ValueError: if they are no ids of so many samples.
    """
    found = np.asarray(ids)
    if found.shape != (count,) or (count and found.dtype.kind not in "iu"):
        raise ValueError(
            f"Expected `ids` of with_ids to be {count} integers, one for each "
            f"sample. Received: shape {found.shape}, dtype {found.dtype}"
        )
    if count and (found.min() < 0 or len(np.unique(found)) < count):
        raise ValueError(
            "Expected `ids` of with_ids to be from 0 on, and none twice. "
            f"Received: from {found.min()}, {len(np.unique(found))} different "
            f"ones for {count} samples"
        )
    # As int32 a larger one would become another's.
    if count and found.max() >= LIMIT:
        raise ValueError(
            f"Expected `ids` of with_ids to be below 2**31. Received: id "
            f"{found.max()}. Number the samples from 0 on."
        )
    return found.astype("int32")


def check_largest(largest, samples, owner):
    """Refuse an id that a table of samples has no place for.

    Args:
        largest: The largest id.
        samples: Number of samples of the table; ids are below.
        owner: Name of the class that keeps the table.

    Raises:
        ValueError: if it is too large.
    """
    if largest >= samples:
        raise ValueError(
            f"Expected ids below `samples` of {owner}, {samples}. Received: "
            f"id {largest}. It needs a sample for every id, up to the largest."
        )


def check_ids_of_step(ids, samples, owner):
    """Refuse ids out of a table where they can be read; see `check_largest`.

    In a compiled step their values are not known, and on an accelerator every
    look would make the program wait.

    Args:
        ids: `(batch,)`, integers, a tensor.
        samples: Number of samples of the table.
        owner: Name of the class that keeps the table.

    Raises:
        ValueError: if one is negative or too large.
    """
    if 0 in ids.shape or not _backend.is_concrete_on_cpu(ids):
        return
    # Not by `ops`, which would trace them inside `jax.jit`.
    numbers = ops.convert_to_numpy(ids)
    check_largest(int(numbers.max()), samples, owner)
    if numbers.min() < 0:
        raise ValueError(
            f"Expected ids from 0 on for {owner}. Received: id {numbers.min()}"
        )


def largest_id_of(x):
    """The largest id that `fit(x)` meets, or None where nobody knows.

    Args:
        x: What `fit` was given as inputs.
    """
    _, ids = split_ids(x)
    if ids is not None:
        return int(np.max(np.asarray(ids)))
    if isinstance(x, NumberedPyDataset):
        return x.largest_id()
    if isinstance(getattr(x, "dataset", None), Numbered):
        return largest_id_of_loader(x)
    return None


def largest_id_of_loader(loader):
    """The largest id of a `DataLoader` of `numbered_loader`, or None.

    A custom sampler may leave out any of the samples.
    """
    batches = loader.batch_sampler
    sampler = getattr(batches, "sampler", None)
    kind = type(sampler).__name__
    known = kind in ("SequentialSampler", "RandomSampler")
    if not known or _origin.package_of(type(sampler)) != "torch":
        return None
    count = len(sampler.data_source)
    if kind == "SequentialSampler" and batches.drop_last:
        count -= count % batches.batch_size
    return count - 1 if count else None


def split_ids(x):
    """`(x, ids)` of what `with_ids` made; `ids` is None where it did not."""
    if isinstance(x, dict) and IDS in x:
        return x[INPUTS], x[IDS]
    return x, None


def numbered_elements(number, *element):
    """An element of a `tf.data.Dataset` with its number."""
    parts = element[0] if isinstance(element[0], tuple) else element
    x, *rest = parts
    refuse_ids(x)
    ids = ops.cast(number, "int32") if ops.is_tensor(number) else number
    return ({IDS: ids, INPUTS: x}, *rest)


def with_ids_in_batch(batch, ids):
    """`(x, y, ...)` of a batch, or `x` alone, with ids."""
    refuse_ids(batch[0] if isinstance(batch, tuple | list) else batch)
    if not isinstance(batch, tuple | list):
        return ({IDS: ids, INPUTS: batch},)
    x, *rest = batch
    return ({IDS: ids, INPUTS: x}, *rest)


class NumberedPyDataset(keras.utils.PyDataset):
    """A `PyDataset` whose batches bear ids.

    Args:
        data: The data set.
        ids: From the number of a batch to its ids; None for consecutive ones.
    """

    def __init__(self, data: Any, ids: Callable[[int], Any] | None = None):
        super().__init__(
            workers=data.workers,
            use_multiprocessing=data.use_multiprocessing,
            max_queue_size=data.max_queue_size,
        )
        self.data = data
        if ids is not None and not callable(ids):
            raise TypeError(
                "Expected `ids` of with_ids beside a PyDataset to be a "
                "function from the number of a batch to its ids. Received: "
                f"{ids!r}"
            )
        self.ids = ids
        self.size = 0 if ids else self.count(data[0])

    def count(self, batch):
        """Number of samples in a batch."""
        x, *_ = keras.utils.unpack_x_y_sample_weight(batch)
        return count_of(keras.tree.map_structure(readable, x), least=0)

    def largest_id(self):
        """The largest id, or None where the batches are not numbered."""
        batches = self.num_batches
        if not batches:
            return None
        if self.ids is None:
            last = self.count(self.data[batches - 1])
            return (batches - 1) * self.size + last - 1
        found = [np.asarray(self.ids(index)) for index in range(batches)]
        # How many a batch has is seen where it is read.
        found = [checked_ids(ids, ids.size) for ids in found if ids.size]
        return max((int(ids.max()) for ids in found), default=None)

    @property
    def num_batches(self):
        """As the data set says."""
        return self.data.num_batches

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        batch = self.data[index]
        count = self.count(batch)
        if self.ids is not None:
            ids = self.ids(index)
        elif count == self.size or index + 1 == self.num_batches:
            ids = np.arange(count) + index * self.size
        else:
            raise ValueError(
                "Expected batches of one size, or `ids=` of with_ids, as those "
                "before a batch say where its ids begin. Received: "
                f"{self.size} samples in batch 0, {count} in batch {index} of "
                f"{self.num_batches}. Give `ids=`, a function from the number "
                "of a batch to its ids."
            )
        return with_ids_in_batch(batch, checked_ids(ids, count))

    def on_epoch_begin(self):
        """Tell the data set."""
        self.data.on_epoch_begin()

    def on_epoch_end(self):
        """Tell the data set."""
        self.data.on_epoch_end()


class Numbered:
    """The samples of a map-style data set of PyTorch with their numbers."""

    def __init__(self, data: Any):
        self.data = data

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        return index, self.data[index]


class CollateNumbered:
    """Makes a batch of numbered samples, as `collate` does of plain ones."""

    def __init__(self, collate: Callable[[Any], Any]):
        self.collate = collate

    def __call__(self, samples):
        ids = np.array([int(number) for number, _ in samples], "int32")
        return with_ids_in_batch(self.collate([s for _, s in samples]), ids)


def numbered_loader(loader):
    """A torch `DataLoader` like `loader`, whose batches bear ids."""
    if loader.batch_sampler is None:
        raise TypeError(
            "Expected a DataLoader of with_ids to make the batches itself, of "
            "a data set that is read by position. Received: one without a "
            "batch sampler"
        )
    return type(loader)(
        Numbered(loader.dataset),
        batch_sampler=loader.batch_sampler,
        collate_fn=CollateNumbered(loader.collate_fn),
        num_workers=loader.num_workers,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        generator=loader.generator,
        prefetch_factor=loader.prefetch_factor,
        persistent_workers=loader.persistent_workers,
    )
