"""Checks of what users give, one for each kind of argument.

Each takes a value and what it was given for, as the error calls it, such as
`` `start` of Linear ``; it returns the value in its normal form, or says what
was expected and received. What a weight, a reduction and a weighting are, the
packages of those names say.
"""

import functools
import inspect
import math
import numbers
import re
from collections.abc import Callable
from collections.abc import Mapping
from typing import Concatenate
from typing import ParamSpec
from typing import TypeVar

import numpy as np

Owner = TypeVar("Owner")
Arguments = ParamSpec("Arguments")

#: Beyond this a float32, in which losses are added up, is infinite.
_LARGEST = float(np.finfo("float32").max)


def refused(value, expected, *, remedy="", error=TypeError):
    """The error for `value` where something else was `expected`.

    Args:
        value: What was given.
        expected: What it was given for, and what it should be.
        remedy: What to do, a sentence.
        error: Class of the error.

    Returns:
        An exception, to be raised.

    Example:
        >>> print(refused(5, "`name` to be a string"))
        Expected `name` to be a string. Received: 5 (of type int)
    """
    kind = "" if error is ValueError else f" (of type {type(value).__name__})"
    remedy = f". {remedy}" if remedy else ""
    return error(f"Expected {expected}. Received: {value!r}{kind}{remedy}")


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
        ValueError: if it is NaN, or infinite as a float32.

    Example:
        >>> checked_number(2, "`start`")
        2.0
    """
    number = value
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        number = value.item()
    if isinstance(number, bool) or not isinstance(number, numbers.Real):
        raise refused(value, f"{what} to be a real number")
    try:
        number = float(number)
    except OverflowError:
        number = math.inf
    if not abs(number) <= _LARGEST:
        raise refused(
            value,
            f"{what} to be a finite number, also in float32",
            error=ValueError,
        )
    return number


def checked_count(value, what):
    """Return `value` as a positive int; see `checked_number`."""
    number = checked_number(value, what)
    if number != int(number) or number < 1:
        raise refused(
            value, f"{what} to be a positive whole number", error=ValueError
        )
    return int(number)


def checked_index(value, what):
    """Return `value` as an int from 0 on; see `checked_number`."""
    number = checked_number(value, what)
    if number != int(number) or number < 0:
        raise refused(
            value, f"{what} to be a whole number from 0 on", error=ValueError
        )
    return int(number)


def checked_positive(value, what):
    """Return `value` as a float over 0; see `checked_number`."""
    number = checked_number(value, what)
    if number <= 0.0:
        raise refused(value, f"{what} to be positive", error=ValueError)
    return number


def checked_non_negative(value, what):
    """Return `value` as a float of at least 0; see `checked_number`."""
    number = checked_number(value, what)
    if number < 0.0:
        raise refused(value, f"{what} to be 0 or more", error=ValueError)
    return number


def checked_fraction(value, what):
    """Return `value` as a float from 0 to 1; see `checked_number`."""
    number = checked_number(value, what)
    if not 0.0 <= number <= 1.0:
        raise refused(value, f"{what} to be from 0 to 1", error=ValueError)
    return number


def checked_flag(value, what):
    """Return `value` as a bool; a string such as `"False"` would be true.

    Example:
        >>> checked_flag(False, "`normalize`")
        False
    """
    if not isinstance(value, bool | np.bool_):
        raise refused(value, f"{what} to be True or False")
    return bool(value)


def checked_choice(value, choices, what):
    """Return `value` if it is one of the strings `choices`.

    Example:
        >>> checked_choice("sum", ("sum", "mean"), "`reduction`")
        'sum'
    """
    if not isinstance(value, str) or value not in choices:
        words = ", ".join(repr(choice) for choice in choices)
        raise refused(value, f"{what} to be one of {words}", error=ValueError)
    return value


def checked_name(value, what):
    """Return `value` if it is a string that is not empty.

    Example:
        >>> checked_name("kl", "the name of a term")
        'kl'
    """
    if not isinstance(value, str):
        raise refused(value, f"{what} to be a string")
    if not value.strip():
        raise refused(
            value, f"{what} to have a character or more", error=ValueError
        )
    return value


def checked_pattern(value, what):
    """Return `value` if it is a regular expression, as a string.

    Example:
        >>> checked_pattern("encoder/.*", "`pattern`")
        'encoder/.*'
    """
    expected = f"{what} to be a regular expression"
    if not isinstance(value, str):
        raise refused(value, f"{expected}, a string")
    if not value:
        raise refused(value, f"{expected}, not empty", error=ValueError)
    try:
        re.compile(value)
    except re.error as error:
        raise refused(
            value, f"{expected} ({error})", error=ValueError
        ) from None
    return value


def checked_function(value, what, arguments=None):
    """Return `value` if it can be called.

    Args:
        value: What was given for a function. A class is none.
        what: What it was given for, as the error calls it.
        arguments: Names of what it is called with; None does not ask.

    Returns:
        `value`.

    Raises:
        TypeError: if it cannot be called, or not with that many arguments.

    Example:
        >>> checked_function(abs, "`fn`", ["output"])
        <built-in function abs>
    """
    given = "" if arguments is None else f" of ({', '.join(arguments)})"
    expected = f"{what} to be a function{given}"
    if not callable(value) or isinstance(value, type):
        raise refused(value, expected)
    if arguments is not None and not takes(value, *arguments):
        raise refused(value, expected)
    return value


def takes(function, *positional, **named):
    """Whether `function` can be called so, as far as its signature says.

    Example:
        >>> takes(lambda x: x, 1), takes(lambda x: x, 1, 2)
        (True, False)
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # functions in C need not have one
        return True
    try:
        signature.bind(*positional, **named)
    except TypeError:
        return False
    return True


def naming_the_class(
    init: Callable[Concatenate[Owner, Arguments], None],
) -> Callable[Concatenate[Owner, Arguments], None]:
    """`__init__` of a base, whose errors name the class that was called.

    Python names the class that defines `__init__`: `Ramp` for
    `Linear(0.0, 1.0, epoch=2)`.

    Args:
        init: `__init__`.

    Returns:
        `__init__` with the same signature.

    Example:
        >>> class Base:
        ...     @naming_the_class
        ...     def __init__(self, *, length): ...
        >>> class Line(Base): ...
        >>> Line(size=3)
        Traceback (most recent call last):
            ...
        TypeError: Line.__init__() missing a required argument: 'length'
    """
    signature = inspect.signature(init)

    @functools.wraps(init)
    def __init__(
        self: Owner, *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> None:
        try:
            signature.bind(self, *args, **kwargs)
        except TypeError as error:
            owner = type(self).__name__
            raise TypeError(f"{owner}.__init__() {error}") from None
        init(self, *args, **kwargs)

    # Keras reads the arguments of a layer without looking at what is wrapped.
    __init__.__signature__ = signature  # type: ignore[attr-defined]
    return __init__


def checked_instance(value, kinds, what, expected, remedy=""):
    """Return `value` if it is an object of one of the classes `kinds`.

    Args:
        value: What was given.
        kinds: A class, or a tuple of them.
        what: What it was given for, as the error calls it.
        expected: What it should be, in words.
        remedy: What to do, a sentence.
    """
    if not isinstance(value, kinds):
        raise refused(value, f"{what} to be {expected}", remedy=remedy)
    return value


def checked_list(value, what, expected, length=None):
    """Return `value` as a list if it is a sequence, and no string.

    Args:
        value: What was given.
        what: What it was given for, as the error calls it.
        expected: What it should be, in words.
        length: How many elements it should have; None for any number.

    Example:
        >>> checked_list((0, 1), "`clip`", "(low, high)", length=2)
        [0, 1]
    """
    # An array of NumPy is no `Sequence`; what has no order is none either.
    wrong = isinstance(value, str | bytes | Mapping | set | frozenset)
    try:
        items = None if wrong else list(value)
    except TypeError:
        items = None
    if items is None or length not in (None, len(items)):
        raise refused(value, f"{what} to be {expected}", error=ValueError)
    return items


def checked_mapping(value, what, expected):
    """Return `value` as a dict with strings for keys.

    Example:
        >>> checked_mapping({"a": 1}, "`groups`", "{name: group}")
        {'a': 1}
    """
    if not isinstance(value, Mapping):
        raise refused(value, f"{what} to be a dict, {expected}")
    for name in value:
        checked_name(name, f"each name in {what}")
    return dict(value)
