"""Keras' losses between distributions, except the categorical ones."""

import keras
import numpy as np
from keras import ops

from keras_losskit import _backend
from keras_losskit._types import DType
from keras_losskit._types import KerasLoss
from keras_losskit._types import ReductionLike
from keras_losskit._types import Tensor
from keras_losskit._types import TensorLike
from keras_losskit._types import Weight
from keras_losskit.losses._core.function import same_rank
from keras_losskit.losses._core.labels import one_hot_like
from keras_losskit.losses._core.logits import resolution
from keras_losskit.losses._core.loss import AlongAxis
from keras_losskit.losses._core.loss import LossMixin


@keras.saving.register_keras_serializable("keras_losskit")
class KLDivergence(LossMixin, KerasLoss[keras.losses.KLDivergence]):
    """Kullback-Leibler divergence of predicted from true probabilities.

    `loss = sum(y_true * log(y_true / y_pred), axis=-1)`, both clipped to
    `[epsilon, 1]`.

    Args:
        reduction, name, dtype, weight: See `Loss`.

    Example:
        >>> loss = KLDivergence()
        >>> round(float(loss([[0.5, 0.5]], [[0.25, 0.75]])), 4)
        0.1438
    """

    def __init__(
        self,
        reduction: ReductionLike = "sum_over_batch_size",
        name: str | None = "kl_divergence",
        dtype: DType | None = None,
        *,
        weight: Weight = 1.0,
    ):
        super().__init__(reduction, name, dtype, weight=weight)


@keras.saving.register_keras_serializable("keras_losskit")
class Poisson(LossMixin, KerasLoss[keras.losses.Poisson]):
    """Poisson negative log-likelihood, less a constant.

    `loss = mean(y_pred - y_true * log(y_pred + epsilon), axis=-1)`.

    Args:
        reduction, name, dtype, weight: See `Loss`.

    Example:
        >>> loss = Poisson()
        >>> round(float(loss([[1.0, 0.0]], [[1.0, 2.0]])), 4)
        1.5
    """

    def __init__(
        self,
        reduction: ReductionLike = "sum_over_batch_size",
        name: str | None = "poisson",
        dtype: DType | None = None,
        *,
        weight: Weight = 1.0,
    ):
        super().__init__(reduction, name, dtype, weight=weight)


@keras.saving.register_keras_serializable("keras_losskit")
class BinaryCrossentropy(
    AlongAxis, LossMixin, KerasLoss[keras.losses.BinaryCrossentropy]
):
    """Binary crossentropy.

    `loss = mean(-y_true * log(p) - (1 - y_true) * log(1 - p), axis)`.

    Args:
        from_logits: Whether `y_pred` holds logits rather than
            probabilities.
        label_smoothing: Share of the label, in [0, 1], that is squeezed
            towards 0.5.
        axis: Axis of the mean.
        reduction, name, dtype, weight: See `Loss`.

    Example:
        >>> loss = BinaryCrossentropy(from_logits=True)
        >>> round(float(loss([[1.0, 0.0]], [[0.0, 0.0]])), 4)
        0.6931
    """

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: ReductionLike = "sum_over_batch_size",
        name: str | None = "binary_crossentropy",
        dtype: DType | None = None,
        *,
        weight: Weight = 1.0,
    ):
        self.from_logits = from_logits
        self.label_smoothing = label_smoothing
        self.axis = axis
        super().__init__(reduction, name, dtype, weight=weight)

    def call(self, y_true: TensorLike, y_pred: TensorLike) -> Tensor:
        if self.from_logits:
            return super().call(y_true, y_pred)
        return _despite_nan(super().call, y_true, y_pred, self.axis)


@keras.saving.register_keras_serializable("keras_losskit")
class BinaryFocalCrossentropy(
    AlongAxis, LossMixin, KerasLoss[keras.losses.BinaryFocalCrossentropy]
):
    """Binary crossentropy that plays down easy examples.

    `loss = mean((1 - pt) ** gamma * crossentropy, axis)`, `pt` being the
    probability of the true class.

    Args:
        apply_class_balancing: Whether to weight class 1 with `alpha` and
            class 0 with `1 - alpha`.
        alpha: Weight of class 1.
        gamma: Focusing exponent; 0 gives the crossentropy.
        from_logits: Whether `y_pred` holds logits rather than
            probabilities.
        label_smoothing: Share of the label, in [0, 1], that is squeezed
            towards 0.5.
        axis: Axis of the mean.
        reduction, name, dtype, weight: See `Loss`.

    Reference:
        Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017.

    Example:
        >>> loss = BinaryFocalCrossentropy(from_logits=True)
        >>> round(float(loss([[1.0, 0.0]], [[0.0, 0.0]])), 4)
        0.1733
    """

    def __init__(
        self,
        apply_class_balancing: bool = False,
        alpha: float = 0.25,
        gamma: float = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: ReductionLike = "sum_over_batch_size",
        name: str | None = "binary_focal_crossentropy",
        dtype: DType | None = None,
        *,
        weight: Weight = 1.0,
    ):
        self.apply_class_balancing = apply_class_balancing
        self.alpha = alpha
        self.gamma = gamma
        self.from_logits = from_logits
        self.label_smoothing = label_smoothing
        self.axis = axis
        super().__init__(reduction, name, dtype, weight=weight)

    def call(self, y_true: TensorLike, y_pred: TensorLike) -> Tensor:
        return _despite_nan(self._values, y_true, y_pred, self.axis)

    def _values(self, y_true, y_pred):
        if self.gamma >= 1.0:
            return super().call(y_true, y_pred)
        # As in Keras, but for the power, whose slope at 0 is infinite.
        y_true, p = same_rank(y_true, y_pred)
        if self.label_smoothing:
            y_true = y_true * (1.0 - self.label_smoothing)
            y_true = y_true + 0.5 * self.label_smoothing
        p = ops.sigmoid(p) if self.from_logits else p
        loss = ops.binary_crossentropy(y_true, p)
        if self.gamma:
            wrong = 1.0 - (y_true * p + (1.0 - y_true) * (1.0 - p))
            lowest = max(keras.config.epsilon(), resolution(p.dtype))
            loss = ops.maximum(wrong, lowest) ** self.gamma * loss
        if self.apply_class_balancing:
            alpha = y_true * self.alpha + (1.0 - y_true) * (1.0 - self.alpha)
            loss = alpha * loss
        return ops.mean(loss, axis=self.axis)


@keras.saving.register_keras_serializable("keras_losskit")
class CategoricalGeneralizedCrossEntropy(
    LossMixin, KerasLoss[keras.losses.CategoricalGeneralizedCrossEntropy]
):
    """Generalized crossentropy, robust to noisy labels.

    `loss = (1 - p ** q) / q`, `p` being the probability of the true class;
    labels are integers.

    Args:
        q: Robustness, in (0, 1): near 0 the crossentropy, near 1 the
            absolute error.
        reduction, name, dtype, weight: See `Loss`.

    Raises:
        ValueError: if `q` is not inside (0, 1); in eager mode, if a label is
            not among the classes.

    Reference:
        Zhang, Sabuncu, "Generalized Cross Entropy Loss for Training Deep
        Neural Networks with Noisy Labels", NeurIPS 2018.

    Example:
        >>> loss = CategoricalGeneralizedCrossEntropy(q=0.5)
        >>> round(float(loss([1], [[0.75, 0.25]])), 4)
        1.0
    """

    def __init__(
        self,
        q: float = 0.5,
        reduction: ReductionLike = "sum_over_batch_size",
        name: str | None = "categorical_generalized_cross_entropy",
        dtype: DType | None = None,
        *,
        weight: Weight = 1.0,
    ):
        self.q = q
        super().__init__(reduction, name, dtype, weight=weight)

    def call(self, y_true: TensorLike, y_pred: TensorLike) -> Tensor:
        one_hot = one_hot_like(self.name, y_true, y_pred)
        p = ops.sum(one_hot * y_pred, axis=-1)
        # The slope of a power at 0 is infinite: below `lowest` it is a line.
        lowest = keras.config.epsilon()
        power = ops.power(ops.maximum(p, lowest), self.q)
        line = p * lowest ** (self.q - 1.0)
        return (1.0 - ops.where(p < lowest, line, power)) / self.q


def _despite_nan(call, y_true, y_pred, axis):
    """`call(y_true, y_pred)`, NaN where the predictions are.

    PyTorch's crossentropy of probabilities raises an error there, after which
    a GPU can no longer be used; that of other backends is NaN.
    """
    if keras.config.backend() != "torch":
        return call(y_true, y_pred)
    if _backend.is_concrete_on_cpu(y_pred):
        try:
            return call(y_true, y_pred)
        except RuntimeError:
            if not bool(ops.any(ops.isnan(y_pred))):
                raise
    unknown = ops.isnan(y_pred)
    values = call(y_true, ops.where(unknown, 0.5, y_pred))
    # Twice, since the gradient of 0 times NaN would be NaN everywhere.
    nan = ops.where(unknown, y_pred, 0.0) * ops.where(unknown, np.nan, 0.0)
    return values + ops.mean(nan, axis=axis)
