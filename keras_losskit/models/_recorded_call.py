"""Models that record, as they are called, which layer adds which loss."""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras

from keras_losskit import _backend
from keras_losskit import _keras
from keras_losskit._scoped import Scoped
from keras_losskit._support.sample_ids import split_ids
from keras_losskit._support.scopes import Aside
from keras_losskit._types import ReductionLike
from keras_losskit._types import Structure
from keras_losskit._types import Tensor
from keras_losskit._types import Weight
from keras_losskit.models._samples import sample_watch
from keras_losskit.models._step_state import ModelState
from keras_losskit.models._step_state import Pass
from keras_losskit.models._step_state import StepState
from keras_losskit.models._token_metrics import with_scores
from keras_losskit.models._variable_reads import noting_reads
from keras_losskit.penalties._add_loss import AddsLosses
from keras_losskit.penalties._log import logged_means
from keras_losskit.penalties._log import of_all_replicas
from keras_losskit.penalties._recorded import RecordedLoss
from keras_losskit.penalties._recorder import Recorder
from keras_losskit.penalties.collect import PenaltyList
from keras_losskit.penalties.collect import layer_terms
from keras_losskit.penalties.collect import regularized_variables
from keras_losskit.penalties.collect import variable_terms
from keras_losskit.terms import LossTerm

#: The `Pass` of the step on JAX that is under way.
_updating = Scoped("keras_losskit.updating")


class RecordsLosses(AddsLosses):
    """Mixin for a Keras model: losses that know their kind and owner."""

    _losskit_state_class = ModelState

    def add_loss(
        self,
        loss: Structure,
        name: str | None = None,
        weight: Weight = 1.0,
        reduction: ReductionLike | None = None,
    ) -> None:
        """Add a term to the loss, from inside `call`; see `layers.Layer`.

        A custom `compute_loss` may add terms before it calls
        `super().compute_loss(...)`, which counts them.

        Raises:
            ValueError: elsewhere, where no training step would see it, and as
                `layers.Layer.add_loss`.
        """
        if self._losskit_adds_in_compute_loss():
            recorder = self._losskit_last_pass().recorder
            late = recorder is None or recorder.losses_are_counted
            if late or callable(loss):
                refuse_outside_call(self, loss)
        elif not _keras.in_call():
            refuse_outside_call(self, loss)
        super().add_loss(loss, name=name, weight=weight, reduction=reduction)

    def _losskit_adds_in_compute_loss(self):
        """Whether the pass is over, and its loss is being computed."""
        return Recorder.current() is None and self._losskit_computes_loss()

    def _losskit_take_loss(self, value, name, weight):
        if not self._losskit_adds_in_compute_loss():
            super()._losskit_take_loss(value, name, weight)
            return
        last = self._losskit_last_pass()
        last.recorder.note_later(
            RecordedLoss(self, "added", value, name, weight)
        )
        last.penalties = None  # they lack it

    def _losskit_count_losses(self):
        """Nothing may be added to the losses of this pass now."""
        recorder = self._losskit_last_pass().recorder
        if recorder is not None:
            recorder.losses_are_counted = True

    def _losskit_refuse_uncounted_losses(self):
        """Refuse terms of a `compute_loss` that are in no total.

        Raises:
            ValueError: if it added some and never called the one above.
        """
        recorder = self._losskit_last_pass().recorder
        if recorder is None or recorder.losses_are_counted:
            return
        if recorder.noted_later:
            names = [loss.name for loss in recorder.noted_later]
            raise ValueError(
                f"Expected `compute_loss` of model '{self.name}' to return "
                "what `super().compute_loss(...)` gives, which counts the "
                f"terms that it adds. Received: add_loss of {names}, and no "
                "such call."
            )

    def _losskit_computes_loss(self) -> bool:
        """Whether the loss is being computed; for subclasses."""
        return False

    def __call__(self, *args, **kwargs) -> Structure:
        """Call the model, recording which layer adds which loss."""
        this = self._losskit_last_pass()
        this.penalties = None
        if args:
            x, this.ids = split_ids(args[0])
            args = (x, *args[1:])
        if Recorder.current() is not None or any(
            isinstance(x, keras.KerasTensor)
            for x in keras.tree.flatten((args, kwargs))
        ):
            this.recorder = None
            return super().__call__(*args, **kwargs)
        step = self._losskit_kept_of_pass()
        recorder = Recorder(
            self,
            outputs_of=self._losskit_layers_to_keep(),
            output_layers=step.output_layers,
            watch=sample_watch(self),
        )
        step.output_layers = {}
        outputs = recorder.run(super().__call__, *args, **kwargs)
        this.recorder = recorder
        return outputs

    def _losskit_take_log(self, entry):
        recorder = self._losskit_last_pass().recorder
        if Recorder.current() is not None:
            super()._losskit_take_log(entry)
        elif recorder is not None and not recorder.logs_are_counted:
            # In `compute_loss`: the pass is over, and not yet the step.
            recorder.keep_log(entry)
        elif not _keras.in_call():
            raise ValueError(
                f"Expected model '{self.name}' to log from inside `call`, or "
                "in `compute_loss` before `super().compute_loss(...)`. "
                f"Received: '{entry.name}', logged where no step counts it."
            )

    def _losskit_logged_values(self) -> dict[str, Tensor]:
        """`{name: mean}` of what layers logged in the last forward pass."""
        recorder = self._losskit_last_pass().recorder
        return {} if recorder is None else logged_means(recorder.logged)

    def _losskit_count_logs(self, batch: Structure) -> dict[str, Tensor]:
        """`logged_values` of all replicas; nothing is logged in this pass now.

        Args:
            batch: A nest of tensors `(batch, ...)` of this replica.
        """
        recorder = self._losskit_last_pass().recorder
        if recorder is None:
            return {}
        recorder.logs_are_counted = True
        if not recorder.logged:
            return {}
        return of_all_replicas(logged_means(recorder.logged), batch)

    def _losskit_kept_of_pass(self) -> StepState:
        """What is noted during a step, of each thread its own."""
        return self._losskit_state.step

    def _losskit_last_pass(self) -> Pass:
        traced = _updating.get()
        if traced is not None and traced.model is self:
            return traced
        return self._losskit_kept_of_pass().last

    def _losskit_layers_to_keep(self) -> list[keras.layers.Layer]:
        """The layers whose outputs are kept during a pass; for subclasses."""
        return []

    def _losskit_kept_outputs(
        self, layer: keras.layers.Layer
    ) -> list[Structure]:
        """The outputs of `layer` in the last pass, one per call."""
        recorder = self._losskit_last_pass().recorder
        return recorder.outputs[layer] if recorder is not None else []

    def _losskit_call_aside(
        self,
        x: Structure,
        training: bool,
        values: Sequence[tuple[keras.Variable, Tensor]] = (),
    ) -> Structure:
        """Call the model once more, leaving no trace.

        What the pass before it recorded stays, and neither assignments nor
        random numbers outlive the call.

        Args:
            x: Inputs.
            training: Whether layers behave as in training.
            values: Pairs of a variable and the value that it has in the call.

        Returns:
            The outputs.
        """
        argument = self._losskit_training_argument(training)
        return self._losskit_aside(lambda recorder: self(x, **argument), values)

    def _losskit_terms_aside(
        self, x: Structure, training: bool
    ) -> tuple[list[LossTerm], list[str]]:
        """The terms that layers add in a call that leaves no trace.

        Args:
            x: Inputs.
            training: Whether layers behave as in training.

        Returns:
            A list of `LossTerm`, and the names under which layers log values;
            both empty where the model ignores `training`.
        """
        argument = self._losskit_training_argument(training)
        if not argument:
            return [], []

        def terms(recorder):
            self(x, **argument)
            names = [entry.name for entry in recorder.logged]
            return layer_terms(self, recorder), names

        return self._losskit_aside(terms)

    def _losskit_training_argument(self, training: bool) -> dict[str, bool]:
        """`{"training": training}`, or nothing where `call` takes none.

        Args:
            training: Whether layers behave as in training.
        """
        takes = "training" in self.call_signature_parameters
        return {"training": training} if takes else {}

    def _losskit_aside(
        self,
        function: Callable[[Recorder], Any],
        values: Sequence[tuple[keras.Variable, Tensor]] = (),
    ) -> Any:
        """`function(recorder)`, which may call the model, without a trace."""
        last = self._losskit_last_pass()
        kept = last.recorder, last.penalties
        recorder = Recorder(self, forward=False)
        try:
            with Aside(values), _backend.random_state_kept():
                return recorder.run(function, recorder)
        finally:
            last.recorder, last.penalties = kept

    def stateless_call(
        self,
        trainable_variables: Sequence[Tensor],
        non_trainable_variables: Sequence[Tensor],
        *args,
        return_losses: bool = False,
        **kwargs,
    ) -> tuple[Any, ...]:
        """As Keras; with `return_losses` the losses know their terms.

        It enters by `self(...)`, with one call context for all layers: Keras
        has no occasion to clear the losses of one while it calls another.
        """
        values = trainable_variables, non_trainable_variables
        if not return_losses:
            if args:  # `predict`, which needs no ids
                args = (split_ids(args[0])[0], *args[1:])
            return super().stateless_call(*values, *args, **kwargs)
        if not self.built:
            raise ValueError(
                f"To call stateless_call, {type(self).__name__} must be built "
                "(i.e. its variables must have been already created). You can "
                "build it by calling it on some data."
            )
        own = self.trainable_variables, self.non_trainable_variables
        names = "trainable_variables", "non_trainable_variables"
        mapping = [p for each in map(paired, names, own, values) for p in each]
        with keras.StatelessScope(mapping, collect_losses=True) as scope:
            with noting_reads():
                outputs = self(*args, **kwargs)
            losses = PenaltyList(self._losskit_penalty_terms())
        last = self._losskit_last_pass()
        if last is self._losskit_kept_of_pass().last:
            last.recorder = None
        else:  # the loss is computed next
            last.penalties = losses.terms
        updated = [
            scope.get_current_value(v) for v in self.non_trainable_variables
        ]
        return outputs, updated, losses

    def compute_loss_and_updates(self, *args, **kwargs) -> Any:
        """As Keras' JAX trainer; what was recorded lasts as long as the step.

        An exception leaves no dead tracers behind: the model stays usable.
        """
        self._losskit_kept_of_pass().last = Pass()
        try:
            compute = super().compute_loss_and_updates
            found = _updating.run(Pass(model=self), compute, *args, **kwargs)
            return with_scores(self, found)
        finally:
            _keras.clear_losses_override(self)

    # ----------------------------------------------------------------- losses

    def _losskit_penalty_terms(self) -> list[LossTerm]:
        """The terms beyond the compiled ones after a forward pass.

        Returns:
            A list of `LossTerm` in the order of `losses`.
        """
        known = self._losskit_last_pass().penalties
        if known is not None:
            return list(known)
        return self._losskit_recorded_terms() + variable_terms(
            regularized_variables(self)
        )

    def _losskit_recorded_terms(self) -> list[LossTerm]:
        """The terms that layers added in the last forward pass."""
        recorder = self._losskit_last_pass().recorder
        if recorder is not None and recorder.is_out_of_scope():
            return []  # after `fit` on TensorFlow: its graph is built
        return layer_terms(self, recorder)

    @property
    def losses(self) -> list[Tensor]:
        """As Keras: scalars from `add_loss`, regularizers and sublayers."""
        if self._losskit_last_pass().recorder is None:
            return super().losses
        return PenaltyList(self._losskit_penalty_terms())

    @property
    def regularization_losses(self) -> list[Tensor]:
        """The penalties of the weight regularizers."""
        return self._losskit_of_kind("regularization")

    @property
    def activity_losses(self) -> list[Tensor]:
        """The penalties of the activity regularizers in the last pass."""
        return self._losskit_of_kind("activity")

    @property
    def added_losses(self) -> list[Tensor]:
        """What `add_loss` added in the last pass."""
        return self._losskit_of_kind("added")

    def _losskit_of_kind(self, kind):
        return PenaltyList(
            t for t in self._losskit_penalty_terms() if t.kind == kind
        )


def refuse_outside_call(model, loss):
    """Refuse a loss that is added where no training step would see it.

    Raises:
        ValueError: always.
    """
    if model._losskit_computes_loss():
        place = "in `compute_loss`, after the terms were added up"
        remedy = "Add it before `super().compute_loss(...)`"
    else:
        place = "outside of it, which training never sees"
        remedy = (
            "In a functional model use "
            "`keras_losskit.layers.AddLoss(fn)(inputs)`, and go on with what "
            "it returns"
        )
    if callable(loss):
        remedy = (
            "A function of weights becomes a regularizer, or "
            "`extra_terms={name: keras_losskit.extra.FromWeights(...)}` of a "
            "LossesContainer"
        )
    raise ValueError(
        f"Expected model '{model.name}' to add a loss from inside `call`. "
        f"Received: add_loss({loss!r}) {place}. {remedy}."
    )


def paired(argument, references, values):
    """Pairs of a variable and its value, one to one."""
    if len(references) != len(values):
        raise ValueError(
            f"Argument `{argument}` must be a list of tensors corresponding "
            f"1:1 to the model's {argument}. Received list with length "
            f"{len(values)}, but expected {len(references)} variables."
        )
    return list(zip(references, values, strict=True))
