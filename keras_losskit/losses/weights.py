"""What a loss may be multiplied by: a number, a variable or a schedule."""

import math
import numbers

import keras
from keras import ops


class WeightProduct:
    """A product of weights of which some move: a schedule of its own.

    Args:
        factors: Numbers, `keras.Variable`s and schedules.
    """

    is_schedule = True

    def __init__(self, factors):
        self.factors = tuple(factors)

    def __call__(self, *args, **kwargs):
        """The product, schedules called with the given arguments."""
        result = 1.0
        for factor in self.factors:
            if is_schedule(factor):
                factor = factor(*args, **kwargs)
            elif isinstance(factor, keras.Variable):
                factor = ops.convert_to_tensor(factor)
            result = result * factor
        return result

    @property
    def variables(self):
        """The variables among the factors, their schedules' included."""
        return [v for factor in self.factors for v in weight_variables(factor)]

    def __repr__(self):
        return " * ".join(map(formula, self.factors))


def is_schedule(weight):
    """Whether `weight` is a callable of the step or epoch."""
    return getattr(weight, "is_schedule", False)


def is_weight(candidate):
    """Whether `candidate` may stand beside a loss in a product."""
    return isinstance(candidate, numbers.Real | keras.Variable) or is_schedule(
        candidate
    )


def checked(weight):
    """`weight`, a number as a float, after a look at its type and value.

    Raises:
        TypeError: if it is no number, variable or schedule.
        ValueError: if it is not finite.
    """
    if isinstance(weight, bool) or not is_weight(weight):
        raise TypeError(
            "Expected the weight of a loss to be a number, a `keras.Variable` "
            f"or a schedule. Received: {weight!r} of type {type(weight)}"
        )
    if not isinstance(weight, numbers.Real):
        return weight
    weight = float(weight)
    if not math.isfinite(weight):
        raise ValueError(
            f"Expected the weight of a loss to be finite. Received: {weight}"
        )
    return weight


def product(*factors):
    """One weight for a product of weights, the numbers multiplied out."""
    moving, number = [], 1.0
    for factor in factors:
        inner = (
            factor.factors if isinstance(factor, WeightProduct) else [factor]
        )
        for weight in inner:
            if isinstance(weight, float | int):
                number *= weight
            else:
                moving.append(weight)
    if not moving:
        return checked(number)
    if number == 1.0 and len(moving) == 1:
        return moving[0]
    return WeightProduct(([] if number == 1.0 else [number]) + moving)


def weight_variables(weight):
    """The `keras.Variable`s that `weight` reads."""
    if isinstance(weight, keras.Variable):
        return [weight]
    return list(getattr(weight, "variables", ()))


def resolve(weight):
    """The value of `weight` now; a schedule's at its first step and epoch."""
    if is_schedule(weight):
        return weight(step=0, epoch=0)
    if isinstance(weight, keras.Variable):
        return ops.convert_to_tensor(weight)
    return weight


def weighted_total(values, weights):
    """The sum of `weight * value`, left to right."""
    total = None
    for value, weight in zip(values, weights, strict=True):
        weight = resolve(weight)
        if not isinstance(weight, float):
            weight = ops.cast(weight, value.dtype)
            value = value * weight
        elif weight != 1.0:
            value = value * weight
        total = value if total is None else total + value
    return total


def formula(weight):
    """How `weight` is written in a formula."""
    if isinstance(weight, float):
        return f"{weight:g}"
    if isinstance(weight, keras.Variable):
        return weight.name
    return repr(weight)
