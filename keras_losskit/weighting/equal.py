"""Equal weights: the baseline."""

import keras
from keras import ops

from keras_losskit._types import Tensor
from keras_losskit.weighting.weighting import Weighting


@keras.saving.register_keras_serializable("keras_losskit")
class Equal(Weighting):
    """The weight 1 for every term: what any other method has to beat.

    `w_k = 1`. Scale: a sum of terms. A term of 0 in a batch changes nothing.

    Args:
        **options: `terms`, `name` and `dtype`; see `Weighting`.

    Returns:
        Of a call with `values`: `(K,)` ones.

    Reference:
        Xin, Ghorbani, Garg, Firat, Gilmer, "Do Current Multi-Task Optimization
        Methods in Deep Learning Even Help?", NeurIPS 2022.

    Example:
        >>> [float(w) for w in Equal()(ops.array([5.0, 0.1]))]
        [1.0, 1.0]
    """

    statistic = "values"

    def weigh(self, values: Tensor, training: bool) -> Tensor:
        return ops.ones_like(values)
