"""Drop-in models whose loss is made of named terms."""

import warnings

import keras

from keras_losskit import _keras
from keras_losskit.container import LossesContainer
from keras_losskit.container import batch_size_of
from keras_losskit.extra.context import Context
from keras_losskit.penalties import PenaltyList
from keras_losskit.penalties import layer_terms
from keras_losskit.penalties import variable_terms
from keras_losskit.recording import Recorder
from keras_losskit.seeds import SeedState
from keras_losskit.tracking import TermTracker
from keras_losskit.twins import become_functional
from keras_losskit.twins import is_functional_call


class LossTermsMixin(_keras.TrainerSeams):
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

    # -------------------------------------------------------------- compiling

    def compile(
        self, optimizer="rmsprop", loss=None, loss_weights=None, **kwargs
    ):
        """As `keras.Model.compile`, with a loss made of terms.

        Args:
            optimizer: As Keras.
            loss: A `LossesContainer`, or any loss that Keras or tf.keras takes.
            loss_weights: As Keras; also variables and schedules. Not beside a
                container, which has weights of its own.
            **kwargs: As Keras.

        Raises:
            ValueError: for `loss_weights` beside a container.
        """
        container = self._container(loss, loss_weights)
        super().compile(optimizer=optimizer, loss=None, **kwargs)
        _keras.install_loss(self, container)

    def _container(self, loss, loss_weights):
        if not isinstance(loss, LossesContainer):
            loss = LossesContainer(loss, loss_weights)
        elif loss_weights is not None:
            raise ValueError(
                "Expected no `loss_weights` beside a LossesContainer. "
                f"Received: loss_weights={loss_weights!r}. Give them to the "
                "container: LossesContainer(losses, loss_weights=...)."
            )
        return loss.copy_for(getattr(self, "output_names", None))

    @property
    def compiled_loss(self):
        """The `LossesContainer` of `compile`, as in tf.keras; else None."""
        return _keras.compiled_loss(self)

    def get_compile_config(self):
        """The arguments of `compile`, serialized."""
        container = self.compiled_loss
        if container is None:
            return super().get_compile_config()
        config = _keras.compile_config(self)
        config.update(loss=container, loss_weights=None)
        try:
            return keras.saving.serialize_keras_object(config)
        except (TypeError, ValueError) as error:
            warnings.warn(
                "The loss cannot be saved, so the file will hold the model "
                f"without its compile configuration: {error}",
                stacklevel=2,
            )
            return {}

    def compile_from_config(self, config):
        """Compile with what `get_compile_config` returned."""
        config = keras.saving.deserialize_keras_object(config)
        self.compile(**config)
        if self.optimizer is not None and self.built:
            self.optimizer.build(self.trainable_variables)

    # ---------------------------------------------------------------- calling

    def __call__(self, *args, **kwargs):
        """Call the model, recording which layer adds which loss."""
        if Recorder.current() is not None or any(
            isinstance(x, keras.KerasTensor)
            for x in keras.tree.flatten((args, kwargs))
        ):
            self._remember(None)
            return super().__call__(*args, **kwargs)
        with Recorder(self) as recorder:
            outputs = super().__call__(*args, **kwargs)
        self._remember(recorder.losses)
        return outputs

    def stateless_call(
        self,
        trainable_variables,
        non_trainable_variables,
        *args,
        return_losses=False,
        **kwargs,
    ):
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

    def compute_loss_and_updates(self, *args, **kwargs):
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
        # Not through `__setattr__`, which would wrap and track the list.
        self.__dict__["_recorded"] = recorded

    # ----------------------------------------------------------------- losses

    def penalty_terms(self):
        """The terms beyond the compiled ones after a forward pass.

        Returns:
            A list of `LossTerm` in the order of `losses`.
        """
        recorded = self.__dict__.get("_recorded")
        return layer_terms(self, recorded) + variable_terms(self)

    @property
    def losses(self):
        """As Keras: scalars from `add_loss`, regularizers and sublayers."""
        if self.__dict__.get("_recorded") is None:
            return super().losses
        return PenaltyList(self.penalty_terms())

    @property
    def regularization_losses(self):
        """The penalties of the weight regularizers."""
        return self._of_kind("regularization")

    @property
    def activity_losses(self):
        """The penalties of the activity regularizers in the last pass."""
        return self._of_kind("activity")

    @property
    def added_losses(self):
        """What `add_loss` added in the last pass."""
        return self._of_kind("added")

    def _of_kind(self, kind):
        return PenaltyList(t for t in self.penalty_terms() if t.kind == kind)

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        """The total of all terms, after updating what `fit` logs of them.

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
        """
        container = self.compiled_loss or LossesContainer()
        penalties = self.penalty_terms()
        if not container.built:
            container.build(y, y_pred, penalties, self._possible_kinds())
        terms = container.compute(
            y,
            y_pred,
            sample_weight,
            PenaltyList(penalties),
            context=Context(self, x, y, y_pred, sample_weight, training),
        )
        if not terms and not self._has_own_step():
            raise ValueError(
                "No loss to compute. Provide a `loss` argument in `compile()`, "
                "a regularizer or an `add_loss`."
            )
        container.track(terms, batch_size_of(y_pred if x is None else x))
        if training:
            container.advance()
        self.__dict__["_computed"] = terms
        return terms.total

    def account_for(self, total, batch):
        """Book what a `compute_loss` of the user's own adds to the terms.

        It is the kind `added`, so that the kinds still sum to `loss`.

        Args:
            total: What the user's `compute_loss` returned.
            batch: The tensors whose leading size counts the samples.
        """
        terms = self.__dict__.pop("_computed", None)
        container = self.compiled_loss
        if terms is None or total is terms.total or container.tracker is None:
            return
        container.tracker.add_to_kind(
            "added", total - terms.total, batch_size_of(batch)
        )

    def _has_own_step(self):
        # Then a total of 0 here is no sign that nothing is minimised.
        return _keras.in_symbolic_scope() and (
            _keras.overrides(self, "train_step")
            or _keras.overrides(self, "compute_loss")
        )

    def _possible_kinds(self):
        """The kinds that a step of this model may turn out to have."""
        container = self.compiled_loss
        layers = _keras.flatten_layers(self)
        possible = {
            "compiled": bool(container and container.losses is not None),
            "regularization": any(
                getattr(v, "regularizer", None) for v in self.trainable_weights
            ),
            "activity": any(layer.activity_regularizer for layer in layers),
            "added": bool(container and container.extra_terms)
            or not all(_keras.is_keras_class(type(layer)) for layer in layers),
            "weighting": bool(container and container.weighting),
        }
        return [kind for kind, may_be in possible.items() if may_be]

    # ------------------------------------------------------------------- logs

    @property
    def metrics_names(self):
        """As Keras; the metric of all terms stands for the names it logs."""
        names = []
        for metric in self.metrics:
            names += self.names_in_list(metric)
        return names + self.names_after_list()

    def names_in_list(self, metric):
        """The names a metric has in `evaluate()`'s list, as in Keras."""
        if isinstance(metric, TermTracker):
            plain = {e.key for e in metric.entries if e.plain}
            return [key for key in metric.result_keys() if key in plain]
        return [metric.name]

    def names_after_list(self):
        """The names that follow all those that Keras has."""
        return [
            key
            for metric in self.metrics
            if isinstance(metric, TermTracker)
            for key in metric.result_keys()
            if key not in self.names_in_list(metric)
        ]

    # ------------------------------------------------------------------ state

    @property
    def non_trainable_variables(self):
        """As Keras, and what moves in the loss, so that JAX carries it on."""
        variables = super().non_trainable_variables
        container = self.compiled_loss
        if container is None or not container.variables:
            return variables
        own = {id(v) for v in self.variables}
        return variables + [v for v in container.variables if id(v) not in own]

    @property
    def seed_state(self):
        """The seeds of the model, in a form that `save` writes to the file."""
        if "_seed_state" not in self.__dict__:
            self.__dict__["_seed_state"] = SeedState(self)
        return self.__dict__["_seed_state"]

    def fit(self, *args, **kwargs):
        """As Keras; schedules by epoch are told when one is over."""
        callbacks = kwargs.pop("callbacks", None)
        return super().fit(*args, callbacks=with_epoch_end(callbacks), **kwargs)


class _EpochEnd(keras.callbacks.Callback):
    """Tells the container that an epoch is over."""

    def on_epoch_end(self, epoch, logs=None):
        container = self.model.compiled_loss
        if container is not None:
            container.on_epoch_end()


def with_epoch_end(callbacks):
    """`callbacks`, preceded by the one that counts epochs.

    First, so that a callback that saves the model saves the count as well.
    """
    if isinstance(callbacks, keras.callbacks.CallbackList):
        callbacks.callbacks.insert(0, _EpochEnd())
        return callbacks
    if callbacks is None:
        callbacks = []
    elif not isinstance(callbacks, (list, tuple)):
        callbacks = [callbacks]
    return [_EpochEnd(), *callbacks]


def paired(argument, references, values):
    """Pairs of a variable and its value, one to one."""
    if len(references) != len(values):
        raise ValueError(
            f"Argument `{argument}` must be a list of tensors corresponding "
            f"1:1 to the model's {argument}. Received list with length "
            f"{len(values)}, but expected {len(references)} variables."
        )
    return list(zip(references, values, strict=True))


@keras.saving.register_keras_serializable("keras_losskit")
class Model(LossTermsMixin, keras.Model):
    """`keras.Model` with separated, named loss terms.

    Functional (`Model(inputs, outputs)`) and subclassed, in any order: unlike
    Keras it never rewrites the bases of a class.

    Example:
        >>> inputs = keras.Input((2,))
        >>> model = Model(inputs, keras.layers.Dense(1)(inputs))
        >>> model.compile("sgd", loss="mse")
        >>> history = model.fit(
        ...     keras.ops.ones((4, 2)), keras.ops.ones((4, 1)), verbose=0)
        >>> sorted(history.history)
        ['loss']
    """


@keras.saving.register_keras_serializable("keras_losskit")
class Sequential(LossTermsMixin, keras.Sequential):
    """`keras.Sequential` with separated, named loss terms.

    Example:
        >>> model = Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> model.count_params()
        3
    """
