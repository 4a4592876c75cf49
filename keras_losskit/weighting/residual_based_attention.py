"""Weights that remember where the residual of an equation was large."""

import keras
from keras import ops

from keras_losskit._support.checks import checked_count
from keras_losskit._support.checks import checked_non_negative
from keras_losskit._support.checks import checked_positive
from keras_losskit._support.checks import refused
from keras_losskit._types import Config
from keras_losskit._types import Tensor
from keras_losskit.weighting._arithmetic import at_least
from keras_losskit.weighting.sample_weighting import SampleWeighting

TINY = 1e-30


def attention(multipliers, values, counts, *, decay, rate):
    """The next multipliers; see `ResidualBasedAttention`.

    Args:
        multipliers: `(batch,)`.
        values: Squares of the residuals, `(batch,)`, not negative.
        counts: 1 where a sample counts, else 0, `(batch,)`.
        decay: What is kept of them in a step.
        rate: What the largest residual adds.

    Returns:
        `(batch,)`.

    Example:
        >>> new = attention(ops.array([1.0, 1.0]), ops.array([4.0, 1.0]),
        ...                 ops.array([1.0, 1.0]), decay=0.5, rate=0.1)
        >>> [round(float(x), 4) for x in new]
        [0.6, 0.55]
    """
    residuals = ops.sqrt(at_least(values, 0.0))
    largest = ops.max(residuals * counts)
    return decay * multipliers + rate * residuals / at_least(largest, TINY)


@keras.saving.register_keras_serializable("keras_losskit")
class ResidualBasedAttention(SampleWeighting):
    """Residual-based attention: weight for points that stay wrong.

    `m_i <- decay * m_i + learning_rate * |r_i| / max_j |r_j|`, and the weight
    `m_i^2`, so that a mean of `r_i^2` becomes one of `(m_i r_i)^2`; `|r_i|` is
    the square root of the value of a point, of whatever loss. The maximum is
    that of the batch. A multiplier stays below `learning_rate / (1 - decay)`,
    or where it began; no gradient is taken.

    Args:
        samples: Number of points.
        decay: What is kept of a multiplier at each visit, from 0 to below 1.
        learning_rate: What is added for the largest residual.
        initial: The first multipliers.
        **options: `terms`, `name` and `dtype`; see `SampleWeighting`.

    Returns:
        Of a call with values, ids and `counts`: weights, `(batch,)`.

    Reference:
        Anagnostopoulos, Toscano, Stergiopulos, Karniadakis, "Residual-based
        attention in physics-informed neural networks", CMAME 421, 2024.

    Example:
        >>> method = ResidualBasedAttention(3, decay=0.5, learning_rate=0.1)
        >>> weights = method(
        ...     ops.array([4.0, 1.0]), ids=ops.array([2, 0]), training=True)
        >>> [round(float(w), 4) for w in weights]  # 0.1^2, 0.05^2
        [0.01, 0.0025]
    """

    def __init__(
        self,
        samples: int,
        *,
        decay: float = 0.999,
        learning_rate: float = 0.01,
        initial: float = 0.0,
        **options,
    ):
        samples = checked_count(samples, "`samples` of ResidualBasedAttention")
        super().__init__(samples, **options)
        name = "ResidualBasedAttention"
        self.decay = checked_non_negative(decay, f"`decay` of {name}")
        if self.decay >= 1.0:
            raise refused(
                decay, f"`decay` of {name} to be below 1", error=ValueError
            )
        self.learning_rate = checked_positive(
            learning_rate, f"`learning_rate` of {name}"
        )
        self.initial = checked_non_negative(initial, f"`initial` of {name}")

    def build(self, num_terms: int) -> None:
        super().build(num_terms)
        self.multipliers = self.add_table("multipliers", self.initial)

    def weigh(
        self, values: Tensor, ids: Tensor | None, counts: Tensor, training: bool
    ) -> Tensor:
        own = ops.cast(self.rows_of(self.multipliers, ids), values.dtype)
        if training:
            own = attention(
                own, values, counts, decay=self.decay, rate=self.learning_rate
            )
            self.assign_rows(self.multipliers, ids, own)
        return ops.square(own)

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "samples": self.samples,
            "decay": self.decay,
            "learning_rate": self.learning_rate,
            "initial": self.initial,
        }
