"""From valued terms to those whose samples a `SampleWeighting` weighed."""

import dataclasses
import functools

from keras import ops

from keras_losskit import _keras
from keras_losskit import _weights as weights_lib
from keras_losskit._support import replicas
from keras_losskit.container._weighting_step import by_member


class SampleWeighing:
    """The sample weightings of one model, and the terms that each weighs.

    Args:
        weightings: List of `SampleWeighting`.
        names: Names of compiled losses and extra terms.
        labels: Names of `add_loss` that they may name.
    """

    def __init__(self, weightings, names, labels=()):
        self.weightings = list(weightings)
        self._names, self._labels = list(names), list(labels)

    def __bool__(self):
        return bool(self.weightings)

    @functools.cached_property
    def members(self):
        """Pairs of a weighting and the names of what it weighs.

        Raises:
            ValueError: if two of them weigh the same term, or a name matches
                none.
        """
        named = [*self._names, *self._labels]
        pairs = [
            (w, self._names if w.terms is None else w.members(named))
            for w in self.weightings
        ]
        seen = [name for _, members in pairs for name in members]
        twice = sorted({name for name in seen if seen.count(name) > 1})
        if twice:
            raise ValueError(
                "Expected each term to have one sample weighting. Received: "
                f"several for {twice}. Say with `terms=` which weighs what."
            )
        return pairs

    @property
    def variables(self):
        """The state of all of them."""
        return [v for w in self.weightings for v in w.non_trainable_variables]

    def build(self):
        """Make their variables where they have none."""
        for weighting, members in self.members:
            if not weighting.built:
                weighting.build(len(members))

    def check(self, ids):
        """Refuse a batch that they cannot weigh.

        Args:
            ids: Ids of the batch, or None.

        Raises:
            ValueError: for a batch without ids, where they are needed.
        """
        for weighting in self.weightings:
            if weighting.needs_ids and ids is None:
                raise ValueError(
                    f"Expected samples with ids, which {weighting!r} tells "
                    "them apart by. Received: inputs without ids. Train on "
                    "`fit(keras_losskit.with_ids(x), y)` of a "
                    "keras_losskit.Model."
                )

    def apply(self, terms, watch, ids, clock, training):
        """The terms, with the values that the weighted samples give.

        In a symbolic step they stay as they are: there is nothing to weigh.

        Args:
            terms: List of `LossTerm`.
            watch: `SampleWatch` of their losses.
            ids: Ids of the batch, or None.
            clock: `(step, epoch)`.
            training: Whether the state of the weightings moves.

        Raises:
            ValueError: if a term that was named has no values of samples, or
                as `check`.
        """
        self.check(ids)
        if _keras.in_symbolic_scope():
            return terms
        replaced = {}
        for weighting, members in self.members:
            found = by_member(terms, members)
            named = members if weighting.terms is not None else ()
            taken = []
            for name, of_name in found.items():
                noted = [watch.of_value(term.value) for term in of_name]
                taken += zip(of_name, noted, strict=True)
                if name in named and (not noted or None in noted):
                    raise without_samples(weighting, name)
            taken = [pair for pair in taken if pair[1] is not None]
            if not taken:
                raise without_samples(weighting, None)
            check_alike(weighting, taken)
            values, counts = statistic(taken, clock)
            # All replicas compute what belongs to the whole batch.
            of_all = (
                None if own is None else replicas.gathered(own)
                for own in (values, ids, ops.cast(counts, "float32"))
            )
            weights = weighting(*of_all, training)
            weights = replicas.owned(weights, values)
            # Left out in the loss it would still be NaN in the gradient.
            weights = ops.where(ops.isfinite(values), weights, 1.0)
            for term, noted in taken:
                value = noted.weighted(weights)
                replaced[term.name] = dataclasses.replace(term, value=value)
        return [replaced.get(term.name, term) for term in terms]


def check_alike(weighting, taken):
    """Refuse terms of different numbers of samples: they share no weights.

    Args:
        weighting: What weighs them.
        taken: Pairs of a `LossTerm` and its `SampleValues`.

    Raises:
        ValueError: if the numbers are known and differ.
    """
    sizes = [(term.name, noted.values.shape[0]) for term, noted in taken]
    known = [size for _, size in sizes if size is not None]
    if any(size != known[0] for size in known):
        found = ", ".join(f"'{name}': {size}" for name, size in sizes)
        raise ValueError(
            f"Expected the terms that {weighting!r} weighs to have values of "
            f"the same samples. Received: numbers of samples {found}. Give "
            "each term a sample weighting of its own, `sample_weighting=[...]` "
            "with `terms=`."
        )


def statistic(taken, clock):
    """Values of the samples, and whether they count, `(batch,)` each.

    Args:
        taken: Pairs of a `LossTerm` and its `SampleValues`.
        clock: `(step, epoch)`.
    """
    values, counts = 0.0, None
    for term, noted in taken:
        weight = weights_lib.weight_value(term.weight, *clock)
        own = ops.cast(noted.means(), "float32")
        values = values + ops.cast(weight, "float32") * own
        counted = noted.counts()
        counts = counted if counts is None else ops.logical_or(counts, counted)
    return values, counts


def without_samples(weighting, name):
    """The error for terms that cannot be weighed by sample."""
    received = "none" if name is None else f"term '{name}'"
    return ValueError(
        f"Expected {weighting!r} to weigh terms that have a value for each "
        f"sample. Received: {received}, whose values are of the whole batch "
        "or not there. Leave it out of `terms`."
    )
