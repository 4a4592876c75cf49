"""Keras' crossentropies over classes, stable and sharing a softmax."""

from collections.abc import Sequence

import keras
from keras import ops

from keras_losskit._types import DType
from keras_losskit._types import KerasLoss
from keras_losskit._types import ReductionLike
from keras_losskit._types import Tensor
from keras_losskit._types import TensorLike
from keras_losskit._types import Weight
from keras_losskit.losses._core.labels import same_shape
from keras_losskit.losses._core.labels import smoothed
from keras_losskit.losses._core.logits import Logits
from keras_losskit.losses._core.logits import Predicted
from keras_losskit.losses._core.logits import not_all_zero
from keras_losskit.losses._core.logits import resolution
from keras_losskit.losses._core.loss import AlongAxis
from keras_losskit.losses._core.loss import LossMixin
from keras_losskit.losses._core.loss import OnLogits


@keras.saving.register_keras_serializable("keras_losskit")
class CategoricalCrossentropy(
    OnLogits,
    AlongAxis,
    LossMixin,
    KerasLoss[keras.losses.CategoricalCrossentropy],
):
    """Crossentropy between one-hot labels and predictions.

    `loss = -sum(y_true * log(p), axis)`.

    Args:
        from_logits: Whether `y_pred` holds logits rather than
            probabilities.
        label_smoothing: Share of the label, in [0, 1], that is spread
            evenly over the classes.
        axis: Axis of the classes.
        normalize: Whether to divide probabilities by their sum first, as
            Keras does. `False` gives the textbook's value and gradient. Has
            no effect with logits.
        reduction, name, dtype, weight: See `Loss`.

    Raises:
        ValueError: in a call, if labels and predictions differ in shape.

    Example:
        >>> p = [[0.2, 0.3, 0.1]]
        >>> keras_like = CategoricalCrossentropy()
        >>> round(float(keras_like([[1.0, 0.0, 0.0]], p)), 4)
        1.0986
        >>> textbook = CategoricalCrossentropy(normalize=False)
        >>> round(float(textbook([[1.0, 0.0, 0.0]], p)), 4)
        1.6094
    """

    def __init__(
        self,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: ReductionLike = "sum_over_batch_size",
        name: str | None = "categorical_crossentropy",
        dtype: DType | None = None,
        *,
        normalize: bool = True,
        weight: Weight = 1.0,
    ):
        self.from_logits = from_logits
        self.label_smoothing = label_smoothing
        self.axis = axis
        self.normalize = normalize
        super().__init__(reduction, name, dtype, weight=weight)

    def call(self, y_true: TensorLike, y_pred: TensorLike) -> Tensor:
        y_true, y_pred = same_shape(self.name, y_true, y_pred)
        if self.from_logits or self.normalize:
            if not self.from_logits:
                y_pred = not_all_zero(y_pred, self.axis)
            return keras.losses.categorical_crossentropy(
                smoothed(y_true, y_pred, self.label_smoothing, self.axis),
                y_pred,
                from_logits=self.from_logits,
                axis=self.axis,
            )
        epsilon = keras.config.epsilon()
        log_probabilities = ops.log(ops.clip(y_pred, epsilon, 1.0))
        return self._crossentropy(y_true, log_probabilities)

    def call_on_logits(self, y_true: TensorLike, logits: Predicted) -> Tensor:
        """`call`, from what other losses derived from the same logits."""
        y_true, _ = same_shape(self.name, y_true, logits.tensor)
        return self._crossentropy(y_true, logits.log_probabilities(self.axis))

    def _crossentropy(self, y_true, log_probabilities):
        y_true = ops.cast(y_true, log_probabilities.dtype)
        loss = -ops.sum(y_true * log_probabilities, axis=self.axis)
        if not self.label_smoothing:
            return loss
        # Smoothed labels would be kept for the gradient; their sum is linear.
        even = -ops.mean(log_probabilities, axis=self.axis)
        return (1.0 - self.label_smoothing) * loss + self.label_smoothing * even


@keras.saving.register_keras_serializable("keras_losskit")
class CategoricalFocalCrossentropy(
    OnLogits,
    AlongAxis,
    LossMixin,
    KerasLoss[keras.losses.CategoricalFocalCrossentropy],
):
    """Categorical crossentropy that plays down easy examples.

    `loss = -sum(alpha * (1 - p) ** gamma * y_true * log(p), axis)`. From
    logits, `log(p)` is a log-softmax: unlike Keras', it keeps its gradient
    where `p` is below `epsilon`.

    Args:
        alpha: Weight of all classes, or a list with one for each.
        gamma: Focusing exponent; 0 gives the crossentropy times `alpha`.
        from_logits: Whether `y_pred` holds logits rather than
            probabilities.
        label_smoothing: Share of the label, in [0, 1], that is spread
            evenly over the classes.
        axis: Axis of the classes.
        reduction, name, dtype, weight: See `Loss`.

    Raises:
        ValueError: in a call, if labels and predictions differ in shape.

    Reference:
        Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017.

    Example:
        >>> loss = CategoricalFocalCrossentropy(from_logits=True)
        >>> round(float(loss([[1.0, 0.0]], [[0.0, 0.0]])), 4)
        0.0433
    """

    def __init__(
        self,
        alpha: float | Sequence[float] = 0.25,
        gamma: float = 2.0,
        from_logits: bool = False,
        label_smoothing: float = 0.0,
        axis: int = -1,
        reduction: ReductionLike = "sum_over_batch_size",
        name: str | None = "categorical_focal_crossentropy",
        dtype: DType | None = None,
        *,
        weight: Weight = 1.0,
    ):
        self.alpha = alpha
        self.gamma = gamma
        self.from_logits = from_logits
        self.label_smoothing = label_smoothing
        self.axis = axis
        super().__init__(reduction, name, dtype, weight=weight)

    def call(self, y_true: TensorLike, y_pred: TensorLike) -> Tensor:
        if self.from_logits:
            return self.call_on_logits(y_true, Logits(y_pred))
        y_true, y_pred = same_shape(self.name, y_true, y_pred)
        return super().call(y_true, not_all_zero(y_pred, self.axis))

    def call_on_logits(self, y_true: TensorLike, logits: Predicted) -> Tensor:
        """`call`, from what other losses derived from the same logits."""
        y_true, _ = same_shape(self.name, y_true, logits.tensor)
        log_p = logits.log_probabilities(self.axis)
        y_true = smoothed(y_true, log_p, self.label_smoothing, self.axis)
        p = logits.probabilities(self.axis)
        if self.gamma < 1.0:
            # As in Keras: the gradient of a power of 0 would not be finite.
            highest = 1.0 - max(keras.config.epsilon(), resolution(p.dtype))
            p = ops.minimum(p, highest)
        # No `ops.power`, which on PyTorch keeps its result for the gradient.
        focus = (1.0 - p) ** self.gamma
        if isinstance(self.alpha, int | float):
            return -self.alpha * ops.sum(focus * y_true * log_p, self.axis)
        alpha = ops.convert_to_tensor(self.alpha, dtype=log_p.dtype)
        return -ops.sum(alpha * focus * y_true * log_p, axis=self.axis)
