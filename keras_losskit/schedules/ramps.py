"""Schedules that go from one weight to another."""

import math

import keras
from keras import ops

from keras_losskit._support.checks import checked_count
from keras_losskit._support.checks import checked_number
from keras_losskit._support.checks import naming_the_class
from keras_losskit._types import Config
from keras_losskit._types import Tensor
from keras_losskit._types import TensorLike
from keras_losskit.schedules.schedule import Schedule
from keras_losskit.schedules.schedule import only_one


class Ramp(Schedule):
    """A schedule that goes from `start` to `end` and stays there.

    `weight = blend(min(t / n, 1))`, where `t` is the step or the epoch and
    `n` its length; a subclass defines `blend`.

    Args:
        start: Weight at `t = 0`.
        end: Weight from `t = n` on.
        steps: `n` in steps; give this or `epochs`.
        epochs: `n` in epochs.

    Raises:
        TypeError: if an argument is not a number.
        ValueError: if not one of `steps` and `epochs` is given, or an
            argument is out of its range.
    """

    @naming_the_class
    def __init__(
        self,
        start: float,
        end: float,
        *,
        steps: int | None = None,
        epochs: int | None = None,
    ):
        owner = type(self).__name__
        length, unit = only_one(steps, epochs, owner)
        self.start = checked_number(start, f"`start` of {owner}")
        self.end = checked_number(end, f"`end` of {owner}")
        self.length = checked_count(length, f"`{unit}` of {owner}")
        self.unit = unit

    def __call__(self, step: TensorLike, epoch: TensorLike) -> Tensor:
        return self.blend(self.fraction(step, epoch))

    def elapsed(self, step: TensorLike, epoch: TensorLike) -> Tensor:
        """Steps or epochs gone by, at most the length: a float32 scalar."""
        count = step if self.unit == "steps" else epoch
        count = ops.cast(ops.convert_to_tensor(count), "float32")
        return ops.clip(count, 0.0, float(self.length))

    def fraction(self, step: TensorLike, epoch: TensorLike) -> Tensor:
        """Part of the way that is done, from 0 to 1."""
        return self.elapsed(step, epoch) / float(self.length)

    def blend(self, fraction: Tensor) -> Tensor:
        """The weight after a `fraction` of the way."""
        raise NotImplementedError

    def get_config(self) -> Config:
        return {"start": self.start, "end": self.end, self.unit: self.length}

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.start}, {self.end}, "
            f"{self.unit}={self.length})"
        )


@keras.saving.register_keras_serializable("keras_losskit")
class Linear(Ramp):
    """A straight line from `start` to `end`, which then stays.

    `weight = start + (end - start) * min(t / n, 1)`.

    Args:
        start: Weight at `t = 0`.
        end: Weight from `t = n` on.
        steps: `n`, with `t` the step; give this or `epochs`.
        epochs: `n`, with `t` the epoch.

    Returns:
        Of a call with `step` and `epoch`: a scalar float32 tensor.

    Raises:
        TypeError: if an argument is not a number.
        ValueError: if a number is not finite, a length not positive and
            whole, or not exactly one of `steps` and `epochs` is given.

    Example:
        >>> warm_up = Linear(0.0, 1.0, epochs=4)
        >>> [float(warm_up(step=0, epoch=epoch)) for epoch in (0, 1, 4, 9)]
        [0.0, 0.25, 1.0, 1.0]
    """

    def blend(self, fraction: Tensor) -> Tensor:
        # Not start + (end - start) * fraction: this is exact at both ends.
        return self.start * (1.0 - fraction) + self.end * fraction


@keras.saving.register_keras_serializable("keras_losskit")
class Cosine(Ramp):
    """Half a cosine wave from `start` to `end`, which then stays.

    `weight = start + (end - start) * (1 - cos(pi * min(t / n, 1))) / 2`.

    Args:
        start: Weight at `t = 0`.
        end: Weight from `t = n` on.
        steps: `n`, with `t` the step; give this or `epochs`.
        epochs: `n`, with `t` the epoch.

    Returns:
        Of a call with `step` and `epoch`: a scalar float32 tensor.

    Raises:
        TypeError: if an argument is not a number.
        ValueError: if a number is not finite, a length not positive and
            whole, or not exactly one of `steps` and `epochs` is given.

    Example:
        >>> decay = Cosine(1.0, 0.0, steps=100)
        >>> round(float(decay(step=50, epoch=0)), 4)
        0.5
    """

    def blend(self, fraction: Tensor) -> Tensor:
        eased = 0.5 * (1.0 - ops.cos(math.pi * fraction))
        return self.start * (1.0 - eased) + self.end * eased


@keras.saving.register_keras_serializable("keras_losskit")
class Exponential(Ramp):
    """From `start` to `end` by a constant factor, which then stays.

    `weight = start * (end / start) ** min(t / n, 1)`.

    Args:
        start: Weight at `t = 0`, not 0.
        end: Weight from `t = n` on, not 0, of the sign of `start`.
        steps: `n`, with `t` the step; give this or `epochs`.
        epochs: `n`, with `t` the epoch.

    Returns:
        Of a call with `step` and `epoch`: a scalar float32 tensor.

    Raises:
        TypeError: if an argument is not a number.
        ValueError: if `start` and `end` are not of one sign, a length is not
            positive and whole, or not exactly one of `steps` and `epochs` is
            given.

    Example:
        >>> decay = Exponential(1.0, 0.01, epochs=2)
        >>> [round(float(decay(0, epoch)), 4) for epoch in (0, 1, 2)]
        [1.0, 0.1, 0.01]
    """

    def __init__(
        self,
        start: float,
        end: float,
        *,
        steps: int | None = None,
        epochs: int | None = None,
    ):
        super().__init__(start, end, steps=steps, epochs=epochs)
        # Not `start * end > 0`: the product of small ones underflows.
        if (
            self.start == 0.0
            or self.end == 0.0
            or ((self.start > 0.0) != (self.end > 0.0))
        ):
            raise ValueError(
                "Expected `start` and `end` of Exponential to be of one sign "
                f"and not 0. Received: start={start!r}, end={end!r}"
            )

    def blend(self, fraction: Tensor) -> Tensor:
        rate = math.log(self.end / self.start)
        return self.start * ops.exp(rate * fraction)


@keras.saving.register_keras_serializable("keras_losskit")
class Cyclical(Ramp):
    """Cyclical annealing: repeated linear ramps, each held at its end.

    With `tau = (t mod n / m) / (n / m)`, the part of the present one of `m`
    cycles that is over: `weight = start + (end - start) * min(tau / r, 1)`;
    after `n`, `end`.

    Args:
        start: Weight at the start of each cycle.
        end: Weight at its end.
        steps: `n`, the length of all cycles, with `t` the step; give this or
            `epochs`.
        epochs: `n`, with `t` the epoch.
        cycles: `m`.
        ratio: `r`, the part of a cycle that rises, over 0 and at most 1.

    Returns:
        Of a call with `step` and `epoch`: a scalar float32 tensor.

    Raises:
        TypeError: if an argument is not a number.
        ValueError: if `ratio` is not inside (0, 1], a count is not positive
            and whole, or not exactly one of `steps` and `epochs` is given.

    Reference:
        Fu, Li, Liu, Gao, Celikyilmaz, Carin, "Cyclical Annealing Schedule: A
        Simple Approach to Mitigating KL Vanishing", NAACL 2019.

    Example:
        >>> kl = Cyclical(0.0, 1.0, epochs=8, cycles=2)
        >>> [float(kl(0, epoch)) for epoch in range(9)]
        [0.0, 0.5, 1.0, 1.0, 0.0, 0.5, 1.0, 1.0, 1.0]
    """

    def __init__(
        self,
        start: float = 0.0,
        end: float = 1.0,
        *,
        steps: int | None = None,
        epochs: int | None = None,
        cycles: int = 4,
        ratio: float = 0.5,
    ):
        super().__init__(start, end, steps=steps, epochs=epochs)
        self.cycles = checked_count(cycles, "`cycles` of Cyclical")
        self.ratio = checked_number(ratio, "`ratio` of Cyclical")
        if not 0.0 < self.ratio <= 1.0:
            raise ValueError(
                "Expected `ratio` of Cyclical to be over 0 and at most 1. "
                f"Received: ratio={ratio!r}"
            )

    def fraction(self, step: TensorLike, epoch: TensorLike) -> Tensor:
        elapsed = self.elapsed(step, epoch)
        length = float(self.length)
        # The remainder of whole numbers is exact, that of fractions is not:
        # rounding would put the first step of a cycle into the one before.
        tau = ops.mod(elapsed * self.cycles, length) / length
        rising = ops.minimum(tau / self.ratio, 1.0)
        return ops.where(elapsed >= length, ops.ones_like(rising), rising)

    blend = Linear.blend

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "cycles": self.cycles,
            "ratio": self.ratio,
        }

    def __repr__(self) -> str:
        settings = f", cycles={self.cycles}, ratio={self.ratio})"
        return super().__repr__().removesuffix(")") + settings
