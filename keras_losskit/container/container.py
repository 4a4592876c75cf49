"""`LossesContainer`: the loss of a model, as the user writes it."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import Literal
from typing import Self

import keras
from keras import ops

from keras_losskit._support.checks import checked_choice
from keras_losskit._support.checks import checked_name
from keras_losskit._types import Config
from keras_losskit._types import KerasLoss
from keras_losskit._types import Losses
from keras_losskit._types import LossWeights
from keras_losskit._types import Structure
from keras_losskit._types import Tensor
from keras_losskit.container import _arguments
from keras_losskit.container import _loop
from keras_losskit.container import _refusals
from keras_losskit.container._built_losses import BuiltLosses
from keras_losskit.container._laying import lay_losses
from keras_losskit.extra import ExtraTerm
from keras_losskit.extra.context import Context
from keras_losskit.penalties.collect import as_terms
from keras_losskit.penalties.penalty import Penalty
from keras_losskit.schedules._step_counter import StepCounter
from keras_losskit.terms import KINDS
from keras_losskit.terms import LossTerms
from keras_losskit.weighting import SampleWeighting
from keras_losskit.weighting import Weighting
from keras_losskit.weighting.sample_weighting import checked_sample_weightings
from keras_losskit.weighting.weighting import checked_weighting


@keras.saving.register_keras_serializable("keras_losskit")
class LossesContainer(KerasLoss[keras.losses.Loss]):
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
        weighting: What sets weights over and above `loss_weights`, or the name
            of its class, such as `"pcgrad"`.
        sample_weighting: What weighs the samples in training, a
            `SampleWeighting`; or a list of them, each with `terms` of its own.
        log: What `fit` logs: `"kinds"`, `"terms"` or `"all"`.
        name: Name of the container.

    Raises:
        TypeError: if an argument is not of its kind.
        ValueError: if one cannot be used, such as an unknown `log`, or an extra
            term that bears the name of a kind.

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

    def __init__(
        self,
        losses: Losses = None,
        loss_weights: LossWeights = None,
        output_names: Sequence[str] | None = None,
        total_loss_mean: keras.metrics.Metric | None = None,
        *,
        regularization: Penalty | None = Penalty(),
        activity: Penalty | None = Penalty(),
        added: Penalty | None = Penalty(),
        extra_terms: Mapping[str, ExtraTerm] | None = None,
        weighting: Weighting | str | None = None,
        sample_weighting: SampleWeighting
        | Sequence[SampleWeighting]
        | None = None,
        log: Literal["kinds", "terms", "all"] = "terms",
        name: str = "losses_container",
    ):
        super().__init__(name=checked_name(name, "`name` of LossesContainer"))
        self.output_names = _refusals.checked_output_names(output_names)
        _refusals.check_losses(losses, self.output_names)
        _refusals.check_loss_weights(loss_weights, self.output_names)
        self.losses = losses
        self.loss_weights = loss_weights
        self.total_loss_mean = _refusals.checked_metric(total_loss_mean)
        self.penalties = _refusals.checked_penalties(
            regularization=regularization, activity=activity, added=added
        )
        self.extra_terms = _refusals.checked_extra_terms(extra_terms)
        _refusals.refuse_group_names(self.penalties.values(), self.extra_terms)
        self.weighting = checked_weighting(weighting)
        self.sample_weighting = checked_sample_weightings(sample_weighting)
        self.log = checked_choice(log, _refusals.LOGS, "`log`")
        # Here, and not among what is built: a file is loaded before that, and
        # Keras looks below `model.loss` for what is in it.
        self.clock = StepCounter()
        self.loss_tracker: keras.metrics.Metric | None = None
        #: What it became for the outputs it was built for; at first for none.
        self.built_losses = BuiltLosses(self)

    __repr__ = _arguments.formula_of
    _repr_html_ = _arguments.html_of

    def copy(self, output_names: Sequence[str] | None = None) -> Self:
        """The same recipe with a state of its own, for one model.

        Args:
            output_names: Flat names of the outputs where the recipe has none.
        """
        return type(self)(
            self.losses,
            self.loss_weights,
            self.output_names or output_names,
            self.total_loss_mean,
            **self.penalties,
            extra_terms={n: t.copy() for n, t in self.extra_terms.items()},
            weighting=_arguments.copy_weighting(self.weighting),
            sample_weighting=[
                _arguments.copy_weighting(x) for x in self.sample_weighting
            ],
            log=self.log,
            name=self.name,
        )

    def get_config(self) -> Config:
        """Everything needed to build the container again."""
        return _arguments.config_of(self)

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """The container of a config.

        Raises:
            ValueError: for a config of a later version of the package.
        """
        return cls(**_arguments.arguments_of(config))

    def save_own_variables(self, store: Any) -> None:
        """Write the variables among the weights, for files of weights only."""
        for index, variable in enumerate(_arguments.weight_variables(self)):
            store[str(index)] = ops.convert_to_numpy(variable.value)

    def load_own_variables(self, store: Any) -> None:
        """Read them; a file that has others leaves them as they are."""
        variables = _arguments.weight_variables(self)
        if len(store.keys()) == len(variables):
            for index, variable in enumerate(variables):
                variable.assign(store[str(index)])

    # --------------------------------------------------------------- building

    def bind(self, loss_tracker: keras.metrics.Metric | None) -> None:
        """Take on what a model logs as `loss`.

        A user's `train_step` that calls this container leaves that to it, as in
        tf.keras.
        """
        self.loss_tracker = loss_tracker

    def build(
        self,
        y_true: Structure,
        y_pred: Structure,
        terms: Structure | None = None,
        kinds: Sequence[str] = KINDS,
        separator: str = "_",
        *,
        picked: set[int] | None = None,
        metrics: Sequence[str] = (),
        logged: Sequence[str] = (),
    ) -> BuiltLosses:
        """Resolve losses against outputs and make the metrics.

        Args:
            y_true: Nest of labels, tensors or `KerasTensor`s.
            y_pred: Nest of predictions.
            terms: Terms beyond the compiled ones that the model can produce, or
                its `losses`; None where they are not known.
            kinds: The kinds that it can produce.
            separator: What joins the keys of a nested output's name.
            picked: Ids of the variables that a Gramian is taken over; None for
                all.
            metrics: What else is logged, which no term may be called.
            logged: Names under which layers log values.

        Returns:
            What the container became.
        """
        self.built_losses = BuiltLosses(
            self,
            lay_losses(self, y_true, y_pred, separator),
            None if terms is None else as_terms(terms, "added"),
            kinds=kinds,
            picked=picked,
            metrics=metrics,
            logs=True,
            logged=logged,
        )
        return self.built_losses

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
        penalties = _loop.terms_by_kind(
            regularization_losses, activity_losses, added_losses
        )
        return _loop.losses_for(self, y_true, y_pred).terms(
            y_true, y_pred, sample_weight, penalties, context, moves=False
        )

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
        data = y_true, y_pred, sample_weight
        penalties = as_terms(penalties, "regularization")
        return _loop.stateless_terms(
            self, variables, data, penalties, context, training
        )

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
            ValueError: in training with a gradient-based weighting, which needs
                more than a total; in `fit` of a plain `keras.Model`, if a
                weight moves.
        """
        penalties = _loop.terms_by_kind(
            regularization_losses, activity_losses, added_losses
        )
        return _loop.call_counted(
            self, y_true, y_pred, sample_weight, penalties, training
        )

    # ------------------------------------------------------------------ state

    @property
    def built(self) -> bool:
        """Whether all that is logged is known: after `build`, or a call."""
        return self.tracker is not None

    @property
    def weighs_gradients(self) -> bool:
        """Whether the weights come from the gradients of the terms."""
        return (
            self.weighting is not None and self.weighting.statistic == "gramian"
        )

    @property
    def tracker(self) -> Any:
        """The metric behind all that is logged; None until it is built."""
        return self.built_losses.tracker

    @property
    def variables(self) -> list[keras.Variable]:
        """All of the state that moves during training."""
        return self.built_losses.variables

    @property
    def trainable_variables(self) -> list[keras.Variable]:
        """What the weighting learns."""
        return self.built_losses.trainable_variables

    @property
    def non_trainable_variables(self) -> list[keras.Variable]:
        """What else moves during training, in a fixed order."""
        return self.built_losses.non_trainable_variables

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """Views of the running means, `loss` first; `[]` before a call."""
        if self.tracker is None:
            return []
        views = self.tracker.views()
        if self.total_loss_mean is not None:
            views[0] = self.total_loss_mean
        return views

    def reset_state(self) -> None:
        """Start the running means anew."""
        for metric in (self.tracker, self.total_loss_mean):
            if metric is not None:
                metric.reset_state()

    def on_epoch_end(self) -> None:
        """Tell schedules by epoch, and the weighting, that one is over."""
        self.clock.on_epoch_end()
        for weighting in filter(None, [self.weighting, *self.sample_weighting]):
            weighting.on_epoch_end()
