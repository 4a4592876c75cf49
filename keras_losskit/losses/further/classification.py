"""Classification losses that Keras lacks."""

import keras
from keras import ops

from keras_losskit._support.checks import checked_flag
from keras_losskit._support.checks import checked_non_negative
from keras_losskit._support.checks import checked_number
from keras_losskit._support.precision import at_least_float32
from keras_losskit._types import DType
from keras_losskit._types import ReductionLike
from keras_losskit._types import Tensor
from keras_losskit._types import TensorLike
from keras_losskit._types import Weight
from keras_losskit.losses._core.function import same_rank
from keras_losskit.losses._core.labels import one_hot_like
from keras_losskit.losses._core.logits import Predicted
from keras_losskit.losses._core.logits import predicted
from keras_losskit.losses._core.loss import ClassLoss
from keras_losskit.losses._core.loss import Loss


def poly1(
    y_true: TensorLike,
    y_pred: TensorLike,
    *,
    epsilon: float = 1.0,
    from_logits: bool = False,
) -> Tensor:
    """Poly-1 loss: crossentropy whose first polynomial coefficient is changed.

    `loss = -sum(y_true * log(p)) + epsilon * sum(y_true * (1 - p))` over the
    classes.

    Args:
        y_true: One-hot labels, `(batch, d0, ..., dN, classes)`, or integers,
            `(batch, d0, ..., dN)`.
        y_pred: Probabilities, `(batch, d0, ..., dN, classes)`.
        epsilon: What is added to the coefficient; 0 gives the crossentropy.
        from_logits: Whether `y_pred` holds logits.

    Returns:
        Losses, `(batch, d0, ..., dN)`, float32 at least.

    Raises:
        TypeError: if a setting is not of its kind.
        ValueError: if the shapes do not fit; in eager mode, if a label is not
            among the classes.

    Reference:
        Leng et al., "PolyLoss", ICLR 2022.

    Example:
        >>> round(float(poly1([0], [[0.5, 0.5]])[0]), 4)
        1.1931
    """
    epsilon = checked_number(epsilon, "`epsilon` of poly1")
    checked_flag(from_logits, "`from_logits` of poly1")
    return _poly1(y_true, predicted(y_pred, from_logits), epsilon)


def _poly1(y_true, prediction, epsilon, name="poly1"):
    p = prediction.probabilities()
    if p.shape[-1] == 1:
        raise ValueError(
            "Expected predictions of two classes or more. Received: "
            f"y_pred.shape={tuple(p.shape)}. For one channel there is "
            "BinaryFocalCrossentropy."
        )
    y_true = one_hot_like(name, y_true, p)
    terms = prediction.log_probabilities() - epsilon * (1.0 - p)
    return -ops.sum(y_true * terms, axis=-1)


def asymmetric_loss(
    y_true: TensorLike,
    y_pred: TensorLike,
    *,
    gamma_positive: float = 1.0,
    gamma_negative: float = 4.0,
    margin: float = 0.05,
    from_logits: bool = False,
) -> Tensor:
    """Asymmetric loss for many labels, few of which apply.

    `loss = -mean(y_true * (1 - p) ** gamma_positive * log(p) + (1 - y_true) *
    pm ** gamma_negative * log(1 - pm), axis=-1)` with `pm = max(p - margin,
    0)`.

    Args:
        y_true: Labels of 0 and 1, `(batch, d0, ..., dN)`.
        y_pred: Probabilities, same shape.
        gamma_positive: Focusing exponent of the labels that apply.
        gamma_negative: Focusing exponent of those that do not.
        margin: Probability up to which a label that does not apply is ignored.
        from_logits: Whether `y_pred` holds logits.

    Returns:
        Per-sample losses, `(batch, d0, ..., dN-1)`, float32 at least.

    Raises:
        TypeError: if a setting is not of its kind.
        ValueError: if an exponent or the margin is negative.

    Reference:
        Ridnik et al., "Asymmetric Loss for Multi-Label Classification", ICCV
        2021.

    Example:
        >>> loss = asymmetric_loss([[1.0, 0.0]], [[0.5, 0.05]])
        >>> round(float(loss[0]), 4)
        0.1733
    """
    for exponent, name in (
        (gamma_positive, "gamma_positive"),
        (gamma_negative, "gamma_negative"),
        (margin, "margin"),
    ):
        checked_non_negative(exponent, f"`{name}` of asymmetric_loss")
    checked_flag(from_logits, "`from_logits` of asymmetric_loss")
    y_true, y_pred = same_rank(
        at_least_float32(y_true), at_least_float32(y_pred)
    )
    y_true = ops.cast(y_true, y_pred.dtype)
    tiny = keras.config.epsilon()
    if from_logits:
        p, not_p = ops.sigmoid(y_pred), ops.sigmoid(-y_pred)
        log_p = ops.log_sigmoid(y_pred)
        log_not_p = ops.log_sigmoid(-y_pred)
    else:
        p = ops.clip(y_pred, tiny, 1.0 - tiny)
        not_p = 1.0 - p
        log_p, log_not_p = ops.log(p), ops.log(not_p)
    shifted = p
    if margin:
        shifted = ops.maximum(p - margin, 0.0)
        log_not_p = ops.log(1.0 - shifted)
    positive = y_true * _power(not_p, gamma_positive) * log_p
    negative = (1.0 - y_true) * _power(shifted, gamma_negative) * log_not_p
    return -ops.mean(positive + negative, axis=-1)


def _power(base, exponent):
    """`base ** exponent`, with a finite gradient at 0 for any exponent."""
    if exponent == 0.0:
        return ops.ones_like(base)
    if exponent >= 1.0:
        return ops.power(base, exponent)
    return ops.power(ops.maximum(base, keras.config.epsilon()), exponent)


@keras.saving.register_keras_serializable("keras_losskit")
class Poly1(ClassLoss):
    """Poly-1 loss: crossentropy whose first polynomial coefficient is changed.

    `loss = reduction(poly1(y_true, y_pred))`.

    Args:
        epsilon: What is added to the coefficient; 0 gives the crossentropy.
        from_logits: Whether `y_pred` holds logits rather than probabilities.
        reduction, name, dtype, weight: See `Loss`.

    Reference:
        Leng et al., "PolyLoss", ICLR 2022.

    Example:
        >>> loss = Poly1(from_logits=True)
        >>> round(float(loss([0], [[0.0, 0.0]])), 4)
        1.1931
    """

    def __init__(
        self,
        epsilon: float = 1.0,
        from_logits: bool = False,
        reduction: ReductionLike = "sum_over_batch_size",
        name: str | None = "poly1",
        dtype: DType | None = None,
        *,
        weight: Weight = 1.0,
    ):
        self.epsilon = epsilon
        self.from_logits = from_logits
        super().__init__(reduction, name, dtype, weight=weight)

    def call_on_logits(self, y_true: TensorLike, logits: Predicted) -> Tensor:
        """`call`, from what other losses derived from the same logits."""
        return _poly1(y_true, logits, self.epsilon, self.name)


@keras.saving.register_keras_serializable("keras_losskit")
class AsymmetricLoss(Loss):
    """Asymmetric loss for many labels, few of which apply.

    `loss = reduction(asymmetric_loss(y_true, y_pred))`.

    Args:
        gamma_positive: Focusing exponent of the labels that apply.
        gamma_negative: Focusing exponent of those that do not.
        margin: Probability up to which a label that does not apply is ignored.
        from_logits: Whether `y_pred` holds logits rather than probabilities.
        reduction, name, dtype, weight: See `Loss`.

    Raises:
        ValueError: if an exponent is negative, or `margin` not in [0, 1).

    Reference:
        Ridnik et al., "Asymmetric Loss for Multi-Label Classification", ICCV
        2021.

    Example:
        >>> loss = AsymmetricLoss()
        >>> round(float(loss([[1.0, 0.0]], [[0.5, 0.05]])), 4)
        0.1733
    """

    def __init__(
        self,
        gamma_positive: float = 1.0,
        gamma_negative: float = 4.0,
        margin: float = 0.05,
        from_logits: bool = False,
        reduction: ReductionLike = "sum_over_batch_size",
        name: str | None = "asymmetric_loss",
        dtype: DType | None = None,
        *,
        weight: Weight = 1.0,
    ):
        self.gamma_positive = gamma_positive
        self.gamma_negative = gamma_negative
        self.margin = margin
        self.from_logits = from_logits
        super().__init__(reduction, name, dtype, weight=weight)

    def call(self, y_true: TensorLike, y_pred: TensorLike) -> Tensor:
        return asymmetric_loss(
            y_true,
            y_pred,
            gamma_positive=self.gamma_positive,
            gamma_negative=self.gamma_negative,
            margin=self.margin,
            from_logits=self.from_logits,
        )
