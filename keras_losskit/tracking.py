"""From the terms of a batch to the logs of an epoch."""

import contextlib
import contextvars
import dataclasses
from collections.abc import Callable

import keras
from keras import ops

from keras_losskit import _backend
from keras_losskit import replicas
from keras_losskit.terms import add_up
from keras_losskit.terms import duplicates
from keras_losskit.terms import numbered
from keras_losskit.terms import weigh
from keras_losskit.weights import moves

# Of the thread: replicas take turns wherever they exchange values.
_tracked_by_trainer = contextvars.ContextVar("tracked_by_trainer", default=None)


@dataclasses.dataclass(frozen=True)
class LogEntry:
    """One logged key and how its value is read off the terms of a batch.

    Args:
        key: The key in the logs.
        read: `LossTerms -> scalar`, or None where the batch has no such term;
            None where the value is added by itself.
        kind: The kind whose contribution it is, else None.
        written: Whether the user wrote the key, so that a clash is his to mend.
        plain: Whether plain Keras logs the key as well.
        scaled: Whether the value was divided by the number of replicas, as all
            but weights are.
        member_of: The kind of the terms that it tells of, where it is one.
    """

    key: str
    read: Callable | None
    kind: str | None = None
    written: bool = False
    plain: bool = False
    scaled: bool = True
    member_of: str | None = None


class TermTracker(keras.metrics.Metric):
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
        shape = (len(self.entries),)
        self.sums = self.add_variable(shape, "zeros", name="sums")
        self.counts = self.add_variable(shape, "zeros", name="counts")
        # What training and validation turned out to produce. It grows while
        # steps are traced or run: no set, which Keras would wrap and track.
        self._seen = {True: frozenset({"loss"}), False: frozenset({"loss"})}
        self._training = True

    def update_state(self, *args, **kwargs):
        """Nothing: the terms are counted where they are computed.

        A `train_step` of the user's own may update each of `model.metrics` with
        labels and predictions.
        """

    def track(self, terms, batch_size, training=True):
        """Add the terms of a batch.

        Args:
            terms: `LossTerms`.
            batch_size: Number of samples, a number or an integer scalar.
            training: Whether they are of a training step.
        """
        values = [entry.read and entry.read(terms) for entry in self.entries]
        self._note(values, training)
        # A kind that a batch does not have contributes 0 to it, so that the
        # kinds sum to `loss`; any other value is a mean where there is one.
        present = [
            value is not None or entry.kind is not None
            for entry, value in zip(self.entries, values, strict=True)
        ]
        size = ops.cast(replicas.samples(batch_size), "float32")
        self.sums.assign_add(self._vector(values) * size)
        if not all(present):
            size = size * ops.cast(present, "float32")
        self.counts.assign_add(ops.broadcast_to(size, self.counts.shape))

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
        size = ops.cast(replicas.samples(batch_size), "float32")
        self.sums.assign_add(self._vector(values) * size)
        if any(new):
            self.counts.assign_add(size * ops.cast(new, "float32"))

    def _note(self, values, training):
        self._training = training
        self._seen[training] |= {
            entry.key
            for entry, value in zip(self.entries, values, strict=True)
            if value is not None
        }

    def _vector(self, values):
        vector = ops.stack(
            [
                ops.cast(0.0 if value is None else value, "float32")
                for value in values
            ]
        )
        vector = ops.stop_gradient(vector)
        # Losses are divided by the number of replicas, whose gradients are
        # added up; means over the replicas are what is logged.
        replicas = _backend.num_replicas()
        if replicas == 1:
            return vector
        factors = [replicas if entry.scaled else 1 for entry in self.entries]
        return vector * ops.cast(factors, "float32")

    def result(self):
        """`{key: mean}` of everything seen so far but the total itself."""
        means = self.means()
        return {key: means[key] for key in self.result_keys()}

    def result_keys(self):
        """The keys of `result()`: the total is left to Keras' own metric."""
        return [key for key in self.keys() if key != "loss"]

    def means(self):
        """`{key: mean}` of every entry."""
        means = ops.unstack(
            ops.divide_no_nan(self.sums.value, self.counts.value)
        )
        return {
            entry.key: mean
            for entry, mean in zip(self.entries, means, strict=True)
        }

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

    def key_of(self, kind):
        """The key of a kind's contribution."""
        return next(entry.key for entry in self.entries if entry.kind == kind)

    def views(self):
        """One metric per logged key, `loss` first, all reading this state."""
        # Made once each: Keras tells what it saves apart by `id`.
        views = self.__dict__.setdefault("_views_by_key", {})
        for key in self.keys():
            if key not in views:
                views[key] = TermView(self, key)
        return [views[key] for key in self.keys()]

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
        self.__dict__["_held"] = Held(tracker)

    def update_state(self, *args, **kwargs):
        """Nothing, as with the tracker."""

    def reset_state(self):
        """Reset all the keys of the tracker."""
        self._held.tracker.reset_state()

    def result(self):
        """The running mean of this key."""
        return self._held.tracker.means()[self.name]


@dataclasses.dataclass(frozen=True)
class Held:
    """What Keras is not to look into."""

    tracker: TermTracker


def log_entries(terms, *, kinds, moving, found_later, log, groups):
    """What a model logs, in order.

    Args:
        terms: Every term the model can produce, a list of `LossTerm`.
        kinds: The kinds the model may produce.
        moving: Names of the terms whose weight moves.
        found_later: Whether the weights are found after the terms are counted.
        log: `"kinds"`, `"terms"` or `"all"`.
        groups: `{group name: [term names]}` of the penalty groups and extra
            terms.

    Returns:
        A list of `LogEntry` with unique keys.

    Raises:
        ValueError: if two names that the user wrote clash.
    """
    entries = [LogEntry("loss", lambda terms: terms.total)]
    compiled = [term for term in terms if term.kind == "compiled"]
    kinds_by_name = {term.name: term.kind for term in terms}
    if log != "kinds":
        detail = _output_entries(compiled)
        detail += [
            LogEntry(
                f"{name}_loss",
                _value_of(members),
                written=True,
                member_of=kinds_by_name.get(members[0]),
            )
            for name, members in groups.items()
        ]
        detail += [
            LogEntry(
                f"{name}_weight",
                None if found_later else _weight_of(name),
                scaled=False,
                member_of=kinds_by_name.get(name),
            )
            for name in moving
        ]
        detail += _label_entries(terms)
        if log == "all":
            detail += [
                LogEntry(
                    f"{t.name}_contribution",
                    _contribution_of(t.name),
                    member_of=t.kind,
                )
                for t in terms
            ]
        detail = _unique(detail)
    else:
        detail = []
    keys = {entry.key for entry in detail}
    for kind in kinds:
        key = f"{kind}_loss"
        if key in keys:
            key = f"total_{kind}_loss"
        entries.append(LogEntry(key, _kind_of(kind), kind=kind))
    return entries + detail


def _label_entries(terms):
    """What is logged of the losses that a user named in `add_loss`."""
    entries = []
    for label in dict.fromkeys(term.label for term in terms if term.label):
        entries.append(
            LogEntry(
                f"{label}_loss",
                _value_of_label(label),
                written=True,
                member_of="added",
            )
        )
        if any(t.label == label and moves(t.weight) for t in terms):
            entries.append(
                LogEntry(
                    f"{label}_weight",
                    _weight_of_label(label),
                    scaled=False,
                    member_of="added",
                )
            )
    return entries


def _labelled(terms, label):
    return [term for term in terms.values() if term.label == label]


def _value_of_label(label):
    def read(terms):
        members = _labelled(terms, label)
        return add_up(term.value for term in members) if members else None

    return read


def _weight_of_label(label):
    def read(terms):
        members = _labelled(terms, label)
        return members[0].weight if members else None

    return read


def _output_entries(compiled):
    entries = []
    outputs = list(dict.fromkeys(term.output for term in compiled))
    for output in outputs:
        members = [term.name for term in compiled if term.output == output]
        if len(outputs) > 1:
            key = f"{output}_loss"
            entries.append(
                LogEntry(
                    key,
                    _output_of(members),
                    written=True,
                    plain=True,
                    member_of="compiled",
                )
            )
        if len(members) > 1:
            entries += [
                LogEntry(
                    f"{name}_loss", _value_of([name]), member_of="compiled"
                )
                for name in members
            ]
    return entries


def _unique(entries):
    clash = duplicates(entry.key for entry in entries if entry.written)
    if clash:
        raise ValueError(
            "Expected outputs, extra terms, penalty groups and named losses to "
            f"have names of their own. Received twice in the logs: {clash}. "
            "Rename one of them."
        )
    ordered = sorted(entries, key=lambda entry: not entry.written)
    names = numbered(entry.key for entry in ordered)
    renamed = {
        id(entry): dataclasses.replace(entry, key=key)
        for entry, key in zip(ordered, names, strict=True)
    }
    return [renamed[id(entry)] for entry in entries]


def _kind_of(kind):
    return lambda terms: terms.by_kind().get(kind)


def _present(terms, names):
    return [terms[name] for name in names if name in terms]


def _output_of(names):
    def read(terms):
        parts = _present(terms, names)
        if not parts:
            return None
        return add_up(weigh(term.value, term.inner_weight) for term in parts)

    return read


def _value_of(names):
    def read(terms):
        parts = _present(terms, names)
        return add_up(term.value for term in parts) if parts else None

    return read


def _weight_of(name):
    return lambda terms: terms[name].weight if name in terms else None


def _contribution_of(name):
    return lambda terms: terms[name].contribution if name in terms else None


def batch_size_of(batch):
    """The leading size of the first tensor, as Keras counts samples."""
    first = next(x for x in keras.tree.flatten(batch) if x is not None)
    return ops.shape(first)[0]


@contextlib.contextmanager
def total_tracked_by_trainer(container):
    """Around a computation whose total Keras' trainer logs by itself."""
    token = _tracked_by_trainer.set(container)
    try:
        yield
    finally:
        _tracked_by_trainer.reset(token)


def trainer_tracks_total(container):
    """Whether the trainer logs the total that `container` computes now."""
    return _tracked_by_trainer.get() is container
