"""What a weight is: a number, a `keras.Variable` or a schedule.

Whatever takes a weight (`loss_weights`, `0.3 * loss`, `Penalty`) checks, reads
and saves it through these functions.
"""

import functools
import math
import numbers

import keras
from keras import ops

from keras_losskit import schedules
from keras_losskit._support.checks import checked_number
from keras_losskit.terms import multiply


def check_weight(weight, *, name):
    """Return `weight` in its normal form, or say what a weight is.

    Args:
        weight: A finite real number (NumPy scalars and 0-d arrays too), a
            scalar `keras.Variable`, a schedule, or a Keras learning rate
            schedule, which is read by step.
        name: Name of the term it weights, for the error.

    Returns:
        A float, a `keras.Variable` or a schedule.

    Raises:
        TypeError: if `weight` is none of these; booleans and tensors are not.
        ValueError: if it is NaN, infinite, or a variable that is not scalar.

    Example:
        >>> check_weight(2, name="mse")
        2.0
    """
    if isinstance(weight, keras.Variable):
        return checked_variable(weight, name)
    if is_schedule(weight):
        return weight
    if isinstance(weight, keras.optimizers.schedules.LearningRateSchedule):
        return schedules.FromLearningRateSchedule(weight, by="step")
    if is_number(weight):
        return checked_number(weight, f"the weight of term '{name}'")
    hint = ""
    if ops.is_tensor(weight):
        hint = (
            ". A tensor would never change: give `float(weight)`, or a "
            "keras.Variable that does"
        )
    elif callable(weight):
        hint = (
            ". Make a function a subclass of keras_losskit.schedules.Schedule"
        )
    raise TypeError(
        f"Expected the weight of term '{name}' to be a number, a scalar "
        f"keras.Variable or a schedule. Received: {weight!r} (of type "
        f"{type(weight).__name__}){hint}"
    )


def weight_value(weight, step, epoch):
    """Read a checked weight at one moment of training.

    Args:
        weight: What `check_weight` returned.
        step: Number of the batch since training began, a scalar.
        epoch: Number of the epoch, a scalar.

    Returns:
        A Python float for a number; otherwise a scalar tensor, float32 at
        least. Keras turns a float64 variable into float32 but on TensorFlow.

    Example:
        >>> warm_up = schedules.Linear(0.0, 1.0, steps=4)
        >>> float(weight_value(warm_up, step=1, epoch=0))
        0.25
    """
    if isinstance(weight, float):
        return weight
    if isinstance(weight, keras.Variable):
        # At least float32: a float16 weight would overflow a scaled loss.
        dtype = keras.backend.result_type(weight.dtype, "float32")
        # A weight is assigned, never learned: the smallest loss would be
        # that of a weight of minus infinity.
        return ops.stop_gradient(ops.cast(weight.value, dtype))
    return weight(step, epoch)


def moves(weight):
    """Whether a checked weight can change during training.

    Example:
        >>> moves(0.5), moves(schedules.Linear(0.0, 1.0, epochs=5))
        (False, True)
    """
    return not isinstance(weight, float)


def same(first, second):
    """Whether two checked weights are equal, now and always.

    Example:
        >>> ramp = schedules.Linear(0.0, 1.0, epochs=5)
        >>> same(ramp, schedules.Linear(0.0, 1.0, epochs=5)), same(ramp, 0.5)
        (True, False)
    """
    if first is second:
        return True
    if type(first) is not type(second):
        return False
    if not moves(first):
        return first == second
    # Two variables may be assigned to apart.
    apart = weight_variables(first) or weight_variables(second)
    return not apart and first.get_config() == second.get_config()


def is_one(weight):
    """Whether a checked weight is the number 1, now and always.

    Not `==`, which on a variable is an operation of the backend.

    Example:
        >>> is_one(1.0), is_one(keras.Variable(1.0))
        (True, False)
    """
    return not moves(weight) and weight == 1.0


def weight_variables(weight):
    """The `keras.Variable`s that a checked weight reads, each once.

    The trainer has to track them: JAX freezes a variable it does not know.

    Example:
        >>> beta = keras.Variable(0.5, name="beta")
        >>> [v.name for v in weight_variables(beta)]
        ['beta']
    """
    if isinstance(weight, keras.Variable):
        return [weight]
    return list(getattr(weight, "variables", ()))


def multiply_weights(first, second):
    """Multiply two checked weights.

    `weight(step, epoch) = first(step, epoch) * second(step, epoch)`.

    Args:
        first: What `check_weight` returned.
        second: Likewise.

    Returns:
        A float for two numbers, the other weight for a factor of 1, else a
        `ProductWeight`.

    Raises:
        ValueError: if the product of two numbers is not finite.

    Example:
        >>> multiply_weights(0.5, schedules.Linear(0.0, 1.0, epochs=5))
        0.5 * Linear(0.0, 1.0, epochs=5)
    """
    factors = [*factors_of(first), *factors_of(second)]
    moving = [factor for factor in factors if moves(factor)]
    number = checked_number(
        math.prod(factor for factor in factors if not moves(factor)),
        f"the product of the weights {first!r} and {second!r}",
    )
    if not moving:
        return number
    if number == 1.0 and len(moving) == 1:
        return moving[0]
    return ProductWeight(moving if number == 1.0 else [number, *moving])


@keras.saving.register_keras_serializable("keras_losskit")
class ProductWeight(schedules.Schedule):
    """The product of weights of which one at least moves.

    `weight(step, epoch) = factors[0](step, epoch) * factors[1](...) * ...`;
    made by `multiply_weights`.

    Args:
        factors: Checked weights.

    Returns:
        Of a call with `step` and `epoch`: a scalar tensor, float32 at least.

    Example:
        >>> ProductWeight([0.5, schedules.Linear(0.0, 1.0, steps=2)])
        0.5 * Linear(0.0, 1.0, steps=2)
    """

    def __init__(self, factors):
        self.factors = list(factors)

    def __call__(self, step, epoch):
        weights = (weight_value(f, step, epoch) for f in self.factors)
        return functools.reduce(multiply, weights)

    @property
    def variables(self):
        """The `keras.Variable`s of all factors, each once."""
        found = [v for f in self.factors for v in weight_variables(f)]
        return list({id(v): v for v in found}.values())

    def get_config(self):
        return {"factors": [serialize_weight(f) for f in self.factors]}

    @classmethod
    def from_config(cls, config):
        """Build a product from what `get_config` gave."""
        return cls([deserialize_weight(f) for f in config["factors"]])

    def __repr__(self):
        return " * ".join(weight_repr(factor) for factor in self.factors)


@keras.saving.register_keras_serializable("keras_losskit")
class Reciprocal(schedules.Schedule):
    """One over a weight that moves.

    `weight(step, epoch) = 1 / divisor(step, epoch)`; made by `loss / divisor`.

    Args:
        divisor: A `keras.Variable` or schedule.

    Example:
        >>> Reciprocal(keras.Variable(4.0, name="temperature"))
        1 / temperature
    """

    def __init__(self, divisor):
        self.divisor = check_weight(divisor, name="divisor")

    def __call__(self, step, epoch):
        return 1.0 / weight_value(self.divisor, step, epoch)

    @property
    def variables(self):
        """The `keras.Variable`s of the divisor."""
        return weight_variables(self.divisor)

    def get_config(self):
        return {"divisor": serialize_weight(self.divisor)}

    @classmethod
    def from_config(cls, config):
        """Build a reciprocal from what `get_config` gave."""
        return cls(deserialize_weight(config["divisor"]))

    def __repr__(self):
        return f"1 / {weight_repr(self.divisor)}"


def weight_repr(weight):
    """Write a checked weight as it stands in a formula.

    Example:
        >>> weight_repr(keras.Variable(0.5, name="beta"))
        'beta'
    """
    if isinstance(weight, keras.Variable):
        return weight.name
    return repr(weight)


def serialize_weight(weight):
    """Turn a checked weight into a config that JSON can hold.

    A variable is saved with its present value.

    Example:
        >>> serialize_weight(keras.Variable(0.5, name="beta"))["variable"]
        {'value': 0.5, 'dtype': 'float32', 'name': 'beta', 'trainable': True}
    """
    if isinstance(weight, float):
        return weight
    if isinstance(weight, keras.Variable):
        # No "class_name": Keras would look for a registered class.
        return {
            "variable": {
                "value": float(ops.convert_to_numpy(weight.value)),
                "dtype": weight.dtype,
                "name": weight.name,
                "trainable": weight.trainable,
            }
        }
    return keras.saving.serialize_keras_object(weight)


def deserialize_weight(config):
    """Turn what `serialize_weight` gave into a weight again.

    A variable comes back as a new variable: two terms that shared one before
    saving have one each.

    Args:
        config: A number, or a dict.

    Returns:
        A float, a `keras.Variable` or a schedule.

    Example:
        >>> deserialize_weight({"variable": {"value": 0.5, "dtype": "float32",
        ...     "name": "beta", "trainable": False}}).name
        'beta'
    """
    if isinstance(config, numbers.Real):
        return float(config)
    if is_variable_config(config):
        settings = dict(config["variable"])
        return keras.Variable(settings.pop("value"), **settings)
    return keras.saving.deserialize_keras_object(config)


def is_variable_config(config):
    """Whether `config` is what `serialize_weight` gives for a variable.

    A dict of weights for an output called `variable` is not.
    """
    return (
        isinstance(config, dict)
        and set(config) == {"variable"}
        and isinstance(config["variable"], dict)
        and "value" in config["variable"]
    )


def is_number(weight):
    """Whether `weight` is a number of Python or NumPy, booleans included."""
    if isinstance(weight, numbers.Number):
        return True
    return type(weight).__module__ == "numpy" and weight.shape == ()


def is_schedule(weight):
    """Whether `weight` is a schedule, by its `is_schedule`."""
    if isinstance(weight, type):
        return False
    return callable(weight) and getattr(weight, "is_schedule", False) is True


def factors_of(weight):
    """The factors of a product; any other weight is its own factor."""
    return weight.factors if isinstance(weight, ProductWeight) else [weight]


def checked_variable(variable, name):
    """Return a variable that is a scalar number, or refuse it."""
    if variable.shape != () or variable.dtype in ("bool", "string"):
        raise ValueError(
            f"Expected the weight of term '{name}' to be a scalar "
            f"keras.Variable of numbers. Received: a variable of shape "
            f"{tuple(variable.shape)} and dtype {variable.dtype}"
        )
    return variable
