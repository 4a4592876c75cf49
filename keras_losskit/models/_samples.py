"""What a training step keeps of each sample, for a callback that asks."""

from typing import Any

import keras

from keras_losskit import _backend
from keras_losskit import _keras
from keras_losskit._support.sample_ids import check_largest
from keras_losskit._support.sample_ids import largest_id_of
from keras_losskit.reductions._sample_values import SampleWatch
from keras_losskit.reductions._sample_values import current_watch


class WatchesSamples:
    """Mixin for a callback that has training steps keep a `SampleTable`."""

    def table_for(self, largest_id: int | None) -> Any:
        """The `SampleTable` of the training that begins.

        Args:
            largest_id: The largest id in the data, where it is known.
        """
        raise NotImplementedError


def attach_samples(model, x, callbacks):
    """Let the steps of `model` keep the table of a callback, or none.

    The step is compiled anew where that changes, and not before another `fit`.

    Args:
        model: The model.
        x: What `fit` was given as inputs.
        callbacks: A list, or a `CallbackList`.

    Raises:
        ValueError: for several such callbacks, or ids that are too large.
    """
    if isinstance(callbacks, keras.callbacks.CallbackList):
        callbacks = callbacks.callbacks
    found = [c for c in callbacks if isinstance(c, WatchesSamples)]
    if len(found) > 1:
        raise ValueError(
            "Expected one callback that watches samples. Received: "
            f"{len(found)}"
        )
    state, container = model._losskit_state, model.compiled_loss
    weightings = container.sample_weighting if container else ()
    weightings = [w for w in weightings if w.samples is not None]
    # Of a data set it is read, so not where nobody asks.
    largest = largest_id_of(x) if found or weightings else None
    table = found[0].table_for(largest) if found else None
    for weighting in weightings if largest is not None else ():
        check_largest(largest, weighting.samples, type(weighting).__name__)
    before = state.samples and state.samples.variable
    changed = state.samples is not table
    state.samples = table
    if table is not None and container is not None and container.built:
        table.build(container.built_losses.parts)
        changed = changed or table.variable is not before
    if changed:
        model.train_function = None


def table_of_step(model, by_trainer):
    """The `SampleTable` that a training step is to keep, or None.

    A custom `train_step` asks for the loss itself. Outside of `fit`,
    and in its validation, whoever asks does not train.

    Args:
        model: The model.
        by_trainer: Whether Keras' trainer runs `compute_loss`.
    """
    state = model._losskit_state
    trains = by_trainer or (state.fits and not state.evaluates)
    return state.samples if trains else None


def watch_of_step(model, by_trainer, moves):
    """Where a step keeps its samples, and who takes note of them.

    Args:
        model: The model.
        by_trainer: Whether Keras' trainer runs `compute_loss`.
        moves: Whether the step trains, and its state may move.

    Returns:
        `(SampleTable or None, SampleWatch or None)`.
    """
    table = table_of_step(model, by_trainer) if moves else None
    recorder = model._losskit_last_pass().recorder
    watch = None if recorder is None else recorder.watch
    return table, SampleWatch() if table and watch is None else watch


def sample_watch(model):
    """Who is to take note of samples in a pass, or None.

    A report that watches already, or one more where samples are weighed.

    Args:
        model: The model.
    """
    container = _keras.compiled_loss(model)
    weighs = container is not None and container.sample_weighting
    return current_watch() or (SampleWatch() if weighs else None)


def track_samples(table, ids, watch):
    """Take the terms of a training step into the table.

    Args:
        table: The `SampleTable`.
        ids: Ids of the batch.
        watch: `SampleWatch` of its terms.

    Raises:
        ValueError: for a batch without ids.
        NotImplementedError: where several replicas share the batch.
    """
    if ids is None:
        raise ValueError(
            "Expected samples with ids, which SampleHistory tells them apart "
            "by. Received: inputs without ids. Train on "
            "`fit(keras_losskit.with_ids(x), y)`."
        )
    if _backend.num_replicas() > 1 or _backend.num_processes() > 1:
        raise NotImplementedError(
            "Expected one replica or process, as SampleHistory keeps one "
            "table. Received: a step that several share."
        )
    if not _keras.in_symbolic_scope():
        table.update(ids, watch)
