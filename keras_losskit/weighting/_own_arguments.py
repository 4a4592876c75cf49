"""What the constructor of a custom weighting was given, for its config."""

import inspect

BY_NAME = (
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    inspect.Parameter.KEYWORD_ONLY,
)


def own_arguments(method):
    """Arguments that no `get_config` writes, from attributes of their names.

    Keras derives them only where no base defines `get_config`, as those of this
    package do.

    Args:
        method: An object. The classes before the first that defines
            `get_config`, in the order in which methods are looked up, are the
            ones whose constructors are asked.

    Returns:
        A dict; empty for a class with a `get_config` of its own.

    Raises:
        NotImplementedError: if an argument is not kept in the attribute of its
            name, or is not of a type that can be written.

    Example:
        >>> class Base:
        ...     def get_config(self):
        ...         return own_arguments(self)
        >>> class Power(Base):
        ...     def __init__(self, power):
        ...         self.power = power
        >>> Power(3.0).get_config()
        {'power': 3.0}
    """
    names, known = [], set()
    written = False
    for cls in type(method).__mro__:
        written = written or "get_config" in vars(cls)
        if "__init__" not in vars(cls):
            continue
        parameters = inspect.signature(cls.__init__).parameters.values()
        taken = [p.name for p in parameters if p.kind in BY_NAME][1:]
        if written:
            known.update(taken)
        else:
            names += taken
    return {
        name: plain(getattr(method, name, method), name, method)
        for name in names
        if name not in known
    }


def plain(value, name, method):
    """A copy of `value` that a config may hold; `name` is for the error."""
    if isinstance(value, (list, tuple)):
        return [plain(item, name, method) for item in value]
    if isinstance(value, dict):
        return {key: plain(item, name, method) for key, item in value.items()}
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    received = "no such attribute" if value is method else repr(value)
    raise NotImplementedError(
        f"Expected {type(method).__name__} to keep its argument `{name}` in "
        "the attribute of that name, as a number, a string, a boolean, None, "
        f"or a list or dict of these. Received: {received}. Please implement "
        "`get_config()`, which adds it to what `super().get_config()` gives."
    )
