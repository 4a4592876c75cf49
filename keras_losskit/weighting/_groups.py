"""Means of a batch by the groups that its samples belong to."""

from keras import ops

from keras_losskit.weighting._arithmetic import at_least


def by_group(values, counts, groups, num_groups):
    """Mean value of each group in a batch, and how many of it count.

    Args:
        values: `(batch,)`.
        counts: 1 where a sample counts, else 0, `(batch,)`.
        groups: Group of each sample, `(batch,)`, integers.
        num_groups: Number of groups.

    Returns:
        `(means, sizes)`, `(num_groups,)` each; the mean of an absent group is
        0.

    Example:
        >>> means, sizes = by_group(
        ...     ops.array([1.0, 3.0, 5.0]), ops.array([1.0, 1.0, 1.0]),
        ...     ops.array([0, 2, 2]), 3)
        >>> [float(x) for x in means], [float(x) for x in sizes]
        ([1.0, 0.0, 4.0], [1.0, 0.0, 2.0])
    """
    member = ops.one_hot(groups, num_groups, dtype=values.dtype)
    member = member * counts[:, None]
    sizes = ops.sum(member, axis=0)
    sums = ops.sum(member * values[:, None], axis=0)
    return sums / at_least(sizes, 1.0), sizes
