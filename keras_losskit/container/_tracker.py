"""From the terms of a batch to the logs of an epoch."""

import contextlib
import contextvars
import dataclasses

import keras
import numpy as np
from keras import ops

from keras_losskit import _backend
from keras_losskit import _keras
from keras_losskit._support import replicas

# Of the thread: replicas take turns wherever they exchange values. It is not
# `Scoped`, around which TorchDynamo counts what a step notes twice.
_counted_by_trainer = contextvars.ContextVar("counted_by_trainer", default=None)


class TermTracker(_keras.MonitoredMetrics):
    """Running means of all logged values: one metric with a vector state.

    `mean = sum(batch_size * value) / sum(batch_size)` over the batches that
    have the value, as Keras averages `loss`.

    Args:
        entries: List of `LogEntry`.
        name: Name of the metric.
    """

    def __init__(self, entries, name="loss_terms"):
        super().__init__(name=name, dtype="float32")
        self.entries = tuple(entries)
        # Sums, then counts, in one: an assignment costs as much as the rest.
        shape = (2 * len(self.entries),)
        self.totals = self.add_variable(shape, "zeros", name="totals")
        # What training and validation turned out to produce. It grows while
        # steps are traced or run: no set, which Keras would wrap and track.
        self._seen = {True: frozenset({"loss"}), False: frozenset({"loss"})}
        self._training = True

    def update_state(self, *args, **kwargs):
        """Nothing: the terms are counted where they are computed.

        A custom `train_step` may update each of `model.metrics` with
        labels and predictions.
        """

    def track(self, terms, batch_size, training=True, logged=None):
        """Add the terms of a batch, and what layers logged.

        Args:
            terms: `LossTerms`.
            batch_size: Number of samples, a number or an integer scalar.
            training: Whether they are of a training step.
            logged: `{name: scalar}`, or None.

        Raises:
            ValueError: for a name that was not logged when this was made.
        """
        logged = logged or {}
        refuse_new_names(logged, {e.key for e in self.entries if e.logged})
        values = [
            logged.get(entry.key)
            if entry.logged
            else entry.read and entry.read(terms)
            for entry in self.entries
        ]
        self._note(values, training)
        # A kind that a batch does not have contributes 0 to it, so that the
        # kinds sum to `loss`; any other value is a mean where there is one.
        present = [
            value is not None or entry.kind is not None
            for entry, value in zip(self.entries, values, strict=True)
        ]
        self._count(values, present, batch_size)

    def add(self, amounts, batch_size):
        """Add to single keys of the training batch that was last counted.

        To a kind's contribution that is an addition; any other key had no value
        as yet.

        Args:
            amounts: `{key: scalar}`.
            batch_size: As for `track`.
        """
        values = [amounts.get(entry.key) for entry in self.entries]
        self._note(values, self._training)
        new = [
            value is not None and entry.kind is None
            for entry, value in zip(self.entries, values, strict=True)
        ]
        self._count(values, new, batch_size)

    def _count(self, values, counted, batch_size):
        size = replicas.global_batch_size(batch_size)
        if not isinstance(size, int | float):
            size = ops.cast(size, "float32")
        self.totals.assign_add(self._addition(values, counted) * size)

    def _note(self, values, training):
        self._training = training
        self._seen[training] |= {
            entry.key
            for entry, value in zip(self.entries, values, strict=True)
            if value is not None
        }

    def _addition(self, values, counted):
        """What one sample adds to the sums and to the counts."""
        scalars = [0.0 if v is None else in_float32(v) for v in values]
        scalars += map(float, counted)
        addition = ops.stop_gradient(_backend.stack_scalars(scalars))
        # Losses are divided by the number of replicas, whose gradients are
        # added up; means over the replicas are what is logged.
        factor = replicas.whole(1)
        if factor == 1:
            return addition
        factors = [factor if entry.scaled else 1 for entry in self.entries]
        factors += [1] * len(self.entries)
        return addition * np.asarray(factors, "float32")

    def result(self):
        """`{key: mean}` of everything seen so far but the total itself."""
        means = self.means()
        return {key: means[key] for key in self.result_keys()}

    def result_keys(self):
        """The keys of `result()`: the total is left to Keras' own metric."""
        return [key for key in self.keys() if key != "loss"]

    def means(self):
        """`{key: mean}` of every entry."""
        totals = self.totals.value
        entries = len(self.entries)
        if _backend.is_concrete_on_cpu(totals):
            # At once: one by one each would wait for the device.
            sums, counts = self.sums_and_counts()
            means = np.divide(
                sums, counts, out=np.zeros_like(sums), where=counts != 0
            )
        else:
            means = ops.unstack(
                ops.divide_no_nan(totals[:entries], totals[entries:])
            )
        return {
            entry.key: mean
            for entry, mean in zip(self.entries, means, strict=True)
        }

    def sums_and_counts(self):
        """`(2, entries)`, NumPy: what the means are quotients of."""
        totals = self.totals.value
        if not _backend.is_concrete_on_cpu(totals):
            totals = ops.convert_to_numpy(totals)
        # Keras' conversion makes NumPy 2 warn, which a user may have raise.
        return np.asarray(totals).reshape(2, -1)

    def keys(self):
        """The keys that the last batch's phase logs, training or validation.

        A kind is logged only beside another one.
        """
        seen = self._seen[self._training]
        kinds = [e for e in self.entries if e.kind and e.key in seen]
        return [
            entry.key
            for entry in self.entries
            if entry.key in seen and (entry.kind is None or len(kinds) > 1)
        ]

    @property
    def kinds_by_key(self):
        """`{key: kind}` of the kinds' contributions, in order."""
        return {entry.key: entry.kind for entry in self.entries if entry.kind}

    def key_of(self, kind):
        """The key of a kind's contribution."""
        return next(entry.key for entry in self.entries if entry.kind == kind)

    def views(self):
        """One metric per logged key, `loss` first, all reading this state."""
        keys = set(self.keys())
        return [self.view(entry) for entry in self.entries if entry.key in keys]

    @property
    def metrics(self):
        """One metric per value that is to fall, for callbacks of Keras."""
        return [self.view(e) for e in self.entries if is_to_fall(e)]

    def view(self, entry):
        """The metric that reads a single entry, always the same."""
        # Keras tells what it saves apart by `id`.
        views = self.__dict__.setdefault("_views_by_key", {})
        if entry.key not in views:
            kind = FallingView if is_to_fall(entry) else TermView
            views[entry.key] = kind(self, entry.key)
        return views[entry.key]

    def save_own_variables(self, store):
        """Nothing: running means start anew in every epoch."""

    def load_own_variables(self, store):
        """Nothing."""


class TermView(keras.metrics.Metric):
    """A single key of a `TermTracker`, with a name and a `result()`."""

    def __init__(self, tracker, key):
        super().__init__(name=key, dtype="float32")
        # Out of reach of Keras' tracking and of `load_weights`, which would go
        # from the tracker to its views and back without end.
        self.__dict__["_held"] = Untracked(tracker)

    def update_state(self, *args, **kwargs):
        """Nothing, as with the tracker."""

    def reset_state(self):
        """Reset all the keys of the tracker."""
        self._held.tracker.reset_state()

    def result(self):
        """The running mean of this key."""
        return self._held.tracker.means()[self.name]


class FallingView(_keras.Falling, TermView):
    """The view of a term or a kind, which is to fall."""


def is_to_fall(entry):
    """Whether a `LogEntry` is of a loss: no weight, no value of the user's."""
    return entry.scaled and not entry.logged


@dataclasses.dataclass(frozen=True)
class Untracked:
    """What Keras is not to look into."""

    tracker: TermTracker


def refuse_new_names(logged, known):
    """Refuse a logged value that there is no place for."""
    new = sorted(set(logged) - known)
    if new:
        raise ValueError(
            "Expected layers to log the names that they logged when the model "
            f"was first compiled and run, {sorted(known)}. Received: {new} as "
            "well. Log in every batch; in a `compute_loss` of your own, log "
            "before `super().compute_loss(...)`."
        )


def in_float32(scalar):
    """A number or scalar as a float32 tensor, cast where it is not one."""
    if ops.is_tensor(scalar):
        dtype = keras.backend.standardize_dtype(scalar.dtype)
        if dtype == "float32":
            return scalar
    return ops.cast(scalar, "float32")


def batch_size_of(batch):
    """The leading size of the first tensor, as Keras counts samples."""
    first = next(x for x in keras.tree.flatten(batch) if x is not None)
    return ops.shape(first)[0]


def track_total(metric, total, batch_size):
    """Update the mean of the total, as Keras' trainer does, if there is one."""
    if metric is not None:
        size = ops.cast(replicas.global_batch_size(batch_size), "float32")
        metric.update_state(replicas.whole(total), sample_weight=size)


@contextlib.contextmanager
def counted_by_trainer(container):
    """Around a loss whose total and terms the step of a trainer counts."""
    token = _counted_by_trainer.set(container)
    try:
        yield
    finally:
        _counted_by_trainer.reset(token)


def trainer_counts(container):
    """Whether the trainer counts what `container` computes now."""
    return _counted_by_trainer.get() is container
