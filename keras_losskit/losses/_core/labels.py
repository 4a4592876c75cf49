"""Checks of integer labels."""

import numpy as np
from keras import ops

from keras_losskit import _backend
from keras_losskit import _keras
from keras_losskit._support.shapes import may_be_equal
from keras_losskit.losses._core.function import same_rank


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
    if (
        classes is None
        or not _backend.is_concrete_on_cpu(labels)
        or 0 in labels.shape
    ):
        return
    # Not by `ops`: inside `jax.jit` they would trace labels from outside of it.
    numbers = ops.convert_to_numpy(labels)
    if ignored is not None:
        numbers = np.where(numbers == ignored, 0, numbers)
    low, high = float(numbers.min()), float(numbers.max())
    if low < 0 or high >= classes:
        raise ValueError(
            f"Expected the labels of loss '{name}' to be in [0, {classes}). "
            f"Received: labels from {low:g} to {high:g}"
        )


def counted_labels(labels, classes, ignored=None):
    """Labels that can be looked up, and which of them count.

    Args:
        labels: Integer labels, `(batch, ...)`.
        classes: Number of classes.
        ignored: A label that counts for nothing, or None.

    Returns:
        `(labels, counted)`: 0 in place of what counts for nothing. What names
        no class adds 0 to a crossentropy where nobody refuses it, as in Keras.
    """
    # A negative index is one from the end, to Keras on each backend.
    counted = ops.greater_equal(labels, 0)
    if not _backend.CHECKS_INDICES:
        counted = ops.logical_and(counted, ops.less(labels, classes))
    if ignored is not None:
        others = ops.not_equal(labels, ignored)
        counted = ops.logical_and(counted, others)
    return ops.where(counted, labels, 0), counted


def one_hot_like(name, labels, predictions):
    """Labels as one-hot rows beside `predictions`.

    Args:
        name: Name of the loss, for the error.
        labels: One-hot, of the shape of `predictions`, or integers,
            `(batch, ...)` or `(batch, ..., 1)`. Beside one channel, whether it
            holds, of either shape.
        predictions: `(batch, ..., classes)`, of a static last axis.

    Returns:
        `(batch, ..., classes)`, in the dtype of `predictions`.

    Raises:
        ValueError: if the shapes do not fit, or `check_labels` does.
    """
    labels = ops.convert_to_tensor(labels)
    classes, rank = predictions.shape[-1], len(predictions.shape)
    if classes == 1 and len(labels.shape) == rank - 1:
        labels = ops.expand_dims(labels, axis=-1)
    if len(labels.shape) == rank and labels.shape[-1] == classes:
        return ops.cast(labels, predictions.dtype)
    if len(labels.shape) == rank and labels.shape[-1] == 1:
        labels = ops.squeeze(labels, axis=-1)
    if len(labels.shape) != rank - 1:
        raise ValueError(
            "Expected labels, integers or one-hot, beside predictions of shape "
            f"{tuple(predictions.shape)}. Received: shape {tuple(labels.shape)}"
        )
    check_labels(name, labels, classes)
    return ops.one_hot(
        ops.cast(labels, "int32"), classes, dtype=predictions.dtype
    )


def same_shape(name, labels, predictions):
    """One-hot labels and predictions, with one rank, of one shape.

    Args:
        name: Name of the loss, for the error.
        labels: One-hot labels.
        predictions: Logits or probabilities.

    Returns:
        `(labels, predictions)`, as `same_rank` gives them.

    Raises:
        ValueError: if their shapes differ where both are known; the labels
            would be broadcast.
    """
    labels, predictions = same_rank(labels, predictions)
    shapes = tuple(labels.shape), tuple(predictions.shape)
    if not may_be_equal(*shapes):
        raise ValueError(
            f"Expected the labels of loss '{name}' to be one-hot: they must "
            f"have the same shape as the predictions, {shapes[1]}. Received: "
            f"y_true.shape={shapes[0]}. For integers use "
            "SparseCategoricalCrossentropy."
        )
    return labels, predictions


def smoothed(labels, predictions, smoothing, axis):
    """One-hot labels, a share of which is spread over the classes of `axis`."""
    labels = ops.cast(labels, predictions.dtype)
    if not smoothing:
        return labels
    # Keras counts the last axis, whatever `axis` says.
    return labels * (1.0 - smoothing) + smoothing / predictions.shape[axis]


def integer_labels(y_true, y_pred, axis, of_one_hot):
    """Labels as int32, of the shape of `y_pred` without its classes.

    Args:
        y_true: Integer labels, `(batch, ...)`, of any dtype.
        y_pred: Predictions, of which only the shape is looked at.
        axis: The axis of the classes.
        of_one_hot: The loss that takes one-hot labels, for the error.

    Raises:
        ValueError: if they have another shape.
    """
    labels = ops.cast(ops.convert_to_tensor(y_true), "int32")
    shape = list(y_pred.shape)
    if len(labels.shape) == len(shape) and labels.shape[axis] == 1:
        labels = ops.squeeze(labels, axis)
    del shape[axis]
    if not may_be_equal(labels.shape, shape):
        raise ValueError(
            f"Expected integer labels of shape {tuple(shape)} beside "
            f"predictions of shape {tuple(y_pred.shape)}. Received: "
            f"y_true.shape={tuple(labels.shape)}. For one-hot labels use "
            f"{of_one_hot}."
        )
    return labels


def without_ignored(values, valid):
    """Values that are 0 and masked where `valid`, if given, is false."""
    if valid is None:
        return values
    values = ops.where(valid, values, 0.0)
    _keras.set_keras_mask(values, valid)
    return values
