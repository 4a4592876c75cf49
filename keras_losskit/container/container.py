"""`LossesContainer`: losses, penalties and extra terms become `LossTerms`."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_losskit import _backend
from keras_losskit import _keras
from keras_losskit import _weights as weights_lib
from keras_losskit._support import replicas
from keras_losskit._support.jax_tracing import refuse_to_build
from keras_losskit._support.jax_tracing import refuse_tracers
from keras_losskit._support.output_structure import StructureError
from keras_losskit._types import Structure
from keras_losskit._types import Tensor
from keras_losskit.container._arguments import LossRecipe
from keras_losskit.container._log_entries import log_entries
from keras_losskit.container._state import MovingState
from keras_losskit.container._tracker import TermTracker
from keras_losskit.container._tracker import batch_size_of
from keras_losskit.container._tracker import trainer_tracks_total
from keras_losskit.container._weighting_step import shared
from keras_losskit.container._weighting_step import weighted
from keras_losskit.extra.context import Context
from keras_losskit.penalties.collect import PENALTY_KINDS
from keras_losskit.penalties.collect import as_terms
from keras_losskit.terms import KINDS
from keras_losskit.terms import LossTerm
from keras_losskit.terms import LossTerms
from keras_losskit.terms import add_up
from keras_losskit.terms import with_unique_names

PLAIN_MODEL_HINT = (
    "A container over several outputs, or in which something moves, trains a "
    "`keras_losskit.Model`, or any model through `keras_losskit.wrap(model)`; "
    "a plain `keras.Model` calls it on each output by itself."
)


@keras.saving.register_keras_serializable("keras_losskit")
class LossesContainer(MovingState, LossRecipe):
    """The loss of a model as named parts that sum to the whole.

    `total = sum(weight * value)` over the terms of all kinds.

    The replacement of tf.keras' class of this name and what
    `keras_losskit.Model.compile(loss=...)` turns its loss into. By itself it is
    called in custom loops; a container of one loss also trains a plain
    `keras.Model`. It is a recipe: every `compile` builds its own copy.

    Args:
        losses: A loss, or a nest of losses like the model's outputs, as
            `keras.Model.compile(loss=...)` takes it: strings, functions, `Loss`
            objects, composites, several in a list for one output. May be
            partial; `None` for no compiled loss.
        loss_weights: Weights of the losses in the same structure or flat, or
            one for all: numbers, `keras.Variable`s or schedules.
        output_names: Flat names of the outputs.
        total_loss_mean: A `keras.metrics.Mean` that is updated with the total
            at every call, as in tf.keras.
        regularization: `Penalty` for the weight regularizers; `None` leaves
            them out of the total.
        activity: `Penalty` for the activity regularizers, likewise.
        added: `Penalty` for what `add_loss` added, likewise.
        extra_terms: `{name: term}`, terms over the inside of the model.
        weighting: What sets weights over and above `loss_weights`.
        log: What `fit` logs: `"kinds"`, `"terms"` or `"all"`.
        name: Name of the container.

    Raises:
        ValueError: for an unknown `log`, or a penalty that is none.

    Example:
        >>> container = LossesContainer({"a": "mse", "b": "mae"},
        ...                             loss_weights={"b": 0.5})
        >>> y_true = {"a": ops.zeros((4, 1)), "b": ops.zeros((4, 1))}
        >>> y_pred = {"a": ops.ones((4, 1)), "b": 2 * ops.ones((4, 1))}
        >>> float(container(y_true, y_pred))
        2.0
        >>> {metric.name: float(metric.result())
        ...  for metric in container.metrics}
        {'loss': 2.0, 'a_loss': 1.0, 'b_loss': 2.0}
    """

    built = False
    # What a model logs as `loss`: a user's `train_step` that calls this
    # container leaves that to it, as in tf.keras.
    loss_tracker: Any = None
    # Ids of the variables that a Gramian is taken over; None for all.
    picked: Any = None

    # ------------------------------------------------------------- structure

    def build(
        self,
        y_true: Structure,
        y_pred: Structure,
        terms: Structure | None = None,
        kinds: Sequence[str] = KINDS,
        separator: str = "_",
    ) -> None:
        """Resolve losses against outputs and make the metrics.

        Args:
            y_true: Nest of labels, tensors or `KerasTensor`s.
            y_pred: Nest of predictions.
            terms: Terms beyond the compiled ones that the model can produce, or
                its `losses`; None where they are not known.
            kinds: The kinds that it can produce.
            separator: What joins the keys of a nested output's name.
        """
        if terms is not None:
            terms = as_terms(terms, "added")
        self._lay_losses(y_true, y_pred, separator)
        compiled = self._compiled.specs()
        groups = {name: [name] for name in self.extra_terms}
        for kind, penalty in self.penalties.items():
            members = [term for term in terms or () if term.kind == kind]
            if penalty is not None and terms is not None:
                penalty.check_patterns(members)
                for name, group in penalty.members(members).items():
                    groups.setdefault(group, []).append(name)
        if self.weighting is not None and not self.weighting.built:
            self.weighting.build(len(self.weighted_names()))
        extra = [LossTerm(name, "added", None) for name in self.extra_terms]
        self._added_weights = [term.weight for term in terms or ()]
        self.tracker = TermTracker(
            log_entries(
                [*compiled, *(terms or ()), *extra],
                kinds=kinds,
                moving=self._moving(),
                found_later=self.weighted_names()
                if self.weighs_gradients
                else (),
                log=self.log,
                groups=groups,
            )
        )
        self.built = True

    def _lay_losses(self, y_true, y_pred, separator="_"):
        self._compiled.build(y_true, y_pred, separator)
        clash = sorted(set(self._compiled.weights) & set(self.extra_terms))
        if clash:
            raise ValueError(
                "Expected compiled losses and extra terms to have names of "
                f"their own. Received twice: {clash}. Rename one of them."
            )

    def _moving(self):
        """Names of the terms whose weight is not the same at every step."""
        weighted_names = self.weighted_names() if self.weighting else ()
        weights = {
            **self._compiled.weights,
            **{
                name: getattr(term, "weight", 1.0)
                for name, term in self.extra_terms.items()
            },
        }
        return [
            name
            for name, weight in weights.items()
            if name in weighted_names or weights_lib.moves(weight)
        ]

    def weighted_names(self) -> list[str]:
        """The terms that a weighting weighs; penalties keep their own."""
        names = [*self._compiled.weights, *self.extra_terms]
        return self.weighting.members(names) if self.weighting else names

    def _build_parts(self, y_true, y_pred, state=()):
        """Build what values and weights need, where nobody has called `build`.

        Args:
            y_true: Nest of labels.
            y_pred: Nest of predictions.
            state: What else may come from a transformation.
        """
        weighting = None if self.weighs_gradients else self.weighting
        if weighting is not None and not weighting.built:
            refuse_to_build(weighting, (y_true, y_pred, state))
        if self._compiled.outputs is None:
            self._lay_losses(y_true, y_pred)
        if weighting is not None and not weighting.built:
            weighting.build(len(self.weighted_names()))

    # ----------------------------------------------------------- computation

    def compute(
        self,
        y_true: Structure,
        y_pred: Structure,
        sample_weight: Structure | None = None,
        regularization_losses: Structure | None = None,
        *,
        activity_losses: Structure | None = None,
        added_losses: Structure | None = None,
        context: Context | None = None,
    ) -> LossTerms:
        """The terms of one batch, without effects.

        Args:
            y_true: Nest of labels.
            y_pred: Nest of predictions.
            sample_weight: Nest of sample weights, or one for all outputs.
            regularization_losses: Scalars or `LossTerm`s of this kind; or all
                of `model.losses`, whose terms keep their kinds.
            activity_losses: Likewise.
            added_losses: Likewise.
            context: `Context` for extra terms.

        Returns:
            `LossTerms`; its `total` is what to minimise.

        Raises:
            ValueError: for structures that do not fit, or a loss that is not
                reduced to a scalar.
            RuntimeError: inside `jax.jit` or `jax.grad`, for a weighting that
                is not built: call `build` before.
        """
        penalties = [
            *as_terms(regularization_losses, "regularization"),
            *as_terms(activity_losses, "activity"),
            *as_terms(added_losses, "added"),
        ]
        return self.step_terms(
            y_true, y_pred, sample_weight, penalties, context, moves=False
        )

    def step_terms(
        self,
        y_true: Structure,
        y_pred: Structure,
        sample_weight: Structure | None,
        penalties: list[LossTerm],
        context: Context | None,
        moves: bool,
    ) -> LossTerms:
        """The terms of one batch; the clock is left to the caller.

        Args:
            y_true: Nest of labels.
            y_pred: Nest of predictions.
            sample_weight: Nest of sample weights.
            penalties: List of `LossTerm` of the kinds beyond the compiled one.
            context: `Context` for extra terms, or None.
            moves: Whether the weighting moves on.

        Returns:
            `LossTerms`.
        """
        self._build_parts(y_true, y_pred)
        if moves:
            self.refuse_late_schedules(penalties)
        clock = self.clock.now()
        share = replicas.batch_share(y_pred)
        terms = list(self._compiled.terms(y_true, y_pred, sample_weight, clock))
        if context is not None and self.extra_terms:

            def compiled(y_pred):
                arguments = (y_true, y_pred, sample_weight, clock)
                terms = self._compiled.terms(*arguments)
                total = add_up(term.contribution for term in terms)
                # Made a part below, as all that knows of no replicas.
                return replicas.undo_share(total, share)

            context = dataclasses.replace(context, compiled=compiled)
        penalties = [
            *penalties,
            *(
                LossTerm(name, "added", term(context), weight=term.weight)
                for name, term in self.extra_terms.items()
            ),
        ]
        for kind in PENALTY_KINDS:
            penalty = self.penalties[kind]
            if penalty is not None:
                members = [term for term in penalties if term.kind == kind]
                terms += shared(penalty.apply(members, clock), share)
        terms = replicas.all_reduced(terms)
        if self.weighting is not None and not self.weighs_gradients:
            terms = weighted(
                terms, self.weighting, self.weighted_names(), clock[0], moves
            )
        return LossTerms(with_unique_names(terms)).summed()

    def stateless_compute(
        self,
        variables: Sequence[Tensor],
        y_true: Structure,
        y_pred: Structure,
        sample_weight: Structure | None = None,
        penalties: Structure | None = None,
        *,
        context: Context | None = None,
        training: bool = True,
    ) -> tuple[LossTerms, list[Tensor]]:
        """The terms of one batch, with the state handed in and out.

        Args:
            variables: Values for `self.variables`, in that order.
            y_true: As for `compute`.
            y_pred: As for `compute`.
            sample_weight: As for `compute`.
            penalties: `model.losses`, or `LossTerm`s of any kind.
            context: As for `compute`.
            training: Whether the state moves on.

        Returns:
            `(terms, variables)`, the state after the step.

        Raises:
            RuntimeError: as `compute`.
        """
        mapping = list(zip(self.variables, variables, strict=True))
        # Not in the scope, where a new variable has no value yet.
        self._build_parts(y_true, y_pred, variables)
        with keras.StatelessScope(state_mapping=mapping):
            terms = self.step_terms(
                y_true,
                y_pred,
                sample_weight,
                as_terms(penalties, "regularization"),
                context,
                moves=training,
            )
            if training:
                self.count_step()
            # Also of those that the weighting has made just now.
            return terms, [variable.value for variable in self.variables]

    def call(self, y_true: Structure, y_pred: Structure) -> Tensor:
        """The total of the compiled losses; see `compute`."""
        return self.compute(y_true, y_pred).total

    def __call__(
        self,
        y_true: Structure,
        y_pred: Structure,
        sample_weight: Structure | None = None,
        regularization_losses: Structure | None = None,
        *,
        activity_losses: Structure | None = None,
        added_losses: Structure | None = None,
        training: bool = True,
    ) -> Tensor:
        """The total, after updating the metrics and, in training, the state.

        Args:
            y_true: As for `compute`.
            y_pred: As for `compute`.
            sample_weight: As for `compute`.
            regularization_losses: As for `compute`.
            activity_losses: As for `compute`.
            added_losses: As for `compute`.
            training: Whether this is a training step.

        Returns:
            The total, a scalar.

        Raises:
            RuntimeError: inside a bare `jax.jit` or `jax.grad`, which would
                leave a dead tracer in the metrics: use `compute` there.
            ValueError: in training with a weighting over gradients, which a
                total does not give; in `fit` of a plain `keras.Model`, if a
                weight moves.
        """
        penalties = [
            *as_terms(regularization_losses, "regularization"),
            *as_terms(activity_losses, "activity"),
            *as_terms(added_losses, "added"),
        ]
        refuse_tracers((y_true, y_pred, [term.value for term in penalties]))
        if training:
            self.refuse_gradient_weighting()
        try:
            if not self.built:
                by_keras = _keras.is_called_by_compile_loss()
                self.build(y_true, y_pred, penalties or None)
                if by_keras:
                    self.refuse_keras_trainer(PLAIN_MODEL_HINT)
            terms = self.step_terms(
                y_true,
                y_pred,
                sample_weight,
                penalties,
                Context(y_true=y_true, y_pred=y_pred, training=training),
                moves=training,
            )
        except StructureError as error:
            raise StructureError(f"{error}\n{PLAIN_MODEL_HINT}") from None
        batch_size = batch_size_of(y_pred)
        self.track(terms, batch_size, training)
        by_trainer = trainer_tracks_total(self)
        loss_tracker = None if by_trainer else self.loss_tracker
        for metric in (self.total_loss_mean, loss_tracker):
            if metric is not None:
                metric.update_state(
                    terms.total * _backend.num_replicas(),
                    sample_weight=ops.cast(
                        replicas.global_batch_size(batch_size), "float32"
                    ),
                )
        return terms.total
