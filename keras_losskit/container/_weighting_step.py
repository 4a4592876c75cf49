"""From valued terms to those that a loss-based weighting weighed."""

import dataclasses

from keras import ops

from keras_losskit._support import replicas
from keras_losskit.terms import LossTerm
from keras_losskit.terms import add_up
from keras_losskit.terms import multiply


def member_name(term, members):
    """The name under which a weighting weighs a term, or None.

    That of the term, or the one that a user gave to `add_loss`, which several
    terms may bear.

    Args:
        term: A `LossTerm`.
        members: Names of what is weighed.
    """
    names = (name for name in (term.name, term.label) if name in members)
    return next(names, None)


def by_member(terms, members):
    """`{name: [LossTerm, ...]}` of what a weighting weighs, in its order.

    Args:
        terms: Iterable of `LossTerm`.
        members: Names of what is weighed.
    """
    found = {name: [] for name in members}
    for term in terms:
        name = member_name(term, members)
        if name is not None:
            found[name].append(term)
    return found


def contribution_of(terms):
    """What some terms add to the total together; 0 for none of them."""
    if not terms:
        return ops.zeros(())
    return add_up(term.contribution for term in terms)


def weighted(terms, weighting, members, step, training):
    """Multiply a weighting's weights onto those of the user.

    Args:
        terms: List of `LossTerm`.
        weighting: A loss-based `Weighting`, or one by the step.
        members: Names of the terms that take part, in the order of its
            weights; one that the batch does not have counts as 0. See
            `by_member`.
        step: Number of the training step.
        training: Whether the weighting's own state moves.

    Returns:
        The terms, and the one that the weighting adds itself, if any.
    """
    values = ops.stack(
        [
            ops.cast(contribution_of(found), "float32")
            for found in by_member(terms, members).values()
        ]
    )
    values = replicas.whole(values)
    statistic = step if weighting.statistic == "step" else values
    weights = ops.unstack(weighting(statistic, training=training))
    factors = dict(zip(members, weights, strict=True))
    result = []
    for term in terms:
        name = member_name(term, members)
        if name is not None:
            weight = multiply(factors[name], term.weight)
            term = dataclasses.replace(term, weight=weight)
        result.append(term)
    extra = weighting.extra_loss(values)
    if extra is not None:
        extra = replicas.part_of_mean(extra)
        result.append(LossTerm("weighting", "weighting", extra))
    return result
