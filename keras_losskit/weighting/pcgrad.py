"""PCGrad: gradients projected onto each other's normal planes."""

import keras
from keras import ops

from keras_losskit.typing import Tensor
from keras_losskit.weighting.arithmetic import at_most
from keras_losskit.weighting.arithmetic import product
from keras_losskit.weighting.base import RandomWeighting
from keras_losskit.weighting.gramian import GradientWeighting
from keras_losskit.weighting.gramian import cosines_and_norms


def pcgrad(gramian, order):
    """Weights of the sum of the projected gradients; see `PCGrad`.

    Args:
        gramian: `G = J J^T`, `(K, K)`.
        order: Row i: the terms in the order in which gradient i is projected
            onto their normal planes, `(K, K)`, integers.

    Returns:
        Weights, `(K,)`, dtype of `gramian`.

    Example:
        >>> gramian = ops.array([[18.0, -22.0], [-22.0, 38.0]])
        >>> weights = pcgrad(gramian, ops.array([[0, 1], [0, 1]]))
        >>> [round(float(weight), 4) for weight in weights]
        [2.2222, 1.5789]
    """
    terms = gramian.shape[0]
    cosines, norms, present = cosines_and_norms(gramian)
    identity = ops.eye(terms, dtype=gramian.dtype)
    # [i, place]: the gradient that the i-th meets there, none if it is its own.
    met = order[:, :, None] == ops.arange(terms, dtype=order.dtype)
    met = ops.cast(met, gramian.dtype) * (1.0 - identity)[:, None, :]
    met_cosines = product(met, cosines)
    # Row i: the projected unit gradient i, in terms of the unit gradients.
    units = identity
    for place in range(terms):
        conflict = ops.sum(units * met_cosines[:, place], axis=-1)
        conflict = at_most(conflict, 0.0)
        units = units - conflict[:, None] * met[:, place]
    return ops.sum(units * (norms[:, None] / norms[None, :]), axis=0)


@keras.saving.register_keras_serializable("keras_losskit")
class PCGrad(RandomWeighting, GradientWeighting):
    """Projecting conflicting gradients, in random order.

    Each gradient loses, one other term after the other, its component against
    that term: `g_i -= min(g_i . g_j, 0) / ||g_j||^2 * g_j`; then they are added
    up. With more than two terms the result may still conflict with some. Scale:
    a sum of terms; without conflicts the weights are 1.

    A zero gradient conflicts with none; its weight is 1. Without `training` the
    order is that of the terms.

    Args:
        seed: Seed of the order, an int. Defaults to a random one.
        **options: `wrt`, `update_every`, `terms`, `name` and `dtype`; see
            `GradientWeighting`.

    Returns:
        Of `weights(gramian)`: `(K,)`.

    Reference:
        Yu, Kumar, Gupta, Levine, Hausman, Finn, "Gradient Surgery for
        Multi-Task Learning", NeurIPS 2020.

    Example:
        >>> gramian = ops.array([[18.0, -22.0], [-22.0, 38.0]])
        >>> [round(float(weight), 4) for weight in PCGrad().weights(gramian)]
        [2.2222, 1.5789]
    """

    def weigh(self, gramian: Tensor, training: bool) -> Tensor:
        shape = (self.num_terms, self.num_terms)
        # Of two terms, either meets the other only.
        if training and self.num_terms > 2:
            draws = keras.random.uniform(shape, seed=self.seed_generator)
            order = ops.argsort(draws, axis=-1)
        else:
            order = ops.broadcast_to(ops.arange(self.num_terms), shape)
        return pcgrad(gramian, order)
