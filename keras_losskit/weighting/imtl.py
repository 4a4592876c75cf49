"""Impartial multi-task learning: over losses and over gradients."""

import keras
from keras import ops

from keras_losskit.weighting.base import Weighting
from keras_losskit.weighting.uncertainty import sum_of_present


@keras.saving.register_keras_serializable("keras_losskit")
class IMTLLoss(Weighting):
    """IMTL-L: a learned scale brings every term to the size of 1.

    `total = sum_k(exp(s_k) * L_k - s_k)` with `s_k` learned, 0 at first:
    `w_k = exp(s_k)`, and the method itself adds `-sum_k(s_k)`. At its optimum
    `exp(s_k) * L_k = 1`. Scale: a sum of terms. The terms have to be positive.

    A term of exactly 0 in a batch is absent: it adds no `-s_k` either, so its
    `s_k` stays where it is, provided that `extra_loss` is given the values.

    Args:
        name: Name of the layer.
        dtype: Dtype of the variable, float32 by default.
        trainable: Whether `s` is learned.

    Returns:
        Of `weights(values)`: `(K,)`.

    Reference:
        Liu, Li, Kuang, Xue, Chen, Yang, Liao, Zhang, "Towards Impartial
        Multi-task Learning", ICLR 2021.

    Example:
        >>> method = IMTLLoss()
        >>> [float(w) for w in method.weights(ops.array([2.0, 4.0]))]
        [1.0, 1.0]
        >>> float(method.extra_loss())
        -0.0
    """

    statistic = "values"

    def build(self, num_terms):
        super().build(num_terms)
        self.log_scale = self.add_weight(
            name="log_scale", shape=(self.num_terms,), initializer="zeros"
        )

    def weigh(self, values, training):
        return ops.exp(ops.convert_to_tensor(self.log_scale))

    def extra_loss(self, values=None):
        return -sum_of_present(self.log_scale, values)
