"""A schedule that is constant between boundaries."""

from collections.abc import Sequence

import keras
from keras import ops

from keras_losskit._support.checks import checked_count
from keras_losskit._support.checks import checked_list
from keras_losskit._support.checks import checked_number
from keras_losskit._types import Config
from keras_losskit._types import Tensor
from keras_losskit._types import TensorLike
from keras_losskit.schedules.schedule import Schedule
from keras_losskit.schedules.schedule import only_one


@keras.saving.register_keras_serializable("keras_losskit")
class Piecewise(Schedule):
    """Constant between boundaries.

    `weight = values[i]` with `i` the number of boundaries `b <= t`.

    Args:
        values: Weights, one more than boundaries.
        steps: Rising boundaries, with `t` the step; give this or `epochs`.
        epochs: Rising boundaries, with `t` the epoch.

    Returns:
        Of a call with `step` and `epoch`: a scalar float32 tensor.

    Raises:
        TypeError: if an argument is not a number.
        ValueError: if the boundaries do not rise, if there are not one fewer
            of them than values, or if not exactly one of `steps` and `epochs`
            is given.

    Example:
        >>> stages = Piecewise([0.0, 0.5, 1.0], epochs=[2, 4])
        >>> [float(stages(0, epoch)) for epoch in range(6)]
        [0.0, 0.0, 0.5, 0.5, 1.0, 1.0]
    """

    def __init__(
        self,
        values: Sequence[float],
        *,
        steps: Sequence[int] | None = None,
        epochs: Sequence[int] | None = None,
    ):
        boundaries, self.unit = only_one(steps, epochs, "Piecewise")
        self.values = [
            checked_number(v, "each of `values` of Piecewise")
            for v in checked_list(
                values, "`values` of Piecewise", "a list of weights"
            )
        ]
        self.boundaries = [
            checked_count(b, f"each of `{self.unit}` of Piecewise")
            for b in checked_list(
                boundaries,
                f"`{self.unit}` of Piecewise",
                "a list of whole numbers that rise",
            )
        ]
        if self.boundaries != sorted(set(self.boundaries)):
            raise ValueError(
                f"Expected `{self.unit}` of Piecewise to rise. "
                f"Received: {boundaries!r}"
            )
        if len(self.values) != len(self.boundaries) + 1:
            raise ValueError(
                "Expected Piecewise to have one value more than boundaries. "
                f"Received: values={values!r}, {self.unit}={boundaries!r}"
            )

    def __call__(self, step: TensorLike, epoch: TensorLike) -> Tensor:
        count = step if self.unit == "steps" else epoch
        count = ops.cast(ops.convert_to_tensor(count), "float32")
        weight = ops.full_like(count, self.values[0])
        for boundary, value in zip(
            self.boundaries, self.values[1:], strict=True
        ):
            weight = ops.where(count >= boundary, value, weight)
        return weight

    def get_config(self) -> Config:
        return {"values": self.values, self.unit: self.boundaries}

    def __repr__(self) -> str:
        return f"Piecewise({self.values}, {self.unit}={self.boundaries})"
