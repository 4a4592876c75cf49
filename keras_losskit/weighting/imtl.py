"""Impartial multi-task learning: loss-based and gradient-based."""

import keras
from keras import ops

from keras_losskit._types import Tensor
from keras_losskit._types import TensorLike
from keras_losskit.weighting._arithmetic import hair_to_zero
from keras_losskit.weighting._arithmetic import larger
from keras_losskit.weighting._arithmetic import product
from keras_losskit.weighting._quadratic import EPSILON
from keras_losskit.weighting.gramian import GradientWeighting
from keras_losskit.weighting.gramian import cosines_and_norms
from keras_losskit.weighting.gramian import smallest_norm
from keras_losskit.weighting.uncertainty import learned_from
from keras_losskit.weighting.uncertainty import sum_of_present
from keras_losskit.weighting.weighting import Weighting


@keras.saving.register_keras_serializable("keras_losskit")
class IMTLLoss(Weighting):
    """IMTL-L: a learned scale brings every term to the size of 1.

    `total = sum_k(exp(s_k) * L_k - s_k)` with `s_k` learned, 0 at first:
    `w_k = exp(s_k)`, and the method itself adds `-sum_k(s_k)`. At its optimum
    `exp(s_k) * L_k = 1`. Scale: a sum of terms. The terms have to be positive.

    A term of exactly 0 in a batch is absent: it adds no `-s_k` either, so its
    `s_k` stays where it is, provided that `extra_loss` is given the values. So
    is one that rounding has made negative, to -1e-6. In a batch with a value
    that is not finite every `s_k` stays where it is.

    Args:
        **options: `terms`, `name` and `dtype`, see `Weighting`, and
            `trainable`: whether `s` is learned.

    Returns:
        Of a call with `values`: `(K,)`.

    Reference:
        Liu, Li, Kuang, Xue, Chen, Yang, Liao, Zhang, "Towards Impartial
        Multi-task Learning", ICLR 2021.

    Example:
        >>> method = IMTLLoss()
        >>> [float(w) for w in method(ops.array([2.0, 4.0]))]
        [1.0, 1.0]
        >>> float(method.extra_loss())
        -0.0
    """

    statistic = "values"

    def build(self, num_terms: int) -> None:
        super().build(num_terms)
        self.log_scale = self.add_weight(
            name="log_scale", shape=(self.num_terms,), initializer="zeros"
        )

    def weigh(self, values: Tensor, training: bool) -> Tensor:
        return ops.exp(learned_from(self.log_scale, values))

    def extra_loss(self, values: TensorLike | None = None) -> Tensor:
        if values is not None:
            values = hair_to_zero(ops.convert_to_tensor(values))
        return -sum_of_present(self.log_scale, values)


def imtl_gradient(gramian):
    """Weights whose update is as far along every gradient; see `IMTLGradient`.

    `J^T w . u_i` is the same for all `i`, with `u_i = g_i / ||g_i||`.

    Args:
        gramian: `G = J J^T`, `(K, K)`.

    Returns:
        Weights, `(K,)`, dtype of `gramian`.

    Example:
        >>> gramian = ops.array([[18.0, -22.0], [-22.0, 38.0]])
        >>> [round(float(weight), 4) for weight in imtl_gradient(gramian)]
        [0.5923, 0.4077]
    """
    dtype = keras.backend.standardize_dtype(gramian.dtype)
    terms = gramian.shape[0]
    cosines, norms, present = cosines_and_norms(gramian)
    there = ops.cast(present, dtype)
    # Opposite gradients make the system singular: a little of the identity
    # lets their weights be equal, and repetition undoes it for all others.
    little = 10.0 * terms * EPSILON[dtype]
    system = cosines + little * ops.eye(terms, dtype=dtype)
    units = ops.zeros_like(there)
    for _ in range(3):
        missing = there - product(units, cosines)
        units = units + ops.solve(system, missing[:, None])[:, 0]
    weights = units * there * (smallest_norm(norms, present) / norms)
    total = ops.abs(ops.sum(weights))
    size = ops.sum(ops.abs(weights))
    some = size > 0
    total = larger(total, 1e-3 * size)
    weights = weights / ops.where(some, total, ops.ones_like(total))
    return ops.where(some, weights, ops.full_like(weights, 1.0 / terms))


@keras.saving.register_keras_serializable("keras_losskit")
class IMTLGradient(GradientWeighting):
    """IMTL-G: the update is as far along every term's gradient.

    `d = sum_k(w_k * g_k)` with `d . g_i / ||g_i||` the same, and not negative,
    for all `i`. Scale: a mean of terms; the weights sum to 1. One may be
    negative. Where their sum is negative or almost 0, they are divided by its
    size, or by a thousandth of the sum of theirs: the published division by the
    sum would turn the update round, or have no bound.

    A zero gradient is absent: its weight is 0. If all are zero, or the Gramian
    is not finite, the weights are `1 / K`.

    Args:
        **options: `wrt`, `every`, `terms`, `name` and `dtype`; see
            `GradientWeighting`.

    Returns:
        Of a call with `gramian`: `(K,)`.

    Reference:
        Liu, Li, Kuang, Xue, Chen, Yang, Liao, Zhang, "Towards Impartial
        Multi-task Learning", ICLR 2021.

    Example:
        >>> method = IMTLGradient()
        >>> weights = method(ops.array([[4.0, 0.0], [0.0, 1.0]]))
        >>> [round(float(weight), 4) for weight in weights]
        [0.3333, 0.6667]
    """

    def weigh(self, gramian: Tensor, training: bool) -> Tensor:
        return imtl_gradient(gramian)
