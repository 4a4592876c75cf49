"""The words in which the signatures of this package are written.

Keras has no types that a checker can see, so a tensor is anything here; what is
a string, a number or of this package is told apart.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import Any
from typing import Generic
from typing import Literal
from typing import Protocol
from typing import TypeAlias
from typing import TypeVar

import keras


class Variable(Protocol):
    """What a `keras.Variable` has; that class itself stands for anything."""

    @property
    def value(self) -> Any: ...

    def assign(self, value: Any) -> Any: ...


class Schedule(Protocol):
    """What a `keras_losskit.schedules.Schedule` has."""

    is_schedule: bool

    def __call__(self, step: Any, epoch: Any) -> Any: ...


class LearningRate(Protocol):
    """What a Keras learning rate schedule has; a function has no config."""

    def __call__(self, step: Any) -> Any: ...

    def get_config(self) -> Any: ...


class LossObject(Protocol):
    """What a `keras.losses.Loss` has."""

    name: str

    def call(self, y_true: Any, y_pred: Any) -> Any: ...

    def __call__(
        self, y_true: Any, y_pred: Any, sample_weight: Any = None
    ) -> Any: ...


class HasHistory(Protocol):
    """What `fit` returns, and a `callbacks.TermHistory`."""

    @property
    def history(self) -> Mapping[str, Sequence[Any]]: ...


#: A tensor of the backend.
Tensor: TypeAlias = Any
#: What `keras.ops.convert_to_tensor` takes: a tensor, an array, lists.
TensorLike: TypeAlias = Any
#: A tensor, or a nest of tensors as a model takes and returns them.
Structure: TypeAlias = Any
#: What `get_config` returns and `from_config` takes.
Config: TypeAlias = dict[str, Any]
#: The logs that Keras hands to a callback.
Logs: TypeAlias = Mapping[str, Any] | None
#: A dtype of Keras, or a policy.
DType: TypeAlias = str | keras.DTypePolicy
#: A number, a `keras.Variable` or a schedule.
Weight: TypeAlias = float | Variable | Schedule | LearningRate
#: Weights in the structure of the losses, or flat, or one for all.
LossWeights: TypeAlias = (
    Weight | Mapping[str, Any] | list[Any] | tuple[Any, ...] | None
)
#: One of Keras' names, a `Reduction` or a function.
ReductionLike: TypeAlias = str | Callable[..., Tensor] | None
#: A name, a function, or a `Loss` object or class. `sum` of losses might be the
#: 0 that it starts with, to a checker.
LossLike: TypeAlias = str | Callable[..., Any] | Literal[0]
#: A loss, or a nest of losses like the model's outputs.
Losses: TypeAlias = (
    LossLike | Mapping[str, Any] | list[Any] | tuple[Any, ...] | None
)
#: Layers, or patterns of the paths of variables.
Wrt: TypeAlias = str | keras.layers.Layer | Sequence[str | keras.layers.Layer]
#: What was logged, over the epochs.
History: TypeAlias = HasHistory | Mapping[str, Sequence[Any]]

# A mixin calls what the Keras class behind it has. To a checker it is derived
# from that class; it is not, or it could not stand before any subclass.
if TYPE_CHECKING:
    _KerasClass = TypeVar("_KerasClass")

    class KerasLoss(Generic[_KerasClass]):
        """What our losses have of Keras' class.

        A class whose base is unknown passes for a number, and its product with
        one, `0.7 * loss`, for another.
        """

        name: str
        dtype: str
        reduction: Any

        def __init__(self, *args: Any, **kwargs: Any): ...

        def call(self, y_true: Any, y_pred: Any) -> Any: ...

        def __call__(
            self, y_true: Any, y_pred: Any, sample_weight: Any = None
        ) -> Any: ...

        def get_config(self) -> Any: ...

        @classmethod
        def from_config(cls, config: Any) -> Any: ...

    MixesIntoLayer = keras.layers.Layer
    MixesIntoLoss = KerasLoss[Any]
    MixesIntoModel = keras.Model
else:

    class KerasLoss:
        """`KerasLoss[cls]` is `cls`."""

        def __class_getitem__(cls, keras_class):
            return keras_class

    MixesIntoLayer = MixesIntoLoss = MixesIntoModel = object
