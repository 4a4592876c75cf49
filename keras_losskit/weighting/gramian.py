"""What the weightings over a Gramian share.

A Gramian is squared: gradients whose norms are 1 and 1e6 stand in it as 1 and
1e12, more than float32 can add. The methods therefore work with the directions
and the norms, each of ordinary size, instead of with the Gramian itself.
"""

from keras import ops

from keras_losskit.weighting.arithmetic import at_least
from keras_losskit.weighting.base import Weighting

#: Below this part of the largest squared norm, a gradient counts as zero.
NEGLIGIBLE = 1e-30


class GradientWeighting(Weighting):
    """A weighting over the Gramian `G = J J^T` of the terms' gradients.

    `G[i, j] = g_i . g_j`. The weights shape the update, `sum_k(w_k * g_k)`.

    Args:
        name: Name of the layer.
        dtype: Dtype of the variables, float32 by default.
        trainable: Without effect: nothing is learned by gradient.
    """

    statistic = "gramian"


def cosines_and_norms(gramian):
    """Split a Gramian into directions and sizes.

    Args:
        gramian: `J J^T`, `(K, K)`.

    Returns:
        `(cosines, norms, present)`: the Gramian of the unit gradients,
        `(K, K)`, with the identity where a gradient is zero; the norms,
        `(K,)`, 1 where a gradient is zero; and which are not zero, `(K,)`.

    Example:
        >>> gramian = ops.array([[4.0, -6.0], [-6.0, 9.0]])
        >>> cosines, norms, present = cosines_and_norms(gramian)
        >>> float(cosines[0, 1]), [float(norm) for norm in norms]
        (-1.0, [2.0, 3.0])
    """
    squares = ops.diagonal(gramian)
    # The smallest normal float32: what is below loses its precision.
    smallest = at_least(NEGLIGIBLE * ops.max(squares), 1.2e-38)
    present = squares > smallest
    norms = ops.sqrt(ops.where(present, squares, ops.ones_like(squares)))
    cosines = gramian / norms[:, None] / norms[None, :]
    both = ops.logical_and(present[:, None], present[None, :])
    identity = ops.eye(gramian.shape[0], dtype=gramian.dtype)
    off_diagonal = ops.logical_and(both, identity == 0)
    cosines = ops.where(off_diagonal, ops.clip(cosines, -1.0, 1.0), identity)
    return cosines, norms, present


def largest_norm(norms, present):
    """Largest norm of a gradient, 1 if all are zero."""
    largest = ops.max(ops.where(present, norms, ops.zeros_like(norms)))
    return ops.where(largest > 0, largest, ops.ones_like(largest))


def smallest_norm(norms, present):
    """Smallest norm of a gradient that is not zero, 1 if all are zero."""
    largest = ops.max(norms)
    return ops.min(ops.where(present, norms, largest))
