"""The penalty of an activity regularizer, reduced."""

import keras
from keras import ops

from keras_losskit import _keras
from keras_losskit import _keras_hooks
from keras_losskit._support import replicas
from keras_losskit._support.precision import at_least_float32


def activity_penalties(layer, outputs, reduction):
    """The penalty of each output of a layer.

    Args:
        layer: A layer that has an activity regularizer.
        outputs: What it returned, masks included.
        reduction: See `reduced_activity`.
    """
    regularizer = _keras_hooks.regularizer_of(layer)
    return [
        reduced_activity(regularizer, output, reduction)
        for output in keras.tree.flatten(outputs)
        if ops.is_tensor(output)
    ]


def reduced_activity(regularizer, output, reduction):
    """The penalty of one output, reduced.

    Args:
        regularizer: A function of a tensor.
        output: `(batch, ...)`; its Keras mask, if any, is read off it.
        reduction: `"sum_over_batch_size"`, as Keras, `"mean_over_elements"` or
            `"sum"`; see `layers.LossLayer`.

    Returns:
        Scalar, float32 or float64; 0 where nothing is valid.
    """
    # A sum over a batch of activations overflows float16.
    values = at_least_float32(output)
    if reduction == "sum_over_batch_size":
        value = regularizer(values)
        if not len(values.shape):
            return value
        batch = ops.cast(ops.shape(values)[0], value.dtype)
        return ops.divide_no_nan(value, batch)
    count = ops.cast(ops.size(values), values.dtype)
    mask = _keras.get_keras_mask(output)
    if mask is not None:
        mask = ops.cast(mask, "bool")
        while len(mask.shape) < len(values.shape):
            mask = ops.expand_dims(mask, -1)
        values = ops.where(mask, values, 0.0)
        valid = ops.broadcast_to(mask, ops.shape(values))
        count = ops.sum(ops.cast(valid, values.dtype))
    value = regularizer(values)
    if reduction == "sum":
        # The container takes the mean over replicas.
        return value * replicas.num_parts()
    return ops.divide_no_nan(value, ops.cast(count, value.dtype))
