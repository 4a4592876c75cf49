"""Whose code a class or a method is: Keras', this package's, or the user's."""

import inspect


def package_of(defined):
    """The top package of a class or function, decorators set aside."""
    return inspect.unwrap(defined).__module__.partition(".")[0]


def is_keras_class(cls):
    """Whether Keras itself defines `cls`."""
    return package_of(cls) == "keras"


def calls_are_keras_own(layer):
    """Whether Keras wrote the `call` of `layer`."""
    return package_of(type(layer).call) == "keras"


def is_users_own(function):
    """Whether neither Keras nor this package wrote `function`."""
    return package_of(function) not in ("keras", "keras_losskit")


def overrides(model, method):
    """Whether the `method` that `model` runs first is a custom one."""
    return is_users_own(getattr(type(model), method))


def overriding_class(model, method, after=None):
    """The user's class that defines `method` of `model`; None if none does.

    Args:
        model: The model.
        method: Name of the method.
        after: Look only behind this class, in the order of resolution.
    """
    classes = type(model).__mro__
    if after is not None:
        classes = classes[classes.index(after) + 1 :]
    for cls in classes:
        if method in vars(cls) and is_users_own(vars(cls)[method]):
            return cls
    return None
