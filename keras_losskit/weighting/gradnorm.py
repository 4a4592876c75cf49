"""GradNorm: weights that bring the gradients' norms together."""

import keras
from keras import ops

from keras_losskit._support.checks import checked_number
from keras_losskit._support.checks import checked_positive
from keras_losskit._types import Config
from keras_losskit._types import Tensor
from keras_losskit.weighting._arithmetic import larger
from keras_losskit.weighting._arithmetic import mean_where
from keras_losskit.weighting._arithmetic import ratio_or_one
from keras_losskit.weighting.gramian import GradientWeighting
from keras_losskit.weighting.gramian import cosines_and_norms


def gradnorm(weights, norms, present, rates, *, alpha, learning_rate):
    """The weights after one step of their own descent; see `GradNorm`.

    Args:
        weights: Weights before the step, `(K,)`.
        norms: Norms of the terms' gradients, `(K,)`.
        present: Which gradients are not zero, `(K,)`.
        rates: Inverse training rates `L[t] / L[0]`, `(K,)`.
        alpha: Strength of the pull towards slow terms.
        learning_rate: Length of the step.

    Returns:
        Weights, `(K,)`, which sum to K.

    Example:
        >>> weights = gradnorm(
        ...     ops.ones(2), ops.array([1.0, 3.0]), ops.array([True, True]),
        ...     ops.ones(2), alpha=1.0, learning_rate=0.1)
        >>> [round(float(w), 4) for w in weights]  # 1.05, 0.85 to a sum of 2
        [1.1053, 0.8947]
    """
    weighted = weights * norms
    mean_norm = mean_where(weighted, present)
    mean_norm = ops.where(mean_norm > 0, mean_norm, ops.ones_like(mean_norm))
    mean_rate = mean_where(rates, present)
    pull = ratio_or_one(rates, mean_rate) ** alpha
    # d/dw sum(|w * norm - mean * pull|) / mean, with mean and pull constant.
    gradient = ops.sign(weighted / mean_norm - pull) * norms / mean_norm
    gradient = ops.where(present, gradient, ops.zeros_like(gradient))
    moved = larger(weights - learning_rate * gradient, 1e-3 * weights)
    return moved * (weights.shape[0] / ops.sum(moved))


@keras.saving.register_keras_serializable("keras_losskit")
class GradNorm(GradientWeighting):
    """Gradient normalisation: terms train at similar rates.

    The weights descend on `sum_k |w_k * ||g_k|| - n * r_k^alpha| / n`, with `n`
    the mean of `w_k * ||g_k||` and `r_k` the inverse training rate `L_k[t] /
    L_k[0]` over its mean, both constant; then they are scaled to sum to K. The
    division by `n` is not in the paper: it makes `learning_rate` independent of
    the scale of the losses. Scale: a sum of terms. A step uses the weights that
    the one before it found; the first uses 1.

    A zero gradient is absent: its weight only moves with the scaling. A term
    whose value is exactly 0 has the rate 1.

    Args:
        alpha: Strength of the pull towards terms that train slowly.
        learning_rate: Step size of the weights.
        **options: `wrt`, `every`, `terms`, `name` and `dtype`; see
            `GradientWeighting`.

    Returns:
        Of a call with `gramian` and `values=values`: `(K,)`, with `values`
        those of the terms, `(K,)`. Without `training` they may be left out.

    Raises:
        ValueError: if `learning_rate` is not positive, or on use if `values`
            are missing in training.

    Reference:
        Chen, Badrinarayanan, Lee, Rabinovich, "GradNorm: Gradient
        Normalization for Adaptive Loss Balancing in Deep Multitask Networks",
        ICML 2018.

    Example:
        >>> method, values = GradNorm(learning_rate=0.1), ops.ones(2)
        >>> gramian = ops.array([[1.0, 0.0], [0.0, 9.0]])
        >>> _ = method(gramian, training=True, values=values)
        >>> weights = method(gramian, training=True, values=values)
        >>> [round(float(weight), 4) for weight in weights]
        [1.1053, 0.8947]
    """

    takes_values = True

    def __init__(
        self,
        *,
        alpha: float = 1.5,
        learning_rate: float = 0.025,
        **options,
    ):
        super().__init__(**options)
        self.alpha = checked_number(alpha, "`alpha` of GradNorm")
        self.learning_rate = checked_positive(
            learning_rate, "`learning_rate` of GradNorm"
        )

    def build(self, num_terms: int) -> None:
        super().build(num_terms)
        self.current = self.add_state("current", 1.0)
        self.first = self.add_state("first")

    def weigh(
        self, gramian: Tensor, training: bool, values: Tensor | None = None
    ) -> Tensor:
        # A copy: PyTorch's tensor is the variable's own memory.
        current = 1.0 * ops.cast(self.current, gramian.dtype)
        if not training:
            return current
        if values is None:
            raise ValueError(
                "Expected GradNorm to receive the values of the terms: "
                "`weighting(gramian, values=values)`. Received: values=None"
            )
        values = ops.cast(ops.stop_gradient(values), gramian.dtype)
        first = ops.cast(self.first, gramian.dtype)
        first = ops.where(first != 0, first, values)
        _, norms, present = cosines_and_norms(gramian)
        found = gradnorm(
            current,
            norms,
            present,
            ratio_or_one(values, first),
            alpha=self.alpha,
            learning_rate=self.learning_rate,
        )
        self.first.assign(first)
        self.current.assign(found)
        return current

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "alpha": self.alpha,
            "learning_rate": self.learning_rate,
        }
