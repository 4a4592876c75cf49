"""Models that record, as they are called, which layer adds which loss."""

import contextlib
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import keras

from keras_losskit import _backend
from keras_losskit import _keras
from keras_losskit._support.replicas import PerThread
from keras_losskit._support.scopes import Aside
from keras_losskit._types import ReductionLike
from keras_losskit._types import Structure
from keras_losskit._types import Tensor
from keras_losskit._types import Weight
from keras_losskit.penalties._add_loss import AddsLosses
from keras_losskit.penalties._recorder import Recorder
from keras_losskit.penalties.collect import PenaltyList
from keras_losskit.penalties.collect import layer_terms
from keras_losskit.penalties.collect import regularized_variables
from keras_losskit.penalties.collect import variable_terms
from keras_losskit.terms import LossTerm


class RecordsLosses(AddsLosses):
    """Mixin for a Keras model: losses that know their kind and owner."""

    def add_loss(
        self,
        loss: Structure,
        name: str | None = None,
        weight: Weight = 1.0,
        reduction: ReductionLike = "sum_over_batch_size",
    ) -> None:
        """Add a term to the loss, from inside `call`; see `layers.Layer`.

        Raises:
            ValueError: outside of `call`, where no training step would see it,
                and as `layers.Layer.add_loss`.
        """
        if not _keras.in_call():
            raise ValueError(
                f"Expected model '{self.name}' to add a loss from inside "
                f"`call`. Received: add_loss({loss!r}) outside of it, which "
                "training never sees. In a functional model use "
                "`keras_losskit.layers.AddLoss(fn)(inputs)`."
            )
        super().add_loss(loss, name=name, weight=weight, reduction=reduction)

    def __call__(self, *args, **kwargs) -> Structure:
        """Call the model, recording which layer adds which loss."""
        if Recorder.current() is not None or any(
            isinstance(x, keras.KerasTensor)
            for x in keras.tree.flatten((args, kwargs))
        ):
            self._remember(None)
            return super().__call__(*args, **kwargs)
        with Recorder(self, outputs_of=self.layers_to_keep()) as recorder:
            outputs = super().__call__(*args, **kwargs)
        self._remember(recorder)
        return outputs

    def layers_to_keep(self) -> list[keras.layers.Layer]:
        """The layers whose outputs are kept during a pass; for subclasses."""
        return []

    def kept_outputs(self, layer: keras.layers.Layer) -> list[Structure]:
        """The outputs of `layer` in the last pass, one per call."""
        recorded = self._last_recorded()
        return recorded.outputs[layer] if recorded is not None else []

    def call_aside(self, x: Structure, training: bool) -> Structure:
        """Call the model once more, leaving no trace.

        What the pass before it recorded stays, and neither assignments nor
        random numbers outlive the call.

        Args:
            x: Inputs.
            training: Whether layers behave as in training.

        Returns:
            The outputs.
        """
        with self._aside():
            return self(x, **self.training_argument(training))

    def terms_aside(self, x: Structure, training: bool) -> list[LossTerm]:
        """The terms that layers add in a call that leaves no trace.

        Args:
            x: Inputs.
            training: Whether layers behave as in training.

        Returns:
            A list of `LossTerm`; empty where the model is deaf to `training`.
        """
        argument = self.training_argument(training)
        if not argument:
            return []
        with self._aside() as recorder:
            self(x, **argument)
            return layer_terms(self, recorder)

    def training_argument(self, training: bool) -> dict[str, bool]:
        """`{"training": training}`, or nothing where `call` takes none.

        Args:
            training: Whether layers behave as in training.
        """
        takes = "training" in self.call_signature_parameters
        return {"training": training} if takes else {}

    @contextlib.contextmanager
    def _aside(self) -> Iterator[Recorder]:
        recorded = self._last_recorded()
        try:
            with (
                Aside(),
                Recorder(self, forward=False) as recorder,
                _backend.random_state_kept(),
            ):
                yield recorder
        finally:
            self._remember(recorded)

    def stateless_call(
        self,
        trainable_variables: Sequence[Tensor],
        non_trainable_variables: Sequence[Tensor],
        *args,
        return_losses: bool = False,
        **kwargs,
    ) -> tuple[Any, ...]:
        """As Keras; with `return_losses` the losses know their terms.

        The model is entered through `self(...)`, not `self.call(...)`: with one
        call context for all layers, Keras has no occasion to clear the losses
        of one layer while it calls another.
        """
        if not return_losses:
            return super().stateless_call(
                trainable_variables, non_trainable_variables, *args, **kwargs
            )
        if not self.built:
            raise ValueError(
                f"To call stateless_call, {type(self).__name__} must be built "
                "(i.e. its variables must have been already created). You can "
                "build it by calling it on some data."
            )
        mapping = paired(
            "trainable_variables", self.trainable_variables, trainable_variables
        ) + paired(
            "non_trainable_variables",
            self.non_trainable_variables,
            non_trainable_variables,
        )
        with keras.StatelessScope(mapping, collect_losses=True) as scope:
            outputs = self(*args, **kwargs)
            losses = PenaltyList(self.penalty_terms())
        if not self.__dict__.get("_in_compute_loss_and_updates"):
            self._remember(None)
        updated = [
            scope.get_current_value(v) for v in self.non_trainable_variables
        ]
        return outputs, updated, losses

    def compute_loss_and_updates(self, *args, **kwargs) -> Any:
        """As Keras' JAX trainer; what was recorded lasts as long as the step.

        An exception leaves no dead tracers behind: the model stays usable.
        """
        self.__dict__["_in_compute_loss_and_updates"] = True
        try:
            return super().compute_loss_and_updates(*args, **kwargs)
        finally:
            self.__dict__["_in_compute_loss_and_updates"] = False
            self._remember(None)
            _keras.clear_losses_override(self)

    def _remember(self, recorded):
        self._pass.recorded = recorded

    def _last_recorded(self):
        return getattr(self._pass, "recorded", None)

    @property
    def _pass(self):
        """What is kept from the forward pass to the end of the step."""
        # Not through `__setattr__`, which would wrap and track it.
        return self.__dict__.setdefault("_kept_of_pass", PerThread())

    # ----------------------------------------------------------------- losses

    def penalty_terms(self) -> list[LossTerm]:
        """The terms beyond the compiled ones after a forward pass.

        Returns:
            A list of `LossTerm` in the order of `losses`.
        """
        return self.recorded_terms() + variable_terms(
            regularized_variables(self)
        )

    def recorded_terms(self) -> list[LossTerm]:
        """The terms that layers added in the last forward pass."""
        return layer_terms(self, self._last_recorded())

    @property
    def losses(self) -> list[Tensor]:
        """As Keras: scalars from `add_loss`, regularizers and sublayers."""
        if self._last_recorded() is None:
            return super().losses
        return PenaltyList(self.penalty_terms())

    @property
    def regularization_losses(self) -> list[Tensor]:
        """The penalties of the weight regularizers."""
        return self._of_kind("regularization")

    @property
    def activity_losses(self) -> list[Tensor]:
        """The penalties of the activity regularizers in the last pass."""
        return self._of_kind("activity")

    @property
    def added_losses(self) -> list[Tensor]:
        """What `add_loss` added in the last pass."""
        return self._of_kind("added")

    def _of_kind(self, kind):
        return PenaltyList(t for t in self.penalty_terms() if t.kind == kind)


def paired(argument, references, values):
    """Pairs of a variable and its value, one to one."""
    if len(references) != len(values):
        raise ValueError(
            f"Argument `{argument}` must be a list of tensors corresponding "
            f"1:1 to the model's {argument}. Received list with length "
            f"{len(values)}, but expected {len(references)} variables."
        )
    return list(zip(references, values, strict=True))
