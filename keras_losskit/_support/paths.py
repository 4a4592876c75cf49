"""Paths of layers and variables, and the patterns that find them."""

import re


def path_matches(pattern, path):
    """Whether `pattern` matches `path` from the start of a component on.

    Args:
        pattern: A regular expression.
        path: Components joined by `/`.

    Example:
        >>> path_matches("encoder/.*", "model/encoder/dense/kernel")
        True
        >>> path_matches("coder/.*", "model/encoder/dense/kernel")
        False
    """
    parts = path.split("/")
    return any(
        re.fullmatch(pattern, "/".join(parts[start:]))
        for start in range(len(parts))
    )
