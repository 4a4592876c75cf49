"""`Schedule`, and what its subclasses share."""

from typing import Self

import keras

from keras_losskit._types import Config
from keras_losskit._types import Tensor
from keras_losskit._types import TensorLike


def only_one(steps, epochs, owner):
    """Return what was given of `steps` and `epochs`, and its name."""
    if (steps is None) == (epochs is None):
        raise ValueError(
            f"Expected {owner} to have either `steps` or `epochs`. "
            f"Received: steps={steps!r}, epochs={epochs!r}"
        )
    return (epochs, "epochs") if steps is None else (steps, "steps")


def constructor(instance):
    """Write the call that makes `instance` again, from its config."""
    try:
        config = instance.get_config()
    except NotImplementedError:
        config = {}
    arguments = [f"{k}={v!r}" for k, v in config.items() if v is not None]
    return f"{type(instance).__name__}({', '.join(arguments)})"


@keras.saving.register_keras_serializable("keras_losskit")
class Schedule:
    """A weight as a function of the step and the epoch; subclass it.

    A subclass defines `__call__` with `keras.ops`, since step and epoch are
    traced tensors inside `fit`, and `get_config`. State belongs in
    `keras.Variable`s that `variables` lists: the trainer tracks those, while
    anything else keeps its first value on JAX.

    Args:
        step: Of a call: number of the batch since training began, a scalar.
        epoch: Of a call: number of the epoch, a scalar.

    Returns:
        Of a call: the weight, a scalar float32 tensor.

    Example:
        >>> from keras import ops
        >>> @keras.saving.register_keras_serializable("docs")
        ... class Inverse(Schedule):
        ...     def __call__(self, step, epoch):
        ...         return 1.0 / (1.0 + ops.cast(step, "float32"))
        >>> float(Inverse()(step=3, epoch=0))
        0.25
    """

    #: Tells a schedule from other callables, whatever its class.
    is_schedule = True

    def __call__(self, step: TensorLike, epoch: TensorLike) -> Tensor:
        raise NotImplementedError(
            f"Expected {type(self).__name__} to define "
            "`__call__(self, step, epoch)`."
        )

    @property
    def variables(self) -> list[keras.Variable]:
        """The `keras.Variable`s that the schedule reads, none by default."""
        return []

    def get_config(self) -> Config:
        return {}

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Build a schedule from what `get_config` gave."""
        return cls(**config)

    def __repr__(self) -> str:
        return constructor(self)
