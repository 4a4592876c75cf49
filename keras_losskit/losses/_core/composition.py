"""Sums of losses: the operators, and `WeightedSum`, what they make."""

import copyreg
import dataclasses
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any
from typing import Self

import keras
from keras import ops

from keras_losskit import _notebook
from keras_losskit import _origin
from keras_losskit import _weights as weights_lib
from keras_losskit._types import Config
from keras_losskit._types import KerasLoss
from keras_losskit._types import LossObject
from keras_losskit._types import MixesIntoLoss
from keras_losskit._types import Tensor
from keras_losskit._types import TensorLike
from keras_losskit._types import Weight
from keras_losskit._weights import Reciprocal
from keras_losskit.losses._core.arguments import check_arguments
from keras_losskit.losses._core.configs import serialized_loss
from keras_losskit.losses._core.evaluation import evaluate
from keras_losskit.losses._core.evaluation import evaluator_of
from keras_losskit.losses._core.evaluation import is_composite
from keras_losskit.losses._core.evaluation import own_weight
from keras_losskit.losses._core.evaluation import without_lists
from keras_losskit.losses._core.logits import Logits
from keras_losskit.losses._core.refusals import checked_loss
from keras_losskit.losses._core.traits import LossTraits
from keras_losskit.losses._core.traits import traits_of
from keras_losskit.reductions.reduction import without_version
from keras_losskit.terms import duplicates


@dataclasses.dataclass(frozen=True)
class Part:
    """One term of a composite.

    Args:
        name: The term's name.
        weight: What it enters the sum with, all nested weights multiplied: a
            float, a `keras.Variable` or a schedule.
        loss: The loss it comes from.

    Example:
        >>> Part("mse", 0.5).name
        'mse'
    """

    name: str
    weight: Any = 1.0
    loss: Any = None


class Composable(LossTraits, MixesIntoLoss):
    """Operators for a `keras.losses.Loss`.

    `+` and `-` take a loss of any origin, `*` and `/` a number, a
    `keras.Variable` or a schedule; the result is a `WeightedSum`. A variable
    stands on the right, `loss * variable`: on the left it would multiply first.

    Example:
        >>> from keras_losskit import losses
        >>> mse = losses.MeanSquaredError(name="mse")
        >>> mae = losses.MeanAbsoluteError(name="mae")
        >>> 0.5 * (mse - mae / 4)
        0.5 * mse - 0.125 * mae
    """

    # NumPy's scalars would otherwise take a sum for a sequence.
    __array_ufunc__ = None

    def __array__(self, dtype=None, copy=None):
        raise TypeError(
            f"Expected a number or tensor. Received: loss '{self.name}'. Write "
            "`loss * variable`, the loss on the left: a `keras.Variable` on "
            "the left would multiply its present value."
        )

    def __reduce__(self):
        # Keras pickles by the config, which needs every function registered.
        return copyreg.__newobj__, (type(self),), self.__dict__

    def __add__(self, other: LossObject | int) -> "WeightedSum":
        return _sum_of([self, other])

    def __radd__(self, other: LossObject | int) -> "WeightedSum":
        return _sum_of([other, self])

    def __sub__(self, other: LossObject) -> "WeightedSum":
        return _sum_of([self, other], [1.0, -1.0])

    def __rsub__(self, other: LossObject) -> "WeightedSum":
        return _sum_of([other, self], [1.0, -1.0])

    def __neg__(self) -> "WeightedSum":
        return WeightedSum([self], [-1.0])

    def __mul__(self, other: Weight) -> "WeightedSum":
        if not _is_weight(other):
            return NotImplemented
        return WeightedSum([self], [other])

    __rmul__ = __mul__

    def __truediv__(self, other: Weight) -> "WeightedSum":
        if not _is_weight(other):
            return NotImplemented
        divisor = weights_lib.check_weight(other, name=self.name)
        if not weights_lib.moves(divisor):
            return WeightedSum([self], [1.0 / divisor])
        return WeightedSum([self], [Reciprocal(divisor)])


def _sum_of(losses, weights=None):
    if weights is None:  # `sum` starts at 0
        losses = [loss for loss in losses if type(loss) is not int or loss]
    if not all(isinstance(loss, keras.losses.Loss) for loss in losses):
        return NotImplemented
    return WeightedSum(losses, weights) if len(losses) > 1 else losses[0]


def _is_weight(candidate):
    """Whether `check_weight` has something to say about `candidate`."""
    return (
        weights_lib.is_number(candidate)
        or weights_lib.is_schedule(candidate)
        or ops.is_tensor(candidate)
        or isinstance(
            candidate,
            keras.Variable | keras.optimizers.schedules.LearningRateSchedule,
        )
    )


class Composite(Composable, KerasLoss[keras.losses.Loss]):
    """Base of the losses that are made of parts, each a separate term.

    A subclass offers `parts` and `part_values`.
    """

    is_composite = True

    def __new__(cls, *args, **kwargs):
        # A custom class gives its arguments a meaning of its own.
        if not _origin.is_users_own(cls):
            check_arguments(cls, args, kwargs)
        return super().__new__(cls)

    @property
    def parts(self) -> tuple[Part, ...]:
        """The terms, as a tuple of `Part`."""
        raise NotImplementedError

    def part_values(
        self,
        y_true: TensorLike,
        y_pred: TensorLike,
        sample_weight: TensorLike | None = None,
        mask: TensorLike | None = None,
    ) -> list[Tensor]:
        """Reduced, unweighted scalars in the order of `parts`.

        Args:
            y_true: Targets.
            y_pred: Predictions.
            sample_weight: Optional weights, `(batch, ...)`.
            mask: Optional mask, `(batch, ...)`.

        Returns:
            List of scalars, float32 or float64.
        """
        raise NotImplementedError

    @property
    def variables(self) -> list[keras.Variable]:
        """The `keras.Variable`s among the weights and in their schedules."""
        found = [
            variable
            for part in self.parts
            for variable in weights_lib.weight_variables(part.weight)
        ]
        return list({id(variable): variable for variable in found}.values())

    def __call__(
        self,
        y_true: TensorLike,
        y_pred: TensorLike,
        sample_weight: TensorLike | None = None,
    ) -> Tensor:
        """The weighted sum, a scalar."""
        return evaluate(self, y_true, y_pred, sample_weight)

    def __iter__(self) -> Iterator[Part]:
        return iter(self.parts)

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, name: str) -> Part:
        for part in self.parts:
            if part.name == name:
                return part
        raise KeyError(
            f"Expected a term of {[part.name for part in self.parts]}. "
            f"Received: {name!r}"
        )

    def __contains__(self, name: object) -> bool:
        return any(part.name == name for part in self.parts)

    def __repr__(self) -> str:
        return formula(self.parts)

    def _repr_html_(self) -> str:
        """The formula, in a notebook."""
        return _notebook.formula(self)


@keras.saving.register_keras_serializable("keras_losskit")
class WeightedSum(Composite):
    """A weighted sum of losses, each a separate term.

    `loss = sum(weight * loss(y_true, y_pred))`, every loss with its own
    reduction. Sums of sums are flattened, their weights multiplied.

    It is a `keras.losses.Loss`, so it also trains a plain `keras.Model`; called
    by itself, a schedule stays at step 0 and epoch 0, and JAX does not see
    changes of a variable that the model does not track. In a `LossesContainer`
    both work.

    Args:
        losses: Losses, of this package, of Keras or custom ones.
        weights: A weight for each: numbers, `keras.Variable`s or schedules.
            Defaults to 1 for all.
        name: Name of the whole.

    Raises:
        ValueError: for no losses, weights that do not match them in number or
            are not finite, or two terms of one name.
        TypeError: if one of `losses` is not a loss, or one of `weights` not a
            weight.

    Example:
        >>> from keras_losskit import losses
        >>> mse = losses.MeanSquaredError(name="mse")
        >>> mae = losses.MeanAbsoluteError(name="mae")
        >>> total = 0.7 * mse + 0.3 * mae
        >>> total
        0.7 * mse + 0.3 * mae
        >>> round(float(total([[0.0]], [[2.0]])), 4)
        3.4
        >>> [part.name for part in total], total["mae"].weight
        (['mse', 'mae'], 0.3)
    """

    def __init__(
        self,
        losses: Iterable[LossObject],
        weights: Iterable[Weight] | None = None,
        *,
        name: str | None = "weighted_sum",
    ):
        super().__init__(name=name)
        losses = list(losses)
        weights = [1.0] * len(losses) if weights is None else list(weights)
        if not losses or len(losses) != len(weights):
            raise ValueError(
                "Expected one loss or more, and a weight for each. Received: "
                f"{len(losses)} losses and {len(weights)} weights"
            )
        self.terms = tuple(
            term
            for loss, weight in zip(losses, weights, strict=True)
            for term in _flattened(loss, weight)
        )
        repeated = duplicates(part.name for part in self.parts)
        if repeated:
            raise ValueError(
                "Terms of a sum need names of their own. Received twice: "
                f"{repeated}. Give one of them `name=...`."
            )

    @property
    def parts(self) -> tuple[Part, ...]:
        """The terms, as a tuple of `Part`."""
        return tuple(
            Part(
                part.name,
                weights_lib.multiply_weights(weight, part.weight),
                part.loss,
            )
            for loss, weight in self.terms
            for part in parts_of(loss)
        )

    def part_values(
        self,
        y_true: TensorLike,
        y_pred: TensorLike,
        sample_weight: TensorLike | None = None,
        mask: TensorLike | None = None,
    ) -> list[Tensor]:
        logits = None
        losses = [loss for loss, _ in self.terms]
        if sum(traits_of(loss).shares_logits for loss in losses) > 1:
            logits = Logits(without_lists(y_pred))
        values = []
        for loss in losses:
            values += values_of(
                loss, y_true, y_pred, sample_weight, mask, logits=logits
            )
        return values

    def get_config(self) -> Config:
        return {
            "losses": [serialized_loss(loss) for loss, _ in self.terms],
            "weights": [
                weights_lib.serialize_weight(weight) for _, weight in self.terms
            ],
            "name": self.name,
            "version": self.version,
        }

    @classmethod
    def from_config(cls, config: Config) -> Self:
        config = without_version(cls, config)
        losses, weights = config.pop("losses"), config.pop("weights")
        return cls(
            map(keras.saving.deserialize_keras_object, losses),
            map(weights_lib.deserialize_weight, weights),
            **config,
        )


def parts_of(loss):
    """The parts of `loss`; a loss that is not a composite is its only part."""
    if is_composite(loss):
        return tuple(loss.parts)
    return (Part(loss.name, own_weight(loss), loss),)


def values_of(
    loss, y_true, y_pred, sample_weight=None, mask=None, *, logits=None
):
    """The reduced, unweighted scalars of the parts of any loss, a list."""
    arguments = (y_true, y_pred, sample_weight, mask)
    if is_composite(loss):
        return loss.part_values(*arguments)
    return [evaluator_of(loss)(loss, *arguments, logits=logits)]


def values_function(loss):
    """`values_of` of one loss as a function, what the loss is settled once.

    Returns:
        `(y_true, y_pred, sample_weight) -> scalars`, one per part.
    """
    if is_composite(loss):
        return loss.part_values
    leaf = evaluator_of(loss)
    return lambda *arguments: [leaf(loss, *arguments)]


def _flattened(loss, weight):
    """`(loss, weight)` pairs in which no loss is a sum."""
    loss = checked_loss(loss, "a term of a sum")
    weight = weights_lib.check_weight(weight, name=loss.name)
    if not isinstance(loss, WeightedSum):
        return [(loss, weight)]
    return [
        (inner, weights_lib.multiply_weights(weight, inner_weight))
        for inner, inner_weight in loss.terms
    ]


def formula(parts):
    """The sum of `parts` as it is written: `0.7 * ce - 0.3 * focal`."""
    text = []
    for part in parts:
        sign, factor = "+", part.weight
        if isinstance(factor, float):
            sign = "-" if factor < 0 else "+"
            factor = "" if abs(factor) == 1.0 else f"{abs(factor):g} * "
        else:
            factor = f"{weights_lib.weight_repr(factor)} * "
        text += [sign, f"{factor}{part.name}"]
    # The first sign is no plus, and has no space after it.
    return "".join(text[:1]).strip("+") + " ".join(text[1:])
