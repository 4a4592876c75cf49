"""What a model logs: the keys, and how each is read off the terms."""

import dataclasses
from collections.abc import Callable

from keras_losskit._weights import moves
from keras_losskit._weights import same
from keras_losskit.terms import add_up
from keras_losskit.terms import duplicates
from keras_losskit.terms import multiply
from keras_losskit.terms import unique_names


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
        terms: Names of the terms that it tells of, unless it tells of a kind.
        contribution: Whether it is the contribution of a single term.
        logged: Whether it is a value that a layer logs, and of no term.
    """

    key: str
    read: Callable | None
    kind: str | None = None
    written: bool = False
    plain: bool = False
    scaled: bool = True
    member_of: str | None = None
    terms: tuple = ()
    contribution: bool = False
    logged: bool = False


def log_entries(terms, *, kinds, moving, found_later, log, groups, logged=()):
    """What a model logs, in order.

    Args:
        terms: Every term the model can produce, a list of `LossTerm`; one of
            training and of evaluation comes twice.
        kinds: The kinds the model may produce.
        moving: Names of the terms, or of what was given to `add_loss`, whose
            weight moves.
        found_later: Those of them whose weights are found after the terms are
            counted.
        log: `"kinds"`, `"terms"` or `"all"`.
        groups: `{group name: [term names]}` of the penalty groups and extra
            terms.
        logged: Names under which layers log values.

    Returns:
        A list of `LogEntry` with unique keys.

    Raises:
        ValueError: if two names that the user wrote clash, or a logged value
            has a key of a term.
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
                terms=tuple(members),
            )
            for name, members in groups.items()
        ]
        detail += [
            LogEntry(
                f"{name}_weight",
                None if name in found_later else _weight_of(name),
                scaled=False,
                member_of=kinds_by_name.get(name),
                terms=(name,),
            )
            for name in moving
            if name in kinds_by_name
        ]
        detail += _label_entries(terms, moving, found_later)
        if log == "all":
            detail += [
                LogEntry(
                    f"{name}_contribution",
                    _contribution_of(name),
                    member_of=kind,
                    terms=(name,),
                    contribution=True,
                )
                for name, kind in kinds_by_name.items()
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
    entries += detail
    refuse_logged_keys(logged, [entry.key for entry in entries])
    return entries + [
        LogEntry(name, None, scaled=False, logged=True) for name in logged
    ]


def refuse_logged_keys(logged, keys):
    """Refuse to log a value under a key that something else has.

    Args:
        logged: Names under which layers log values.
        keys: Keys that are taken.
    """
    clash = sorted(set(logged) & set(keys))
    if clash:
        raise ValueError(
            "Expected the values that layers log to have names of their own. "
            f"Received: {clash}, under which terms or metrics are logged. "
            "Rename them in `log(name, value)`."
        )


def refuse_names_of_metrics(entries, metrics):
    """Refuse a metric that is called as a term is in the logs.

    Keras has one dict for all that is logged: the later one would win.

    Args:
        entries: List of `LogEntry`.
        metrics: What the logs call the results of metrics.

    Raises:
        ValueError: if one of them is the key of an entry.
    """
    keys = [entry.key for entry in entries]
    clash = sorted(set(keys[1:]) & set(metrics))  # all but the total
    if clash:
        raise ValueError(
            "Expected metrics to have other names than the terms, which may "
            f"be logged as {keys}. Received a metric and a term that are both "
            f"called {', '.join(map(repr, clash))}. Give the metric another "
            "`name=`."
        )


def _label_entries(terms, moving, found_later):
    """What is logged of the losses that a user named in `add_loss`."""
    entries = []
    for label in dict.fromkeys(term.label for term in terms if term.label):
        members = [term for term in terms if term.label == label]
        names = tuple(term.name for term in members)
        entries.append(
            LogEntry(
                f"{label}_loss",
                _value_of_label(label),
                written=True,
                member_of="added",
                terms=names,
            )
        )
        entries += _label_weights(label, members, moving, found_later)
    return entries


def _label_weights(label, members, moving, found_later):
    """The weight of a label, if it moves: of each member where they differ."""
    if label not in moving and not any(moves(t.weight) for t in members):
        return []
    names = tuple(dict.fromkeys(term.name for term in members))
    read = None if label in found_later else _weight_of_label(label)
    weights = {f"{label}_weight": (read, names)}
    # What a weighting weighs it weighs together.
    differ = not all(same(members[0].weight, t.weight) for t in members)
    if label not in moving and len(names) > 1 and differ:
        weights = {
            f"{name}_weight": (_weight_of(name), (name,)) for name in names
        }
    return [
        LogEntry(key, read, scaled=False, member_of="added", terms=of)
        for key, (read, of) in weights.items()
    ]


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
                    terms=tuple(members),
                )
            )
        if len(members) > 1:
            entries += [
                LogEntry(
                    f"{name}_loss",
                    _value_of([name]),
                    member_of="compiled",
                    terms=(name,),
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
    names = unique_names(entry.key for entry in ordered)
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
        return add_up(multiply(term.value, term.inner_weight) for term in parts)

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
