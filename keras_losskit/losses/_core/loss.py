"""What every single loss of this package has: settings, config, operators."""

import inspect
from collections.abc import Callable
from typing import Any
from typing import Self

import keras

from keras_losskit import _weights as weights_lib
from keras_losskit import reductions
from keras_losskit._types import Config
from keras_losskit._types import DType
from keras_losskit._types import KerasLoss
from keras_losskit._types import ReductionLike
from keras_losskit._types import Tensor
from keras_losskit._types import TensorLike
from keras_losskit._types import Weight
from keras_losskit.losses._core.arguments import checked
from keras_losskit.losses._core.arguments import parameters_of
from keras_losskit.losses._core.arguments import stored_settings
from keras_losskit.losses._core.composition import Composable
from keras_losskit.losses._core.evaluation import weighted_call
from keras_losskit.losses._core.logits import predicted
from keras_losskit.reductions.reduction import without_version


class LossMixin(Composable):
    """Makes a Keras loss composable; stands before it among the bases.

    Adds the operators, reductions that Keras does not know, a `weight`, and a
    config that holds every argument. A constructor stores its settings under
    their names before it calls this one, which hands Keras' class those that it
    takes.
    """

    widens = True
    #: Whether settings are stored in their normal form; Keras' are as given.
    normalizes = False
    #: Settings that Keras' class does not see, even if it takes them.
    computed_here: frozenset[str] = frozenset()

    def __init__(
        self,
        reduction: ReductionLike = "sum_over_batch_size",
        name: str | None = None,
        dtype: DType | None = None,
        *,
        weight: Weight = 1.0,
    ):
        parameters = parameters_of(type(self))
        checked(parameters, "name", name)
        for key, value in stored_settings(self).items():
            value = checked(parameters, key, value)
            if self.normalizes:
                setattr(self, key, value)
        reductions.get(reduction)
        settings = stored_settings(self)
        taken = parameters.of_keras - self.computed_here
        super().__init__(
            name=name, dtype=dtype, **{key: settings[key] for key in taken}
        )
        self.reduction = reduction
        self.weight = weights_lib.check_weight(weight, name=self.name)

    __call__ = weighted_call

    def settings(self) -> Config:
        """The arguments besides `reduction`, `name`, `dtype` and `weight`."""
        return stored_settings(self)

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
        if isinstance(config.get("reduction"), dict):
            config["reduction"] = reductions.get(config["reduction"])
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
            unset = inspect.Parameter.empty
            default = defaults[key].default if key in defaults else unset
            # The type first: an array would be compared element by element.
            if type(value) is not type(default) or value != default:
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
    normalizes = True


class AlongAxis:
    """Mixin of a loss over one axis, which its values lack."""

    axis: int

    @property
    def values_follow_batch(self) -> bool:
        """Whether the values have the batch in front."""
        return self.axis != 0


class OnLogits:
    """Mixin of a loss that shares a softmax with others in a composite."""

    from_logits: bool
    #: `call`, of `Logits` or `Probabilities` in place of predictions.
    call_on_logits: Callable[[TensorLike, Any], Tensor]

    @property
    def shares_logits(self) -> bool:
        """Whether a composite may hand over its softmax."""
        return self.from_logits


class ClassLoss(OnLogits, Loss):
    """Base of the losses over class probabilities on the last axis.

    A subclass implements `call_on_logits`.
    """

    def call(self, y_true: TensorLike, y_pred: TensorLike) -> Tensor:
        return self.call_on_logits(y_true, predicted(y_pred, self.from_logits))
