"""Weight regularizers of one family computed in one operation.

`sum_i c * ||w_i||^2` over a hundred variables is a hundred small kernels, and a
hundred more in the backward pass; a framework with multi-tensor operations does
it in a few. Which variables belong together is worked out once per compile.
"""

import collections

import keras

from keras_losskit import _backend
from keras_losskit.penalties import variable_terms
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
        group_of: `{path: group name}` of those in a penalty group; the terms of
            one group are weighted and logged together.

    Example:
        >>> kernel = keras.Variable([[3.0], [4.0]], name="kernel")
        >>> kernel.regularizer = keras.regularizers.L2(0.1)
        >>> bias = keras.Variable([1.0], name="bias")
        >>> bias.regularizer = keras.regularizers.L2(0.1)
        >>> (term,) = FusedPenalties([kernel, bias], {}).terms()
        >>> round(float(term.value), 4)  # 0.1 * (9 + 16 + 1)
        2.6
    """

    def __init__(self, variables, group_of):
        # {group: {(order, factor): [variable]}}
        self._families = collections.defaultdict(
            lambda: collections.defaultdict(list)
        )
        self._paths = {}
        self._others = []
        for variable in variables:
            family = FAMILIES.get(type(variable.regularizer))
            if family is None or variable.dtype != "float32":
                self._others.append(variable)
                continue
            group = group_of.get(variable.path)
            self._paths.setdefault(group, variable.path)
            for order, attribute in family:
                factor = float(getattr(variable.regularizer, attribute))
                if factor:
                    self._families[group][order, factor].append(variable)

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
