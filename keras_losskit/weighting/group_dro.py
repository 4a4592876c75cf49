"""Weights for the groups of samples that a model serves worst."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from keras_losskit._support.checks import checked_non_negative
from keras_losskit._support.checks import checked_positive
from keras_losskit._support.checks import refused
from keras_losskit._types import Config
from keras_losskit._types import Tensor
from keras_losskit.weighting._arithmetic import at_least
from keras_losskit.weighting._groups import by_group
from keras_losskit.weighting.sample_weighting import SampleWeighting


def shifted(shares, losses, *, step_size):
    """Shares of the groups after a step; see `GroupDRO`.

    Args:
        shares: `(groups,)`, which sum to 1.
        losses: Mean loss of each group, `(groups,)`; 0 for an absent one.
        step_size: How far one step goes.

    Returns:
        `(groups,)`, which sum to 1.

    Example:
        >>> new = shifted(ops.array([0.5, 0.5]), ops.array([0.0, 1.0]),
        ...               step_size=1.0)
        >>> [round(float(x), 4) for x in new]
        [0.2689, 0.7311]
    """
    logits = ops.log(at_least(shares, 1e-30)) + step_size * losses
    return ops.softmax(logits)


@keras.saving.register_keras_serializable("keras_losskit")
class GroupDRO(SampleWeighting):
    """Group DRO: minimise the loss of the worst group, not of the mean sample.

    `q_g <- q_g * exp(step_size * L_g)`, divided by their sum, where `L_g` is
    the mean of the group in the batch; the loss becomes `sum_g q_g L_g`, by
    the weight `q_g * n / n_g` of each of the `n_g` samples of a group among
    `n`. A group that a batch lacks keeps its share but for the division.

    The method of the paper needs regularization, such as a strong L2 or early
    stopping: a model that fits all samples fits all groups.

    Args:
        groups: The group of each sample, in the order of the ids, integers from
            0 on: `(samples,)`.
        step_size: How far a step shifts the shares.
        adjustment: `C` of the paper's group adjustment: `C / sqrt(N_g)` is
            added to `L_g`, with `N_g` the number of all samples of a group.
        **options: `terms`, `name` and `dtype`; see `SampleWeighting`.

    Returns:
        Of a call with values, ids and `counts`: weights, `(batch,)`.

    Reference:
        Sagawa, Koh, Hashimoto, Liang, "Distributionally Robust Neural Networks
        for Group Shifts", ICLR 2020.

    Example:
        >>> method = GroupDRO([0, 0, 1], step_size=1.0)
        >>> weights = method(ops.array([0.0, 0.0, 1.0]),
        ...                  ids=ops.array([0, 1, 2]), training=True)
        >>> [round(float(w), 4) for w in weights]  # 0.2689 3/2, 0.7311 3/1
        [0.4034, 0.4034, 2.1932]
    """

    def __init__(
        self,
        groups: Sequence[int],
        *,
        step_size: float = 0.01,
        adjustment: float = 0.0,
        **options,
    ):
        self.groups = checked_groups(groups)
        super().__init__(len(self.groups), **options)
        self.step_size = checked_positive(step_size, "`step_size` of GroupDRO")
        self.adjustment = checked_non_negative(
            adjustment, "`adjustment` of GroupDRO"
        )
        self._sizes = np.bincount(self.groups)

    def build(self, num_terms: int) -> None:
        super().build(num_terms)
        count = len(self._sizes)
        self.shares = self.add_weight(
            name="shares",
            shape=(count,),
            initializer=keras.initializers.Constant(1.0 / count),
            trainable=False,
        )

    def weigh(
        self, values: Tensor, ids: Tensor | None, counts: Tensor, training: bool
    ) -> Tensor:
        groups = ops.take(ops.convert_to_tensor(self.groups), ids, axis=0)
        losses, sizes = by_group(values, counts, groups, len(self._sizes))
        shares = ops.cast(self.shares, values.dtype)
        if training:
            if self.adjustment:
                margin = self.adjustment / np.sqrt(np.maximum(self._sizes, 1))
                margin = ops.convert_to_tensor(margin, dtype=values.dtype)
                present = ops.cast(sizes > 0, values.dtype)
                losses = losses + present * margin
            shares = shifted(shares, losses, step_size=self.step_size)
            self.shares.assign(shares)
        weights = shares * ops.sum(sizes) / at_least(sizes, 1.0)
        return counts * ops.take(weights, groups, axis=0)

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "groups": self.groups.tolist(),
            "step_size": self.step_size,
            "adjustment": self.adjustment,
        }


def checked_groups(groups):
    """The group of each sample as an array of int32."""
    try:
        found = np.asarray(groups)
    except (TypeError, ValueError):  # ragged
        found = np.empty(())
    if found.ndim != 1 or not found.size or found.dtype.kind not in "iu":
        raise refused(
            groups,
            "`groups` of GroupDRO to be integers, one for each sample",
            error=ValueError,
        )
    if found.min() < 0:
        raise refused(
            int(found.min()),
            "`groups` of GroupDRO to be 0 or more",
            error=ValueError,
        )
    return found.astype("int32")
