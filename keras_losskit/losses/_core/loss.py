"""What every single loss of this package has: settings, config, operators."""

import inspect
from collections.abc import Callable
from typing import Any
from typing import Self

import keras
from keras import ops

from keras_losskit import _weights as weights_lib
from keras_losskit import reductions
from keras_losskit._types import Config
from keras_losskit._types import DType
from keras_losskit._types import KerasLoss
from keras_losskit._types import ReductionLike
from keras_losskit._types import Tensor
from keras_losskit._types import TensorLike
from keras_losskit._types import Weight
from keras_losskit.losses._core.composition import Composable
from keras_losskit.losses._core.evaluation import own_value
from keras_losskit.losses._core.evaluation import weighted_total
from keras_losskit.losses._core.logits import predicted
from keras_losskit.reductions.reduction import without_version


class LossMixin(Composable):
    """Makes a Keras loss composable; stands before it among the bases.

    Adds the operators, reductions that Keras does not know, a `weight`, and a
    config that holds every argument. A subclass names its
    further arguments in `settings`.
    """

    #: Raised when the meaning of a config changes.
    version = 1
    #: Tells `evaluate` to compute in float32 at least, whatever `dtype` says.
    widens = True
    #: Whether there is no value without labels.
    needs_labels = True

    def __init__(
        self,
        *args,
        reduction: ReductionLike = "sum_over_batch_size",
        weight: Weight = 1.0,
        **kwargs,
    ):
        reductions.get(reduction)
        super().__init__(*args, **kwargs)
        self.reduction = reduction
        self.weight = weights_lib.check_weight(weight, name=self.name)

    def __call__(
        self,
        y_true: TensorLike,
        y_pred: TensorLike,
        sample_weight: TensorLike | None = None,
    ) -> Tensor:
        """The weighted, reduced loss, in the loss' dtype."""
        value = own_value(self, y_true, y_pred, sample_weight)
        return ops.cast(weighted_total([value], [self.weight]), self.dtype)

    #: `evaluate` may take the steps of this `__call__` by itself.
    __call__.is_evaluation = True  # type: ignore[attr-defined]  # a function

    def settings(self) -> Config:
        """The arguments besides `reduction`, `name`, `dtype` and `weight`."""
        return {}

    def get_config(self) -> Config:
        return {
            **self.settings(),
            "name": self.name,
            "reduction": reductions.serialize(self.reduction),
            "dtype": self.dtype,
            "weight": weights_lib.serialize_weight(self.weight),
            "version": self.version,
        }

    @classmethod
    def from_config(cls, config: Config) -> Self:
        config = without_version(cls, config)
        if "reduction" in config:
            config["reduction"] = _revived_reduction(config["reduction"])
        if "weight" in config:
            config["weight"] = weights_lib.deserialize_weight(config["weight"])
        return cls(**config)

    def __repr__(self) -> str:
        given = [f"name={self.name!r}"]
        defaults = inspect.signature(type(self).__init__).parameters
        values = {
            **self.settings(),
            "reduction": self.reduction,
            "weight": self.weight,
        }
        for key, value in values.items():
            if key not in defaults or differs(value, defaults[key].default):
                given.append(f"{key}={value!r}")
        return f"{type(self).__name__}({', '.join(given)})"


class Loss(LossMixin, KerasLoss[keras.losses.Loss]):
    """Base of the losses that Keras does not have, and of custom ones.

    `loss = weight * reduction(call(y_true, y_pred))`. A subclass implements
    `call`, and `settings` if it has further arguments. One with the class
    attribute `needs_labels = False` is computed in `fit` also where its output
    has no labels; `call` then gets the predictions for `y_true`.

    Args:
        reduction: One of Keras' names, a `Reduction`, or a function. Defaults
            to `"sum_over_batch_size"`.
        name: The term's name. Defaults to the class name in snake case.
        dtype: Dtype of the computation. Defaults to Keras' `floatx`.
        weight: What the loss is multiplied by: a number, a `keras.Variable` or
            a schedule.

    Example:
        >>> class Cubic(Loss):
        ...     def call(self, y_true, y_pred):
        ...         return keras.ops.abs(y_true - y_pred) ** 3
        >>> float(Cubic(name="cubic", weight=0.5)([1.0, 1.0], [1.0, 3.0]))
        2.0
    """

    #: A `call` of your own gets the dtype that was asked for.
    widens = False

    def __init__(
        self,
        reduction: ReductionLike = "sum_over_batch_size",
        name: str | None = None,
        dtype: DType | None = None,
        *,
        weight: Weight = 1.0,
    ):
        super().__init__(
            reduction=reduction, name=name, dtype=dtype, weight=weight
        )


class ClassLoss(Loss):
    """Base of the losses over class probabilities on the last axis.

    A subclass implements `call_on_logits(y_true, logits)`, which is given
    `Logits` or `Probabilities`; in a composite they are shared.

    Args:
        reduction: See `Loss`.
        name: See `Loss`.
        dtype: See `Loss`.
        from_logits: Whether `y_pred` holds logits rather than probabilities.
        weight: See `Loss`.
    """

    def __init__(
        self,
        reduction: ReductionLike = "sum_over_batch_size",
        name: str | None = None,
        dtype: DType | None = None,
        *,
        from_logits: bool = False,
        weight: Weight = 1.0,
    ):
        super().__init__(reduction, name, dtype, weight=weight)
        self.from_logits = from_logits

    call_on_logits: Callable[[TensorLike, Any], Tensor]

    def call(self, y_true: TensorLike, y_pred: TensorLike) -> Tensor:
        return self.call_on_logits(y_true, predicted(y_pred, self.from_logits))

    @property
    def shares_logits(self) -> bool:
        """Whether a composite may hand over its softmax."""
        return self.from_logits

    def settings(self) -> Config:
        return {"from_logits": self.from_logits}


def differs(value, default):
    """Whether an argument is not its default; variables and arrays never are.

    Comparing those would be an operation of the backend, or element by element.
    """
    return type(value) is not type(default) or value != default


def _revived_reduction(config):
    return reductions.get(config) if isinstance(config, dict) else config
