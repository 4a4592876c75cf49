"""Objects by the name of their class, and what a function is called."""

import keras

from keras_losskit._support.checks import refused


def object_of_class(name, base, what):
    """An object of the class that a string names, with its defaults.

    Args:
        name: Name of a class of this package, in any case and with or without
            underscores (`"PCGrad"`, `"pcgrad"`), or the one that a class is
            registered under (`"package>MyWeighting"`).
        base: What the class derives from.
        what: What it was given for, as the error calls it.

    Returns:
        The object, or None where no class has that name.

    Raises:
        ValueError: if the class needs an argument.

    Example:
        >>> from keras_losskit.reductions import Reduction
        >>> object_of_class("mean_non_zero", Reduction, "`reduction`")
        MeanNonZero()
    """
    cls = _class_of(name, base)
    if cls is None:
        return None
    try:
        return cls()
    except (TypeError, ValueError) as error:
        raise refused(
            name,
            f"{what} to name a class that needs no argument",
            remedy=f"Give an object, `{cls.__name__}(...)`: {error}",
            error=ValueError,
        ) from None


def _class_of(name, base):
    registered = keras.saving.get_registered_object(name)
    if registered is None:
        wanted = _folded(name)
        registered = next(
            (
                cls
                for full_name, cls in keras.saving.get_custom_objects().items()
                if full_name.startswith("keras_losskit>")
                and _folded(full_name.partition(">")[2]) == wanted
            ),
            None,
        )
    is_one = isinstance(registered, type) and issubclass(registered, base)
    return registered if is_one else None


def _folded(name):
    return name.replace("_", "").lower()


def name_of(function):
    """What a function is called; an object as it is written.

    Example:
        >>> name_of(len), name_of("sum")
        ('len', "'sum'")
    """
    return getattr(function, "__name__", None) or repr(function)
