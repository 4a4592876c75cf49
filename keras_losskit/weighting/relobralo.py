"""Weights from the fall of the terms, with a random look back."""

import keras
from keras import ops

from keras_losskit._support.checks import checked_fraction
from keras_losskit._support.checks import checked_positive
from keras_losskit._types import Config
from keras_losskit._types import Tensor
from keras_losskit.weighting._arithmetic import ratio_or_one
from keras_losskit.weighting.weighting import RandomWeighting


def relobralo(
    values, first, previous, weights, keep, *, alpha=0.999, temperature=1.0
):
    """One step of the balancing; see `ReLoBRaLo`.

    Args:
        values: Values of the terms, `(K,)`.
        first: Values at the first step, `(K,)`.
        previous: Values one step before, `(K,)`.
        weights: Weights one step before, `(K,)`.
        keep: `rho`: 1 keeps the weights of before, 0 looks back to the first
            step.
        alpha: Share of what was kept or looked back to.
        temperature: `tau`, positive; the larger, the more even.

    Returns:
        Weights, `(K,)`.

    Example:
        >>> two, one = ops.array([2.0, 2.0]), ops.array([1.0, 2.0])
        >>> weights = relobralo(one, two, two, ops.ones(2), keep=0.0,
        ...     alpha=1.0, temperature=0.5)
        >>> [round(float(w), 4) for w in weights]  # 2 * softmax([1, 2])
        [0.5379, 1.4621]
    """
    terms = values.shape[0]

    def balance(reference):
        ratio = ratio_or_one(values, reference)
        return terms * ops.softmax(ratio / temperature)

    history = keep * weights + (1.0 - keep) * balance(first)
    return alpha * history + (1.0 - alpha) * balance(previous)


@keras.saving.register_keras_serializable("keras_losskit")
class ReLoBRaLo(RandomWeighting):
    """Relative loss balancing with random lookback.

    `w = alpha * (rho * w[t-1] + (1 - rho) * K * softmax(L / (tau * L[0])))
    + (1 - alpha) * K * softmax(L / (tau * L[t-1]))`, with `rho` drawn anew
    in each step, 1 or 0. The weights are 1 in the first step. Scale: a sum of
    terms; the weights sum to K.

    A term of exactly 0 in a batch is absent: its ratios are 1, and its first
    and previous value are those of batches where it was not 0.

    Args:
        alpha: Share of the past, 0 to 1.
        temperature: `tau`, positive; the larger, the more even.
        rho: Probability that `rho` is 1: at 1 there is no look back to the
            first step.
        seed: Seed of the draws, an int. Defaults to a random one.
        **options: `terms`, `name` and `dtype`; see `Weighting`.

    Returns:
        Of a call with `values`: `(K,)`.

    Raises:
        ValueError: if `alpha` or `rho` is outside [0, 1], or `temperature` not
            positive.

    Reference:
        Bischof, Kraus, "Multi-Objective Loss Balancing for Physics-Informed
        Deep Learning", 2021.

    Example:
        >>> method = ReLoBRaLo(alpha=0.0, temperature=0.5)
        >>> _ = method(ops.array([2.0, 2.0]), training=True)
        >>> weights = method(ops.array([1.0, 2.0]), training=True)
        >>> [round(float(w), 4) for w in weights]  # 2 * softmax([1, 2])
        [0.5379, 1.4621]
    """

    statistic = "values"

    def __init__(
        self,
        *,
        alpha: float = 0.999,
        temperature: float = 1.0,
        rho: float = 0.999,
        seed: int | None = None,
        **options,
    ):
        super().__init__(seed=seed, **options)
        self.alpha = checked_fraction(alpha, "`alpha` of ReLoBRaLo")
        self.temperature = checked_positive(
            temperature, "`temperature` of ReLoBRaLo"
        )
        self.rho = checked_fraction(rho, "`rho` of ReLoBRaLo")

    def build(self, num_terms: int) -> None:
        super().build(num_terms)
        self.first = self.add_state("first")
        self.previous = self.add_state("previous")
        self.current = self.add_state("current", 1.0)

    def weigh(self, values: Tensor, training: bool) -> Tensor:
        if not training:
            return ops.convert_to_tensor(self.current)
        draw = keras.random.uniform((), seed=self.seed_generator)
        first = ops.cast(self.first, values.dtype)
        first = ops.where(first != 0, first, values)
        previous = ops.cast(self.previous, values.dtype)
        weights = relobralo(
            values,
            first,
            previous,
            ops.cast(self.current, values.dtype),
            keep=ops.cast(draw < self.rho, values.dtype),
            alpha=self.alpha,
            temperature=self.temperature,
        )
        self.first.assign(first)
        self.previous.assign(ops.where(values != 0, values, previous))
        self.current.assign(weights)
        return weights

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "alpha": self.alpha,
            "temperature": self.temperature,
            "rho": self.rho,
        }
