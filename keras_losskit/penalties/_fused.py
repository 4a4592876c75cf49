"""Weight regularizers of one family computed in one operation.

`sum_i c * ||w_i||^2` over a hundred variables is a hundred small kernels, and a
hundred more in the backward pass; a framework with multi-tensor operations does
it in a few. Which variables belong together is worked out when they change.
"""

import collections
import operator

import keras

from keras_losskit import _backend
from keras_losskit.penalties.collect import variable_terms
from keras_losskit.terms import LossTerm
from keras_losskit.terms import add_up

#: Keras' own families: the order of the norm and the attribute of its factor.
FAMILIES = {
    keras.regularizers.L1: ((1, "l1"),),
    keras.regularizers.L2: ((2, "l2"),),
    keras.regularizers.L1L2: ((1, "l1"), (2, "l2")),
}


def fuses(penalty, log):
    """Whether the terms of a penalty may be computed together.

    Not where one operation per variable is as fast, nor where each term counts
    or is logged by itself.

    Args:
        penalty: The `Penalty` of the weight regularizers, or None.
        log: What the container logs.
    """
    return (
        _backend.FUSES_PENALTIES
        and penalty is not None
        and penalty.reduction == "sum"
        and log != "all"
    )


class FusedPenalties:
    """The weight regularizers of a model, one term per penalty group.

    Args:
        variables: The regularized variables of the model.
        penalty: Their `Penalty`; the terms of one of its groups are weighted
            and logged together.

    Example:
        >>> from keras_losskit.penalties import Penalty
        >>> kernel = keras.Variable([[3.0], [4.0]], name="kernel")
        >>> kernel.regularizer = keras.regularizers.L2(0.1)
        >>> bias = keras.Variable([1.0], name="bias")
        >>> bias.regularizer = keras.regularizers.L2(0.1)
        >>> (term,) = FusedPenalties([kernel, bias], Penalty()).terms()
        >>> round(float(term.value), 4)  # 0.1 * (9 + 16 + 1)
        2.6
    """

    def __init__(self, variables, penalty):
        self._penalty = penalty
        self._identity_key = identity_key(variables)
        group_of = penalty.members(
            [LossTerm(v.path, "regularization", None) for v in variables]
        )
        # {group: {(order, factor): [variable]}}
        self._families = collections.defaultdict(
            lambda: collections.defaultdict(list)
        )
        self._paths = {}
        self._others = []
        for variable in variables:
            factors = factors_of(variable)
            if factors is None:
                self._others.append(variable)
                continue
            group = group_of.get(variable.path)
            self._paths.setdefault(group, variable.path)
            for order, factor in factors:
                if factor:
                    self._families[group][order, factor].append(variable)

    def of(self, variables):
        """These penalties, or new ones where variables or factors changed.

        Args:
            variables: The regularized variables as they are now: a layer may be
                frozen, and a callback change a factor.
        """
        now, before = identity_key(variables), self._identity_key
        if len(now) == len(before) and all(map(operator.is_, now, before)):
            return self
        return FusedPenalties(variables, self._penalty)

    def terms(self):
        """A `LossTerm` per group, under the path of its first variable."""
        fused = [
            LossTerm(
                self._paths[group],
                "regularization",
                add_up(
                    factor * _backend.sum_of_powers(variables, order)
                    for (order, factor), variables in families.items()
                ),
                path=self._paths[group],
            )
            for group, families in self._families.items()
        ]
        return fused + variable_terms(self._others)


def identity_key(variables):
    """The objects that decide on the terms; a new one is a change."""
    objects = []
    for variable in variables:
        regularizer = variable.regularizer
        objects += (variable, regularizer)
        for _, attribute in FAMILIES.get(type(regularizer), ()):
            objects.append(getattr(regularizer, attribute))
    return objects


def factors_of(variable):
    """`(order, factor)` of each norm; None for a penalty of no family."""
    regularizer = variable.regularizer
    family = FAMILIES.get(type(regularizer))
    if family is None or variable.dtype != "float32":
        return None
    factors = [
        (order, getattr(regularizer, attribute)) for order, attribute in family
    ]
    # A variable has another value at another step.
    if any(isinstance(factor, keras.Variable) for _, factor in factors):
        return None
    return [(order, float(factor)) for order, factor in factors]
