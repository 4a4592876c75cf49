"""A `LossesContainer` in a custom loop, where no model builds it or counts."""

import keras

from keras_losskit import _keras
from keras_losskit._support.jax_tracing import refuse_to_build
from keras_losskit._support.jax_tracing import refuse_tracers
from keras_losskit._support.output_structure import StructureError
from keras_losskit.container import _refusals
from keras_losskit.container._built_losses import BuiltLosses
from keras_losskit.container._laying import lay_losses
from keras_losskit.container._tracker import batch_size_of
from keras_losskit.container._tracker import track_total
from keras_losskit.container._tracker import trainer_counts
from keras_losskit.extra.context import Context
from keras_losskit.penalties.collect import as_terms


def terms_by_kind(regularization, activity, added):
    """A list of `LossTerm` of what the arguments of a call hold."""
    return [
        *as_terms(regularization, "regularization"),
        *as_terms(activity, "activity"),
        *as_terms(added, "added"),
    ]


def losses_for(container, y_true, y_pred, state=()):
    """What a container became; without metrics if nobody called `build`.

    Args:
        container: The `LossesContainer`.
        y_true: Nest of labels.
        y_pred: Nest of predictions.
        state: What else may come from a transformation.
    """
    weighting = None if container.weighs_gradients else container.weighting
    to_build = weighting is not None and not weighting.built
    if to_build:
        refuse_to_build(weighting, (y_true, y_pred, state))
    if container.built_losses.output_losses.outputs is None:
        laid = lay_losses(container, y_true, y_pred)
        container.built_losses = BuiltLosses(container, laid)
    if to_build:
        weighting.build(len(container.built_losses.weighted_names()))
    return container.built_losses


def stateless_terms(container, variables, data, penalties, context, training):
    """The terms of a batch, and the state after it, as values.

    Args:
        container: The `LossesContainer`.
        variables: Values for its variables.
        data: `(y_true, y_pred, sample_weight)`.
        penalties: List of `LossTerm`.
        context: `Context` for extra terms, or None.
        training: Whether the state moves on.
    """
    mapping = list(zip(container.variables, variables, strict=True))
    # Not in the scope, where a new variable has no value yet.
    losses = losses_for(container, *data[:2], variables)
    with keras.StatelessScope(state_mapping=mapping):
        terms = losses.terms(
            *data, penalties, context, moves=training, training=training
        )
        if training:
            losses.count_step()
        # Also of those that the weighting has made just now.
        return terms, [variable.value for variable in losses.variables]


def call_counted(container, y_true, y_pred, sample_weight, penalties, training):
    """The total of a batch, which the metrics and the clock have counted.

    Args:
        container: The `LossesContainer`.
        y_true: Nest of labels.
        y_pred: Nest of predictions.
        sample_weight: Nest of sample weights.
        penalties: List of `LossTerm`.
        training: Whether this is a training step.
    """
    refuse_tracers((y_true, y_pred, [term.value for term in penalties]))
    if training and container.weighs_gradients:
        _refusals.refuse_gradient_weighting(container.weighting)
    try:
        if not container.built:
            by_keras = _keras.is_called_by_compile_loss(above=2)
            container.build(y_true, y_pred, penalties or None)
            if by_keras and (container.variables or container.weighting):
                # Refused again at the next call.
                container.built_losses = BuiltLosses(container)
                _refusals.refuse_keras_trainer(container)
        losses = container.built_losses
        context = Context(y_true=y_true, y_pred=y_pred, training=training)
        terms = losses.terms(
            y_true,
            y_pred,
            sample_weight,
            penalties,
            context,
            moves=training,
            training=training,
        )
    except StructureError as error:
        raise StructureError(f"{error}\n{_refusals.PLAIN_MODEL_HINT}") from None
    batch_size = batch_size_of(y_pred)
    losses.track(terms, batch_size, training)
    track_total(container.total_loss_mean, terms.total, batch_size)
    if not trainer_counts(container):
        track_total(container.loss_tracker, terms.total, batch_size)
    return terms.total
