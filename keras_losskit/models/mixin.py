"""Drop-in models whose loss is made of named terms."""

import warnings
from collections.abc import Callable
from contextlib import contextmanager
from contextlib import nullcontext
from typing import Any

import keras

from keras_losskit import _keras
from keras_losskit import _keras_hooks
from keras_losskit import _origin
from keras_losskit._support import replicas
from keras_losskit._support.jax_tracing import BARE_TRACE
from keras_losskit._support.jax_tracing import is_bare_trace
from keras_losskit._support.output_structure import names_of_outputs
from keras_losskit._support.sample_ids import split_ids
from keras_losskit._support.scopes import random_state_kept
from keras_losskit._types import Losses
from keras_losskit._types import LossWeights
from keras_losskit._types import Structure
from keras_losskit._types import Tensor
from keras_losskit.container._tracker import batch_size_of
from keras_losskit.container._tracker import counted_by_trainer
from keras_losskit.container._tracker import trainer_counts
from keras_losskit.container.container import LossesContainer
from keras_losskit.extra.context import Context
from keras_losskit.layers._side_branches import forget_layers_of
from keras_losskit.models import _gradient_step
from keras_losskit.models._build_losses import build_losses
from keras_losskit.models._build_losses import check_names_of_metrics
from keras_losskit.models._build_losses import refuse_optimizer_of_before
from keras_losskit.models._fit import COMPILE_ARGUMENTS
from keras_losskit.models._fit import FitArguments
from keras_losskit.models._fit import named_arguments
from keras_losskit.models._fit import without_defaults
from keras_losskit.models._functional import become_functional
from keras_losskit.models._functional import is_functional_call
from keras_losskit.models._metrics import LogsTerms
from keras_losskit.models._output_layers import do_without_logits
from keras_losskit.models._output_layers import predictions_of_step
from keras_losskit.models._recorded_call import RecordsLosses
from keras_losskit.models._samples import track_samples
from keras_losskit.models._samples import watch_of_step
from keras_losskit.models._saving import SavesLoss
from keras_losskit.models._short_batches import with_spread_batch
from keras_losskit.models._variable_reads import adopt_reads_of_step
from keras_losskit.models._variable_reads import adopting_reads
from keras_losskit.penalties.collect import regularized_variables
from keras_losskit.reductions._sample_values import watched_by
from keras_losskit.terms import LossTerms


class LossTermsMixin(
    RecordsLosses,
    FitArguments,
    LogsTerms,
    SavesLoss,
    _keras.TrainerHooks,
    _keras_hooks.HasTerms,
):
    """Separated, named loss terms for any Keras model class.

    Put it before the Keras base: `class M(LossTermsMixin, SomeKerasModel)`.
    `compile` takes a `LossesContainer` or whatever Keras takes and `fit` logs
    every term; a `compute_loss` of the class' own, or a `train_step` that calls
    it, goes on working.

    Example:
        >>> class Tagged(LossTermsMixin, keras.Sequential):
        ...     pass
        >>> model = Tagged([keras.Input((2,)), keras.layers.Dense(
        ...     1, kernel_regularizer="l2", kernel_initializer="ones")])
        >>> _ = model(keras.ops.ones((1, 2)))
        >>> [round(float(loss), 4) for loss in model.regularization_losses]
        [0.02]
    """

    # The names of the varargs matter: Keras' `from_config` looks for them to
    # know that a class can be revived from a functional config.
    def __init__(self, *args, **kwargs):
        if is_functional_call(self, args, kwargs):
            become_functional(self)
        super().__init__(*args, **kwargs)
        forget_layers_of(self)

    # -------------------------------------------------------------- compiling

    def compile(
        self,
        optimizer: str | keras.optimizers.Optimizer = "rmsprop",
        loss: Losses = None,
        loss_weights: LossWeights = None,
        *args,
        **kwargs,
    ) -> None:
        """As `keras.Model.compile`, with a loss made of terms.

        Args:
            optimizer: As Keras.
            loss: A `LossesContainer`, or any loss that Keras or tf.keras takes.
            loss_weights: As Keras; also variables and schedules. Not beside a
                container, which has weights of its own.
            *args: As Keras.
            **kwargs: As Keras.

        Raises:
            ValueError: for `loss_weights` beside a container.
        """
        first = {"optimizer": optimizer, "loss": loss}
        first["loss_weights"] = loss_weights
        given = named_arguments(COMPILE_ARGUMENTS, args, kwargs)
        # By name: a class in between may take fewer by position, or others.
        super().compile(**without_defaults(first), **given)

    def _losskit_install_container(self, container: LossesContainer) -> None:
        """Make `container` the loss; Keras' `compile` is over."""
        _keras.install_loss(self, container)
        self._losskit_state.fused = None
        self._losskit_state.output_layers = None

    def _losskit_container_for(
        self, loss: Losses, loss_weights: LossWeights
    ) -> LossesContainer:
        """The container that Keras' `compile` is to install.

        Raises:
            ValueError: for `loss_weights` beside a container.
        """
        names = names_of_outputs(self)
        if not isinstance(loss, LossesContainer):
            loss = LossesContainer(loss, loss_weights, names)
        elif loss_weights is not None:
            raise ValueError(
                "Expected no `loss_weights` beside a LossesContainer. "
                f"Received: loss_weights={loss_weights!r}. Give them to the "
                "container: LossesContainer(losses, loss_weights=...)."
            )
        return loss.copy(names)

    def _losskit_layers_to_keep(self) -> list[keras.layers.Layer]:
        """The layers whose outputs an extra term reads."""
        container = self.compiled_loss
        terms = container.extra_terms.values() if container else ()
        return [layer for term in terms for layer in term.kept_layers(self)]

    @property
    def compiled_loss(self) -> LossesContainer | None:
        """The `LossesContainer` of `compile`, as in tf.keras; else None."""
        return _keras.compiled_loss(self)

    # ------------------------------------------------------------------- loss

    def _losskit_compute_terms(
        self,
        x: Structure | None = None,
        y: Structure | None = None,
        y_pred: Structure | None = None,
        sample_weight: Structure | None = None,
        training: bool = True,
    ) -> Tensor:
        """The total of all terms, after updating what `fit` logs of them.

        What Keras' `compute_loss` does in this model.

        Args:
            x: Inputs of the batch.
            y: Labels.
            y_pred: Predictions.
            sample_weight: Sample weights.
            training: Whether this is a training step.

        Returns:
            The total, a scalar.

        Raises:
            ValueError: if there is nothing to minimise.
            RuntimeError: inside a bare `jax.grad`, if the loss has state.
        """
        container = self.compiled_loss or LossesContainer()
        losses = container.built_losses
        if training and losses.weighs_gradients:
            _gradient_step.refuse_other_steps(self)
        if losses.tracker is None:
            losses = build_losses(self, container, x, y, y_pred, training)
        bare = self._losskit_is_bare(losses, y_pred)
        by_trainer = trainer_counts(container)
        # Of the same step, of whose custom `compute_loss` this is a part.
        earlier = self._losskit_last_terms() if by_trainer else None
        penalties = self._losskit_penalties_of_step()
        x, ids = split_ids(x)
        ids = self._losskit_last_pass().ids if ids is None else ids
        read, unprojected = predictions_of_step(
            self, y, y_pred, losses.extra_terms.values()
        )
        context = Context(self, x, y, read, sample_weight, training)
        moves = training and not bare and earlier is None
        samples, watch = watch_of_step(self, by_trainer, moves)
        # Where a report watches, it goes on.
        with watched_by(watch) if watch else nullcontext():
            terms = losses.terms(
                *(y, y_pred, sample_weight, penalties, context, moves),
                unprojected,
                training=training and not bare,
                ids=ids,
            )
        if samples:
            track_samples(samples, ids, watch)
        self._losskit_check_terms(terms, bare)
        if bare:
            return terms.total
        if not by_trainer:
            batch_size = batch_size_of(y_pred if x is None else x)
            logged = self._losskit_count_logs(y_pred)
            losses.track(terms, batch_size, training, logged)
        self._losskit_kept_of_pass().computed = (
            terms if earlier is None else earlier + terms
        )
        return terms.total

    def _losskit_is_bare(self, losses, y_pred):
        """Whether this is a bare `jax.grad`, refused where a loss has state."""
        bare = is_bare_trace(y_pred)
        if bare and (losses.variables or regularized_variables(self)):
            raise RuntimeError(
                f"{BARE_TRACE} Received: a call outside of such a scope."
            )
        return bare

    def _losskit_check_terms(self, terms, bare):
        """Refuse a step without terms; warn of one that cannot log them."""
        if not terms and not self._losskit_has_own_step():
            raise ValueError(
                "No loss to compute. Expected a `loss` in `compile()`, a "
                "regularizer or an `add_loss`. Received: none of them."
            )
        if bare:
            warnings.warn(f"{BARE_TRACE} No term is logged.", stacklevel=3)

    def _losskit_penalties_of_step(self):
        """The terms beyond the compiled ones, fused where that is faster."""
        self._losskit_count_losses()
        if self._losskit_state.fused is None:
            return self._losskit_penalty_terms()
        fused = self._losskit_state.fused.of(regularized_variables(self))
        self._losskit_state.fused = fused
        return self._losskit_recorded_terms() + fused.terms()

    def _losskit_count_loss(
        self,
        compute: Callable[[], Tensor],
        batch: Structure,
        training: bool,
        data: tuple[Structure | None, ...],
    ) -> Tensor:
        """The loss of a trainer's step, whose terms are booked afterwards.

        A custom `compute_loss` may ask for terms more than once. What it adds
        to them is of the kind `added`, so that the kinds still sum to `loss`.

        Args:
            compute: Runs `compute_loss`, and returns what it does.
            batch: The tensors whose leading size counts the samples.
            training: Whether it is of a training step.
            data: Inputs, labels and sample weights.
        """
        container = self.compiled_loss
        if container is None:
            return compute()
        self._losskit_last_terms()  # of an earlier step
        with counted_by_trainer(container), adopting_reads(self, *data):
            total = compute()
        losses = container.built_losses
        if not losses.names_are_checked:
            check_names_of_metrics(self)
        self._losskit_refuse_uncounted_losses()
        terms = self._losskit_last_terms()
        if terms is None:
            return total
        step = self._losskit_kept_of_pass()
        if step.weighs_gradients:
            step.computed = terms  # it takes them apart
        batch_size = batch_size_of(batch)
        logged = self._losskit_count_logs(batch)
        losses.track(terms, batch_size, training, logged)
        # TorchDynamo gives back another tensor than it was given.
        if total is not terms.total and _origin.overrides(self, "compute_loss"):
            key = losses.tracker.key_of("added")
            losses.tracker.add({key: total - terms.total}, batch_size)
        return total

    def _losskit_computes_loss(self) -> bool:
        """Whether Keras' trainer runs `compute_loss` now."""
        container = self.compiled_loss
        return container is not None and trainer_counts(container)

    def _losskit_last_terms(self) -> LossTerms | None:
        """The `LossTerms` of the `compute_loss` that just ran, once."""
        step = self._losskit_kept_of_pass()
        terms, step.computed = step.computed, None
        return terms

    def train_step(self, *args, **kwargs) -> Any:
        """As Keras; a step of its own for a gradient-based weighting."""
        losses = self.compiled_loss and self.compiled_loss.built_losses
        do_without_logits(self)
        args = with_spread_batch(args)
        with replicas.of_trainer(_keras.process_group(self)) as processes:
            if processes:
                # The trainer calls `zero_grad` of the model's wrapper.
                self._losskit_forget_learned_gradients()
            if losses and losses.trainable_variables:
                refuse_optimizer_of_before(self, losses)
            if not losses or not losses.weighs_gradients:
                return super().train_step(*args, **kwargs)
            _gradient_step.refuse_hidden_step(self, LossTermsMixin)
            return _gradient_step.train_step(self, *args, **kwargs)

    def test_step(self, *args, **kwargs) -> Any:
        """As Keras, each process with the terms of the whole batch."""
        do_without_logits(self)
        args = with_spread_batch(args)
        with replicas.of_trainer(_keras.process_group(self)):
            return super().test_step(*args, **kwargs)

    @contextmanager
    def _losskit_building(self, draws):
        """Around a pass that builds what is not built, and finds what is read.

        Where only terms are to be named, the batch that is drawn for it must
        not change what is drawn next.

        Args:
            draws: Whether plain Keras would draw it but for the loss.
        """
        container = self.compiled_loss
        named = container is not None and container.losses is not None
        drawn = draws or named
        with nullcontext() if drawn else random_state_kept():
            yield
        adopt_reads_of_step(self)

    def _losskit_has_own_step(self):
        # Then a total of 0 here is no sign that nothing is minimised.
        return _keras.in_symbolic_scope() and (
            _origin.overrides(self, "train_step")
            or _origin.overrides(self, "compute_loss")
        )

    # ------------------------------------------------------------------ state

    @property
    def trainable_variables(self) -> list[keras.Variable]:
        """As Keras, and what a weighting learns."""
        own = super().trainable_variables
        return self._losskit_with(self._losskit_learned(), own)

    @property
    def trainable_weights(self) -> list[keras.Variable]:
        """As Keras, and what a weighting learns."""
        own = super().trainable_weights
        return self._losskit_with(self._losskit_learned(), own)

    @property
    def non_trainable_variables(self) -> list[keras.Variable]:
        """As Keras, and what moves in the loss, so that JAX carries it on."""
        own, container = super().non_trainable_variables, self.compiled_loss
        if container is None:
            return own
        moving = container.built_losses.non_trainable_variables
        samples = self._losskit_state.samples
        if samples is not None and samples.variable is not None:
            moving = [*moving, samples.variable]
        return self._losskit_with(moving, own)

    def _losskit_learned(self):
        container = self.compiled_loss
        return container.built_losses.trainable_variables if container else []

    def _losskit_with(self, further, own):
        if not further:
            return own
        known = {id(variable) for variable in self.variables}
        return own + [v for v in further if id(v) not in known]

    def zero_grad(self, *args, **kwargs) -> None:
        """As PyTorch's, for what a weighting learns as well.

        Those variables are not the module's own, so its method misses them and
        their gradients would pile up from step to step. Other backends never
        call it.
        """
        super().zero_grad(*args, **kwargs)
        self._losskit_forget_learned_gradients()

    def _losskit_forget_learned_gradients(self):
        for variable in self._losskit_learned():
            variable.value.grad = None
