"""Private names of Keras' compiled metrics."""

import keras


def compiled_metrics(model):
    """The `CompileMetrics` of a model, or None. `Trainer._compile_metrics`."""
    return model._compile_metrics


def metrics_at(compiled, position, y_pred):
    """The metrics of the output at a position, flat, of built ones.

    `CompileMetrics._flat_metrics`, `_flat_weighted_metrics` and `_flatten_y`.
    """
    place = positions(compiled, y_pred).index(position)
    groups = compiled._flat_metrics, compiled._flat_weighted_metrics
    return [m for group in groups if group[place] for m in group[place].metrics]


def positions(compiled, y_pred):
    """Where the outputs that `CompileMetrics` knows are among all, flat."""
    count = range(len(keras.tree.flatten(y_pred)))
    return compiled._flatten_y(keras.tree.pack_sequence_as(y_pred, list(count)))


def update_metrics(compiled, y_true, y_pred, sample_weight, places, update):
    """`CompileMetrics.update_state`, but for some of the outputs.

    Args:
        compiled: The `CompileMetrics`, built.
        y_true: Labels.
        y_pred: Predictions.
        sample_weight: Sample weights.
        places: Positions of the outputs, flat, that it is not to update.
        update: Called for each metric of these, `(position, metric, labels,
            sample_weight)`.
    """
    at = positions(compiled, y_pred)
    labels = compiled._flatten_y(y_true)
    predictions = compiled._flatten_y(y_pred)
    none = [None] * len(labels)
    weights = none
    if sample_weight is not None:
        weights = compiled._flatten_y(sample_weight)
        if len(weights) < len(labels):
            weights = weights[:1] * len(labels)
    for metrics, of_metrics in (
        (compiled._flat_metrics, none),
        (compiled._flat_weighted_metrics, weights),
    ):
        for found, position, *arguments in zip(
            metrics, at, labels, predictions, of_metrics, strict=False
        ):
            if not found:
                continue
            if position not in places:
                found.update_state(*arguments)
                continue
            label, _, weight = arguments
            for metric in found.metrics:
                update(position, metric, label, weight)
