"""From the gradients of the terms to the weights, and to one update.

`update = sum_k(w_k * g_k) + g_rest`. The weights are those of the Gramian of
`g_k` over the variables that `wrt` picks, found anew on every N-th step.
"""

import dataclasses
import functools
from typing import Any
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

    JAX looks into it for tracers, as it does not into a dataclass.

    Args:
        members: A scalar for each term that gets a weight, 0 for one that the
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


@dataclasses.dataclass(frozen=True)
class GradientStep:
    """From the gradients of the terms of one batch to weights and an update.

    Args:
        losses: The `BuiltLosses`, after the forward pass.
        pullback: `_backend.Pullback` of the scalars of `total`.
        total: The `SplitTotal`.
        scale: What the gradients are scaled by, a scalar or 1.0.
        columns: Positions of the variables that the Gramian is taken over;
            None for all, whose gradients then give the update as well.
    """

    losses: Any
    pullback: _backend.Pullback
    total: SplitTotal
    scale: Any
    columns: list[int] | None

    def update(self, batch_size):
        """A list of gradients, scaled; the weights are logged."""
        weighting = self.losses.weighting
        if weighting.every == 1:
            weights, gradients = self.renewed()
        else:
            # The forward pass has counted this step.
            step = self.losses.clock.now()[0] - 1
            due = step % weighting.every == 0
            weights, gradients = self.renewed_if(due)
        track_weights(self.losses, weights, self.total.weights, batch_size)
        return gradients

    def renewed_if(self, due):
        """`renewed` where `due`, else `kept`."""
        weighting = self.losses.weighting
        if _backend.num_replicas() == 1:
            variables = weighting.variables
            return branched(due, self.renewed, self.kept, variables)
        # No sum over replicas may stand in a branch.
        before = [ops.copy(variable) for variable in weighting.variables]
        _, blocks = self.find_weights()
        for variable, value in zip(weighting.variables, before, strict=True):
            variable.assign(ops.where(due, variable.value, value))
        weights = self.last_weights()
        return weights, self.gradients(weights, blocks)

    def renewed(self):
        """New weights and their gradients, for K passes and perhaps one."""
        weights, blocks = self.find_weights()
        if self.losses.weighting.every > 1:
            weights = self.last_weights()
        return weights, self.gradients(weights, blocks)

    def kept(self):
        """The weights that were found last and their gradients, for a pass."""
        weights = self.last_weights()
        return weights, self.one_pass(weights)

    def last_weights(self):
        """The weights that were found last, in the dtype that keeps them."""
        # A copy: PyTorch's tensor is the variable's own memory.
        return 1.0 * ops.convert_to_tensor(self.losses.weighting.found)

    def find_weights(self):
        """The weights of the Gramian, and the Jacobian that it is of."""
        members, weighting = self.total.members, self.losses.weighting
        alone = self.columns is not None
        rows = len(members if alone else self.total.scalars)
        blocks = replicas.whole_gradients(
            self.pullback.jacobian(rows, self.columns, keep=alone)
        )
        more = {}
        if weighting.takes_values:
            more["values"] = replicas.whole(ops.stack(members))
        matrix = gramian(
            unscaled(block[: len(members)], self.scale) for block in blocks
        )
        # Not finite in a step whose scaled loss overflows, which the optimizer
        # skips: the gradients are what they are, the state stays.
        return weighting(matrix, training=True, **more), blocks

    def gradients(self, weights, blocks):
        """Gradients of the total with these weights, from the Jacobian's."""
        if self.columns is not None:
            return self.one_pass(weights)
        weights = padded(weights, len(self.total.scalars))
        # The trainer adds up over replicas what is already summed here.
        weights = replicas.part_of_mean(weights)
        return self.pullback.unpack(
            [
                ops.cast(ops.tensordot(weights, block, axes=1), block.dtype)
                for block in blocks
            ]
        )

    def one_pass(self, weights):
        """Gradients of the total with these weights."""
        weights = padded(weights, len(self.total.scalars))
        return replicas.for_optimizer(self.pullback.combine(weights))


def branched(condition, if_true, if_false, variables):
    """`ops.cond` whose branches may assign `variables`, also on JAX."""
    if not _keras.in_stateless_scope():
        return ops.cond(condition, if_true, if_false)
    mapping = [(variable, variable.value) for variable in variables]
    result, values = ops.cond(
        condition,
        functools.partial(with_state, if_true, mapping),
        functools.partial(with_state, if_false, mapping),
    )
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
    return result


def with_state(branch, mapping):
    """What `branch()` gives, and the values that it leaves the variables."""
    with keras.StatelessScope(mapping) as scope:
        result = branch()
    return result, [scope.get_current_value(v) for v, _ in mapping]


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
    """The weights in float32, with a 1 for the rest of the total."""
    weights = ops.cast(weights, "float32")
    rest = scalars - weights.shape[0]
    if not rest:
        return weights
    return ops.concatenate([weights, ops.ones(rest, "float32")])


def unscaled(block, scale):
    """Gradients without the scale of the loss, which is 1 for most."""
    return block if isinstance(scale, float) else block / scale


def gramian(blocks):
    """`J J^T` of a Jacobian of K rows.

    Args:
        blocks: Its columns, several at a time: `(K, ...)`.

    Returns:
        `(K, K)`, float32 at least.
    """
    return add_up(
        ops.tensordot(block, block, axes=2 * [list(range(1, len(block.shape)))])
        for block in blocks
    )


def track_weights(losses, found, given, batch_size):
    """Log the weights that were found in the step just counted.

    Args:
        losses: The `BuiltLosses`.
        found: `(K,)`.
        given: The user's own weights, a list, onto which they multiply.
        batch_size: Number of samples.
    """
    names = losses.weighted_names()
    found = ops.unstack(found, len(names))
    amounts = {
        f"{name}_weight": multiply(factor, weight)
        for name, factor, weight in zip(names, found, given, strict=True)
    }
    losses.tracker.add(amounts, batch_size)
