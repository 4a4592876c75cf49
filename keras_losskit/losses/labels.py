"""Checks of integer labels."""

from keras import ops

from keras_losskit import _backend


def check_labels(name, labels, classes, ignored=None):
    """Refuse labels that name no class, where they can be read.

    In a compiled function their values are not known yet; on an accelerator
    every look would make the program wait. There the frameworks give a loss of
    0, an error or garbage, each its own.

    Args:
        name: Name of the loss, for the error.
        labels: Integer labels, `(batch, ...)`, of any dtype.
        classes: Number of classes, or `None`.
        ignored: A label that is allowed besides.

    Raises:
        ValueError: if a label is not in `[0, classes)`.
    """
    labels = ops.convert_to_tensor(labels)
    if classes is None or not _backend.can_read(labels) or 0 in labels.shape:
        return
    if ignored is not None:
        labels = ops.where(ops.equal(labels, ignored), 0, labels)
    low, high = float(ops.min(labels)), float(ops.max(labels))
    if low < 0 or high >= classes:
        raise ValueError(
            f"Expected the labels of loss '{name}' to be in [0, {classes}). "
            f"Received: labels from {low:g} to {high:g}"
        )


def one_hot_like(labels, predictions):
    """Labels as one-hot rows beside `predictions`.

    Args:
        labels: One-hot, of the shape of `predictions`, or integers,
            `(batch, ...)` or `(batch, ..., 1)`.
        predictions: `(batch, ..., classes)`, of a static last axis.

    Returns:
        `(batch, ..., classes)`, in the dtype of `predictions`.

    Raises:
        ValueError: if the shapes do not fit.
    """
    labels = ops.convert_to_tensor(labels)
    classes, rank = predictions.shape[-1], len(predictions.shape)
    if len(labels.shape) == rank and labels.shape[-1] == classes:
        return ops.cast(labels, predictions.dtype)
    if len(labels.shape) == rank and labels.shape[-1] == 1:
        labels = ops.squeeze(labels, axis=-1)
    if len(labels.shape) != rank - 1:
        raise ValueError(
            "Expected labels, integers or one-hot, beside predictions of shape "
            f"{tuple(predictions.shape)}. Received: shape {tuple(labels.shape)}"
        )
    return ops.one_hot(
        ops.cast(labels, "int32"), classes, dtype=predictions.dtype
    )
