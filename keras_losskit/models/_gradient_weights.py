"""From the gradients of the terms to the weights, and to one update.

`update = sum_k(w_k * g_k) + g_rest`. The weights are those of the Gramian of
`g_k` over the variables that `wrt` picks, found anew on every N-th step.
"""

from typing import NamedTuple

import keras
from keras import ops

from keras_losskit import _backend
from keras_losskit import _keras
from keras_losskit._support import replicas
from keras_losskit.terms import add_up
from keras_losskit.terms import multiply


class SplitTotal(NamedTuple):
    """What a total consists of, to a weighting.

    Args:
        members: A scalar for each term that is weighed, 0 for one that the
            batch does not have.
        weights: The weights that the user gave these, which are in them.
        rest: A list with the sum of the others, empty where there are none.
    """

    members: list
    weights: list
    rest: list

    @property
    def scalars(self):
        """What is differentiated: the members, and the rest."""
        return [*self.members, *self.rest]


def combined(model, each, weighed, parts, scale, batch_size):
    """One gradient per variable from the gradients of all terms.

    Args:
        model: The model.
        each: The gradients of the scalars, members and rest, one by one; see
            `_backend.term_gradients`.
        weighed: The gradients of their weighed sum; see there.
        parts: The `SplitTotal`.
        scale: What the gradients are scaled by.
        batch_size: Number of samples.

    Returns:
        A list of gradients, scaled.
    """
    container = model.compiled_loss
    weighting = container.weighting
    chosen = None
    if container.picked is not None:
        chosen = positions(container.picked, model.trainable_weights)
    members = parts.members
    scalars = len(parts.scalars)

    def find():
        count = scalars if chosen is None else len(members)
        blocks, unpacked = each(count, chosen, keep=chosen is not None)
        blocks = replicas.whole_gradients(blocks)
        more = {}
        if weighting.takes_values:
            # Parts of what all replicas agree on.
            more["values"] = ops.stack(members) * _backend.num_replicas()
        matrix = gramian(
            unscaled(block[: len(members)], scale) for block in blocks
        )
        weights = weighting(if_finite(matrix), training=True, **more)
        return weights, (blocks, unpacked)

    def one_pass(weights):
        gradients = weighed(padded(weights, scalars))
        # The trainer adds up over replicas; over processes nobody does.
        if _backend.num_processes() == 1:
            return gradients
        return replicas.whole_gradients(gradients)

    def sum_up(weights, jacobian):
        if chosen is not None:
            return one_pass(weights)
        weights = padded(weights, scalars)
        if _backend.num_replicas() > 1:
            # The trainer adds up over them what is already summed here.
            weights = weights / _backend.num_replicas()
        blocks, unpacked = jacobian
        return unpacked(
            [
                ops.cast(ops.matmul(weights, block), block.dtype)
                for block in blocks
            ]
        )

    if weighting.update_every == 1:
        weights, jacobian = find()
        gradients = sum_up(weights, jacobian)
    else:
        # The forward pass has counted this step.
        step = container.clock.now()[0] - 1
        due = step % weighting.update_every == 0
        weights, gradients = find_if(due, weighting, find, sum_up, one_pass)
    track_weights(container, weights, parts.weights, batch_size)
    return gradients


def find_if(due, weighting, find, sum_up, one_pass):
    """Weights and gradients; the weights are found anew only where `due`.

    Args:
        due: A boolean scalar.
        weighting: The weighting, whose state moves where `due`.
        find: `() -> (weights, jacobian)`, which costs K gradients.
        sum_up: `(weights, jacobian) -> gradients`.
        one_pass: `weights -> gradients`, which costs one.
    """

    def kept():
        # A copy: PyTorch's tensor is the variable's own memory.
        return 1.0 * ops.convert_to_tensor(weighting.found)

    def renewed():
        weights, jacobian = find()
        weighting.found.assign(weights)
        return kept(), sum_up(weights, jacobian)

    if _backend.num_replicas() == 1:
        variables = weighting.variables
        return branched(
            due, renewed, lambda: (kept(), one_pass(kept())), variables
        )
    # No sum over replicas may stand in a branch.
    before = [ops.copy(variable) for variable in weighting.variables]
    weights, jacobian = find()
    weighting.found.assign(weights)
    for variable, value in zip(weighting.variables, before, strict=True):
        variable.assign(ops.where(due, variable.value, value))
    return kept(), sum_up(kept(), jacobian)


def branched(condition, if_true, if_false, variables):
    """`ops.cond` whose branches may assign `variables`, also on JAX."""
    if not _keras.in_stateless_scope():
        return ops.cond(condition, if_true, if_false)
    values = [variable.value for variable in variables]

    def with_state(branch):
        def run():
            mapping = list(zip(variables, values, strict=True))
            with keras.StatelessScope(mapping) as scope:
                result = branch()
            return result, [scope.get_current_value(v) for v in variables]

        return run

    result, values = ops.cond(
        condition, with_state(if_true), with_state(if_false)
    )
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
    return result


def picked_variables(model):
    """Ids of the variables that the Gramian is taken over; None for all.

    Raises:
        ValueError: if `wrt` of the weighting finds no variable.
    """
    container = model.compiled_loss
    if container.weighting is None or container.weighting.wrt is None:
        return None
    variables = of_model_alone(model.trainable_weights, container)
    return {
        id(variable) for variable in container.weighting.wrt.pick(variables)
    }


def of_model_alone(variables, container):
    """The variables without those that a weighting learns."""
    learned = {id(variable) for variable in container.variables}
    return [v for v in variables if id(v) not in learned]


def positions(picked, variables):
    """Where the variables stand whose ids are picked."""
    return [i for i, v in enumerate(variables) if id(v) in picked]


def padded(weights, scalars):
    """The weights in float32, with a 1 for what is not weighed."""
    weights = ops.cast(weights, "float32")
    rest = scalars - weights.shape[0]
    if not rest:
        return weights
    return ops.concatenate([weights, ops.ones(rest, "float32")])


def if_finite(matrix):
    """The Gramian, or zeros if it is not finite.

    As in a step whose scaled loss overflows, which the optimizer skips: the
    gradients are what they are, but no NaN gets into the state of the
    weighting, which takes gradients of zero for absent terms.
    """
    finite = ops.all(ops.isfinite(matrix))
    return ops.where(finite, matrix, 0.0)


def unscaled(block, scale):
    """Gradients without the scale of the loss, which is 1 for most."""
    return block if isinstance(scale, float) else block / scale


def gramian(blocks):
    """`J J^T` of a Jacobian of K rows.

    Args:
        blocks: Its columns, several at a time: matrices `(K, n)`.

    Returns:
        `(K, K)`, float32 at least.
    """
    return add_up(ops.matmul(block, ops.transpose(block)) for block in blocks)


def track_weights(container, found, given, batch_size):
    """Log the weights that were found in the step just counted.

    Args:
        container: The container.
        found: `(K,)`.
        given: The user's own weights, a list, onto which they multiply.
        batch_size: Number of samples.
    """
    names = container.weighted_names()
    found = ops.unstack(found, len(names))
    amounts = {
        f"{name}_weight": multiply(factor, weight)
        for name, factor, weight in zip(names, found, given, strict=True)
    }
    container.tracker.add(amounts, batch_size)
