"""Recording which layer adds which loss during one forward pass.

Keras keeps losses in lists without names and, on JAX, finds their owner by the
`id` of the tensor, which is wrong at times. While a `Recorder` is active each
layer's `add_loss` reports to it, and each activity regularizer says that the
next `add_loss` of its layer is an activity penalty. Nothing stays on the layers
afterwards.
"""

import dataclasses
import functools
import threading
from typing import Any

import keras

from keras_losskit import _backend
from keras_losskit import _keras
from keras_losskit._support.precision import at_least_float32

_active = threading.local()


@dataclasses.dataclass(frozen=True)
class RecordedLoss:
    """A loss that a layer added.

    Args:
        layer: Its owner.
        kind: `"activity"` or `"added"`.
        value: Its value, unweighted: a scalar; inside the loop of an RNN also
            each sample's share of it, `(batch, 1)`.
        name: The name the user gave it.
        weight: The weight the user gave it.
    """

    layer: Any
    kind: str
    value: Any
    name: str | None = None
    weight: Any = 1.0


class Recorder:
    """Context manager that records the losses of one forward pass of a model.

    Args:
        model: The model, or layer, whose layers are watched.
        outputs_of: Layers whose outputs are kept as well.
        forward: Whether Keras gets the losses too. False inside the loop of an
            RNN, out of which only the sums over the steps can be carried.

    Example:
        >>> layer = keras.layers.Dense(1, activity_regularizer="l2")
        >>> model = keras.Sequential([keras.Input((2,)), layer])
        >>> with Recorder(model, outputs_of=[layer]) as recorder:
        ...     _ = model(keras.ops.ones((3, 2)))
        >>> [(loss.layer.name == layer.name, loss.kind)
        ...  for loss in recorder.losses]
        [(True, 'activity')]
        >>> [tuple(output.shape) for output in recorder.outputs[layer]]
        [(3, 1)]
    """

    def __init__(self, model, outputs_of=(), *, forward=True):
        self._model = model
        self._patched = []
        self._watched = set()
        self._loops = []
        self.forward = forward
        self.losses = []
        self.outputs = {layer: [] for layer in outputs_of}

    @staticmethod
    def current():
        """The recorder of the pass under way in this thread, or `None`."""
        return getattr(_active, "recorder", None)

    def __enter__(self):
        self._outer = Recorder.current()
        self._trace = _backend.trace_state()
        _active.recorder = self
        self._infers_shapes = _keras.in_symbolic_scope()
        self._was_built = self._model.built
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
        _active.recorder = self._outer

    def of_layer(self, layer):
        """The losses that `layer` added, in the order of its calls."""
        return [loss for loss in self.losses if loss.layer is layer]

    def watches(self, layer):
        """Whether `layer` was there before the pass, which may build others."""
        return reports_activity(layer) or id(layer) in self._watched

    def check_reach(self, layer):
        """Refuse a loss that could not leave the place where it arises.

        Raises:
            ValueError: inside the loop of an RNN that does not carry losses, or
                under a transformation of the backend such as remat.
        """
        hint = (
            "Add the loss outside of it, or to the layer's output through "
            "keras_losskit.layers.AddLoss."
        )
        if self._loops:
            loop = self._loops[-1]
            hint = (
                "Use the RNN layers of keras_losskit.layers, which carry the "
                "losses of a cell out of the loop, or `unroll=True`."
            )
            place = f"in the loop of the RNN layer '{loop.name}'"
        elif self._is_building():
            return
        elif _backend.trace_state() != self._trace:
            place = "under rematerialization, a loop or another transformation"
        else:
            return
        raise ValueError(
            f"Expected layer '{layer.name}' to add its loss where it can be "
            f"reached. Received: a loss {place}, which cannot leave it. {hint}"
        )

    def _is_building(self):
        """Whether this is the pass by which Keras builds the model first."""
        if not _keras.in_symbolic_scope():
            return False
        if not self._infers_shapes:
            return True
        # A pass that infers shapes too; where traces can be told apart.
        return not self._was_built and _backend.trace_state() != self._trace

    def report(self, loss):
        """Take down a loss.

        Args:
            loss: `RecordedLoss`.
        """
        if _keras.in_symbolic_scope() and self.forward:
            if self._is_building():
                return
            loss = dataclasses.replace(loss, value=None)  # dead afterwards
        self.losses.append(loss)

    def _watch(self, layer):
        self._watched.add(id(layer))
        # Straight into the instance dictionary: Keras' and the frameworks'
        # `__setattr__` would track, convert or refuse what is put there.
        if layer in self.outputs:
            self._patch(layer, "call", self._keeping_output(layer))
        if _keras.loses_losses_in_loop(layer):
            self._patch(layer, "inner_loop", self._in_loop(layer))
        if reports_activity(layer):
            return  # it tells the current recorder by itself
        watched = _WatchedLayer(layer, self)
        self._patch(layer, "add_loss", watched.add_loss)
        if layer.activity_regularizer is not None:
            watched.regularizer = layer.activity_regularizer
            self._patch(layer, "activity_regularizer", watched.penalize)
            if not layer.built:
                self._patch(layer, "build", building(layer, watched))

    def _patch(self, layer, name, replacement):
        attributes = layer.__dict__
        self._patched.append((attributes, name, attributes.get(name, _ABSENT)))
        attributes[name] = replacement

    def _keeping_output(self, layer):
        call = layer.call

        @functools.wraps(call)
        def kept(*args, **kwargs):
            output = call(*args, **kwargs)
            if not _keras.in_symbolic_scope():
                self.check_reach(layer)
                self.outputs[layer].append(output)
            return output

        return kept

    def _in_loop(self, layer):
        inner_loop = layer.inner_loop

        @functools.wraps(inner_loop)
        def watched(*args, **kwargs):
            self._loops.append(layer)
            try:
                return inner_loop(*args, **kwargs)
            finally:
                self._loops.pop()

        return watched


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
        penalizing, self.penalizing = self.penalizing, False
        original = self.original
        if getattr(self.layer, "reports_losses", False):
            if not penalizing:
                original(loss, *args, **kwargs)
                return
            original = functools.partial(
                keras.layers.Layer.add_loss, self.layer
            )
        self.recorder.check_reach(self.layer)
        if self.recorder.forward:
            original(loss, *args, **kwargs)
        kind = "activity" if penalizing else "added"
        for value in keras.tree.flatten(loss):
            self.recorder.report(RecordedLoss(self.layer, kind, value))

    def penalize(self, output):
        self.penalizing = True
        # A sum over a batch of activations overflows float16.
        return self.regularizer(at_least_float32(output))


def building(layer, watched):
    """`layer.build` that sees the true regularizer.

    It may hand it on to sublayers, which would keep what stands in for it.

    Args:
        layer: A layer that is not built.
        watched: Its `_WatchedLayer`.
    """
    build = layer.build

    @functools.wraps(build)
    def built(*args, **kwargs):
        attributes = layer.__dict__
        attributes["activity_regularizer"] = watched.regularizer
        try:
            return build(*args, **kwargs)
        finally:
            attributes["activity_regularizer"] = watched.penalize

    return built


def reports_activity(layer):
    """Whether `layer` tells the recorder of its losses by itself."""
    # Asked of the class: PyTorch takes long to miss an attribute of a module.
    return getattr(type(layer), "reports_activity", False)
