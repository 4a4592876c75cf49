"""The reductions that Keras has, under Keras' names and with its values."""

from keras import ops

from keras_losskit._support import replicas
from keras_losskit.reductions._alignment import divided
from keras_losskit.reductions._alignment import prepare
from keras_losskit.reductions._alignment import share
from keras_losskit.reductions._alignment import size


def mean(values, sample_weight=None, mask=None):
    """Mean of the weighted values over the valid elements.

    `sum(w * x) / n`, where `n` counts the elements that the mask leaves, or all
    of them without a mask: a weight of 0 still counts, a masked element does
    not. Keras' `"sum_over_batch_size"` and `"mean"`.

    Args:
        values: Per-sample values, `(batch, d0, ..., dN)`, or a scalar.
        sample_weight: Optional weights, `(batch, ...)`.
        mask: Optional mask, `(batch, ...)`.

    Returns:
        Scalar, float32 or float64; 0 where nothing is valid. Where
        replicas share a batch, one replica's part of it.

    Raises:
        ValueError: if the shapes do not fit.

    Example:
        >>> float(mean([1.0, 2.0, 9.0], [1.0, 0.5, 1.0], [1, 1, 0]))
        1.0
    """
    values, weight, mask = prepare(values, sample_weight, mask)
    count = size(values)
    if mask is not None:
        count = ops.sum(ops.cast(mask, values.dtype)) * share(values, mask)
    return divided(_weighted_sum(values, weight), count)


def mean_with_sample_weight(values, sample_weight=None, mask=None):
    """Weighted values over the sum of the weights.

    `sum(w * x) / sum(w)`, both over the valid elements; without weights the
    mean over them. As in Keras, the divisor sums the weights as they were
    given: a weight per sample counts once, however many values it serves.

    Args:
        values: Per-sample values, `(batch, d0, ..., dN)`, or a scalar.
        sample_weight: Optional weights, `(batch, ...)`.
        mask: Optional mask, `(batch, ...)`.

    Returns:
        Scalar, float32 or float64; 0 where the weights sum to 0. Where
        replicas share a batch, one replica's part of it.

    Raises:
        ValueError: if the shapes do not fit.

    Example:
        >>> float(mean_with_sample_weight([1.0, 2.0], [3.0, 1.0]))
        1.25
    """
    values, weight, mask = prepare(values, sample_weight, mask)
    if mask is not None:
        valid = ops.cast(mask, values.dtype)
        weight = valid if weight is None else weight * valid
    total = _weighted_sum(values, weight)
    divisor = size(values) if weight is None else ops.sum(weight)
    return divided(total, divisor)


def total(values, sample_weight=None, mask=None):
    """Sum of the weighted values over the valid elements.

    `sum(w * x)`. Keras' `"sum"`.

    Args:
        values: Per-sample values, `(batch, d0, ..., dN)`, or a scalar.
        sample_weight: Optional weights, `(batch, ...)`.
        mask: Optional mask, `(batch, ...)`.

    Returns:
        Scalar, float32 or float64. Where replicas share a batch, one replica's
        part of it.

    Raises:
        ValueError: if the shapes do not fit.

    Example:
        >>> float(total([1.0, 2.0, 9.0], [1.0, 0.5, 1.0], [1, 1, 0]))
        2.0
    """
    values, weight, _ = prepare(values, sample_weight, mask)
    return replicas.part_of_sum(_weighted_sum(values, weight))


def unreduced(values, sample_weight=None, mask=None):
    """The weighted values themselves, 0 where masked.

    `w * x`. Keras' `None` and `"none"`.

    Args:
        values: Per-sample values, `(batch, d0, ..., dN)`, or a scalar.
        sample_weight: Optional weights, `(batch, ...)`.
        mask: Optional mask, `(batch, ...)`.

    Returns:
        `(batch, d0, ..., dN)`, float32 or float64.

    Raises:
        ValueError: if the shapes do not fit.

    Example:
        >>> [float(x) for x in unreduced([1.0, 2.0, 9.0], mask=[1, 1, 0])]
        [1.0, 2.0, 0.0]
    """
    values, weight, _ = prepare(values, sample_weight, mask)
    return values if weight is None else values * weight


def _weighted_sum(values, weight):
    return ops.sum(values if weight is None else values * weight)


#: Keras' names. `None` is a name as well.
BY_NAME = {
    "sum_over_batch_size": mean,
    "mean": mean,
    "mean_with_sample_weight": mean_with_sample_weight,
    "sum": total,
    "none": unreduced,
    None: unreduced,
}
