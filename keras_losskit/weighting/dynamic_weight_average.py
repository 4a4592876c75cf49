"""Weights from the rate at which the terms fall, epoch over epoch."""

import keras
from keras import ops

from keras_losskit._support.checks import checked_positive
from keras_losskit._types import Config
from keras_losskit._types import Tensor
from keras_losskit.weighting._arithmetic import at_least
from keras_losskit.weighting._arithmetic import ratio_or_one
from keras_losskit.weighting.weighting import Weighting


def dynamic_weight_average(last, before_last, *, temperature=2.0):
    """Weights from the means of two epochs; see `DynamicWeightAverage`.

    `w = K * softmax(last / before_last / T)`.

    Args:
        last: Mean of each term over the last epoch, `(K,)`.
        before_last: Mean over the one before, `(K,)`. Where either is 0 the
            ratio is 1.
        temperature: `T`, positive; the larger, the more even.

    Returns:
        Weights, `(K,)`, which sum to K.

    Example:
        >>> last, before = ops.array([1.0, 2.0]), ops.array([2.0, 2.0])
        >>> weights = dynamic_weight_average(last, before, temperature=0.5)
        >>> [round(float(w), 4) for w in weights]  # 2 * softmax([1, 2])
        [0.5379, 1.4621]
    """
    ratio = ratio_or_one(last, before_last)
    return last.shape[0] * ops.softmax(ratio / temperature)


@keras.saving.register_keras_serializable("keras_losskit")
class DynamicWeightAverage(Weighting):
    """Dynamic weight average: more weight for what falls more slowly.

    `w = K * softmax((L[t-1] / L[t-2]) / T)`, with `L[t]` the mean over epoch
    `t`; ones in the first two epochs. Scale: a sum of terms; the weights sum
    to K. `on_epoch_end()` has to be called after each epoch.

    A term of exactly 0 in a batch is absent: the batch does not count in its
    mean. A term absent for a whole epoch keeps the mean it had.

    Args:
        temperature: `T`, positive; the larger, the more even.
        **options: `terms`, `name` and `dtype`; see `Weighting`.

    Returns:
        Of a call with `values`: `(K,)`.

    Raises:
        ValueError: if `temperature` is not positive.

    Reference:
        Liu, Johns, Davison, "End-to-End Multi-Task Learning with Attention",
        CVPR 2019.

    Example:
        >>> method = DynamicWeightAverage(temperature=0.5)
        >>> for values in ([2.0, 2.0], [1.0, 2.0]):
        ...     _ = method(ops.array(values), training=True)
        ...     method.on_epoch_end()
        >>> [round(float(w), 4) for w in method(ops.array(values))]
        [0.5379, 1.4621]
    """

    statistic = "values"

    def __init__(self, *, temperature: float = 2.0, **options):
        super().__init__(**options)
        self.temperature = checked_positive(
            temperature, "`temperature` of DynamicWeightAverage"
        )

    def build(self, num_terms: int) -> None:
        super().build(num_terms)
        self.total = self.add_state("total")
        self.count = self.add_state("count")
        self.last = self.add_state("last")
        self.before_last = self.add_state("before_last")

    def weigh(self, values: Tensor, training: bool) -> Tensor:
        if training:
            present = ops.cast(values != 0, self.count.dtype)
            self.total.assign_add(ops.cast(values, self.total.dtype))
            self.count.assign_add(present)
        return dynamic_weight_average(
            ops.convert_to_tensor(self.last),
            ops.convert_to_tensor(self.before_last),
            temperature=self.temperature,
        )

    def on_epoch_end(self) -> None:
        """Turn the epoch's sums into its mean, and begin the next."""
        if not self.built:
            return
        total, count, last = (
            ops.convert_to_tensor(variable)
            for variable in (self.total, self.count, self.last)
        )
        mean = total / at_least(count, 1.0)
        self.before_last.assign(last)
        self.last.assign(ops.where(count > 0, mean, last))
        self.total.assign(ops.zeros_like(total))
        self.count.assign(ops.zeros_like(count))

    def get_config(self) -> Config:
        return {**super().get_config(), "temperature": self.temperature}
