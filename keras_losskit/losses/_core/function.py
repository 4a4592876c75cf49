"""`FunctionLoss`: a custom function as a loss."""

from collections.abc import Callable
from collections.abc import Mapping
from typing import Any
from typing import Self

import keras
from keras import ops
from keras import tree

from keras_losskit._types import Config
from keras_losskit._types import DType
from keras_losskit._types import ReductionLike
from keras_losskit._types import Tensor
from keras_losskit._types import TensorLike
from keras_losskit._types import Weight
from keras_losskit.losses._core.arguments import check_loss_function
from keras_losskit.losses._core.configs import serialized_function
from keras_losskit.losses._core.loss import Loss
from keras_losskit.losses._core.names import function_name
from keras_losskit.losses._core.values import has_shape


@keras.saving.register_keras_serializable("keras_losskit")
class FunctionLoss(Loss):
    """A loss from a function of targets and predictions.

    `loss = reduction(fn(y_true, y_pred, **arguments))`. Both tensors reach the
    function in the loss' dtype and with one rank, as in Keras: a trailing
    dimension of 1 that only one of the two has is squeezed or added.

    Args:
        fn: `(y_true, y_pred, **arguments) ->` values `(batch, ...)` or a
            scalar.
        reduction: One of Keras' names, a `Reduction`, or a function. Defaults
            to `"sum_over_batch_size"`.
        name: The term's name. Defaults to the function's: `"lambda"` for a
            lambda, the snake-case class name for a callable object.
        dtype: Dtype of the computation. Defaults to Keras' `floatx`.
        arguments: Optional further arguments of `fn`, a dict.
        integer_labels: Whether labels that are integers, booleans or strings
            reach `fn` as they came, such as class numbers: a float16 cannot
            hold that of class 2049.
        weight: What the loss is multiplied by.

    Raises:
        TypeError: if `fn` is not callable, or is no loss, such as a metric.

    Example:
        >>> def cubic(y_true, y_pred):
        ...     return keras.ops.abs(y_true - y_pred) ** 3
        >>> loss = FunctionLoss(cubic)
        >>> loss.name, float(loss([1.0, 1.0], [1.0, 3.0]))
        ('cubic', 4.0)
        >>> def of_class(y_true, y_pred):
        ...     p = keras.ops.take_along_axis(y_pred, y_true[:, None], axis=-1)
        ...     return 1.0 - p[:, 0]
        >>> loss = FunctionLoss(of_class, integer_labels=True)
        >>> float(loss([1], [[0.75, 0.25]]))
        0.75
    """

    #: Since 2 labels are cast unless `integer_labels` says otherwise.
    version = 2

    def __init__(
        self,
        fn: Callable[..., Any],
        reduction: ReductionLike = "sum_over_batch_size",
        name: str | None = None,
        dtype: DType | None = None,
        *,
        arguments: Mapping[str, Any] | None = None,
        integer_labels: bool = False,
        weight: Weight = 1.0,
    ):
        self.named_by_itself = name is None
        self.fn = fn
        self.arguments = {} if arguments is None else arguments
        self.integer_labels = integer_labels
        name = function_name(fn) if name is None else name
        super().__init__(reduction, name, dtype, weight=weight)
        check_loss_function(fn, "`fn` of FunctionLoss", **self.arguments)

    @property
    def keeps_integers(self) -> bool:
        """Whether `evaluate` casts labels that are floats only."""
        return self.integer_labels

    def call(self, y_true: TensorLike, y_pred: TensorLike) -> Tensor:
        if not tree.is_nested(y_true) and not tree.is_nested(y_pred):
            y_true, y_pred = same_rank(y_true, y_pred)
        return self.fn(y_true, y_pred, **self.arguments)

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "fn": serialized_function(self.fn, self.name),
            "arguments": keras.saving.serialize_keras_object(self.arguments),
        }

    @classmethod
    def from_config(cls, config: Config) -> Self:
        revive = keras.saving.deserialize_keras_object
        revived = {key: revive(config[key]) for key in ("fn", "arguments")}
        if config.get("version", cls.version) == 1:
            revived["integer_labels"] = True
        return super().from_config({**config, **revived})


def same_rank(first, second):
    """Both tensors with one rank, where a last dimension of 1 sets them apart.

    `(n,)` beside `(n, 1)` becomes `(n, 1)`; `(n, t)` beside `(n, t, 1)` stays,
    and the other one is squeezed. Others are left alone.
    """
    if not (has_shape(first) and has_shape(second)):
        return first, second
    if len(first.shape) == len(second.shape) + 1:
        second, first = same_rank(second, first)
    elif len(second.shape) == len(first.shape) + 1 and second.shape[-1] == 1:
        if len(first.shape) == 1:
            first = ops.expand_dims(first, axis=-1)
        else:
            second = ops.squeeze(second, axis=-1)
    return first, second
