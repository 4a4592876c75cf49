"""Arguments that have another name than they had in an earlier version."""

import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any
from typing import TypeVar

_Function = TypeVar("_Function", bound=Callable[..., Any])


def with_new_names(
    given: dict[str, Any], renamed: dict[str, str], owner: str
) -> dict[str, Any]:
    """Arguments by their new names; an old one is used with a warning.

    Args:
        given: Arguments by name.
        renamed: The new name by the old one.
        owner: What they were given to, for the warning.

    Raises:
        TypeError: if an argument is given by both names.

    Example:
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore")
        ...     with_new_names({"unit": "step"}, {"unit": "by"}, "Report")
        {'by': 'step'}
    """
    given = dict(given)
    for old in renamed.keys() & given.keys():
        new = renamed[old]
        if new in given:
            raise TypeError(
                f"Expected `{new}` of {owner} once. Received: `{new}`, and "
                f"`{old}`, which is its old name. Leave out `{old}`"
            )
        warnings.warn(
            f"`{old}` of {owner} is called `{new}` now. The next minor "
            f"version will not know `{old}`.",
            DeprecationWarning,
            stacklevel=_level_of_user(),
        )
        given[new] = given.pop(old)
    return given


def renamed_arguments(**renamed: str) -> Callable[[_Function], _Function]:
    """Decorator of a constructor or method that goes on taking old names.

    Not for layers, whose constructors Keras reads.

    Args:
        **renamed: The new name by the old one.
    """

    def decorate(function):
        owner = function.__qualname__.removesuffix(".__init__")

        @functools.wraps(function)
        def taking_both(*args, **kwargs):
            return function(*args, **with_new_names(kwargs, renamed, owner))

        return taking_both

    return decorate


def _level_of_user():
    """How far up the stack the user's own code is, seen by the caller."""
    level, frame = 0, inspect.currentframe()
    while frame is not None and _is_of_packages(frame):
        level, frame = level + 1, frame.f_back
    return level


def _is_of_packages(frame):
    name = frame.f_globals.get("__name__", "")
    return name.partition(".")[0] in ("keras", "keras_losskit")
