"""Weights that let a solution grow in time, from its beginning on."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from keras_losskit._support.checks import checked_count
from keras_losskit._support.checks import checked_non_negative
from keras_losskit._support.checks import refused
from keras_losskit._types import Config
from keras_losskit._types import Tensor
from keras_losskit.weighting._groups import by_group
from keras_losskit.weighting.sample_weighting import SampleWeighting


def causal_weights(losses, *, tolerance):
    """Weights of the slices of time; see `Causal`.

    Args:
        losses: Mean loss of each slice, `(slices,)`, in the order of time.
        tolerance: How little may be left of a slice before the next one counts.

    Returns:
        `(slices,)`, the first 1.

    Example:
        >>> weights = causal_weights(ops.array([1.0, 2.0, 5.0]), tolerance=0.5)
        >>> [round(float(w), 4) for w in weights]  # e^0, e^-0.5, e^-1.5
        [1.0, 0.6065, 0.2231]
    """
    earlier = ops.cumsum(losses) - losses
    return ops.exp(-tolerance * earlier)


@keras.saving.register_keras_serializable("keras_losskit")
class Causal(SampleWeighting):
    """Causal training: a point counts once what is earlier is solved.

    `w_i = exp(-tolerance * sum_{k < i} L(t_k))` for the points of slice `i` of
    the time, where `L(t_k)` is the mean of slice `k`. Slices are of one length
    and cover the times given. A slice that a batch lacks has the mean that it
    had last, at first 0.

    Args:
        times: The time of each sample, in the order of the ids: `(samples,)`.
        slices: Number of slices of the time.
        tolerance: `epsilon` of the paper: the larger it is, the less may be
            left of earlier slices. `weights` over all slices near 1 say that
            the whole time is solved.
        **options: `terms`, `name` and `dtype`; see `SampleWeighting`.

    Returns:
        Of a call with values, ids and `counts`: weights, `(batch,)`.

    Reference:
        Wang, Sankaran, Perdikaris, "Respecting causality for training physics-
        informed neural networks", CMAME 421, 2024.

    Example:
        >>> method = Causal([0.0, 1.0, 2.0], slices=3, tolerance=1.0)
        >>> weights = method(ops.array([1.0, 0.5, 9.0]),
        ...                  ids=ops.array([0, 1, 2]), training=True)
        >>> [round(float(w), 4) for w in weights]  # 1, e^-1, e^-1.5
        [1.0, 0.3679, 0.2231]
    """

    def __init__(
        self,
        times: Sequence[float],
        *,
        slices: int = 32,
        tolerance: float = 1.0,
        **options,
    ):
        self.times = checked_times(times)
        super().__init__(len(self.times), **options)
        self.slices = checked_count(slices, "`slices` of Causal")
        self.tolerance = checked_non_negative(
            tolerance, "`tolerance` of Causal"
        )
        low, high = self.times.min(), self.times.max()
        position = (self.times - low) / max(high - low, 1e-30) * self.slices
        self._slices = np.minimum(position, self.slices - 1).astype("int32")

    def build(self, num_terms: int) -> None:
        super().build(num_terms)
        self.losses_by_slice = self.add_weight(
            name="losses_by_slice",
            shape=(self.slices,),
            initializer="zeros",
            trainable=False,
        )

    def weigh(
        self, values: Tensor, ids: Tensor | None, counts: Tensor, training: bool
    ) -> Tensor:
        slices = ops.take(ops.convert_to_tensor(self._slices), ids, axis=0)
        losses = ops.cast(self.losses_by_slice, values.dtype)
        if training:
            means, sizes = by_group(values, counts, slices, self.slices)
            losses = ops.where(sizes > 0, means, losses)
            self.losses_by_slice.assign(losses)
        weights = causal_weights(losses, tolerance=self.tolerance)
        return ops.take(weights, slices, axis=0)

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "times": self.times.tolist(),
            "slices": self.slices,
            "tolerance": self.tolerance,
        }


def checked_times(times):
    """The time of each sample as an array of float64."""
    try:
        found = np.asarray(times, "float64")
    except (TypeError, ValueError):
        found = np.empty(())
    if found.ndim != 1 or not found.size or not np.isfinite(found).all():
        raise refused(
            times,
            "`times` of Causal to be finite numbers, one for each sample",
            error=ValueError,
        )
    return found
