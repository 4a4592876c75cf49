"""`LossesContainer`: losses, penalties and extra terms become `LossTerms`."""

import dataclasses

import keras
from keras import ops

from keras_losskit import _backend
from keras_losskit import _keras
from keras_losskit import losses as losses_lib
from keras_losskit import weights as weights_lib
from keras_losskit.clock import Clock
from keras_losskit.compiled import CompiledLosses
from keras_losskit.extra.context import Context
from keras_losskit.penalties import PENALTY_KINDS
from keras_losskit.penalties import Penalty
from keras_losskit.penalties import as_terms
from keras_losskit.structures import StructureError
from keras_losskit.structures import map_leaves
from keras_losskit.structures import numbered
from keras_losskit.terms import KINDS
from keras_losskit.terms import LossTerm
from keras_losskit.terms import LossTerms
from keras_losskit.tracking import TermTracker
from keras_losskit.tracking import log_entries

CONFIG_VERSION = 1
LOGS = ("kinds", "terms", "all")
PLAIN_MODEL_HINT = (
    "A container over several outputs trains a `keras_losskit.Model`, or any "
    "model through `keras_losskit.wrap(model)`; a plain `keras.Model` calls it "
    "on each output by itself."
)


@keras.saving.register_keras_serializable("keras_losskit")
class LossesContainer(keras.losses.Loss):
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

    def __init__(
        self,
        losses=None,
        loss_weights=None,
        output_names=None,
        total_loss_mean=None,
        *,
        regularization=Penalty(),
        activity=Penalty(),
        added=Penalty(),
        extra_terms=None,
        weighting=None,
        log="terms",
        name="losses_container",
    ):
        super().__init__(name=name)
        if log not in LOGS:
            raise ValueError(
                f"Expected `log` to be one of {LOGS}. Received: log={log!r}"
            )
        self.losses = losses
        self.loss_weights = loss_weights
        self.output_names = output_names
        self.total_loss_mean = total_loss_mean
        self.penalties = {
            "regularization": checked_penalty("regularization", regularization),
            "activity": checked_penalty("activity", activity),
            "added": checked_penalty("added", added),
        }
        self.extra_terms = dict(extra_terms or {})
        self.weighting = weighting
        self.log = log
        self.clock = Clock()
        self.tracker = None
        self.built = False
        self._compiled = CompiledLosses(losses, loss_weights, output_names, "_")

    def __repr__(self):
        parts = [f"losses={self.losses!r}"]
        if self.loss_weights is not None:
            parts.append(f"loss_weights={self.loss_weights!r}")
        for kind, penalty in self.penalties.items():
            parts.append(f"{kind}={penalty!r}")
        if self.extra_terms:
            parts.append(f"extra_terms={self.extra_terms!r}")
        if self.weighting is not None:
            parts.append(f"weighting={self.weighting!r}")
        return f"LossesContainer({', '.join(parts)})"

    def copy_for(self, output_names):
        """A container of the same recipe and no state, for one `compile`.

        Args:
            output_names: Flat names of the model's outputs, or None.
        """
        copy = LossesContainer(
            self.losses,
            self.loss_weights,
            self.output_names or output_names,
            self.total_loss_mean,
            **self.penalties,
            extra_terms=self.extra_terms,
            weighting=self.weighting,
            log=self.log,
            name=self.name,
        )
        copy._compiled = CompiledLosses(
            copy.losses, copy.loss_weights, copy.output_names, "/"
        )
        return copy

    # ------------------------------------------------------------- structure

    def build(self, y_true, y_pred, terms=None, kinds=KINDS):
        """Resolve losses against outputs and make the metrics.

        Args:
            y_true: Nest of labels, tensors or `KerasTensor`s.
            y_pred: Nest of predictions.
            terms: Terms beyond the compiled ones that the model can produce.
            kinds: The kinds that it can produce.
        """
        self._compiled.build(y_true, y_pred)
        compiled = [
            LossTerm(
                name,
                "compiled",
                None,
                output=self._compiled.outputs.names[entry.index],
            )
            for entry in self._compiled.entries
            for name in entry.names
        ]
        penalties = list(terms or ())
        for kind, penalty in self.penalties.items():
            if penalty is not None and penalty.groups and terms is not None:
                penalty.check_patterns(
                    [term for term in penalties if term.kind == kind]
                )
        extra = [LossTerm(name, "added", None) for name in self.extra_terms]
        self.tracker = TermTracker(
            log_entries(
                LossTerms([*compiled, *penalties, *extra]),
                outputs=list(dict.fromkeys(term.output for term in compiled)),
                kinds=kinds,
                moving=self._moving(),
                log=self.log,
                groups=self._groups(penalties),
            )
        )
        self.built = True

    def _moving(self):
        return [
            name
            for name, weight in self._compiled.weights.items()
            if weights_lib.moves(weight)
        ]

    def _groups(self, penalties):
        groups = {name: [name] for name in self.extra_terms}
        for kind, penalty in self.penalties.items():
            if penalty is None:
                continue
            terms = [term for term in penalties if term.kind == kind]
            for member, group in penalty.members(terms).items():
                groups.setdefault(group, []).append(member)
        return groups

    # ----------------------------------------------------------- computation

    def compute(
        self,
        y_true,
        y_pred,
        sample_weight=None,
        regularization_losses=None,
        *,
        activity_losses=None,
        added_losses=None,
        context=None,
    ):
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
        """
        if self._compiled.outputs is None:
            self._compiled.build(y_true, y_pred)
        clock = self.clock.now()
        terms = list(self._compiled.terms(y_true, y_pred, sample_weight, clock))
        penalties = [
            *as_terms(regularization_losses, "regularization"),
            *as_terms(activity_losses, "activity"),
            *as_terms(added_losses, "added"),
        ]
        penalties += self._extra(context)
        for kind in PENALTY_KINDS:
            penalty = self.penalties[kind]
            if penalty is not None:
                members = [term for term in penalties if term.kind == kind]
                terms += per_replica(penalty.apply(members, clock))
        return LossTerms(with_unique_names(terms))

    def _extra(self, context):
        for name, term in self.extra_terms.items():
            yield LossTerm(
                name,
                "added",
                term(context),
                weight=getattr(term, "weight", 1.0),
            )

    def stateless_compute(self, variables, *args, **kwargs):
        """`compute` for a training step, with the state handed in and out.

        Args:
            variables: Values for `self.variables`, in that order.
            *args: As for `compute`.
            **kwargs: As for `compute`.

        Returns:
            `(terms, variables)`, the state after the step.
        """
        mapping = list(zip(self.variables, variables, strict=True))
        with keras.StatelessScope(state_mapping=mapping) as scope:
            terms = self.compute(*args, **kwargs)
            self.advance()
        return terms, [scope.get_current_value(v) for v in self.variables]

    def call(self, y_true, y_pred):
        """The total of the compiled losses; see `compute`."""
        return self.compute(y_true, y_pred).total

    def __call__(
        self,
        y_true,
        y_pred,
        sample_weight=None,
        regularization_losses=None,
        *,
        activity_losses=None,
        added_losses=None,
        training=True,
    ):
        """The total, after updating the metrics and, in training, the clock.

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
        """
        try:
            terms = self.compute(
                y_true,
                y_pred,
                sample_weight,
                regularization_losses,
                activity_losses=activity_losses,
                added_losses=added_losses,
                context=Context(training=training),
            )
        except StructureError as error:
            raise StructureError(f"{error}\n{PLAIN_MODEL_HINT}") from None
        if not _keras.in_stateless_scope() and _backend.is_tracer(terms.total):
            raise RuntimeError(
                "Expected `LossesContainer.__call__` to run outside of a "
                "transformation, since it updates metrics. Received a tracer. "
                "Use `container.compute(...)` or `stateless_compute(...)` "
                "inside `jax.jit` and `jax.grad`."
            )
        if not self.built:
            self.build(y_true, y_pred)
        self.track(terms, batch_size_of(y_pred))
        if training:
            self.advance()
        return terms.total

    def track(self, terms, batch_size):
        """Add the terms of a batch to the metrics."""
        self.tracker.update_state(terms, batch_size)

    def advance(self):
        """Count a training step, if anything depends on it."""
        if self.scheduled:
            self.clock.tick()

    # ----------------------------------------------------------------- state

    @property
    def metrics(self):
        """Views of the running means, `loss` first; `[]` before a call."""
        return self.tracker.views() if self.tracker is not None else []

    def reset_state(self):
        """Start the running means anew."""
        if self.tracker is not None:
            self.tracker.reset_state()

    def on_epoch_end(self):
        """Tell schedules by epoch that one is over."""
        self.clock.on_epoch_end()

    @property
    def scheduled(self):
        """Whether any weight is a function of the step or epoch."""
        return any(getattr(w, "is_schedule", False) for w in self._weights())

    @property
    def variables(self):
        """What moves during training, in a fixed order."""
        found = list(self.clock.variables) if self.scheduled else []
        for weight in self._weights():
            found += weights_lib.weight_variables(weight)
        return list({id(variable): variable for variable in found}.values())

    def _weights(self):
        weights = list(self._compiled.weights.values())
        for penalty in self.penalties.values():
            weights += penalty.weights if penalty is not None else []
        for term in self.extra_terms.values():
            weights.append(getattr(term, "weight", 1.0))
        return weights

    # ---------------------------------------------------------------- config

    def get_config(self):
        """Everything needed to build the container again."""
        serialize = keras.saving.serialize_keras_object
        return {
            "version": CONFIG_VERSION,
            "losses": map_leaves(losses_lib.serialize, self.losses),
            "loss_weights": map_leaves(
                weights_lib.serialize_weight, self.loss_weights
            ),
            "output_names": self.output_names,
            "total_loss_mean": serialize(self.total_loss_mean),
            **{k: serialize(p) for k, p in self.penalties.items()},
            "extra_terms": serialize(self.extra_terms),
            "weighting": serialize(self.weighting),
            "log": self.log,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config):
        """The container of a config.

        Raises:
            ValueError: for a config of a later version of the package.
        """
        config = dict(config)
        version = config.pop("version", CONFIG_VERSION)
        if version > CONFIG_VERSION:
            raise ValueError(
                "Expected the config of a LossesContainer to be of version "
                f"{CONFIG_VERSION} or earlier. Received: version={version}. "
                "Load it with the version of keras_losskit that saved it."
            )
        deserialize = keras.saving.deserialize_keras_object
        config["losses"] = map_leaves(losses_lib.deserialize, config["losses"])
        config["loss_weights"] = map_leaves(
            weights_lib.deserialize_weight, config["loss_weights"]
        )
        for key in (
            "total_loss_mean",
            *PENALTY_KINDS,
            "extra_terms",
            "weighting",
        ):
            config[key] = deserialize(config[key])
        return cls(**config)


def checked_penalty(kind, penalty):
    """`penalty`, refused with its kind if it is neither Penalty nor None."""
    if penalty is not None and not isinstance(penalty, Penalty):
        raise ValueError(
            f"Expected `{kind}` to be a Penalty, or None to leave the kind out "
            f"of the total. Received: {penalty!r}"
        )
    return penalty


def per_replica(terms):
    """Terms scaled so that the trainer's sum over replicas is their value."""
    replicas = _backend.num_replicas()
    if replicas == 1:
        return terms
    return [dataclasses.replace(t, value=t.value / replicas) for t in terms]


def with_unique_names(terms):
    """Terms whose names were made unique by a number where they clash."""
    names = numbered(term.name for term in terms)
    return [
        term if term.name == name else dataclasses.replace(term, name=name)
        for term, name in zip(terms, names, strict=True)
    ]


def batch_size_of(batch):
    """The leading size of the first tensor, as Keras counts samples."""
    first = next(x for x in keras.tree.flatten(batch) if x is not None)
    return ops.shape(first)[0]
