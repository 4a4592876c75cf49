"""Metrics of an output whose logits a step does without.

Metrics of integer labels need a few numbers of a place, such as how many
classes come before the label. They are computed with the loss, where all
variables have their values, and taken to the metrics with the predictions.
"""

from typing import Any

import keras
from keras import ops

from keras_losskit import _keras
from keras_losskit import _origin
from keras_losskit._support.output_structure import spread_data
from keras_losskit._types import Structure
from keras_losskit.losses._core.chunked_entropy import scores
from keras_losskit.losses._core.labels import integer_labels
from keras_losskit.losses._core.labels import without_ignored
from keras_losskit.losses._core.unprojected import Unprojected


def accuracy(metric, labels, found):
    """Whether the label is the first of the largest."""
    del metric, labels
    return found[..., 1]


def top_k(metric, labels, found):
    """Whether fewer than k classes come before the label."""
    del labels
    return found[..., 2] < metric.get_config()["k"]


def crossentropy(metric, labels, found):
    """The crossentropy of what is not ignored."""
    ignored = metric.ignore_class
    valid = None if ignored is None else ops.not_equal(labels, ignored)
    return without_ignored(found[..., 0], valid)


#: What gives the values of a metric, by its class.
VALUES = {
    keras.metrics.SparseCategoricalAccuracy: accuracy,
    keras.metrics.SparseTopKCategoricalAccuracy: top_k,
    keras.metrics.SparseCategoricalCrossentropy: crossentropy,
}


def values_of(metric):
    """The function of `VALUES` that stands in for a metric's own, or None."""
    if _origin.is_users_own(type(metric).update_state):
        return None
    config = metric.get_config()
    if not config.get("from_logits", True) or config.get("from_sorted_ids"):
        return None
    return next((VALUES[c] for c in VALUES if isinstance(metric, c)), None)


def note_scores(
    model: Any,
    y: Structure,
    y_pred: Structure,
    unprojected: dict[int, Unprojected],
) -> None:
    """Compute what the metrics of outputs without logits need.

    Args:
        model: The model.
        y: Labels.
        y_pred: Predictions, of which some are features.
        unprojected: `{position: Unprojected}` of these.

    Raises:
        ValueError: if an output has other metrics.
    """
    step = model._losskit_kept_of_pass()
    step.scores = {}
    outputs = model.compiled_loss.built_losses.output_losses.outputs
    for position, output in unprojected.items():
        metrics = metrics_of(model, position, y, y_pred, unprojected)
        if not metrics:
            continue
        name = outputs.names[position]
        refuse_others(metrics, name)
        labels = spread_data(y, outputs, argument="y_true")[position]
        found = scores(
            integer_labels(labels, output, -1, "CategoricalCrossentropy"),
            output.features,
            output.projection,
            ranks=any(values_of(metric) is top_k for metric in metrics),
        )
        if output.mask is not None:
            _keras.set_keras_mask(found, output.mask)
        step.scores[position] = found


def metrics_of(model, position, y, y_pred, unprojected):
    """The metrics of `compile` of one output, a list."""
    compiled = _keras.compiled_metrics(model)
    if compiled is None:
        return []
    if not compiled.built:
        flat = keras.tree.flatten(y_pred)
        for place, output in unprojected.items():
            dtype = keras.backend.standardize_dtype(flat[place].dtype)
            classes = output.projection.kernel.shape[1]
            flat[place] = keras.KerasTensor(
                (*output.shape[:-1], classes), dtype
            )
        compiled.build(y, keras.tree.pack_sequence_as(y_pred, flat))
    return _keras.metrics_at(compiled, position, y_pred)


def refuse_others(metrics, output):
    """Refuse metrics that would read logits which are not there.

    Raises:
        ValueError: if there are some.
    """
    others = [metric.name for metric in metrics if values_of(metric) is None]
    if others:
        raise ValueError(
            f"Expected the metrics of output '{output}', whose logits "
            "LinearCrossEntropy does without, to be of SparseCategorical"
            "Accuracy, SparseTopKCategoricalAccuracy or SparseCategorical"
            f"Crossentropy(from_logits=True). Received: {others}. Leave them "
            "out, or take SparseCategoricalCrossentropy(from_logits=True) as "
            "the loss."
        )


def with_scores(model: Any, found: tuple[Any, Any]) -> tuple[Any, Any]:
    """What `compute_loss_and_updates` returns on JAX, with the scores.

    They take the place of the features, since no tracer of the gradient may
    reach the metrics in any other way.

    Args:
        model: The model.
        found: `(loss, (total, y_pred, ...))`.
    """
    step = model._losskit_kept_of_pass()
    if not step.scores:
        return found
    loss, (total, y_pred, *rest) = found
    flat = keras.tree.flatten(y_pred)
    for position, values in step.scores.items():
        flat[position] = values
    step.scores = dict.fromkeys(step.scores)
    y_pred = keras.tree.pack_sequence_as(y_pred, flat)
    return loss, (total, y_pred, *rest)


def update_metrics_without_logits(
    model: Any, y: Structure, y_pred: Structure, sample_weight: Any
) -> bool:
    """Update the metrics of `compile` in a step that does without logits.

    Args:
        model: The model.
        y: Labels.
        y_pred: Predictions, of which some are features, or their scores.
        sample_weight: Sample weights.

    Returns:
        Whether it is such a step.
    """
    step = model._losskit_kept_of_pass()
    if not step.scores:
        return False
    known, step.scores = step.scores, {}
    flat = keras.tree.flatten(y_pred)
    places = {
        position: flat[position] if values is None else values
        for position, values in known.items()
    }

    def update(position, metric, labels, weight):
        found = places[position]
        labels = integer_labels(labels, found, -1, "CategoricalCrossentropy")
        values = values_of(metric)(metric, labels, found)
        weight = counted(weight, _keras.get_keras_mask(found))
        # Past the function of the metric, which would read logits.
        keras.metrics.Mean.update_state(metric, values, sample_weight=weight)

    _keras.update_metrics(
        _keras.compiled_metrics(model), y, y_pred, sample_weight, places, update
    )
    return True


def counted(weight, mask):
    """Sample weights, 0 where a mask of the predictions is false."""
    if mask is None:
        return weight
    mask = ops.cast(mask, keras.config.floatx())
    if weight is None:
        return mask
    weight = ops.cast(ops.convert_to_tensor(weight), mask.dtype)
    while len(weight.shape) < len(mask.shape):
        weight = ops.expand_dims(weight, -1)
    return weight * mask
