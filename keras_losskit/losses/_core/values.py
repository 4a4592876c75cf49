"""The values that a loss returned: whose they are, and what may weight them.

Most losses return a value per sample, or per place of a sample. Other values,
one per class, per pair or for the batch, are reduced as Keras reduces them:
they are broadcast against the weights. What needs samples refuses them.
"""

import functools
import numbers
import warnings

import keras
from keras import ops
from keras import tree

from keras_losskit import reductions
from keras_losskit.losses._core.traits import traits_of
from keras_losskit.reductions._alignment import align

_warned: set[str] = set()


def leaves(x):
    """The tensors of a nest; most are one, which needs no walk."""
    return [x] if ops.is_tensor(x) else tree.flatten(x)


def has_shape(x):
    """Whether `x` is a tensor or array: of a backend, of NumPy, symbolic."""
    return hasattr(x, "shape")  # they share no base


def is_scalar(values):
    """Whether a loss returned one value for the batch."""
    return has_shape(values) and not len(values.shape)


def are_of_samples(loss, values, y_pred):
    """Whether the values have the batch in front.

    Args:
        loss: A `keras.losses.Loss`.
        values: What its `call` returned.
        y_pred: Predictions, converted.
    """
    follow = traits_of(loss).values_follow_batch
    if not follow or not has_shape(values) or not len(values.shape):
        return False
    predictions = [x for x in leaves(y_pred) if len(x.shape)]
    return not predictions or values.shape[0] in (None, predictions[0].shape[0])


def checked_values(loss, values):
    """`values` as a tensor, after a look at their type and dtype."""
    if values is None or (not ops.is_tensor(values) and tree.is_nested(values)):
        raise ValueError(
            f"Expected loss '{loss.name}' to return a tensor. Received: "
            f"{type(values).__name__}. Several components are declared with "
            "`losses.Components`."
        )
    if isinstance(values, numbers.Real):
        values = float(values)  # a constant, such as a placeholder's `0`
    values = ops.convert_to_tensor(values)
    dtype = keras.backend.standardize_dtype(values.dtype)
    if not keras.backend.is_float_dtype(dtype):
        raise ValueError(
            f"Expected loss '{loss.name}' to return floating point values. "
            f"Received: dtype {dtype}, shape {tuple(values.shape)}"
        )
    return values


def counted_per_sample(loss, values, y_true, y_pred, sample_weight, masks):
    """Values of samples, beside weights and a mask that fit them.

    Returns:
        `(values, sample_weight, mask)`, for a reduction.

    Raises:
        ValueError: if labels were broadcast against predictions, or weights or
            a mask have more axes than the values.
    """
    _refuse_outer_product(loss, values, leaves(y_true), leaves(y_pred))
    if sample_weight is not None:
        weight = ops.convert_to_tensor(sample_weight)
        _refuse_places(loss, values, weight, "sample_weight")
    for mask in masks:
        _refuse_places(loss, values, mask, "mask")
    masks = [align(mask, values, "mask") for mask in masks]
    return values, sample_weight, _joint(masks)


def counted_as_a_whole(loss, values, sample_weight, masks):
    """Values that are not of samples, broadcast as Keras does.

    Returns:
        `(values, sample_weight, mask)`, for a reduction. One value alone is a
        scalar, whose mean is multiplied by the mean weight.

    Raises:
        ValueError: if weights or a mask do not broadcast, or if the reduction
            selects or weights samples.
    """
    if all(size == 1 for size in values.shape):
        values = ops.reshape(values, ())
        if sample_weight is not None:
            _warn_of_mean_weight(loss, sample_weight)
        return values, sample_weight, _joint(masks)
    _refuse_selection(loss, values)
    mask = _joint(masks)
    if mask is not None:
        values, mask = _broadcast(loss, values, mask, "mask")
    if sample_weight is not None:
        weight = ops.convert_to_tensor(sample_weight)
        values, sample_weight = _broadcast(
            loss, values, weight, "sample_weight"
        )
    return values, sample_weight, mask


def refuse_mask_of_the_whole(loss, values, y_pred):
    """Raise where a mask is given for values that are not of samples."""
    if are_of_samples(loss, values, y_pred):
        return
    received = "one scalar for the batch"
    if not is_scalar(values):
        received = f"values of shape {tuple(values.shape)}"
    raise ValueError(
        f"Expected loss '{loss.name}' to return a value per sample or place, "
        f"of which a mask leaves some out. Received: {received} from "
        f"`{type(loss).__name__}`. The losses of overlap of "
        "keras_losskit.losses take a mask."
    )


def _joint(masks):
    """What all masks leave; None where there is none."""
    return functools.reduce(ops.logical_and, masks) if masks else None


def _broadcast(loss, values, factor, name):
    """Values and a factor, of one rank, as Keras multiplies them."""
    received = tuple(factor.shape)
    rank = len(values.shape)
    while len(factor.shape) > rank and factor.shape[-1] == 1:
        factor = ops.squeeze(factor, axis=-1)
    if len(factor.shape) == rank - 1 > 0 and values.shape[-1] == 1:
        factor = ops.expand_dims(factor, axis=-1)
    while len(factor.shape) < rank:
        factor = ops.expand_dims(factor, axis=0)
    if any(
        have != want and not {have, want} & {1, None}
        for have, want in zip(
            reversed(factor.shape), reversed(values.shape), strict=False
        )
    ):
        what = "sample weights" if name == "sample_weight" else "a mask"
        raise ValueError(
            f"Expected loss '{loss.name}' to return a value per sample, since "
            f"it is given {what}. Received: values of shape "
            f"{tuple(values.shape)}, {name}.shape={received}. Keep the batch "
            f"in front of the values, or train without {what}."
        )
    zeros = ops.zeros_like(factor, dtype=values.dtype)
    return values + zeros, factor


def _refuse_selection(loss, values):
    """Raise where the reduction selects or weights samples."""
    reduction = reductions.get(loss.reduction)
    if not (
        isinstance(reduction, reductions.Reduction)
        and traits_of(loss).values_follow_batch
    ):
        return
    raise ValueError(
        f"Expected loss '{loss.name}' to return a value per sample, as "
        f"reduction {reduction!r} needs. Received: values of shape "
        f"{tuple(values.shape)}. Keep the batch in front of the values, or "
        'take a reduction of Keras, such as "mean".'
    )


def _refuse_outer_product(loss, values, targets, predictions):
    """Raise where `(n,)` against `(n, 1)` was broadcast to `(n, n)`."""
    if len(targets) != 1 or len(predictions) != 1:
        return
    shapes = [tuple(targets[0].shape), tuple(predictions[0].shape)]
    if sorted(map(len, shapes)) != [1, 2]:
        return
    batch = predictions[0].shape[0]
    if batch in (None, 1) or (batch, 1) not in shapes:
        return
    if tuple(values.shape) == (batch, batch):
        raise ValueError(
            f"Expected loss '{loss.name}' to compare samples one by one. "
            f"Received: targets {shapes[0]} and predictions {shapes[1]}, which "
            f"it broadcast to {tuple(values.shape)}. Give both one shape."
        )


def _refuse_places(loss, values, factor, name):
    """Raise where a weight or mask is of places, and the values of samples."""
    shape = tuple(factor.shape)
    while len(shape) > len(values.shape) and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) <= len(values.shape):
        return
    raise ValueError(
        f"Expected `{name}` of loss '{loss.name}' to have the shape of its "
        "values, or their leading dimensions. Received: "
        f"{name}.shape={tuple(factor.shape)}, values of shape "
        f"{tuple(values.shape)}. Return a value per step from the loss, which "
        "its reduction averages, or give it one "
        f"{'weight' if name == 'sample_weight' else 'flag'} per sample."
    )


def _warn_of_mean_weight(loss, sample_weight):
    if len(ops.convert_to_tensor(sample_weight).shape) == 0:
        return
    if loss.name not in _warned:
        _warned.add(loss.name)
        warnings.warn(
            f"Loss '{loss.name}' returns one scalar for the batch, so a "
            "`sample_weight` per sample can only multiply it by the mean "
            "weight, as Keras does. Return a value per sample instead.",
            stacklevel=2,
        )
