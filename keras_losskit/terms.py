"""`LossTerm` and `LossTerms`: what a loss is made of."""

import dataclasses
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import TYPE_CHECKING
from typing import Any
from typing import Self

from keras import ops

from keras_losskit import _backend
from keras_losskit import _keras
from keras_losskit import _notebook
from keras_losskit._types import Tensor

#: Where a term comes from, in the order in which the kinds are logged.
KINDS = ("compiled", "regularization", "activity", "added", "weighting")


#: What no term may be called: the total, and what a kind adds to it.
RESERVED = ("loss", *KINDS)


@dataclasses.dataclass(frozen=True, eq=False)
class LossTerm:
    """One named scalar that adds to the total.

    `contribution = weight * value`.

    Args:
        name: Name of the term, unique among the terms of a model.
        kind: Where the term comes from: one of `KINDS`.
        value: The term's own value, a scalar tensor, unweighted.
        weight: The factor it enters the total with, a number or a scalar
            tensor.
        path: Path of the layer or variable it belongs to, where there is one.
        output: Name of the output it compares with labels, where there is one.
        inner_weight: The share of `weight` that belongs to a composite loss
            itself, so that an output's value is `sum(inner_weight * value)`.
        label: The name under which `fit` logs it together with all others that
            bear it, where a user gave it one.

    Raises:
        TypeError: if a name, path or label is not a string.
        ValueError: if `kind` is not one of `KINDS`.

    Example:
        >>> term = LossTerm("dense/kernel", "regularization", 0.5, weight=0.1)
        >>> term.contribution
        0.05
    """

    name: str
    kind: str
    value: Any
    weight: Any = 1.0
    path: str | None = None
    output: str | None = None
    inner_weight: Any = 1.0
    label: str | None = None

    def __post_init__(self):
        # Not value and weight: a transformation may put anything there.
        for argument in ("name", "path", "output", "label"):
            given = getattr(self, argument)
            optional = argument != "name" and given is None
            if not (isinstance(given, str) or optional):
                raise TypeError(
                    f"Expected `{argument}` of a LossTerm to be a string. "
                    f"Received: {given!r} (of type {type(given).__name__})"
                )
        if not isinstance(self.kind, str) or self.kind not in KINDS:
            raise ValueError(
                f"Expected the kind of term '{self.name}' to be one of "
                f"{KINDS}. Received: kind={self.kind!r}"
            )

    @property
    def contribution(self) -> Tensor:
        """What the term adds to the total: `weight * value`."""
        return multiply(self.value, self.weight)


# A mapping in all but its bases: of a `Mapping`, TensorFlow would make plain
# pairs on the way out of a `tf.function`.
if TYPE_CHECKING:
    Terms = Mapping[str, LossTerm]
else:
    Terms = object


class LossTerms(Terms):
    """The terms of one batch: an ordered mapping from name to `LossTerm`.

    `total = sum(term.contribution)`. Registered as a pytree whose leaves are
    the values and weights, so it passes through `jax.jit`, `tf.function` and
    `keras.tree`.

    Args:
        terms: Iterable of `LossTerm`.

    Raises:
        TypeError: if something else than a `LossTerm` is among them.
        ValueError: if two terms bear the same name.

    Example:
        >>> terms = LossTerms([
        ...     LossTerm("mse", "compiled", 2.0, weight=0.5),
        ...     LossTerm("dense/kernel", "regularization", 0.25),
        ... ])
        >>> float(terms.total)
        1.25
        >>> {kind: float(value) for kind, value in terms.by_kind().items()}
        {'compiled': 1.0, 'regularization': 0.25}
    """

    def __init__(self, terms: Iterable[LossTerm] = ()):
        terms = tuple(terms) if isinstance(terms, Iterable) else (terms,)
        for term in terms:
            if not isinstance(term, LossTerm):
                raise TypeError(
                    "Expected `terms` of LossTerms to be an iterable of "
                    f"LossTerm. Received: {term!r} (of type "
                    f"{type(term).__name__})"
                )
        self._terms = {term.name: term for term in terms}
        if len(self._terms) != len(terms):
            repeated = duplicates(term.name for term in terms)
            raise ValueError(
                "Expected every term to have a name of its own. Received "
                f"twice: {repeated}"
            )
        self._by_kind: dict[str, Tensor] | None = None
        self._total: Tensor | None = None

    def __getitem__(self, name: str) -> LossTerm:
        return self._terms[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._terms)

    def __len__(self) -> int:
        return len(self._terms)

    if not TYPE_CHECKING:
        __contains__ = Mapping.__contains__
        get = Mapping.get
        items = Mapping.items
        keys = Mapping.keys
        values = Mapping.values

    def __repr__(self) -> str:
        return f"LossTerms({list(self._terms.values())!r})"

    def _repr_html_(self) -> str:
        """A row per term, and the total."""
        rows = [
            [
                *(term.name, term.kind),
                *map(shown, (term.weight, term.value, term.contribution)),
            ]
            for term in self._terms.values()
        ]
        return _notebook.table(
            ["term", "kind", "weight", "value", "contribution"],
            [*rows, ["total", "", "", "", shown(self.total)]],
            numbers=(2, 3, 4),
            bold=(len(rows),),
        )

    @property
    def total(self) -> Tensor:
        """The sum of all contributions: a scalar tensor, 0 without terms."""
        if self._total is None:
            self._total = add_up(self.by_kind().values())
        return self._total

    def summed(self) -> Self:
        """These terms, added up now: a `tf.GradientTape` may be listening."""
        self._total = add_up(self.by_kind().values())
        return self

    def __add__(self, other: "LossTerms") -> "LossTerms":
        """The terms of both; values of one name, of one weight, are added."""
        terms = dict(self._terms)
        for name, term in other.items():
            if name in terms:
                value = terms[name].value + term.value
                term = dataclasses.replace(terms[name], value=value)
            terms[name] = term
        return LossTerms(terms.values()).summed()

    def by_kind(self) -> dict[str, Tensor]:
        """Contributions summed by kind: `{kind: scalar}`, kinds with terms."""
        if self._by_kind is None:
            parts: dict[str, list[Tensor]] = {kind: [] for kind in KINDS}
            for term in self._terms.values():
                parts[term.kind].append(term.contribution)
            self._by_kind = {
                kind: add_up(values) for kind, values in parts.items() if values
            }
        return dict(self._by_kind)

    def as_dict(self) -> dict[str, Tensor]:
        """Values by name: plain scalars, safe as `has_aux` of `jax.grad`."""
        return {name: term.value for name, term in self._terms.items()}

    def tree_flatten(self) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Children and static part of the pytree."""
        terms = tuple(self._terms.values())
        children = tuple(
            leaf for t in terms for leaf in (t.value, t.weight, t.inner_weight)
        )
        static = tuple(
            (t.name, t.kind, t.path, t.output, t.label) for t in terms
        )
        return children, static

    @classmethod
    def tree_unflatten(
        cls, static: Iterable[Any], children: Iterable[Any]
    ) -> Self:
        """Inverse of `tree_flatten`."""
        leaves = iter(children)
        return cls(
            LossTerm(
                name,
                kind,
                next(leaves),
                next(leaves),
                path,
                output,
                next(leaves),
                label,
            )
            for name, kind, path, output, label in static
        )


_backend.register_pytree(LossTerms)
_keras.register_tree_node_class(LossTerms)


def multiply(value, weight):
    """`weight * value`, without an operation where the weight is 1."""
    if isinstance(weight, float) and weight == 1.0:
        return value
    value, weight = _backend.promote(value, weight)
    return value * weight


def add_up(values):
    """Sum of scalars, left to right; a float32 zero where there is none."""
    values = list(values)
    if not values:
        return ops.zeros(())
    total = values[0]
    for value in values[1:]:
        total, value = _backend.promote(total, value)
        total = total + value
    return total


def shown(value):
    """A scalar as text; one that has no number yet, in a trace, as it is."""
    try:
        return _notebook.number(float(ops.convert_to_numpy(value)))
    except Exception:  # each backend has its own for a tracer
        return str(value)


def duplicates(names):
    """Names that occur more than once, in the order of their return."""
    seen, repeated = set(), []
    for name in names:
        if name in seen and name not in repeated:
            repeated.append(name)
        seen.add(name)
    return repeated


def unique_names(names):
    """Names made unique: the second `a` becomes `a_2`."""
    taken, result = set(), []
    for name in names:
        unique, count = name, 1
        while unique in taken:
            count += 1
            unique = f"{name}_{count}"
        taken.add(unique)
        result.append(unique)
    return tuple(result)


def with_unique_names(terms):
    """Terms whose names were made unique by a number where they clash."""
    names = unique_names(term.name for term in terms)
    return [
        term if term.name == name else dataclasses.replace(term, name=name)
        for term, name in zip(terms, names, strict=True)
    ]


def checked_term_name(name, what):
    """Return `name`, or say that it is none, or taken by a kind or the total.

    Args:
        name: The name that a user gave a term.
        what: What it is, as the error calls it.

    Example:
        >>> checked_term_name("kl", "the name of an extra term")
        'kl'
    """
    if not isinstance(name, str) or not name.strip() or name in RESERVED:
        raise ValueError(
            f"Expected {what} to be a string of a character or more, and none "
            f"of {RESERVED}, which are the total and the kinds of terms. "
            f"Received: {name!r}. Choose another name."
        )
    return name
