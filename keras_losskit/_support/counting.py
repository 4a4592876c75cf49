"""Which samples and places of a batch count, and what a loss sees of others.

A loss of which 0 times is taken still has a gradient: 0 times infinity, which
is NaN. So what has the weight 0, or is masked, is taken out of the gradient
before the loss is computed: it is 0 to a loss that takes places one by one. To
others, which may compare samples with each other, it has no gradient, and is 0
where it is not finite.
"""

import keras
import numpy as np
from keras import ops
from keras import tree

from keras_losskit import _backend
from keras_losskit import _keras
from keras_losskit._support.shapes import may_broadcast


class Flags:
    """Booleans for what counts, laid out like the values of a loss.

    Args:
        axes: The axes of the predictions that the values lack.
        weight: Optional sample weights, `(batch, ...)`: 0 does not count.
        masks: Masks, `(batch, ...)`, or `None`s: False does not count.
        fill: Whether all that does not count is 0, finite or not.

    Example:
        >>> flags = Flags((-1,), weight=[1.0, 0.0])
        >>> x = ops.convert_to_tensor([[1.0], [float("nan")]])
        >>> [[float(x) for x in row] for row in flags.apply(x)]
        [[1.0], [0.0]]
    """

    def __init__(self, axes=(), weight=None, masks=(), fill=False):
        self.axes = axes
        self.fill = fill
        flags = [
            ops.cast(ops.convert_to_tensor(mask), "bool")
            for mask in masks
            if mask is not None
        ]
        if weight is not None:
            weight = ops.convert_to_tensor(weight)
            flags.append(ops.not_equal(weight, 0))
        self._flags = [flag for flag in flags if not _all_count(flag)]

    def __bool__(self):
        return bool(self._flags)

    def apply(self, x, like=None):
        """What a loss sees of `x`.

        Args:
            x: A nest of tensors, `(batch, ...)`.
            like: The predictions, where `x` are not they; what has another rank
                than these lacks the same axes as the values.

        Returns:
            `x`, with nothing that is not finite where it does not count, and no
            gradient there.
        """
        if not self:
            return x
        leaves = [x] if ops.is_tensor(x) else tree.flatten(x)
        ranks = leaves if like is None else tree.flatten(like)
        rank = len(ranks[0].shape) if ranks else 0
        applied = [self._applied(leaf, rank) for leaf in leaves]
        return (
            applied[0]
            if ops.is_tensor(x)
            else tree.pack_sequence_as(x, applied)
        )

    def _applied(self, x, rank):
        if not _is_float(x):
            return x
        counts = None
        axes = self.axes if len(x.shape) == rank else ()
        for flag in self._flags:
            flag = _fitted(flag, tuple(x.shape), axes)
            if flag is not None:
                counts = flag if counts is None else counts & flag
        if counts is None:
            return x
        # `where` takes the gradient of the branch that is not taken for 0,
        # whatever it is.
        safe = 0.0
        if not self.fill:
            safe = ops.stop_gradient(ops.where(ops.isfinite(x), x, 0.0))
        result = ops.where(counts, x, safe)
        mask = _keras.get_keras_mask(x)
        if mask is not None:
            _keras.set_keras_mask(result, mask)
        return result


#: Where nothing is left out.
ALL_COUNT = Flags()


def flags_of(loss, sample_weight, masks):
    """The `Flags` of the values of `loss`; none where it has one for a batch.

    Args:
        loss: A `keras.losses.Loss`.
        sample_weight: Optional weights, `(batch, ...)`.
        masks: Masks, or `None`s.
    """
    if sample_weight is None and all(mask is None for mask in masks):
        return ALL_COUNT
    along_batch = getattr(loss, "values_follow_batch", True)
    arguments = _keras.function_arguments(loss)
    axes = arguments.get("axis", -1 if along_batch else None)
    if axes is None:
        return ALL_COUNT  # one value for the whole batch
    axes = (axes,) if isinstance(axes, int) else axes
    if isinstance(sample_weight, int | float) and sample_weight:
        sample_weight = None
    return Flags(tuple(axes), sample_weight, masks, _takes_places_apart(loss))


def _takes_places_apart(loss):
    """Whether `loss` is known to compare no sample or place with another.

    Those of Keras and of this package are, but for the circle loss.
    """
    functions = [type(loss).call]
    if hasattr(loss, "fn"):
        functions.append(loss.fn)
    return keras.losses.circle not in functions and all(
        str(function.__module__).partition(".")[0] in ("keras", "keras_losskit")
        for function in functions
    )


def _all_count(flag):
    """Whether it can be seen now, at little cost, that nothing is left out."""
    # Not by `ops`: inside `jax.jit` they would trace a flag from outside of it.
    return _backend.is_concrete_on_cpu(flag) and bool(
        np.all(ops.convert_to_numpy(flag))
    )


def _is_float(x):
    if not hasattr(x, "shape"):
        return False
    try:
        return keras.backend.is_float_dtype(x.dtype)
    except ValueError:  # strings and other dtypes that Keras does not know
        return False


def _fitted(flag, shape, axes):
    """`flag` with the rank of a tensor of this shape.

    Returns:
        A boolean tensor that broadcasts to `shape`, or `None` where it has
        nothing to say about it: the shapes do not fit, which is for the
        reduction to refuse.
    """
    rank = len(shape)
    axes = sorted({axis % rank for axis in axes}) if rank else []
    sample, values = flag, rank - len(axes)
    while len(flag.shape) > values and flag.shape[-1] == 1:
        flag = ops.squeeze(flag, axis=-1)
    if len(flag.shape) > values:
        # A value per element, of a loss that leaves the last axis as it is.
        axes = []
    while len(flag.shape) < rank - len(axes):
        flag = ops.expand_dims(flag, axis=-1)
    for axis in axes:
        flag = ops.expand_dims(flag, axis=axis)
    if may_broadcast(flag.shape, shape):
        return flag
    # Labels or predictions of another length than the values: what counts
    # nowhere in a sample makes the sample not count.
    if 0 in axes or not len(sample.shape):
        return None
    flag = sample
    if len(flag.shape) > 1:
        flag = ops.any(flag, axis=tuple(range(1, len(flag.shape))))
    flag = ops.reshape(flag, (-1, *[1] * (rank - 1)))
    return flag if may_broadcast(flag.shape, shape) else None
