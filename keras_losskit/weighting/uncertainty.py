"""Weights from a learned uncertainty of each term."""

from collections.abc import Sequence

import keras
from keras import ops

from keras_losskit._support.checks import checked_list
from keras_losskit._support.checks import checked_number
from keras_losskit._types import Config
from keras_losskit._types import Tensor
from keras_losskit._types import TensorLike
from keras_losskit.weighting._arithmetic import all_finite
from keras_losskit.weighting.weighting import Weighting


def uncertainty_weights(log_variance):
    """Weights of terms whose log variance is learned; see `Uncertainty`.

    `w_k = exp(-s_k) / 2`.

    Args:
        log_variance: `s`, `(K,)`.

    Returns:
        Weights, `(K,)`, dtype of `log_variance`.

    Example:
        >>> [float(w) for w in uncertainty_weights(ops.zeros(2))]
        [0.5, 0.5]
    """
    return 0.5 * ops.exp(-log_variance)


@keras.saving.register_keras_serializable("keras_losskit")
class Clamp(keras.constraints.Constraint):
    """Keep a variable inside `[low, high]`.

    A constraint rather than a clip in the forward pass: a clip has no gradient
    outside its bounds, so what left them would never come back.

    Args:
        low: Smallest value.
        high: Largest value.
    """

    def __init__(self, low, high):
        self.low = low
        self.high = high

    def __call__(self, value):
        return ops.clip(value, self.low, self.high)

    def get_config(self):
        return {"low": self.low, "high": self.high}


@keras.saving.register_keras_serializable("keras_losskit")
class Uncertainty(Weighting):
    """Uncertainty weighting: each term's noise is learned with the model.

    `total = sum_k(exp(-s_k) / 2 * L_k + s_k / 2)`, with `s_k` the learned log
    variance, 0 at first: `w_k = exp(-s_k) / 2`, and the method itself adds
    `sum_k(s_k) / 2`. Scale: a sum of terms.

    A term of exactly 0 in a batch is absent: it adds no `s_k / 2` either, so
    its `s_k` stays where it is, provided that `extra_loss` is given the values.
    In a batch with a value that is not finite every `s_k` does.

    Args:
        clamp: `(low, high)`, between which `s` is kept after each update.
            Defaults to no bounds.
        **options: `terms`, `name` and `dtype`, see `Weighting`, and
            `trainable`: whether `s` is learned.

    Returns:
        Of a call with `values`: `(K,)`.

    Raises:
        ValueError: if `clamp` is not two rising numbers around 0, where `s`
            starts.

    Reference:
        Kendall, Gal, Cipolla, "Multi-Task Learning Using Uncertainty to Weigh
        Losses for Scene Geometry and Semantics", CVPR 2018.

    Example:
        >>> method = Uncertainty(clamp=(-5.0, 5.0))
        >>> [float(w) for w in method(ops.array([2.0, 4.0]))]
        [0.5, 0.5]
        >>> method.log_variance.assign([1.0, 3.0]) is not None
        True
        >>> float(method.extra_loss())
        2.0
    """

    statistic = "values"

    def __init__(self, *, clamp: Sequence[float] | None = None, **options):
        super().__init__(**options)
        self.clamp = None if clamp is None else checked_clamp(clamp)

    def build(self, num_terms: int) -> None:
        super().build(num_terms)
        self.log_variance = self.add_weight(
            name="log_variance",
            shape=(self.num_terms,),
            initializer="zeros",
            constraint=None if self.clamp is None else Clamp(*self.clamp),
        )

    def weigh(self, values: Tensor, training: bool) -> Tensor:
        learned = learned_from(self.log_variance, values)
        return uncertainty_weights(learned)

    def extra_loss(self, values: TensorLike | None = None) -> Tensor:
        return 0.5 * sum_of_present(self.log_variance, values)

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "clamp": self.clamp and list(self.clamp),
        }


def learned_from(variable, values):
    """A learned variable, without a gradient if a value is not finite."""
    learned = ops.convert_to_tensor(variable)
    finite = all_finite(values)
    return ops.where(finite, learned, ops.stop_gradient(learned))


def sum_of_present(variable, values):
    """Sum of a learned `(K,)` variable over the terms that are not 0."""
    if values is None:
        return ops.sum(ops.convert_to_tensor(variable))
    values = ops.stop_gradient(ops.convert_to_tensor(values))
    learned = learned_from(variable, values)
    return ops.sum(ops.where(values != 0, learned, ops.zeros_like(learned)))


def checked_clamp(clamp):
    """Return `clamp` as two floats around 0, or refuse it."""
    what = "`clamp` of Uncertainty"
    bounds = [
        checked_number(bound, f"each of {what}")
        for bound in checked_list(clamp, what, "(low, high)", length=2)
    ]
    if not bounds[0] <= 0.0 <= bounds[1]:
        raise ValueError(
            "Expected `clamp` of Uncertainty to be (low, high) with "
            f"low <= 0 <= high, as the log variance starts at 0. "
            f"Received: clamp={clamp!r}"
        )
    return tuple(bounds)
