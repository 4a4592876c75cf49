"""Learning rate annealing: weights that equalise the gradients' norms."""

import keras
from keras import ops

from keras_losskit._support.checks import checked_fraction
from keras_losskit._support.checks import checked_index
from keras_losskit._types import Config
from keras_losskit._types import Tensor
from keras_losskit.weighting.gramian import GradientWeighting
from keras_losskit.weighting.gramian import cosines_and_norms


def learning_rate_annealing(weights, gramian, *, decay=0.9, reference=None):
    """The moving average after one step; see `LearningRateAnnealing`.

    Args:
        weights: Weights before the step, `(K,)`.
        gramian: `G = J J^T`, `(K, K)`.
        decay: Share of the weights before.
        reference: Index of the term whose norm is taken, or None for the sum.

    Returns:
        Weights, `(K,)`, dtype of `gramian`.

    Example:
        >>> gramian = ops.array([[1.0, 0.0], [0.0, 9.0]])
        >>> weights = learning_rate_annealing(ops.ones(2), gramian, decay=0.5)
        >>> [round(float(w), 4) for w in weights]  # (1 + 4) / 2, (1 + 4/3) / 2
        [2.5, 1.1667]
    """
    _, norms, present = cosines_and_norms(gramian)
    if reference is None:
        goal = ops.sum(ops.where(present, norms, ops.zeros_like(norms)))
        known = present
    else:
        goal = norms[reference]
        known = ops.logical_and(present, present[reference])
    averaged = decay * weights + (1.0 - decay) * goal / norms
    return ops.where(known, averaged, weights)


@keras.saving.register_keras_serializable("keras_losskit")
class LearningRateAnnealing(GradientWeighting):
    """Learning rate annealing, for physics-informed networks.

    `w_k = decay * w_k + (1 - decay) * n / ||g_k||`, 1 at first, with `n` the
    sum of the norms (Wang et al. 2023) or, with `reference`, the norm of that
    term, whose own weight so stays 1. The first paper takes the largest entry
    of the reference's gradient over the mean entry of `g_k`, which a Gramian
    does not hold. Scale: a sum of terms, each brought to the norm `n`.

    A zero gradient is absent: its weight stays where it is.

    Args:
        decay: Share of the weights before, 0 to 1.
        reference: Index of the term whose norm is taken, such as the residual
            of the equation. Defaults to the sum of all norms.
        **options: `wrt`, `every`, `terms`, `name` and `dtype`; see
            `GradientWeighting`.

    Returns:
        Of a call with `gramian`: `(K,)`.

    Raises:
        ValueError: if `decay` is outside [0, 1], or on build if there is no
            term of the index `reference`.

    Reference:
        Wang, Teng, Perdikaris, "Understanding and Mitigating Gradient Flow
        Pathologies in Physics-Informed Neural Networks", SIAM Journal on
        Scientific Computing, 2021; Wang, Sankaran, Wang, Perdikaris, "An
        Expert's Guide to Training Physics-Informed Neural Networks", 2023.

    Example:
        >>> method = LearningRateAnnealing(decay=0.5)
        >>> weights = method(ops.array([[1.0, 0.0], [0.0, 9.0]]), training=True)
        >>> [round(float(weight), 4) for weight in weights]
        [2.5, 1.1667]
    """

    def __init__(
        self,
        *,
        decay: float = 0.9,
        reference: int | None = None,
        **options,
    ):
        super().__init__(**options)
        what = "of LearningRateAnnealing"
        self.decay = checked_fraction(decay, f"`decay` {what}")
        if reference is not None:
            reference = checked_index(
                reference, f"`reference` {what}, the index of a term,"
            )
        self.reference = reference

    def build(self, num_terms: int) -> None:
        super().build(num_terms)
        if self.reference is not None and self.reference >= self.num_terms:
            raise ValueError(
                "Expected `reference` of LearningRateAnnealing to be the index "
                f"of one of {self.num_terms} terms. "
                f"Received: reference={self.reference}"
            )
        self.current = self.add_state("current", 1.0)

    def weigh(self, gramian: Tensor, training: bool) -> Tensor:
        current = ops.cast(self.current, gramian.dtype)
        if not training:
            return current
        weights = learning_rate_annealing(
            current, gramian, decay=self.decay, reference=self.reference
        )
        self.current.assign(weights)
        return weights

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "decay": self.decay,
            "reference": self.reference,
        }
