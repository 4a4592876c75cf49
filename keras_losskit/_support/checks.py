"""Checks of numbers that users give, with one wording for all errors."""

import math
import numbers


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


def checked_positive(value, what):
    """Return `value` as a float over 0; see `checked_number`."""
    number = checked_number(value, what)
    if number <= 0.0:
        raise ValueError(f"Expected {what} to be positive. Received: {value!r}")
    return number


def checked_non_negative(value, what):
    """Return `value` as a float of at least 0; see `checked_number`."""
    number = checked_number(value, what)
    if number < 0.0:
        raise ValueError(
            f"Expected {what} to be 0 or more. Received: {value!r}"
        )
    return number


def checked_fraction(value, what):
    """Return `value` as a float from 0 to 1; see `checked_number`."""
    number = checked_number(value, what)
    if not 0.0 <= number <= 1.0:
        raise ValueError(
            f"Expected {what} to be from 0 to 1. Received: {value!r}"
        )
    return number
