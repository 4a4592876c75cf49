"""What the weightings over a Gramian share.

A Gramian is squared: gradients whose norms are 1 and 1e6 stand in it as 1 and
1e12, more than float32 can add. The methods therefore work with the directions
and the norms, each of ordinary size, instead of with the Gramian itself.
"""

from typing import Any
from typing import Self

from keras import ops

from keras_losskit._support.checks import checked_count
from keras_losskit._support.renamed import with_new_names
from keras_losskit._types import Config
from keras_losskit._types import Tensor
from keras_losskit._types import TensorLike
from keras_losskit._types import Wrt
from keras_losskit.weighting._arithmetic import all_finite
from keras_losskit.weighting._variable_selection import VariableSelection
from keras_losskit.weighting.weighting import Weighting
from keras_losskit.weighting.weighting import in_float

#: Below this part of the largest squared norm, a gradient counts as zero.
NEGLIGIBLE = 1e-30


class GradientWeighting(Weighting):
    """A gradient-based weighting: over the Gramian `G = J J^T` of the terms.

    `G[i, j] = g_i . g_j`. The weights shape the update, `sum_k(w_k * g_k)`,
    which always moves all trainable variables. A Gramian that is not finite
    counts as one of zeros, and leaves the state of a method as it is.

    Args:
        wrt: The variables that the Gramian is taken over: a layer, such as the
            last one that the terms share, a regular expression, or a list of
            them. A pattern is matched from the start of any component of a
            variable's path to its end: `"trunk/.*"` finds
            `model/trunk/dense/kernel`. With it, a step takes the K gradients
            over these only, and one backward pass. Defaults to all variables.
        every: The weights are found anew on steps 0, N, 2 N and so on,
            and kept in between, where a step costs one backward pass. With
            several replicas of `tf.distribute`, whose sums may not stand in a
            branch, the Gramian is computed on every step all the same.
        **options: `terms`, `name`, `dtype` and `trainable`, as for `Weighting`;
            nothing is learned by gradient.

    Raises:
        ValueError: for a malformed `wrt` or `every`; before training,
            for a part of `wrt` that finds no trainable variable of the model.

    Example:
        >>> class ByNorm(GradientWeighting):
        ...     def weigh(self, gramian, training):
        ...         return 1.0 / ops.sqrt(ops.diagonal(gramian))
        >>> method = ByNorm(wrt="trunk/.*", every=10)
        >>> method
        ByNorm(wrt=['trunk/.*'], every=10)
        >>> [float(w) for w in method(ops.array([[4.0, 0.0], [0.0, 1.0]]))]
        [0.5, 1.0]
    """

    statistic = "gramian"

    def __init__(self, *, wrt: Wrt | None = None, every: int = 1, **options):
        # Not a decorator: Keras reads the constructor of a layer.
        owner, renamed = type(self).__name__, {"update_every": "every"}
        if checked_count(every, f"`every` of {owner}") != 1:
            options["every"] = every
        options = with_new_names(options, renamed, owner)
        every = options.pop("every", 1)
        super().__init__(**options)
        self.wrt = None if wrt is None else VariableSelection(wrt)
        self.every = checked_count(every, f"`every` of {owner}")
        self.found = None

    def build(self, num_terms: int) -> None:
        """Make the variables; a subclass' own come after."""
        super().build(num_terms)
        if self.every > 1:
            self.found = self.add_state("found", 1.0)

    def __call__(
        self, statistic: TensorLike, training: bool = False, **more: Any
    ) -> Tensor:
        """The weights; in `training` they are kept for the next steps."""
        weights = super().__call__(statistic, training, **more)
        if training and self.found is not None:
            finite = all_finite(in_float(statistic), *more.values())
            self.found.assign(ops.where(finite, weights, self.found.value))
        return weights

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """The weighting of a config, also of one that version 0.1.0 wrote."""
        config = dict(config)
        if "update_every" in config:
            config["every"] = config.pop("update_every")
        return super().from_config(config)

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "wrt": None if self.wrt is None else self.wrt.as_config(),
            "every": self.every,
        }


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
    present = above_zero(squares)
    # On PyTorch `ops.where` and `ops.clip` take as long as ten products: masks
    # are factors, and `ops.hard_tanh` is the clip to [-1, 1].
    mask = ops.cast(present, gramian.dtype)
    norms = ops.sqrt(mask * squares + (1.0 - mask))
    identity = ops.eye(gramian.shape[0], dtype=gramian.dtype)
    pairs = mask[:, None] * mask[None, :] * (1.0 - identity)
    cosines = gramian / norms[:, None] / norms[None, :]
    cosines = identity + pairs * ops.hard_tanh(cosines)
    return cosines, norms, present


def above_zero(squares):
    """Which gradients are not zero, `(K,)`, by their squared norms."""
    # Below the smallest normal float32 a number loses its precision.
    return (squares > NEGLIGIBLE * ops.max(squares)) & (squares > 1.2e-38)


def largest_norm(norms, present):
    """Largest norm of a gradient, 1 if all are zero."""
    largest = ops.max(ops.where(present, norms, ops.zeros_like(norms)))
    return ops.where(largest > 0, largest, ops.ones_like(largest))


def smallest_norm(norms, present):
    """Smallest norm of a gradient that is not zero, 1 if all are zero."""
    largest = ops.max(norms)
    return ops.min(ops.where(present, norms, largest))
