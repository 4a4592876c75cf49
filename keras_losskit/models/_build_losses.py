"""What a model tells its loss when that is built, before the first step."""

from keras_losskit import _keras
from keras_losskit import _origin
from keras_losskit.container._log_entries import refuse_logged_keys
from keras_losskit.container._log_entries import refuse_names_of_metrics
from keras_losskit.container._tracker import TermTracker
from keras_losskit.layers._side_branches import refuse_side_branches
from keras_losskit.models import _gradient_weights
from keras_losskit.penalties._fused import FusedPenalties
from keras_losskit.penalties._fused import fuses
from keras_losskit.penalties.collect import regularized_variables


def build_losses(model, container, x, y, y_pred, training):
    """Name what a model turned out to produce, once per compile.

    Args:
        model: The model, after a forward pass.
        container: Its `LossesContainer`.
        x: Inputs of that pass, or None.
        y: Labels.
        y_pred: Predictions.
        training: Whether it was of a training step.

    Returns:
        `BuiltLosses`.
    """
    refuse_side_branches(model)
    terms = model._losskit_penalty_terms()
    logged = list(model._losskit_logged_values())
    layers = _keras.flatten_layers(model)
    if x is not None and any(
        _origin.is_users_own(type(layer).call) for layer in layers
    ):
        # Which may add a loss in training only, or with another weight.
        further, names = model._losskit_terms_aside(x, not training)
        terms, logged = terms + further, logged + names
    logged = list(dict.fromkeys(logged))
    refuse_logged_keys(logged, names_of_metrics(model))
    # What is logged, an own step says itself, until it asks Keras.
    says_itself = _origin.overrides(model, "train_step")
    losses = container.build(
        y,
        y_pred,
        terms,
        possible_kinds(model, container),
        "/",
        picked=_gradient_weights.picked_variables(model),
        logged=logged,
        metrics=[] if says_itself else names_of_metrics(model),
    )
    penalty = container.penalties["regularization"]
    if fuses(penalty, container.log):
        model._losskit_state.fused = FusedPenalties(
            regularized_variables(model), penalty
        )
    if model._losskit_state.samples is not None:
        model._losskit_state.samples.build(losses.parts)
    return losses


def names_of_metrics(model):
    """What the logs call the results of the user's metrics, a list."""
    names = []
    for metric in model.metrics:
        if is_of_compile(metric):
            # Here are the names of outputs before those of their metrics.
            names += metric.result() if metric.built else ()
        elif not isinstance(metric, TermTracker):
            names.append(metric.name)
    return names


def is_of_compile(metric):
    """Whether `metric` holds those that were given to `compile`."""
    return isinstance(metric, _keras.CompileMetrics)


def check_names_of_metrics(model):
    """Refuse metrics named as terms, once, where Keras puts all in one dict.

    A custom step may log otherwise; it comes by here if it has Keras compute
    the loss or the metrics.

    Raises:
        ValueError: if one is.
    """
    losses = model.compiled_loss.built_losses
    if losses.tracker is None or _keras.in_symbolic_scope():
        return
    refuse_names_of_metrics(losses.tracker.entries, names_of_metrics(model))
    compiled = (m for m in model.metrics if is_of_compile(m))
    losses.names_are_checked = all(metric.built for metric in compiled)


def refuse_optimizer_of_before(model, losses):
    """Refuse an optimizer that cannot train what the weighting learns.

    Raises:
        ValueError: if it was built before the weighting was.
    """
    learned = losses.trainable_variables
    if _keras.is_built_without(model.optimizer, learned):
        raise ValueError(
            f"Expected the optimizer to be built with what "
            f"{losses.weighting!r} learns. Received: "
            f"{model.optimizer.name!r}, which was built before, for a model "
            "with another loss. Give `compile` a new optimizer."
        )


def possible_kinds(model, container):
    """The kinds that a step of a model may turn out to have."""
    layers = _keras.flatten_layers(model)
    possible = {
        "compiled": container.losses is not None,
        "regularization": bool(regularized_variables(model)),
        "activity": any(layer.activity_regularizer for layer in layers),
        "added": bool(container.extra_terms)
        or not all(_origin.is_keras_class(type(layer)) for layer in layers),
        "weighting": container.weighting is not None,
    }
    return [kind for kind, may_be in possible.items() if may_be]
