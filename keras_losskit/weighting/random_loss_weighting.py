"""Random weights: the other baseline."""

import keras
from keras import ops

from keras_losskit._types import Tensor
from keras_losskit.weighting.weighting import RandomWeighting


@keras.saving.register_keras_serializable("keras_losskit")
class RandomLossWeighting(RandomWeighting):
    """Random loss weighting: new weights for every step.

    `w = softmax(z)` with `z` drawn from a standard normal distribution. Scale:
    a mean of terms; the weights sum to 1. In validation the weights are
    `1 / K`, so that epochs can be compared. A term of 0 changes nothing.

    Args:
        seed: Seed of the draws, an int. Defaults to a random one.
        **options: `terms`, `name` and `dtype`; see `Weighting`.

    Returns:
        Of a call with `values`: `(K,)`.

    Reference:
        Lin, Ye, Zhang, Tsang, "Reasonable Effectiveness of Random Weighting: A
        Litmus Test for Multi-Task Learning", TMLR 2022.

    Example:
        >>> method = RandomLossWeighting(seed=1)
        >>> weights = method(ops.ones(3), training=True)
        >>> round(float(ops.sum(weights)), 4)
        1.0
    """

    statistic = "values"

    def weigh(self, values: Tensor, training: bool) -> Tensor:
        if not training:
            return ops.ones_like(values) / self.num_terms
        draws = keras.random.normal(
            (self.num_terms,), dtype="float32", seed=self.seed_generator
        )
        return ops.softmax(draws)
