"""Weights that are trained against the model, point by point."""

import keras
from keras import ops

from keras_losskit._support.checks import checked_count
from keras_losskit._support.checks import checked_positive
from keras_losskit._support.checks import refused
from keras_losskit._types import Config
from keras_losskit._types import Tensor
from keras_losskit.weighting.sample_weighting import SampleWeighting


def ascended(multipliers, values, *, rate, power):
    """Multipliers after a step of gradient ascent; see `SelfAdaptive`.

    Args:
        multipliers: `(batch,)`.
        values: Values of the samples, `(batch,)`.
        rate: Size of the step.
        power: Power of the multipliers in the loss.

    Returns:
        `(batch,)`.

    Example:
        >>> new = ascended(ops.array([1.0, 2.0]), ops.array([3.0, 1.0]),
        ...                rate=0.1, power=2.0)
        >>> [round(float(x), 4) for x in new]
        [1.6, 2.4]
    """
    slope = power * ops.power(multipliers, power - 1.0)
    return multipliers + rate * slope * values


@keras.saving.register_keras_serializable("keras_losskit")
class SelfAdaptive(SampleWeighting):
    """Self-adaptive weights: the model descends, the weights ascend.

    `min over the model, max over m: mean(m_i^power * v_i)`, by a step of
    gradient ascent at each visit of a sample, `m_i <- m_i + learning_rate *
    power * m_i^(power - 1) * v_i`, taken with the values at the weights before
    it. With values that are not negative a weight only grows, and the faster
    the longer its sample is wrong.

    Args:
        samples: Number of samples.
        learning_rate: Size of the step of ascent, per sample.
        power: Power of the multipliers in the loss, 1 or more.
        initial: The first multipliers, over 0.
        **options: `terms`, `name` and `dtype`; see `SampleWeighting`.

    Returns:
        Of a call with values and ids: weights, `(batch,)`.

    Reference:
        McClenny, Braga-Neto, "Self-adaptive physics-informed neural networks",
        Journal of Computational Physics 474, 2023.

    Example:
        >>> method = SelfAdaptive(2, learning_rate=0.1)
        >>> values, ids = ops.array([3.0, 0.0]), ops.array([0, 1])
        >>> first = method(values, ids, training=True)
        >>> second = method(values, ids)
        >>> [round(float(w), 4) for w in (*first, *second)]  # 1.6^2
        [1.0, 1.0, 2.56, 1.0]
    """

    def __init__(
        self,
        samples: int,
        *,
        learning_rate: float = 0.01,
        power: float = 2.0,
        initial: float = 1.0,
        **options,
    ):
        samples = checked_count(samples, "`samples` of SelfAdaptive")
        super().__init__(samples, **options)
        self.learning_rate = checked_positive(
            learning_rate, "`learning_rate` of SelfAdaptive"
        )
        self.power = checked_positive(power, "`power` of SelfAdaptive")
        if self.power < 1.0:
            raise refused(
                power,
                "`power` of SelfAdaptive to be 1 or more",
                error=ValueError,
            )
        self.initial = checked_positive(initial, "`initial` of SelfAdaptive")

    def build(self, num_terms: int) -> None:
        super().build(num_terms)
        self.multipliers = self.add_table("multipliers", self.initial)

    def weigh(
        self, values: Tensor, ids: Tensor | None, counts: Tensor, training: bool
    ) -> Tensor:
        own = ops.cast(self.rows_of(self.multipliers, ids), values.dtype)
        if training:
            moved = ascended(
                own, values, rate=self.learning_rate, power=self.power
            )
            self.assign_rows(self.multipliers, ids, moved)
        return ops.power(own, self.power)

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "samples": self.samples,
            "learning_rate": self.learning_rate,
            "power": self.power,
            "initial": self.initial,
        }
