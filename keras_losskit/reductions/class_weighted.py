"""A reduction that looks at the classes of the samples."""

from collections.abc import Mapping
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from keras_losskit._support.checks import checked_index
from keras_losskit._support.checks import checked_list
from keras_losskit._support.checks import checked_non_negative
from keras_losskit._support.precision import at_least_float32
from keras_losskit._types import Config
from keras_losskit._types import Tensor
from keras_losskit._types import TensorLike
from keras_losskit.reductions._standard import mean
from keras_losskit.reductions.reduction import Reduction


def class_weighted(values, sample_weight=None, mask=None, *, y_true, weights):
    """Mean of the values times the weights of their classes.

    See `ClassWeighted`.
    """
    table, beyond = _table(weights)
    # Before the product, which half precision might not hold.
    values = at_least_float32(values)
    labels = ops.convert_to_tensor(y_true)
    rank = len(values.shape)
    if len(labels.shape) == rank + 1 and labels.shape[-1] == 1:
        labels = ops.squeeze(labels, axis=-1)
    elif len(labels.shape) == rank + 1:
        if beyond is None and labels.shape[-1] not in (None, len(table)):
            raise ValueError(
                f"Expected one-hot labels of {len(table)} classes. Received: "
                f"y_true.shape={tuple(labels.shape)}"
            )
        labels = ops.argmax(labels, axis=-1)
    if len(labels.shape) != rank or not rank:
        raise ValueError(
            "Expected labels of the shape of the loss values, or one-hot. "
            f"Received: y_true.shape={tuple(labels.shape)}, "
            f"values.shape={tuple(values.shape)}"
        )
    last = len(table) - 1
    index = ops.cast(ops.clip(labels, 0, last), "int32")
    factor = ops.take(ops.convert_to_tensor(table), index, axis=0)
    factor = ops.where(ops.greater(labels, last), beyond or 0.0, factor)
    # A label that names no class, such as one that is ignored, weighs nothing.
    factor = ops.where(ops.less(labels, 0), 0.0, factor)
    factor = ops.cast(factor, values.dtype)
    # 0 times a value that is not finite would be none either.
    values = ops.where(ops.equal(factor, 0.0), 0.0, values)
    return mean(values * factor, sample_weight, mask)


def _table(weights):
    """The weights in the order of the classes, and that of further ones.

    A dict leaves further classes at 1; beyond a list there are none, `None`.
    """
    if not isinstance(weights, Mapping):
        return np.asarray(weights, "float32"), None
    table = np.ones(max(weights) + 1, "float32")
    table[list(weights)] = list(weights.values())
    return table, 1.0


@keras.saving.register_keras_serializable("keras_losskit")
class ClassWeighted(Reduction):
    """Mean of the values times the weight of their class.

    `sum(c[y_true] * w * x) / n`, where `n` counts the elements that the mask
    leaves, as Keras does for `class_weight`; but for one term, and for labels
    per step or pixel as well. Nothing valid gives 0.

    Args:
        weights: A weight for each class, in order, or a dict from class to
            weight, in which a class that is missing weighs 1.

    Raises:
        ValueError: if there are no weights, a negative one, or a class below
            0; in a call, if `y_true` is neither integer labels of the values'
            shape nor one-hot.

    Example:
        >>> reduction = ClassWeighted(weights=[1.0, 3.0])
        >>> float(reduction([2.0, 2.0], y_true=[0, 1]))
        4.0
    """

    uses_targets = True

    def __init__(self, *, weights: Sequence[float] | Mapping[int, float]):
        self.weights: dict[int, float] | list[float]
        if isinstance(weights, Mapping):
            self.weights = {
                _class_number(key): _class_weight(weight)
                for key, weight in weights.items()
            }
        else:
            self.weights = [
                _class_weight(weight)
                for weight in checked_list(
                    weights,
                    "`weights` of ClassWeighted",
                    "a weight for each class, or a dict from class to weight",
                )
            ]
        if not self.weights:
            raise ValueError(
                "Expected `weights` of ClassWeighted to hold a weight or more. "
                f"Received: weights={weights!r}"
            )

    def __call__(
        self,
        values: TensorLike,
        sample_weight: TensorLike | None = None,
        mask: TensorLike | None = None,
        y_true: TensorLike | None = None,
    ) -> Tensor:
        if y_true is None:
            raise ValueError(
                "Expected the targets, which `losses.evaluate` and every "
                "loss of keras_losskit hand over. Received: y_true=None"
            )
        return class_weighted(
            values, sample_weight, mask, y_true=y_true, weights=self.weights
        )

    def settings(self) -> Config:
        return {"weights": self.weights}


def _class_number(key):
    # A config that went through JSON has its keys as strings.
    if isinstance(key, str) and key.isdecimal():
        key = int(key)
    return checked_index(key, "each class in `weights` of ClassWeighted")


def _class_weight(weight):
    return checked_non_negative(weight, "each weight of ClassWeighted")
