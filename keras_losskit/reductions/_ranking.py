"""Reductions to which a part of a batch says little about the whole of it."""

from keras import ops

from keras_losskit._support import replicas
from keras_losskit._support.checks import checked_choice
from keras_losskit._types import Config
from keras_losskit._types import Tensor
from keras_losskit._types import TensorLike
from keras_losskit.reductions._alignment import candidates
from keras_losskit.reductions.reduction import Reduction

#: What a reduction may look at.
REPLICA, BATCH = "replica", "batch"


def over_batch(reduce, values, sample_weight=None, mask=None):
    """`reduce` of the values that all replicas have.

    Args:
        reduce: A data-dependent reduction, `(values, sample_weight, mask)`.
        values: Per-sample values, `(batch, d0, ..., dN)`, or a scalar.
        sample_weight: Optional weights, `(batch, ...)`.
        mask: Optional mask, `(batch, ...)`.

    Returns:
        This replica's part of the result, a scalar.
    """
    x, valid, _ = candidates(values, sample_weight, mask)
    # Both in one exchange.
    pairs = ops.stack([x, ops.cast(valid, x.dtype)], axis=1)
    pairs = replicas.gathered(pairs)
    with replicas.local_only():
        result = reduce(pairs[:, 0], None, ops.not_equal(pairs[:, 1], 0.0))
    return replicas.part_of_common(result)


class Ranking(Reduction):
    """Base of reductions that rank values, those of a replica or of all.

    A subclass implements `reduce` and `settings`.

    Args:
        over: `"replica"` or `"batch"`.

    Raises:
        ValueError: if it is neither.
    """

    def __init__(self, over: str):
        what = f"`over` of {type(self).__name__}"
        self.over = checked_choice(over, (REPLICA, BATCH), what)

    def __call__(
        self,
        values: TensorLike,
        sample_weight: TensorLike | None = None,
        mask: TensorLike | None = None,
    ) -> Tensor:
        if self.over == REPLICA or replicas.num_parts() == 1:
            return self.reduce(values, sample_weight, mask)
        return over_batch(self.reduce, values, sample_weight, mask)

    def reduce(
        self,
        values: TensorLike,
        sample_weight: TensorLike | None,
        mask: TensorLike | None,
    ) -> Tensor:
        """What is called, of these values by themselves."""
        raise NotImplementedError

    def settings(self) -> Config:
        return {"over": self.over}
