"""Classes made at run time: a model class with another Keras base.

Keras makes a subclass of `keras.Model` functional by rewriting its bases, for
good and for everybody. Here the class is left alone; the instance gets a twin
of it, cached, that has the other base as well.
"""

import weakref

import keras

from keras_losskit import _keras
from keras_losskit import _origin


def is_functional_call(model, args, kwargs):
    """Whether a constructor was given inputs and outputs.

    Args:
        model: The instance under construction.
        args: Positional arguments.
        kwargs: Keyword arguments.
    """
    if not isinstance(model, keras.Model) or isinstance(
        model, (_keras.Functional, keras.Sequential)
    ):
        return False
    given = dict(zip(("inputs", "outputs"), args, strict=False)) | kwargs
    if not {"inputs", "outputs"} <= set(given):
        return False
    leaves = keras.tree.flatten((given["inputs"], given["outputs"]))
    return any(isinstance(leaf, keras.KerasTensor) for leaf in leaves)


def become_functional(model):
    """Turn an instance under construction into a functional model."""
    # Not through `__setattr__`: nothing of the layer exists as yet.
    object.__setattr__(model, "__class__", functional_twin(type(model)))


class Twins:
    """The twin of each class, as long as somebody uses it.

    Neither keeps the other in memory: classes may be made in a loop.

    Args:
        make: Makes the twin of a class.
    """

    def __init__(self, make):
        self._make = make
        self._made = weakref.WeakKeyDictionary()

    def of(self, cls):
        """The twin of `cls`, made anew if there is none or none any more."""
        made = self._made.get(cls, lambda: None)()
        if made is None:
            made = self._make(cls)
            self._made[cls] = weakref.ref(made)
        return made


def _functional_twin(cls):
    # `keras.Model(inputs, outputs)` is a `Functional`, and named after it.
    name = None if _origin.is_users_own(cls) else "Functional"
    return twin(cls, (cls, _keras.Functional), name)


#: `cls` with Keras' functional model as a further base.
functional_twin = Twins(_functional_twin).of


def twin(origin, bases, name=None):
    """A class that is saved and loaded as `origin`, with `bases`.

    Args:
        origin: The class whose place it takes.
        bases: Its bases.
        name: Its name, that of `origin` by default.
    """
    made = type(
        name or origin.__name__,
        bases,
        {
            "__module__": origin.__module__,
            "__qualname__": name or origin.__qualname__,
            "__doc__": origin.__doc__,
        },
    )
    registered = keras.saving.get_registered_name(origin)
    package, separator, name = registered.rpartition(">")
    if separator:
        register = keras.saving.register_keras_serializable(package, name)
        register(made)
        register(origin)  # the name means the origin again
    return made
