"""Adversarial terms: the supervised loss at the worst inputs nearby."""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Literal

from keras import ops

from keras_losskit import _backend
from keras_losskit._support.checks import checked_choice
from keras_losskit._support.checks import checked_count
from keras_losskit._support.checks import checked_list
from keras_losskit._support.checks import checked_number
from keras_losskit._support.checks import checked_positive
from keras_losskit._support.checks import naming_the_class
from keras_losskit._support.checks import refused
from keras_losskit._types import Config
from keras_losskit._types import Structure
from keras_losskit._types import Tensor
from keras_losskit._types import Weight
from keras_losskit.extra._inputs import floating_inputs
from keras_losskit.extra.context import Context
from keras_losskit.extra.extra_term import ExtraTerm
from keras_losskit.extra.extra_term import registered


class Adversarial(ExtraTerm):
    """The supervised loss on inputs perturbed along its gradient.

    `value = loss(y, model(x + delta))`; the gradient flows into the weights and
    not into `delta`. What the pass over the clean inputs left, such as batch
    norm statistics, seeds and penalties, stays as it is.

    Args:
        epsilon: The largest norm of `delta`, in the unit of the inputs.
        weight: A number, a `keras.Variable` or a schedule.
        norm: `"linf"` or `"l2"`, taken per sample.
        clip: Optional `(low, high)`, the range of valid inputs.

    Raises:
        ValueError: if `norm` is unknown, `epsilon` not a positive number, or
            `clip` not a range.
    """

    reads_predictions = False

    @naming_the_class
    def __init__(
        self,
        *,
        epsilon: float,
        weight: Weight = 1.0,
        norm: Literal["linf", "l2"] = "linf",
        clip: Sequence[float] | None = None,
    ):
        super().__init__(weight=weight)
        owner = type(self).__name__
        self.epsilon = checked_positive(epsilon, f"`epsilon` of {owner}")
        self.norm = checked_choice(norm, ("linf", "l2"), f"`norm` of {owner}")
        self.clip = None if clip is None else checked_range(clip, owner)

    def value(self, context: Context) -> Tensor:
        return context.loss_at(self.perturbed(context))

    def perturbed(self, context: Context) -> Structure:
        """The inputs with `delta` added, of the structure of `context.x`."""
        start, packed = floating_inputs(context.x)

        def gradients(moved):
            return _backend.input_gradients(
                lambda inputs: context.loss_at(packed(inputs)), moved
            )

        moved = [ops.stop_gradient(x) for x in self.attack(start, gradients)]
        return packed(moved)

    def attack(
        self,
        start: list[Tensor],
        gradients: Callable[[list[Tensor]], list[Tensor]],
    ) -> list[Tensor]:
        """The perturbed inputs; for subclasses.

        Args:
            start: List of inputs.
            gradients: From such a list to the gradients of the loss.
        """
        raise NotImplementedError

    def stepped(
        self, inputs: list[Tensor], gradients: list[Tensor], size: float
    ) -> list[Tensor]:
        """Inputs after a step of a given norm up the gradients."""
        return [
            x + ops.cast(size * self.direction(g), x.dtype)
            for x, g in zip(inputs, gradients, strict=True)
        ]

    def direction(self, gradient: Tensor) -> Tensor:
        """The steepest direction of norm 1, per sample."""
        if self.norm == "linf":
            return ops.sign(gradient)
        return gradient * ops.rsqrt(ops.maximum(squared_norm(gradient), 1e-24))

    def clipped(self, inputs: list[Tensor]) -> list[Tensor]:
        """Inputs inside the valid range."""
        if self.clip is None:
            return inputs
        return [ops.clip(x, *self.clip) for x in inputs]

    def get_config(self) -> Config:
        config = super().get_config()
        del config["reduction"]
        return {
            **config,
            "epsilon": self.epsilon,
            "norm": self.norm,
            "clip": self.clip,
        }

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(epsilon={self.epsilon:g}, "
            f"norm={self.norm!r}, weight={self.weight!r})"
        )


@registered
class FGSM(Adversarial):
    """The supervised loss after one step up its input gradient.

    `value = loss(y, model(clip(x + epsilon * direction(grad_x loss))))`, where
    the direction is the sign (`"linf"`) or the normalized gradient (`"l2"`).

    Args:
        epsilon: The norm of the step, in the unit of the inputs.
        weight: A number, a `keras.Variable` or a schedule.
        norm: `"linf"` or `"l2"`, taken per sample.
        clip: Optional `(low, high)`, the range of valid inputs.

    Reference:
        Goodfellow, Shlens, Szegedy, "Explaining and Harnessing Adversarial
        Examples", ICLR, 2015.

    Example:
        >>> FGSM(epsilon=0.1, weight=0.5)
        FGSM(epsilon=0.1, norm='linf', weight=0.5)
    """

    def attack(
        self,
        start: list[Tensor],
        gradients: Callable[[list[Tensor]], list[Tensor]],
    ) -> list[Tensor]:
        return self.clipped(self.stepped(start, gradients(start), self.epsilon))


@registered
class PGD(Adversarial):
    """The supervised loss after several projected steps up its gradient.

    `x' = clip(project(x' + step_size * direction(grad_x' loss)))`, `steps`
    times, beginning at `x`; the projection keeps `x' - x` within `epsilon`.

    Args:
        epsilon: The largest norm of `x' - x`, in the unit of the inputs.
        steps: Number of steps; each costs a forward and a backward pass.
        step_size: Norm of a step. Defaults to `2.5 * epsilon / steps`.
        weight: A number, a `keras.Variable` or a schedule.
        norm: `"linf"` or `"l2"`, taken per sample.
        clip: Optional `(low, high)`, the range of valid inputs.

    Reference:
        Madry et al., "Towards Deep Learning Models Resistant to Adversarial
        Attacks", ICLR, 2018.

    Example:
        >>> PGD(epsilon=0.1, steps=5).step_size
        0.05
    """

    def __init__(
        self,
        *,
        epsilon: float,
        steps: int,
        step_size: float | None = None,
        **kwargs,
    ):
        super().__init__(epsilon=epsilon, **kwargs)
        self.steps = checked_count(steps, "`steps` of PGD")
        if step_size is None:
            step_size = 2.5 * self.epsilon / self.steps
        self.step_size = checked_positive(step_size, "`step_size` of PGD")

    def attack(
        self,
        start: list[Tensor],
        gradients: Callable[[list[Tensor]], list[Tensor]],
    ) -> list[Tensor]:
        moved = start
        for _ in range(self.steps):
            moved = self.stepped(moved, gradients(moved), self.step_size)
            moved = self.clipped(
                [
                    x + self.projected(m - x)
                    for x, m in zip(start, moved, strict=True)
                ]
            )
            moved = [ops.stop_gradient(m) for m in moved]
        return moved

    def projected(self, delta: Tensor) -> Tensor:
        """A perturbation no larger than epsilon, per sample."""
        if self.norm == "linf":
            return ops.clip(delta, -self.epsilon, self.epsilon)
        norm = ops.sqrt(ops.maximum(squared_norm(delta), 1e-24))
        return delta * ops.minimum(1.0, self.epsilon / norm)

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "steps": self.steps,
            "step_size": self.step_size,
        }


def checked_range(clip, owner):
    """Return `clip` as two floats that rise, or refuse it."""
    what = f"`clip` of {owner}"
    low, high = (
        checked_number(bound, f"each of {what}")
        for bound in checked_list(clip, what, "(low, high)", length=2)
    )
    if not low < high:
        raise refused(
            clip, f"{what} to be (low, high), low below high", error=ValueError
        )
    return low, high


def squared_norm(x):
    """Squared l2 norm per sample, `(batch, 1, ..., 1)`."""
    axes = tuple(range(1, len(x.shape)))
    return ops.sum(x**2, axis=axes, keepdims=True)
