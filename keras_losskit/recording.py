"""Recording which layer adds which loss during one forward pass.

Keras keeps losses in lists without names and, on JAX, finds their owner by the
`id` of the tensor, which is wrong at times. While a `Recorder` is active each
layer's `add_loss` reports to it, and each activity regularizer says that the
next `add_loss` of its layer is an activity penalty. Nothing stays on the layers
afterwards.
"""

import dataclasses
import threading
from typing import Any

import keras
from keras import ops

from keras_losskit import _keras

_active = threading.local()


@dataclasses.dataclass(frozen=True)
class Recorded:
    """A loss that a layer added: its owner, kind, value, name and weight."""

    layer: Any
    kind: str
    value: Any
    name: str | None = None
    weight: Any = 1.0


class Recorder:
    """Context manager that records the losses of one forward pass of a model.

    Args:
        model: The model whose layers are watched.

    Example:
        >>> layer = keras.layers.Dense(1, activity_regularizer="l2")
        >>> model = keras.Sequential([keras.Input((2,)), layer])
        >>> with Recorder(model) as recorder:
        ...     _ = model(ops.ones((3, 2)))
        >>> [(loss.layer.name == layer.name, loss.kind)
        ...  for loss in recorder.losses]
        [(True, 'activity')]
    """

    def __init__(self, model):
        self._model = model
        self._patched = []
        self._watched = set()
        self.losses = []

    @staticmethod
    def current():
        """The recorder of the pass under way in this thread, or `None`."""
        return getattr(_active, "recorder", None)

    def __enter__(self):
        _active.recorder = self
        self._infers_shapes = _keras.in_symbolic_scope()
        for layer in _keras.flatten_layers(self._model):
            self._watch(layer)
        return self

    def __exit__(self, *exception):
        for attributes, name, original in reversed(self._patched):
            if original is _ABSENT:
                attributes.pop(name, None)
            else:
                attributes[name] = original
        self._patched.clear()
        _active.recorder = None

    def of_layer(self, layer):
        """The losses that `layer` added, in the order of its calls."""
        return [loss for loss in self.losses if loss.layer is layer]

    def watches(self, layer):
        """Whether `layer` was there before the pass, which may build others."""
        return id(layer) in self._watched

    def report(self, loss):
        """Take down a loss: a `Recorded`."""
        if _keras.in_symbolic_scope():
            if not self._infers_shapes:
                return  # of the pass that builds the model, before this one
            loss = dataclasses.replace(loss, value=None)  # dead afterwards
        self.losses.append(loss)

    def _watch(self, layer):
        self._watched.add(id(layer))
        watched = _WatchedLayer(layer, self)
        # Straight into the instance dictionary: Keras' and the frameworks'
        # `__setattr__` would track, convert or refuse what is put there.
        self._patch(layer.__dict__, "add_loss", watched.add_loss)
        if layer.activity_regularizer is not None:
            watched.regularizer = layer.activity_regularizer
            self._patch(
                layer.__dict__, "activity_regularizer", watched.penalize
            )

    def _patch(self, attributes, name, replacement):
        self._patched.append((attributes, name, attributes.get(name, _ABSENT)))
        attributes[name] = replacement


_ABSENT = object()


class _WatchedLayer:
    """What stands in for a layer's `add_loss` and regularizer meanwhile."""

    __slots__ = ("layer", "original", "penalizing", "recorder", "regularizer")

    def __init__(self, layer, recorder):
        self.layer = layer
        self.recorder = recorder
        self.original = layer.add_loss
        self.penalizing = False
        self.regularizer = None

    def add_loss(self, loss, *args, **kwargs):
        self.original(loss, *args, **kwargs)
        kind = "activity" if self.penalizing else "added"
        self.penalizing = False
        for value in keras.tree.flatten(loss):
            self.recorder.report(Recorded(self.layer, kind, value))

    def penalize(self, output):
        self.penalizing = True
        # A sum over a batch of activations overflows float16.
        return self.regularizer(at_least_float32(output))


def at_least_float32(tensor):
    """`tensor` in float32 if it is narrower or no float, else as it is."""
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    if dtype in ("float32", "float64"):
        return tensor
    return ops.cast(tensor, "float32")


class VariableReads(keras.StatelessScope):
    """Scope that notes which variables are read in it.

    All else it leaves to the scope around it.
    """

    def __init__(self):
        super().__init__()
        self._read = {}

    @property
    def variables(self):
        """The variables that were read, each once, in order."""
        return list(self._read.values())

    def get_current_value(self, variable):
        """The value in the outer scope, after a note."""
        self._read[id(variable)] = variable
        value = super().get_current_value(variable)
        if value is None and self.original_scope is not None:
            value = self.original_scope.get_current_value(variable)
        return value

    def add_update(self, update):
        """Hand an assignment to the outer scope."""
        self.original_scope.add_update(update)
