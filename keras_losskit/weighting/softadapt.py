"""Weights from the recent slope of the terms."""

import keras
from keras import ops

from keras_losskit._support.checks import checked_flag
from keras_losskit._support.checks import checked_number
from keras_losskit._types import Config
from keras_losskit._types import Tensor
from keras_losskit.weighting.weighting import Weighting


def softadapt(values, slopes, *, beta, normalize, loss_weighted):
    """Weights from values and slopes; see `SoftAdapt`.

    Args:
        values: Values of the terms, `(K,)`.
        slopes: Their change since the step before, `(K,)`.
        beta: Factor of the slopes; over 0, what rises weighs more.
        normalize: Whether the slopes are divided by the sum of their sizes.
        loss_weighted: Whether the exponentials are multiplied by the values.

    Returns:
        Weights, `(K,)`, which sum to 1.

    Example:
        >>> weights = softadapt(
        ...     ops.array([1.0, 1.0]), ops.array([-1.0, 0.0]), beta=1.0,
        ...     normalize=False, loss_weighted=False)
        >>> [round(float(w), 4) for w in weights]  # softmax([-1, 0])
        [0.2689, 0.7311]
    """
    if normalize:
        size = ops.sum(ops.abs(slopes))
        slopes = slopes / ops.where(size > 0, size, ops.ones_like(size))
    weights = ops.softmax(beta * slopes)
    if loss_weighted:
        weighted = weights * values
        total = ops.sum(weighted)
        known = total > 0
        safe = ops.where(known, total, ops.ones_like(total))
        weights = ops.where(known, weighted / safe, weights)
    return weights


@keras.saving.register_keras_serializable("keras_losskit")
class SoftAdapt(Weighting):
    """SoftAdapt: more weight for what falls more slowly, step over step.

    `w = softmax(beta * s)`, with `s = L[t] - L[t-1]`; optionally
    `s / sum(|s|)` for `s`, and `w` in proportion to `L * exp(beta * s)`.
    Scale: a mean of terms; the weights sum to 1.

    A term of exactly 0 in a batch is absent: its slope is 0, and the next one
    is taken from its last value that was not 0. Slopes are 0 in the first step,
    so the weights are `1 / K`.

    Args:
        beta: Factor of the slopes; under 0, what falls fast weighs more.
        normalize: Whether the slopes are divided by the sum of their sizes.
        loss_weighted: Whether a term's value multiplies its weight. Needs
            terms that are not negative.
        **options: `terms`, `name` and `dtype`; see `Weighting`.

    Returns:
        Of a call with `values`: `(K,)`.

    Reference:
        Heydari, Thompson, Mehmood, "SoftAdapt: Techniques for Adaptive Loss
        Weighting of Neural Networks with Multi-Part Loss Functions", 2019.

    Example:
        >>> method = SoftAdapt(1.0)
        >>> _ = method(ops.array([2.0, 2.0]), training=True)
        >>> weights = method(ops.array([1.0, 2.0]), training=True)
        >>> [round(float(w), 4) for w in weights]  # softmax([-1, 0])
        [0.2689, 0.7311]
    """

    statistic = "values"

    def __init__(
        self,
        beta: float = 0.1,
        *,
        normalize: bool = False,
        loss_weighted: bool = False,
        **options,
    ):
        super().__init__(**options)
        self.beta = checked_number(beta, "`beta` of SoftAdapt")
        self.normalize = checked_flag(normalize, "`normalize` of SoftAdapt")
        self.loss_weighted = checked_flag(
            loss_weighted, "`loss_weighted` of SoftAdapt"
        )

    def build(self, num_terms: int) -> None:
        super().build(num_terms)
        self.previous = self.add_state("previous")
        # In validation the weights are those of the last training step.
        self.current = self.add_state("current", 1.0 / self.num_terms)

    def weigh(self, values: Tensor, training: bool) -> Tensor:
        if not training:
            return ops.convert_to_tensor(self.current)
        previous = ops.cast(self.previous, values.dtype)
        known = ops.logical_and(values != 0, previous != 0)
        slopes = ops.where(known, values - previous, ops.zeros_like(values))
        weights = softadapt(
            values,
            slopes,
            beta=self.beta,
            normalize=self.normalize,
            loss_weighted=self.loss_weighted,
        )
        self.previous.assign(ops.where(values != 0, values, previous))
        self.current.assign(weights)
        return weights

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "beta": self.beta,
            "normalize": self.normalize,
            "loss_weighted": self.loss_weighted,
        }
