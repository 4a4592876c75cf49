"""PCGrad: gradients projected onto each other's normal planes."""

import keras
import numpy as np
from keras import ops

from keras_losskit._types import Tensor
from keras_losskit.weighting._arithmetic import product
from keras_losskit.weighting.gramian import GradientWeighting
from keras_losskit.weighting.gramian import above_zero
from keras_losskit.weighting.gramian import cosines_and_norms
from keras_losskit.weighting.weighting import RandomWeighting


def pcgrad(gramian, others):
    """Weights of the sum of the projected gradients; see `PCGrad`.

    Args:
        gramian: `G = J J^T`, `(K, K)`.
        others: Row i: the other terms, in the order in which gradient i is
            projected onto their normal planes, `(K, K - 1)`, integers.

    Returns:
        Weights, `(K,)`, dtype of `gramian`.

    Example:
        >>> gramian = ops.array([[18.0, -22.0], [-22.0, 38.0]])
        >>> weights = pcgrad(gramian, np.array([[1], [0]]))
        >>> [round(float(weight), 4) for weight in weights]
        [2.2222, 1.5789]
    """
    terms = gramian.shape[0]
    cosines, norms, _ = cosines_and_norms(gramian)
    # [place, i]: the unit vector of the term that the i-th gradient meets.
    others = ops.transpose(others)[:, :, None]
    met = ops.cast(
        others == ops.arange(terms, dtype=others.dtype), gramian.dtype
    )
    met_cosines = product(met, cosines)
    # Row i: the projected unit gradient i, in terms of the unit gradients.
    units = ops.eye(terms, dtype=gramian.dtype)
    for place in range(terms - 1):
        conflict = ops.relu(-ops.sum(units * met_cosines[place], axis=-1))
        units = units + conflict[:, None] * met[place]
    return ops.sum(units * (norms[:, None] / norms[None, :]), axis=0)


def pcgrad_of_two(gramian):
    """`pcgrad` of two terms, each of which meets the other, without a loop.

    `w_k = 1 - min(G[0, 1], 0) / G[k, k]`, or 1 where a gradient is zero.

    Args:
        gramian: `G = J J^T`, `(2, 2)`.

    Returns:
        Weights, `(2,)`, dtype of `gramian`.
    """
    squares = ops.diagonal(gramian)
    both = ops.cast(ops.all(above_zero(squares)), gramian.dtype)
    conflict = both * ops.relu(-gramian[0, 1])
    return 1.0 + conflict / (both * squares + (1.0 - both))


@keras.saving.register_keras_serializable("keras_losskit")
class PCGrad(RandomWeighting, GradientWeighting):
    """Projecting conflicting gradients, in random order.

    Each gradient loses, one other term after the other, its component against
    that term: `g_i -= min(g_i . g_j, 0) / ||g_j||^2 * g_j`; then they are added
    up. With more than two terms the result may still conflict with some. Scale:
    a sum of terms; without conflicts the weights are 1.

    A zero gradient conflicts with none; its weight is 1, as are all if the
    Gramian is not finite. Without `training` the order is that of the terms.

    Args:
        seed: Seed of the order, an int. Defaults to a random one.
        **options: `wrt`, `every`, `terms`, `name` and `dtype`; see
            `GradientWeighting`.

    Returns:
        Of a call with `gramian`: `(K,)`.

    Reference:
        Yu, Kumar, Gupta, Levine, Hausman, Finn, "Gradient Surgery for
        Multi-Task Learning", NeurIPS 2020.

    Example:
        >>> gramian = ops.array([[18.0, -22.0], [-22.0, 38.0]])
        >>> [round(float(weight), 4) for weight in PCGrad()(gramian)]
        [2.2222, 1.5789]
    """

    def weigh(self, gramian: Tensor, training: bool) -> Tensor:
        terms = self.num_terms
        if terms == 2:
            return pcgrad_of_two(gramian)
        if training:
            draws = keras.random.uniform(
                (terms, terms), seed=self.seed_generator
            )
            order = ops.argsort(draws + ops.eye(terms), axis=-1)
            return pcgrad(gramian, order[:, : terms - 1])
        order = np.tile(np.arange(terms), (terms, 1))
        others = order[~np.eye(terms, dtype=bool)].reshape(terms, terms - 1)
        return pcgrad(gramian, others)
