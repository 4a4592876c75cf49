"""Methods that train on some of the samples: those with small losses."""

import keras
from keras import ops

from keras_losskit._support.checks import checked_count
from keras_losskit._support.checks import checked_fraction
from keras_losskit._support.checks import checked_positive
from keras_losskit._support.checks import refused
from keras_losskit._types import Config
from keras_losskit._types import Tensor
from keras_losskit.weighting.sample_weighting import SampleWeighting


@keras.saving.register_keras_serializable("keras_losskit")
class SelfPaced(SampleWeighting):
    """Self-paced learning: easy samples first.

    Weight 1 for `v_i < threshold`, else 0; at the end of each epoch `threshold
    <- growth * threshold`, so that harder samples come in. It needs no ids.

    Args:
        threshold: The first threshold, in units of the loss.
        growth: What it is multiplied by at the end of an epoch, 1 or more.
        **options: `terms`, `name` and `dtype`; see `SampleWeighting`.

    Returns:
        Of a call with values: weights, `(batch,)`, 0 or 1.

    Reference:
        Kumar, Packer, Koller, "Self-Paced Learning for Latent Variable Models",
        NeurIPS 2010.

    Example:
        >>> method = SelfPaced(1.0, growth=3.0)
        >>> [float(w) for w in method(ops.array([0.5, 2.0]))]
        [1.0, 0.0]
        >>> method.on_epoch_end()
        >>> [float(w) for w in method(ops.array([0.5, 2.0]))]
        [1.0, 1.0]
    """

    def __init__(self, threshold: float, *, growth: float = 1.3, **options):
        super().__init__(**options)
        self.threshold = checked_positive(threshold, "`threshold` of SelfPaced")
        self.growth = checked_positive(growth, "`growth` of SelfPaced")
        if self.growth < 1.0:
            raise refused(
                growth,
                "`growth` of SelfPaced to be 1 or more",
                error=ValueError,
            )

    def build(self, num_terms: int) -> None:
        super().build(num_terms)
        self.current = self.add_weight(
            name="threshold",
            shape=(),
            initializer=keras.initializers.Constant(self.threshold),
            trainable=False,
        )

    def weigh(
        self, values: Tensor, ids: Tensor | None, counts: Tensor, training: bool
    ) -> Tensor:
        return ops.cast(
            values < ops.cast(self.current, values.dtype), values.dtype
        )

    def on_epoch_end(self) -> None:
        if self.built:
            self.current.assign(self.current * self.growth)

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "threshold": self.threshold,
            "growth": self.growth,
        }


@keras.saving.register_keras_serializable("keras_losskit")
class SmallLoss(SampleWeighting):
    """Small-loss selection: leave out what the model finds hardest.

    Weight 1 for the `ceil(R n)` smallest values of the `n` in a batch, else 0,
    with `R = 1 - (1 - fraction) * min(epoch / warmup, 1)`: a network fits right
    labels before wrong ones. With `"mean_with_sample_weight"` as reduction the
    loss is the mean over those. It needs no ids.

    Args:
        fraction: What is kept of a batch after the warm-up: 1 less the share of
            labels that are wrong.
        warmup: Number of epochs until then.
        **options: `terms`, `name` and `dtype`; see `SampleWeighting`.

    Returns:
        Of a call with values and `counts`: weights, `(batch,)`, 0 or 1.

    Reference:
        Han et al., "Co-teaching: Robust Training of Deep Neural Networks with
        Extremely Noisy Labels", NeurIPS 2018: its selection, with one network.

    Example:
        >>> method = SmallLoss(0.5, warmup=1)
        >>> [float(w) for w in method(ops.array([4.0, 1.0, 2.0, 3.0]))]
        [1.0, 1.0, 1.0, 1.0]
        >>> method.on_epoch_end()
        >>> [float(w) for w in method(ops.array([4.0, 1.0, 2.0, 3.0]))]
        [0.0, 1.0, 1.0, 0.0]
    """

    def __init__(self, fraction: float, *, warmup: int = 10, **options):
        super().__init__(**options)
        self.fraction = checked_fraction(fraction, "`fraction` of SmallLoss")
        self.warmup = checked_count(warmup, "`warmup` of SmallLoss")

    def build(self, num_terms: int) -> None:
        super().build(num_terms)
        self.epochs = self.add_weight(
            name="epochs", shape=(), initializer="zeros", trainable=False
        )

    def weigh(
        self, values: Tensor, ids: Tensor | None, counts: Tensor, training: bool
    ) -> Tensor:
        passed = ops.cast(self.epochs, values.dtype) / self.warmup
        passed = ops.minimum(passed, ops.ones_like(passed))
        kept = (1.0 - (1.0 - self.fraction) * passed) * ops.sum(counts)
        # Ranks, lowest first; what does not count comes last.
        keys = ops.where(
            counts > 0, values, ops.full_like(values, float("inf"))
        )
        ranks = ops.argsort(ops.argsort(keys))
        # A hair less, so that 0.3 * 10 is 3 and not 4 in float32.
        limit = ops.ceil(kept - 1e-4)
        return ops.cast(ops.cast(ranks, values.dtype) < limit, values.dtype)

    def on_epoch_end(self) -> None:
        if self.built:
            self.epochs.assign(self.epochs + 1.0)

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "fraction": self.fraction,
            "warmup": self.warmup,
        }
