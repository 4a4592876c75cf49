"""From a loss and its tensors to a reduced scalar.

Keras' own `Loss.__call__`, with the reductions of this package: it never
writes into the caller's weights, sums in float32 at least, and says what does
not fit the values of a loss.
"""

import numbers
from typing import Any
from typing import TypeGuard

import keras
import numpy as np
from keras import ops
from keras import tree

from keras_losskit import _keras
from keras_losskit import _weights as weights_lib
from keras_losskit import reductions
from keras_losskit._support.counting import flags_of
from keras_losskit._support.precision import at_least_float32
from keras_losskit._types import LossObject
from keras_losskit._types import Structure
from keras_losskit._types import Tensor
from keras_losskit._types import TensorLike
from keras_losskit.losses._core import values as values_lib
from keras_losskit.losses._core.logits import predicted
from keras_losskit.losses._core.refusals import checked_loss
from keras_losskit.losses._core.refusals import refuse_symbolic
from keras_losskit.losses._core.traits import traits_of
from keras_losskit.losses._core.unprojected import Unprojected
from keras_losskit.reductions._sample_values import current_watch


def evaluate(
    loss: LossObject,
    y_true: Structure,
    y_pred: Structure,
    sample_weight: Structure | None = None,
) -> Tensor:
    """The reduced scalar of `loss`, a composite's weights applied.

    A mask that Keras left on `y_pred`, and one that the loss puts on its
    values, are honoured. What is masked, or has the weight 0, adds nothing to
    the gradient either, whatever it is. A composite's schedules stand at their
    first step.

    Args:
        loss: A `keras.losses.Loss`, of Keras, of this package or a custom one.
        y_true: Targets: a tensor, or a structure that the loss takes.
        y_pred: Predictions: likewise.
        sample_weight: Optional weights, `(batch, ...)`; not written to.

    Returns:
        Scalar, float32 or float64; per-sample values where the reduction is
        `None`.

    Raises:
        ValueError: if the loss returns what cannot be reduced: no floats, or
            values that are not of samples beside weights that do not broadcast.

    Example:
        >>> loss = keras.losses.MeanSquaredError()
        >>> float(evaluate(loss, [[1.0], [2.0]], [[1.0], [4.0]]))
        2.0
    """
    checked_loss(loss, "`loss` of evaluate")
    refuse_symbolic(loss, y_true, y_pred)
    if is_composite(loss):
        values = loss.part_values(y_true, y_pred, sample_weight)
        return weighted_total(values, [part.weight for part in loss.parts])
    value = evaluator_of(loss)(loss, y_true, y_pred, sample_weight)
    return weighted_total([value], [own_weight(loss)])


def is_composite(loss: Any) -> TypeGuard[Any]:
    """Whether `loss` is made of parts, each with a name and weight."""
    return traits_of(loss).is_composite


def own_weight(loss):
    """The weight of a loss that has no parts; 1 where its call applies it."""
    return 1.0 if overrides_call(loss) else traits_of(loss).weight


def weighted_total(values, weights):
    """The sum of `weight * value`; schedules at their first step and epoch."""
    total = None
    for value, weight in zip(values, weights, strict=True):
        if not weights_lib.is_one(weight):
            weight = weights_lib.weight_value(weight, step=0, epoch=0)
            if not isinstance(weight, float):
                weight = ops.cast(weight, value.dtype)
            value = value * weight
        total = value if total is None else total + value
    return total


def own_value(
    loss, y_true, y_pred, sample_weight=None, mask=None, *, logits=None
):
    """The reduced scalar of a loss that has no parts, its weight not applied.

    By the steps of `Loss.__call__`, which the loss does not override.

    Args:
        loss: A `keras.losses.Loss`.
        y_true: Targets.
        y_pred: Predictions.
        sample_weight: Optional weights, `(batch, ...)`.
        mask: Optional mask, besides those on `y_pred` and on the values.
        logits: Optional `Logits` of `y_pred`, shared with other losses.

    Returns:
        Scalar, float32 or float64.
    """
    refuse_symbolic(loss, y_true, y_pred)
    traits = traits_of(loss)
    if isinstance(y_pred, Unprojected):
        return _value_on_features(loss, y_true, y_pred, sample_weight, mask)
    masks = (mask, _keras.get_keras_mask(y_pred))
    with keras.name_scope(loss.name):
        y_true, y_pred = converted(loss, y_true, y_pred)
        shared = None
        if logits is not None and traits.shares_logits:
            shared = logits.astype(compute_dtype(loss))
        if mask is not None and traits.counts_places:
            return _value_on_places(
                loss, y_true, y_pred, shared, sample_weight, masks
            )
        flags = flags_of(loss, sample_weight, masks)
        seen = flags.apply(y_true, y_pred)
        if shared is not None:
            values = loss.call_on_logits(seen, shared.counted(flags))
        else:
            values = loss.call(seen, flags.apply(y_pred))
            if flags and not values_lib.are_of_samples(loss, values, y_pred):
                # Values of the whole batch, in which all samples count.
                values, seen = loss.call(y_true, y_pred), y_true
        if mask is not None:
            values_lib.refuse_mask_of_the_whole(loss, values, y_pred)
        return reduced(loss, values, seen, y_pred, sample_weight, masks)


def _value_on_features(loss, y_true, y_pred, sample_weight, mask):
    """`own_value` of a loss that is given what the output layer is given."""
    features = y_pred.features
    masks = (mask, y_pred.mask)
    with keras.name_scope(loss.name):
        y_true, _ = converted(loss, y_true, ())
        flags = flags_of(loss, sample_weight, masks)
        y_true = flags.apply(y_true, features)
        counted = y_pred.counted(flags, sample_weight)
        values = loss.call_on_features(y_true, counted)
        return reduced(loss, values, y_true, features, sample_weight, masks)


def _value_on_places(loss, y_true, y_pred, shared, sample_weight, masks):
    """`own_value` of a loss that leaves out masked places by itself."""
    mask, predicted_mask = masks
    mask = ops.cast(ops.convert_to_tensor(mask), "bool")
    prediction = shared or predicted(y_pred, loss.from_logits)
    for flags in (
        loss.flags_of_places(mask),
        flags_of(loss, sample_weight, (predicted_mask,)),
    ):
        y_true = flags.apply(y_true, prediction.tensor)
        prediction = prediction.counted(flags)
    values, mask = loss.call_on_places(y_true, prediction, mask)
    if mask is not None:
        values_lib.refuse_mask_of_the_whole(loss, values, y_pred)
    masks = (mask, predicted_mask)
    return reduced(loss, values, y_true, y_pred, sample_weight, masks)


def reduced(loss, values, y_true, y_pred, sample_weight=None, masks=()):
    """What the reduction of `loss` makes of the values that it returned.

    Args:
        loss: A `keras.losses.Loss`.
        values: What its `call` returned.
        y_true: Targets, converted.
        y_pred: Predictions, converted.
        sample_weight: Optional weights, `(batch, ...)`.
        masks: Masks, or `None`s, besides one on the values.

    Returns:
        Scalar, float32 or float64; not reduced where the reduction is `None`.

    Raises:
        ValueError: if weights or masks do not fit the values, or the reduction
            does not return a scalar.
    """
    masks = [
        ops.cast(ops.convert_to_tensor(mask), "bool")
        for mask in (*masks, _keras.get_keras_mask(values))
        if mask is not None
    ]
    values = values_lib.checked_values(loss, values)
    of_samples = values_lib.are_of_samples(loss, values, y_pred)
    if of_samples:
        arguments = values_lib.counted_per_sample(
            loss, values, y_true, y_pred, sample_weight, masks
        )
    else:
        arguments = values_lib.counted_as_a_whole(
            loss, values, sample_weight, masks
        )
    reduction = reductions.get(loss.reduction)
    # A reduction of any origin may ask for them.
    asks = getattr(reduction, "uses_targets", False)
    further = {"y_true": y_true} if asks else {}
    result = reduction(*arguments, **further)
    if reductions.is_unreduced(loss.reduction):
        return result
    result = at_least_float32(result)
    if len(result.shape):
        raise ValueError(
            f"Expected the reduction of loss '{loss.name}' to return a scalar. "
            f"Received: shape {tuple(result.shape)} from {loss.reduction!r}"
        )
    watch = current_watch()
    if watch is not None and of_samples:
        watch.note(
            result,
            *arguments,
            lambda *counted: at_least_float32(reduction(*counted, **further)),
        )
    return result


def weighted_call(
    self: Any,
    y_true: TensorLike,
    y_pred: TensorLike,
    sample_weight: TensorLike | None = None,
) -> Tensor:
    """The weighted, reduced loss, in the loss' dtype."""
    value = own_value(self, y_true, y_pred, sample_weight)
    return ops.cast(weighted_total([value], [self.weight]), self.dtype)


def overrides_call(loss):
    """Whether `loss` defines its own `__call__`, and so reduces itself."""
    steps = (weighted_call, keras.losses.Loss.__call__)
    return type(loss).__call__ not in steps


def evaluator_of(loss):
    """What gives the value of a loss without parts: `own_value` mostly."""
    return called_as_is if overrides_call(loss) else own_value


def called_as_is(
    loss, y_true, y_pred, sample_weight=None, mask=None, *, logits=None
):
    """`own_value` of a loss that overrides `__call__`, and so reduces."""
    refuse_symbolic(loss, y_true, y_pred)
    if mask is not None:
        raise ValueError(
            f"Expected loss '{loss.name}' to leave reduction to its reduction, "
            "so that a mask can be applied. Received: "
            f"`{type(loss).__name__}`, which overrides `__call__`."
        )
    if sample_weight is not None:
        # Keras writes into it on PyTorch, where it may be the caller's memory.
        sample_weight = tree.map_structure(
            lambda x: ops.copy(ops.convert_to_tensor(x)), sample_weight
        )
    return at_least_float32(loss(y_true, y_pred, sample_weight=sample_weight))


def converted(loss, y_true, y_pred):
    """Tensors of the loss' dtype, as Keras makes them.

    A loss that sets `keeps_integers` gets labels that are integers, booleans or
    strings as they came.
    """
    dtype = compute_dtype(loss)

    def to_float(x):
        return ops.convert_to_tensor(x, dtype=dtype)

    def label(x):
        if _is_float(x):
            return to_float(x)
        return x if ops.is_tensor(x) else _tensor_if_numeric(x)

    def convert_all(x, convert):
        if ops.is_tensor(x):
            return convert(x)
        return tree.map_structure(convert, without_lists(x))

    keep = traits_of(loss).keeps_integers
    labels = convert_all(y_true, label if keep else to_float)
    return labels, convert_all(y_pred, to_float)


def compute_dtype(loss):
    """The dtype that a loss is given its tensors in.

    Where a loss sets `widens`, float32 at least: in half precision `1 - 1e-7`
    is 1, of which there is no logarithm, and a square of 300 is infinite.
    """
    if traits_of(loss).widens and loss.dtype != "float64":
        return "float32"
    return loss.dtype


def without_lists(x):
    """`x`, as an array where it is a list of numbers, however nested."""
    if isinstance(x, list | tuple) and all(
        isinstance(leaf, numbers.Number) for leaf in tree.flatten(x)
    ):
        return np.asarray(x)
    return x


def _is_float(x):
    if not values_lib.has_shape(x):
        x = ops.convert_to_tensor(x)
    try:
        return keras.backend.is_float_dtype(x.dtype)
    except ValueError:  # strings and other dtypes that Keras does not know
        return False


def _tensor_if_numeric(x):
    try:
        return ops.convert_to_tensor(x)
    except (TypeError, ValueError):
        return x
