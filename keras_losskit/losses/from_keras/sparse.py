"""Keras' crossentropies of integer labels."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_losskit import _keras
from keras_losskit._support.counting import Flags
from keras_losskit._support.precision import at_least_float32
from keras_losskit._types import DType
from keras_losskit._types import KerasLoss
from keras_losskit._types import ReductionLike
from keras_losskit._types import Tensor
from keras_losskit._types import TensorLike
from keras_losskit._types import Weight
from keras_losskit.losses._core.arguments import check_settings
from keras_losskit.losses._core.arguments import checked_integer
from keras_losskit.losses._core.labels import check_labels
from keras_losskit.losses._core.labels import counted_labels
from keras_losskit.losses._core.labels import integer_labels
from keras_losskit.losses._core.labels import without_ignored
from keras_losskit.losses._core.logits import Logits
from keras_losskit.losses._core.logits import Predicted
from keras_losskit.losses._core.logits import Probabilities
from keras_losskit.losses._core.logits import not_all_zero
from keras_losskit.losses._core.loss import AlongAxis
from keras_losskit.losses._core.loss import LossMixin
from keras_losskit.losses._core.loss import OnLogits


@keras.saving.register_keras_serializable("keras_losskit")
class SparseCategoricalCrossentropy(
    AlongAxis, LossMixin, KerasLoss[keras.losses.SparseCategoricalCrossentropy]
):
    """Crossentropy between integer labels and predictions.

    `loss = -log(p[y_true])`, and with label smoothing `loss = -(1 - s) *
    log(p[y_true]) - s * mean(log(p), axis)`.

    Args:
        from_logits: Whether `y_pred` holds logits rather than
            probabilities.
        ignore_class: A label whose samples are left out, as if masked.
        axis: Axis of the classes.
        label_smoothing: `s`, the share of the label, in [0, 1], that is spread
            evenly over the classes.
        reduction, name, dtype, weight: See `Loss`.

    Raises:
        ValueError: if `label_smoothing` is not in [0, 1]; in eager mode, if a
            label is not among the classes.

    Example:
        >>> loss = SparseCategoricalCrossentropy()
        >>> round(float(loss([1], [[0.75, 0.25]])), 4)
        1.3863
    """

    # Of Keras' own only 3.16 smooths.
    computed_here = frozenset({"label_smoothing"})

    def __init__(
        self,
        from_logits: bool = False,
        ignore_class: int | None = None,
        reduction: ReductionLike = "sum_over_batch_size",
        axis: int = -1,
        label_smoothing: float = 0.0,
        name: str | None = "sparse_categorical_crossentropy",
        dtype: DType | None = None,
        *,
        weight: Weight = 1.0,
    ):
        if isinstance(label_smoothing, str):
            raise ValueError(
                f"Expected `label_smoothing` of loss '{name}' to be in [0, 1]. "
                f"Received: label_smoothing={label_smoothing!r}. Before Keras "
                "3.16 the fifth argument was `name`: give both by name."
            )
        self.from_logits = from_logits
        self.ignore_class = ignore_class
        self.axis = axis
        self.label_smoothing = label_smoothing
        super().__init__(reduction, name, dtype, weight=weight)

    def call(self, y_true: TensorLike, y_pred: TensorLike) -> Tensor:
        classes = y_pred.shape[self.axis]
        check_labels(self.name, y_true, classes, self.ignore_class)
        if self.ignore_class is not None:
            kept = ops.not_equal(y_true, self.ignore_class)
            y_pred = Flags((self.axis,), masks=(kept,), fill=True).apply(y_pred)
        if not self.from_logits:
            y_pred = not_all_zero(y_pred, self.axis)
        values = super().call(y_true, y_pred)
        if not self.label_smoothing:
            return values
        predictions = class_predictions(y_pred, self.from_logits, self.axis)
        evenly = -ops.mean(predictions.log_probabilities(self.axis), self.axis)
        smoothed = (1.0 - self.label_smoothing) * values
        smoothed += self.label_smoothing * evenly
        return without_ignored(smoothed, _keras.get_keras_mask(values))


_KerasFocal: Any = vars(keras.losses).get(
    "SparseCategoricalFocalCrossentropy", keras.losses.Loss
)


@keras.saving.register_keras_serializable("keras_losskit")
class SparseCategoricalFocalCrossentropy(
    OnLogits, AlongAxis, LossMixin, KerasLoss[_KerasFocal]
):
    """Focal crossentropy between integer labels and predictions.

    `loss = -alpha[y_true] * (1 - p) ** gamma * log(p)` with `p` the probability
    of the label. Keras has it from 3.16 on; this class needs no more than 3.14.

    Args:
        alpha: Weight of all classes, or a list with one for each.
        gamma: Focusing exponent; 0 gives the crossentropy times `alpha`.
        from_logits: Whether `y_pred` holds logits rather than
            probabilities.
        ignore_class: A label whose samples are left out, as if masked.
        axis: Axis of the classes.
        reduction, name, dtype, weight: See `Loss`.

    Raises:
        ValueError: in a call, if the labels do not have the predictions' shape
            without the classes, or `alpha` another length; in eager mode, if a
            label is not among the classes.

    Reference:
        Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017.

    Example:
        >>> loss = SparseCategoricalFocalCrossentropy(from_logits=True)
        >>> round(float(loss([0], [[0.0, 0.0]])), 4)
        0.0433
    """

    # Labels stay integers: half precision has no number for class 257.
    keeps_integers = True

    def __init__(
        self,
        alpha: float | Sequence[float] = 0.25,
        gamma: float = 2.0,
        from_logits: bool = False,
        ignore_class: int | None = None,
        axis: int = -1,
        reduction: ReductionLike = "sum_over_batch_size",
        name: str | None = "sparse_categorical_focal_crossentropy",
        dtype: DType | None = None,
        *,
        weight: Weight = 1.0,
    ):
        self.alpha = alpha
        self.gamma = gamma
        self.from_logits = from_logits
        self.ignore_class = ignore_class
        self.axis = axis
        super().__init__(reduction, name, dtype, weight=weight)

    def call(self, y_true: TensorLike, y_pred: TensorLike) -> Tensor:
        predictions = class_predictions(y_pred, self.from_logits, self.axis)
        return self.call_on_logits(y_true, predictions)

    def call_on_logits(self, y_true: TensorLike, logits: Predicted) -> Tensor:
        """`call`, from what other losses derived from the same logits."""
        classes = logits.tensor.shape[self.axis]
        check_labels(self.name, y_true, classes, self.ignore_class)
        settings = (self.alpha, self.gamma, self.ignore_class, self.axis)
        return sparse_focal(y_true, logits, *settings)


def sparse_categorical_focal_crossentropy(
    y_true: TensorLike,
    y_pred: TensorLike,
    alpha: float | Sequence[float] = 0.25,
    gamma: float = 2.0,
    from_logits: bool = False,
    ignore_class: int | None = None,
    axis: int = -1,
) -> Tensor:
    """Focal crossentropy of integer labels, for a Keras that lacks it.

    `loss = -alpha[y_true] * (1 - p) ** gamma * log(p)`.

    Args:
        y_true: Integer labels, `(batch, ...)`.
        y_pred: Logits or probabilities, with the classes on `axis` besides.
        alpha: Weight of all classes, or a list with one for each.
        gamma: Focusing exponent.
        from_logits: Whether `y_pred` holds logits.
        ignore_class: A label whose loss is 0 and masked.
        axis: Axis of the classes.

    Returns:
        Values, `(batch, ...)`, dtype of `y_pred`.

    Raises:
        ValueError: if shapes do not fit.

    Reference:
        Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017.

    Example:
        >>> loss = sparse_categorical_focal_crossentropy([0], [[0.5, 0.5]])
        >>> round(float(loss[0]), 4)
        0.0433
    """
    owner = "sparse_categorical_focal_crossentropy"
    check_settings(
        owner,
        alpha=alpha,
        gamma=gamma,
        from_logits=from_logits,
        ignore_class=ignore_class,
    )
    checked_integer(axis, f"`axis` of {owner}")
    y_pred = class_predictions(ops.convert_to_tensor(y_pred), from_logits, axis)
    return sparse_focal(y_true, y_pred, alpha, gamma, ignore_class, axis)


def sparse_focal(y_true, predictions, alpha, gamma, ignore_class, axis):
    """See `sparse_categorical_focal_crossentropy`, of `Logits`."""
    labels = integer_labels(
        y_true, predictions.tensor, axis, "CategoricalFocalCrossentropy"
    )
    classes = predictions.tensor.shape[axis]
    valid = None
    if ignore_class is not None:
        valid = ops.not_equal(labels, ignore_class)
    labels, counted = counted_labels(labels, classes, ignore_class)
    log_p = predictions.log_probabilities(axis)
    log_p = ops.squeeze(
        ops.take_along_axis(log_p, ops.expand_dims(labels, axis), axis), axis
    )
    p = ops.exp(log_p)
    if gamma < 1.0:
        # As in Keras: the gradient of a power of 0 would not be finite.
        p = ops.minimum(p, 1.0 - keras.config.epsilon())
    values = -alpha_of(labels, alpha, classes, log_p.dtype) * (
        (1.0 - p) ** gamma * log_p
    )
    values = ops.where(counted, values, 0.0)
    return without_ignored(values, valid)


def class_predictions(y_pred, from_logits, axis):
    """`Logits`, or `Probabilities` that sum to 1 over `axis`, as Keras'."""
    y_pred = at_least_float32(y_pred)
    if from_logits:
        return Logits(y_pred)
    y_pred = not_all_zero(y_pred, axis)
    return Probabilities(y_pred / ops.sum(y_pred, axis=axis, keepdims=True))


def alpha_of(labels, alpha, classes, dtype):
    """The weight of each label's class."""
    if isinstance(alpha, int | float):
        return alpha
    alpha = ops.convert_to_tensor(alpha, dtype=dtype)
    if len(alpha.shape) == 0:
        return alpha
    if len(alpha.shape) != 1 or classes not in (None, alpha.shape[0]):
        raise ValueError(
            f"Expected `alpha` to be a number or a list of {classes}, one for "
            f"each class. Received: shape {tuple(alpha.shape)}"
        )
    return ops.take(alpha, labels, axis=0)
