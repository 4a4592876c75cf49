"""`Schedule`, and the checks of its subclasses' arguments."""

import math
import numbers

import keras


def checked_number(value, what):
    """Return `value` as a float, or say that a finite number was expected.

    Args:
        value: What was given for a number. NumPy scalars and 0-d arrays are
            numbers; booleans are not.
        what: What it was given for, as the error calls it.

    Returns:
        A Python float.

    Raises:
        TypeError: if `value` is no real number.
        ValueError: if it is NaN or infinite.

    Example:
        >>> checked_number(2, "`start`")
        2.0
    """
    number = value
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        number = value.item()
    if isinstance(number, bool) or not isinstance(number, numbers.Real):
        raise TypeError(
            f"Expected {what} to be a real number. Received: {value!r} "
            f"(of type {type(value).__name__})"
        )
    try:
        number = float(number)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(
            f"Expected {what} to be a finite number. Received: {value!r}"
        )
    return number


def checked_count(value, what):
    """Return `value` as a positive int; see `checked_number`."""
    number = checked_number(value, what)
    if number != int(number) or number < 1:
        raise ValueError(
            f"Expected {what} to be a positive whole number. "
            f"Received: {value!r}"
        )
    return int(number)


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
    `keras.Variable`s, listed by `variables`: the trainer tracks those, while
    anything else is frozen under JAX.

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

    def __call__(self, step, epoch):
        raise NotImplementedError(
            f"Expected {type(self).__name__} to define "
            "`__call__(self, step, epoch)`."
        )

    @property
    def variables(self):
        """The `keras.Variable`s that the schedule reads, none by default."""
        return []

    def get_config(self):
        return {}

    @classmethod
    def from_config(cls, config):
        """Build a schedule from what `get_config` gave."""
        return cls(**config)

    def __repr__(self):
        return constructor(self)
