"""From valued terms to weighted ones: replicas and the weighting."""

import dataclasses

from keras import ops

from keras_losskit import _backend
from keras_losskit._support import replicas
from keras_losskit.terms import LossTerm
from keras_losskit.terms import multiply


def shared(terms, share):
    """Terms that every replica has by itself, as parts of those of the batch.

    Args:
        terms: List of `LossTerm`.
        share: What this replica's value counts for; see `replicas`.
    """
    if isinstance(share, float):
        return terms
    return [dataclasses.replace(t, value=t.value * share) for t in terms]


def weighted(terms, weighting, members, step, training):
    """Multiply a weighting's weights onto those of the user.

    Args:
        terms: List of `LossTerm`.
        weighting: A loss-based `Weighting`, or one by the step.
        members: Names of the terms that take part, in the order of its
            weights; one that the batch does not have counts as 0.
        step: Number of the training step.
        training: Whether the weighting's own state moves.

    Returns:
        The terms, and the one that the weighting adds itself, if any.
    """
    by_name = {term.name: term for term in terms}
    values = ops.stack(
        [
            ops.cast(by_name[name].contribution, "float32")
            if name in by_name
            else ops.zeros((), "float32")
            for name in members
        ]
    )
    # Parts of what all replicas agree on.
    values = values * _backend.num_replicas()
    statistic = step if weighting.statistic == "step" else values
    weights = ops.unstack(weighting(statistic, training=training))
    factors = dict(zip(members, weights, strict=True))
    result = [
        dataclasses.replace(
            term, weight=multiply(factors[term.name], term.weight)
        )
        if term.name in factors
        else term
        for term in terms
    ]
    extra = weighting.extra_loss(values)
    if extra is not None:
        extra = replicas.part_of_mean(extra)
        result.append(LossTerm("weighting", "weighting", extra))
    return result
