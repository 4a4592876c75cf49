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
from keras_losskit import replicas
from keras_losskit.terms import add_up
from keras_losskit.tracking import batch_size_of


def train_step(model, *args):
    """The step of the backend's trainer: `(data)`, or `(state, data)` on JAX.

    Args:
        model: A model whose loss has a weighting over the Gramian.
        *args: What the trainer hands to `train_step`.
    """
    if keras.config.backend() == "jax":
        return _stateless_step(model, *args)
    return _stateful_step(model, *args)


def _stateful_step(model, data):
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    variables = model.trainable_weights
    training = {"training": True} if _keras.takes_training(model) else {}
    scale = loss_scale(model.optimizer)

    def forward(_):
        y_pred = model(x, **training)
        total = model.compute_loss(
            x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=True
        )
        members, rest = split(model.compiled_loss, model.last_terms())
        return scaled([*members, *rest], scale), (y_pred, total, members)

    rows, (y_pred, total, members) = _backend.term_gradients(
        forward, [variable.value for variable in variables]
    )
    gradients = combined(model, rows, members, scale, batch_size_of(x))
    _keras.track_total(
        model,
        total * _backend.num_replicas(),
        replicas.samples(batch_size_of(x)),
    )
    _backend.apply_gradients(model.optimizer, gradients, variables)
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
        members, rest = split(model.compiled_loss, model.last_terms())
        return scaled([*members, *rest], scale), (
            total,
            y_pred,
            members,
            updated,
        )

    rows, (total, y_pred, members, updated) = _backend.term_gradients(
        forward, trainable
    )
    references = [*model.non_trainable_variables, *model.metrics_variables]
    values = [*updated[0], *updated[1]]
    with keras.StatelessScope(
        list(zip(references, values, strict=True))
    ) as scope:
        gradients = combined(model, rows, members, scale, batch_size_of(x))
    values = [scope.get_current_value(variable) for variable in references]
    non_trainable = values[: len(updated[0])]
    metrics = values[len(updated[0]) :]
    trainable, optimizer = model.optimizer.stateless_apply(
        optimizer, gradients, trainable
    )
    logs, metrics = _keras.update_jax_metrics(
        model, metrics, total, x, y, y_pred, sample_weight
    )
    return logs, (trainable, non_trainable, optimizer, metrics)


def split(container, terms):
    """The contributions that are weighed one by one, and all the rest.

    Args:
        container: The container of the model.
        terms: `LossTerms` of a batch.

    Returns:
        `(members, rest)`: a list with a scalar for each term that the weighting
        weighs, 0 for one that the batch does not have, and a list with the sum
        of the others, empty where there are none.
    """
    names = container.weighted_names()
    members = [
        terms[name].contribution if name in terms else ops.zeros(())
        for name in names
    ]
    others = [terms[name].contribution for name in terms if name not in names]
    return members, [add_up(others)] if others else []


def track_weights(container, weights, batch_size):
    """Log the weights that were found in the step just counted."""
    names = container.weighted_names()
    weights = ops.unstack(weights, len(names))
    found = {
        f"{name}_weight": weight
        for name, weight in zip(names, weights, strict=True)
    }
    container.tracker.add(found, batch_size)


def loss_scale(optimizer):
    """The factor of a loss-scaling optimizer; 1 for any other."""
    return optimizer.scale_loss(ops.ones(()))


def scaled(scalars, scale):
    """The scalars in float32, times the scale of the loss."""
    return [ops.cast(scalar, "float32") * scale for scalar in scalars]


def combined(model, rows, members, scale, batch_size):
    """One gradient per variable from the gradients of all terms.

    Args:
        model: The model.
        rows: Per trainable variable `(K, *shape)`, or `(K + 1, *shape)` with
            the gradient of the rest at the end; scaled.
        members: The K contributions.
        scale: What the gradients are scaled by.
        batch_size: Number of samples.

    Returns:
        A list of gradients, scaled.
    """
    container = model.compiled_loss
    weighting = container.weighting
    count = len(members)
    rows = _backend.sum_over_replicas(rows)
    if _backend.num_processes() > 1:
        rows = [row / _backend.num_processes() for row in rows]
    matrix = gramian([row[:count] / scale for row in rows])
    more = {}
    if weighting.takes_values:
        # Parts of what all replicas agree on.
        more["values"] = ops.stack(members) * _backend.num_replicas()
    weights = weighting.weights(matrix, training=True, **more)
    track_weights(container, weights, batch_size)
    total = rows[0].shape[0] if rows else count
    if total > count:
        weights = ops.concatenate([weights, ops.ones(1, weights.dtype)])
    # The trainer adds up over replicas what is already summed here.
    weights = weights / _backend.num_replicas()
    return [
        ops.cast(ops.tensordot(weights, row, axes=1), row.dtype) for row in rows
    ]


def gramian(rows):
    """`J J^T` of a Jacobian that is given per variable.

    Args:
        rows: List of `(K, *shape)`.

    Returns:
        `(K, K)`, float32 at least.
    """
    flat = [ops.reshape(row, (row.shape[0], -1)) for row in rows]
    return add_up(ops.matmul(row, ops.transpose(row)) for row in flat)
