"""A schedule made from a Keras learning rate schedule."""

from typing import Literal
from typing import Self

import keras
from keras import ops

from keras_losskit._support.checks import checked_choice
from keras_losskit._types import Config
from keras_losskit._types import LearningRate
from keras_losskit._types import Tensor
from keras_losskit._types import TensorLike
from keras_losskit.schedules.schedule import Schedule
from keras_losskit.schedules.schedule import constructor


@keras.saving.register_keras_serializable("keras_losskit")
class FromLearningRateSchedule(Schedule):
    """A weight that follows a Keras learning rate schedule.

    `weight = schedule(t)`.

    Args:
        schedule: A `keras.optimizers.schedules.LearningRateSchedule`.
        by: `"step"` or `"epoch"`: what `t` is.

    Returns:
        Of a call with `step` and `epoch`: a scalar float32 tensor.

    Raises:
        TypeError: if `schedule` is not a learning rate schedule.
        ValueError: if `by` is neither `"step"` nor `"epoch"`.

    Example:
        >>> halving = keras.optimizers.schedules.ExponentialDecay(1.0, 1, 0.5)
        >>> float(FromLearningRateSchedule(halving, by="epoch")(0, epoch=2))
        0.25
    """

    def __init__(
        self, schedule: LearningRate, *, by: Literal["step", "epoch"] = "step"
    ):
        kind = keras.optimizers.schedules.LearningRateSchedule
        if not isinstance(schedule, kind):
            raise TypeError(
                "Expected FromLearningRateSchedule to receive a "
                "keras.optimizers.schedules.LearningRateSchedule. "
                f"Received: {schedule!r} (of type {type(schedule).__name__})"
            )
        self.schedule = schedule
        self.by = checked_choice(
            by, ("step", "epoch"), "`by` of FromLearningRateSchedule"
        )

    def __call__(self, step: TensorLike, epoch: TensorLike) -> Tensor:
        count = ops.convert_to_tensor(step if self.by == "step" else epoch)
        return ops.cast(self.schedule(count), "float32")

    def get_config(self) -> Config:
        schedule = keras.saving.serialize_keras_object(self.schedule)
        return {"schedule": schedule, "by": self.by}

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Build a schedule from what `get_config` gave."""
        schedule = keras.saving.deserialize_keras_object(config["schedule"])
        return cls(schedule, by=config["by"])

    def __repr__(self) -> str:
        inner = constructor(self.schedule)
        return f"FromLearningRateSchedule({inner}, by={self.by!r})"
