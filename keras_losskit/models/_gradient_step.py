"""A training step in which the weights come from the terms' gradients.

`update = sum_k(w_k * g_k) + g_rest`, with `g_k` the gradient of the k-th
contribution, `w` the weighting of the Gramian `G[i, j] = g_i . g_j`, and
`g_rest` the gradient of the terms that do not take part. `loss` stays the sum
with the user's own weights.
"""

import keras
from keras import ops

from keras_losskit import _backend
from keras_losskit import _keras
from keras_losskit._origin import overriding_class
from keras_losskit._support import replicas
from keras_losskit.container._tracker import batch_size_of
from keras_losskit.container._weighting_step import by_member
from keras_losskit.container._weighting_step import contribution_of
from keras_losskit.container._weighting_step import member_name
from keras_losskit.models._gradient_weights import GradientStep
from keras_losskit.models._gradient_weights import SplitTotal
from keras_losskit.models._gradient_weights import positions
from keras_losskit.terms import add_up


def train_step(model, *args):
    """The step of the backend's trainer: `(data)`, or `(state, data)` on JAX.

    Args:
        model: A model whose loss has a gradient-based weighting.
        *args: What the trainer hands to `train_step`.
    """
    stateless = keras.config.backend() == "jax"
    step = _stateless_step if stateless else _stateful_step
    kept = model._losskit_kept_of_pass()
    kept.weighs_gradients = True
    try:
        return step(model, *args)
    finally:
        kept.weighs_gradients = False


def is_running(model):
    """Whether the training step of this module runs, or is traced."""
    return model._losskit_kept_of_pass().weighs_gradients


def refuse_other_steps(model):
    """Refuse a custom `train_step` that does not come by here.

    Raises:
        ValueError: if it is one, and not the pass that builds the model.
    """
    if is_running(model) or _keras.in_symbolic_scope():
        return
    own = overriding_class(model, "train_step")
    if own is None:
        return
    raise ValueError(
        f"Expected `train_step` of {own.__name__} to call "
        f"`super().train_step(...)`: {model.compiled_loss.weighting!r} weighs "
        "the terms' gradients, one by one, in a step of its own. Received: a "
        "`compute_loss` in training, whose total has the weights of the user "
        "only. Or take a loss-based weighting, such as Uncertainty()."
    )


def refuse_hidden_step(model, mixin):
    """Refuse a custom `train_step` that stands behind `mixin`.

    That is one of a wrapped class, or of a class after the mixin: the step of
    this module would take its place.

    Raises:
        ValueError: if there is one.
    """
    own = overriding_class(model, "train_step", after=mixin)
    if own is not None:
        raise ValueError(
            f"Expected {own.__name__} to have no `train_step` of its own: "
            f"{model.compiled_loss.weighting!r} weighs the terms' gradients in "
            f"a step of its own. Received: {own.__name__}.train_step. Derive "
            "the class from keras_losskit.Model and call "
            "`super().train_step(...)` there, or take a loss-based weighting."
        )


def _stateful_step(model, data):
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    training = model._losskit_training_argument(True)
    scale = loss_scale(model.optimizer)

    def forward(_):
        y_pred = model(x, **training)
        total = _keras.trainer_loss(model, x, y, y_pred, sample_weight)
        parts = split(model, total)
        return scaled(parts.scalars, scale), (y_pred, total, parts)

    pullback = _backend.Pullback(
        forward, lambda: [v.value for v in model.trainable_weights]
    )
    y_pred, total, parts = pullback.aux
    gradient_step = gradient_step_of(model, pullback, parts, scale)
    gradients = gradient_step.update(batch_size_of(x))
    _keras.track_total(
        model,
        replicas.whole(total),
        replicas.global_batch_size(batch_size_of(x)),
    )
    _backend.apply_gradients(
        model.optimizer, gradients, model.trainable_weights
    )
    return model.compute_metrics(x, y, y_pred, sample_weight=sample_weight)


def _stateless_step(model, state, data):
    trainable, non_trainable, optimizer, metrics = state
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    with keras.StatelessScope(
        list(zip(model.optimizer.variables, optimizer, strict=True))
    ):
        scale = loss_scale(model.optimizer)

    def forward(values):
        _, (total, y_pred, *updated) = model.compute_loss_and_updates(
            values,
            non_trainable,
            metrics,
            x,
            y,
            sample_weight,
            training=True,
            optimizer_variables=optimizer,
        )
        parts = split(model, total)
        return scaled(parts.scalars, scale), (parts, total, y_pred, updated)

    pullback = _backend.Pullback(forward, lambda: trainable)
    parts, total, y_pred, updated = pullback.aux
    gradient_step = gradient_step_of(model, pullback, parts, scale)
    references = [*model.non_trainable_variables, *model.metrics_variables]
    values = [*updated[0], *updated[1]]
    with keras.StatelessScope(
        list(zip(references, values, strict=True))
    ) as scope:
        gradients = gradient_step.update(batch_size_of(x))
    values = [scope.get_current_value(variable) for variable in references]
    non_trainable = values[: len(updated[0])]
    metrics = values[len(updated[0]) :]
    trainable, optimizer = model.optimizer.stateless_apply(
        optimizer, gradients, trainable
    )
    with keras.StatelessScope(
        list(zip(model.metrics_variables, metrics, strict=True))
    ) as scope:
        _keras.track_total(model, total, batch_size_of(x))
        logs = model.compute_metrics(x, y, y_pred, sample_weight)
    metrics = [scope.get_current_value(v) for v in model.metrics_variables]
    return logs, (trainable, non_trainable, optimizer, metrics)


def gradient_step_of(model, pullback, parts, scale):
    """`GradientStep` of a model, whose `parts` the pullback is of."""
    losses, columns = model.compiled_loss.built_losses, None
    if losses.picked is not None:
        columns = positions(losses.picked, model.trainable_weights)
    return GradientStep(losses, pullback, parts, scale, columns)


def split(model, total):
    """The contributions that get weights one by one, and all the rest.

    Args:
        model: The model, after its `compute_loss`.
        total: What that returned.

    Returns:
        `SplitTotal`.

    Raises:
        ValueError: for a custom `compute_loss` that does not call
            the one it overrides.
    """
    terms = model._losskit_last_terms()
    if terms is None:
        raise ValueError(
            f"Expected `compute_loss` of {type(model).__name__} to call "
            "`super().compute_loss(...)`: a gradient-based weighting, "
            f"{model.compiled_loss.weighting!r}, needs the single terms. "
            "Received: a total only. Return what that gives, with your own "
            "part added."
        )
    names = model.compiled_loss.built_losses.weighted_names()
    found = by_member(terms.values(), names)
    members = [contribution_of(parts) for parts in found.values()]
    weights = [parts[0].weight if parts else 1.0 for parts in found.values()]
    others = [
        term.contribution
        for term in terms.values()
        if member_name(term, names) is None
    ]
    if total is not terms.total:
        others.append(total - terms.total)
    return SplitTotal(members, weights, [add_up(others)] if others else [])


def loss_scale(optimizer):
    """The factor of a loss-scaling optimizer, a scalar; 1.0 for any other."""
    one = ops.ones(())
    scale = optimizer.scale_loss(one)
    return 1.0 if scale is one else scale


def scaled(scalars, scale):
    """The scalars in float32, times the scale of the loss."""
    scalars = [ops.cast(scalar, "float32") for scalar in scalars]
    if isinstance(scale, float):
        return scalars
    return [scalar * scale for scalar in scalars]
