"""Recording which layer adds which loss during one forward pass.

Keras keeps losses in lists without names and, on JAX, finds their owner by the
`id` of the tensor, which is wrong at times. A `Recorder` watches the calls that
its thread makes during a pass (`_keras_hooks`) and has every loss noted, with
its owner and its kind. The layers themselves are left as they are.
"""

import dataclasses
from typing import Any

import keras
from keras import ops

from keras_losskit import _backend
from keras_losskit import _keras
from keras_losskit import _keras_hooks
from keras_losskit import _weights as weights_lib
from keras_losskit._scoped import Scoped
from keras_losskit._support.replicas import PerThread
from keras_losskit.penalties._activity import activity_penalties
from keras_losskit.penalties._recorded import RecordedLoss
from keras_losskit.penalties._schedules import note_schedule
from keras_losskit.penalties._withheld import WithheldLogits
from keras_losskit.penalties._withheld import with_features
from keras_losskit.penalties._withheld import withheld_in
from keras_losskit.terms import multiply

#: `(name, weight)` of the `add_loss` of ours that is under way, where it goes
#: on to one of the user's own, which knows neither.
named_as = Scoped("keras_losskit.named_as")


@dataclasses.dataclass
class LayerState(PerThread):
    """What a thread keeps of a layer of this package between two passes.

    Args:
        reported: Pairs of a value that Keras holds for the layer and the
            `RecordedLoss` that it is of.
    """

    reported: list[tuple[Any, RecordedLoss]] = dataclasses.field(
        default_factory=list
    )


class TellsLosses:
    """Mixin for layers that say what they add, whoever watches.

    They have a `LayerState` as long as they live.
    """

    #: The class of their state.
    _losskit_state_class: Any = LayerState
    #: What the value of the activity regularizer is divided by.
    activity_reduction = "sum_over_batch_size"

    def __new__(cls, *args, **kwargs):
        _keras_hooks.install()
        made = super().__new__(cls, *args, **kwargs)
        make_state(made)
        return made


def make_state(layer):
    """Give a `TellsLosses` a state in which nothing is noted yet."""
    _keras.set_untracked(layer, "_losskit_state", layer._losskit_state_class())


class Calls(_keras_hooks.Watcher):
    """Watches layers that tell their losses, where no model records them.

    Their activity penalties are computed once their masks are known; Keras
    sees to everything else.
    """

    #: Whether Keras gets the losses too.
    forward = True

    def __init__(self):
        self._computed = self._owed = None

    def watches(self, layer):
        """Whether the losses of `layer` are looked after here."""
        return isinstance(layer, TellsLosses)

    def computed(self, layer):
        self._owed = None
        # Keras asks for the regularizer next.
        regularized = _keras_hooks.regularizer_of(layer) is not None
        watched = regularized and self.watches(layer)
        self._computed = layer if watched else None

    def leaves_regularizer_to_keras(self, layer):
        if self._computed is not layer:
            return True
        self._computed, self._owed = None, layer
        return False

    def add_loss(self, layer, loss):
        named = named_as.get()
        if named is None:
            super().add_loss(layer, loss)
            return
        for value in keras.tree.flatten(loss):
            note(layer, "added", value, *named)

    def called(self, layer, outputs):
        owed, self._owed = self._owed, None
        self._computed = None
        if owed is layer:
            reduction = "sum_over_batch_size"
            if isinstance(layer, TellsLosses):
                reduction = layer.activity_reduction
            for value in activity_penalties(layer, outputs, reduction):
                note(layer, "activity", value)

    def note(self, loss):
        """Take down a `RecordedLoss`."""


class Recorder(Calls):
    """Records the losses of one forward pass of a model.

    Args:
        model: The model, or layer, that is called.
        outputs_of: Layers whose outputs are kept as well.
        output_layers: `{layer: OutputLayer}` of those that hand on what they
            are given.
        watch: Who takes note of the values of samples, a `SampleWatch`.
        forward: Whether Keras gets the losses too. False inside the loop of an
            RNN, out of which only the sums over the steps can be carried.

    Example:
        >>> layer = keras.layers.Dense(1, activity_regularizer="l2")
        >>> model = keras.Sequential([keras.Input((2,)), layer])
        >>> recorder = Recorder(model, outputs_of=[layer])
        >>> _keras_hooks.install()  # as any layer of this package does
        >>> _ = recorder.run(model, keras.ops.ones((3, 2)))
        >>> [(loss.layer.name == layer.name, loss.kind)
        ...  for loss in recorder.losses]
        [(True, 'activity')]
        >>> [tuple(output.shape) for output in recorder.outputs[layer]]
        [(3, 1)]
    """

    def __init__(
        self,
        model,
        outputs_of=(),
        *,
        output_layers=None,
        watch=None,
        forward=True,
    ):
        super().__init__()
        self.model = model
        self.watch = watch
        self._loops = []
        self._of_owner = {}
        self.forward = forward
        self.losses = []
        #: What layers logged, a list of `LoggedValue`.
        self.logged = []
        #: Whether the step has counted them.
        self.logs_are_counted = False
        #: The losses that the model added after its pass, in `compute_loss`.
        self.noted_later = []
        #: Whether the terms of the step were made of the losses.
        self.losses_are_counted = False
        self.outputs = {layer: [] for layer in outputs_of}
        self._output_layers = output_layers or {}
        #: The `WithheldLogits` of the pass, and those at outputs by position.
        self.withheld = []
        self.withheld_at = {}

    @staticmethod
    def current():
        """The recorder of the pass under way in this thread, or `None`."""
        watching = _keras_hooks.watcher()
        return watching if isinstance(watching, Recorder) else None

    def run(self, function, /, *args, **kwargs):
        """`function(*args, **kwargs)`, recorded."""
        self._outer = Recorder.current()
        self._trace = _backend.trace_state()
        self._infers_shapes = _keras.in_symbolic_scope()
        self._was_built = self.model.built
        outputs = super().run(function, *args, **kwargs)
        if self.withheld:
            outputs, self.withheld_at = with_features(outputs)
        return outputs

    def of_layer(self, layer):
        """The losses that `layer` added, in the order of its calls."""
        return self._of_owner.get(id(layer), [])

    def is_out_of_scope(self):
        """Whether the losses are of a pass out of which no value came."""
        if _keras.in_symbolic_scope():
            return False
        values = [loss.value for loss in self.losses]
        return any(v is None or _backend.is_out_of_scope(v) for v in values)

    def watches(self, layer):
        return True

    def given(self, layer, args, kwargs):
        if self.withheld:
            for logits in withheld_in((args, kwargs)):
                logits.refuse(f"{type(layer).__name__} '{layer.name}'")

    def instead_of(self, layer, args, kwargs):
        output_layer = self._output_layers.get(layer)
        if (
            output_layer is None
            or not output_layer.makes_logits(args, kwargs)
            or self._out_of_reach()
            or _keras.in_symbolic_scope()  # where Keras only asks for shapes
        ):
            return None
        features = args[0] if args else kwargs["inputs"]
        self.withheld.append(WithheldLogits(features, output_layer))
        return self.withheld[-1]

    def called(self, layer, outputs):
        super().called(layer, outputs)
        recorder = self
        while recorder is not None:
            if recorder.outputs and not _keras.in_symbolic_scope():
                recorder._keep(layer, outputs)
            recorder = recorder._outer

    def _keep(self, layer, outputs):
        if layer in self.outputs:
            self.check_reach(layer)
            self.outputs[layer].append(outputs)
        if isinstance(layer, keras.layers.TimeDistributed):
            # It runs the `call` of its layer for each step, and no `__call__`.
            if layer.layer in self.outputs and outputs.shape[1] is not None:
                steps = ops.unstack(outputs, outputs.shape[1], axis=1)
                self.outputs[layer.layer] += steps

    def add_loss(self, layer, loss):
        # What was computed and is not yet called: Keras did find a regularizer.
        kind = "activity" if self._computed is layer else "added"
        named = named_as.get() or ()
        for value in keras.tree.flatten(loss):
            note(layer, kind, value, *named)

    def in_loop(self, layer, loop):
        self._loops.append(layer)
        try:
            return loop()
        finally:
            self._loops.pop()

    def check_reach(self, layer):
        """Refuse a loss that could not leave the place where it arises.

        Raises:
            ValueError: inside the loop of an RNN that does not carry losses, or
                under a transformation of the backend such as remat.
        """
        place = self._out_of_reach()
        if place is None:
            return
        hint = (
            "Add the loss outside of it, or to the layer's output through "
            "keras_losskit.layers.AddLoss."
        )
        if self._loops:
            hint = (
                "Use the RNN layers of keras_losskit.layers, which carry the "
                "losses of a cell out of the loop, or `unroll=True`."
            )
        raise ValueError(
            f"Expected layer '{layer.name}' to add its loss where it can be "
            f"reached. Received: a loss {place}, which cannot leave it. {hint}"
        )

    def _out_of_reach(self):
        """Where a tensor of now could not leave, in words; else None."""
        if self._loops:
            return f"in the loop of the RNN layer '{self._loops[-1].name}'"
        if self._is_building() or _backend.trace_state() == self._trace:
            return None
        return "under rematerialization, a loop or another transformation"

    def _is_building(self):
        """Whether this is the pass by which Keras builds the model first."""
        if not _keras.in_symbolic_scope():
            return False
        if not self._infers_shapes:
            return True
        # A pass that infers shapes too; where traces can be told apart.
        return not self._was_built and _backend.trace_state() != self._trace

    def note(self, loss):
        self.check_reach(loss.layer)
        if _keras.in_symbolic_scope() and self.forward:
            if self._is_building():
                return
            loss = dataclasses.replace(loss, value=None)  # dead afterwards
        self._keep_loss(loss)

    def note_later(self, loss):
        """Take down a `RecordedLoss` that the model adds after its pass."""
        if _keras.in_symbolic_scope():
            loss = dataclasses.replace(loss, value=None)
        self.noted_later.append(loss)
        self._keep_loss(loss)

    def _keep_loss(self, loss):
        self.losses.append(loss)
        self._of_owner.setdefault(id(loss.layer), []).append(loss)

    def log(self, entry):
        """Take down a `LoggedValue`.

        Raises:
            ValueError: where it could not leave the place where it arises.
        """
        place = self._out_of_reach()
        if place is not None:
            refuse_log(entry, place)
        if not (self.forward and self._is_building()):
            self.keep_log(entry)

    def keep_log(self, entry):
        """Keep a `LoggedValue`, of which shapes have no value that lasts."""
        if _keras.in_symbolic_scope() and self.forward:
            entry = dataclasses.replace(entry, value=None)
        self.logged.append(entry)


def refuse_log(entry, place):
    """Refuse a `LoggedValue` that could not leave a place."""
    raise ValueError(
        f"Expected layer '{entry.layer.name}' to log '{entry.name}' where it "
        f"can be reached. Received: a value {place}, which cannot leave it. "
        "Log the outputs, in a layer or model around it."
    )


def note(layer, kind, value, name=None, weight=1.0):
    """Note a loss: for the pass under way, for Keras, and for the layer.

    Args:
        layer: Any Keras layer.
        kind: `"activity"` or `"added"`.
        value: See `RecordedLoss`.
        name: The name the user gave it.
        weight: The weight the user gave it.
    """
    loss = RecordedLoss(layer, kind, value, name, weight)
    note_schedule(layer, weight)
    recorder = Recorder.current()
    if recorder is not None:
        recorder.note(loss)
        if not recorder.forward:
            return
    # Keras has no schedules: there they stand at their first step.
    value = multiply(value, weights_lib.weight_value(weight, step=0, epoch=0))
    _keras_hooks.add_loss(layer, value)
    if isinstance(layer, TellsLosses) and not _keras.in_stateless_scope():
        # What Keras no longer holds is from an earlier pass.
        reported = layer._losskit_state.reported
        reported[:] = [*still_held(layer), (value, loss)]


def still_held(layer):
    """The pairs of what a `TellsLosses` reported that Keras still holds."""
    own = {id(value) for value in _keras.own_losses(layer)}
    return [
        pair for pair in layer._losskit_state.reported if id(pair[0]) in own
    ]
