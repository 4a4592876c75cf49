"""`wrap` and `unwrap`: the same layers under another model class."""

import weakref
from typing import Any

import keras

from keras_losskit import _keras
from keras_losskit.models._functional import Twins
from keras_losskit.models._functional import functional_twin
from keras_losskit.models._functional import twin
from keras_losskit.models.mixin import LossTermsMixin
from keras_losskit.models.model import Model
from keras_losskit.models.model import Sequential


def wrap(model: keras.Model) -> LossTermsMixin:
    """A new, uncompiled model over the same layers, with separated terms.

    The given model is left as it is; the two share layers and weights. A
    functional model becomes a `keras_losskit.Model`, a sequential one a
    `keras_losskit.Sequential`; any other keeps its own `call`, methods and
    attributes.

    Args:
        model: A `keras.Model`, built or not.

    Returns:
        A model with all that `keras_losskit.Model` has.

    Raises:
        TypeError: if `model` is no Keras model.

    Example:
        >>> plain = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> wrapped = wrap(plain)
        >>> type(wrapped).__name__, wrapped.layers[0] is plain.layers[0]
        ('Sequential', True)
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            "Expected a keras.Model to wrap. Received: "
            f"{model!r} (of type {type(model).__name__})"
        )
    if isinstance(model, Wrapped):
        return registered_while_used(same_state(type(model), model))
    if isinstance(model, LossTermsMixin):
        return same_state(type(model), model)
    if type(model) is _keras.Functional:
        return same_state(functional_twin(Model), model)
    if type(model) is keras.Sequential:
        return same_state(Sequential, model)
    plain_class: Any = type(model)  # no Hashable to a checker
    made = same_state(wrapped_class(plain_class), model)
    return registered_while_used(made)


def unwrap(model: keras.Model) -> keras.Model:
    """A new, uncompiled plain Keras model over the same layers.

    What it saves loads without this package where its layers are Keras' own.

    Args:
        model: What `wrap` returned, a functional `keras_losskit.Model` or a
            `keras_losskit.Sequential`.

    Returns:
        A `keras.Model` that shares layers and weights with `model`.

    Raises:
        TypeError: for a subclass of `keras_losskit.Model` with a `call` of its
            own, whose class cannot be had without this package.

    Example:
        >>> model = Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> type(unwrap(model)) is keras.Sequential
        True
    """
    if isinstance(model, Wrapped):
        return same_state(model.plain_class, model)
    if isinstance(model, LossTermsMixin):
        if isinstance(model, _keras.Functional):
            return same_state(_keras.Functional, model)
        if type(model) is Sequential:
            return same_state(keras.Sequential, model)
    raise TypeError(
        "Expected a model from `keras_losskit.wrap`, a functional "
        "keras_losskit.Model or a keras_losskit.Sequential. Received: an "
        f"instance of {type(model).__name__}, whose class has no plain "
        "counterpart. Derive it from keras.Model and wrap the instance."
    )


@keras.saving.register_keras_serializable("keras_losskit")
class Wrapped(LossTermsMixin):
    """What a wrapped model of a custom class is saved as."""

    #: The user's class; set on the class that `wrapped_class` makes.
    plain_class = None
    #: Those of that class, which are alive.
    instances: Any = None

    def get_config(self):
        """The config of the plain model inside."""
        plain = keras.saving.serialize_keras_object(unwrap(self))
        return {"model": plain}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Build the plain model and wrap it."""
        return wrap(
            keras.saving.deserialize_keras_object(
                config["model"], custom_objects=custom_objects
            )
        )


def make_wrapped(plain_class):
    """`plain_class` with separated terms, saved as `Wrapped`."""
    made = twin(Wrapped, (Wrapped, plain_class), name=plain_class.__name__)
    made.plain_class = plain_class
    made.instances = weakref.WeakSet()
    return made


wrapped_class = Twins(make_wrapped).of


def registered_while_used(model):
    """Let go of the class of a wrapped model with its last instance.

    Keras keeps the name that a class is saved by, and the class with it.
    """
    cls = type(model)
    _keras.keep_registered_name(cls, Wrapped)
    cls.instances.add(model)
    weakref.finalize(model, forget_unused, cls)
    return model


def forget_unused(cls):
    """Have Keras forget a class without instances."""
    if not list(cls.instances):  # which may count one that is dying
        _keras.forget_registered_name(cls)


#: What an instance does not share: Keras wraps `build`, and before 3.16
#: `quantize`, around it; the others are of how it was trained.
OF_INSTANCE = ("build", "quantize", "_losskit_state", "optimizer", "history")


def same_state(cls, model):
    """An uncompiled instance of `cls` over the state of `model`."""
    made = cls.__new__(cls)
    own = dict(vars(made))
    vars(made).update(vars(model))
    for name in OF_INSTANCE:
        vars(made).pop(name, None)
        if name in own:
            vars(made)[name] = own[name]
    _keras.reset_trainer(made)
    return made
