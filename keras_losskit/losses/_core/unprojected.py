"""What an output layer is given, where its logits are not to be there."""

import dataclasses
from typing import Any

import keras
from keras import ops

from keras_losskit.reductions._alignment import align


@dataclasses.dataclass(frozen=True)
class Projection:
    """The linear layer that makes logits: `softcap(features @ kernel + bias)`.

    Args:
        kernel: `(width, classes)`.
        bias: `(classes,)`, or None.
        softcap: See `linear_cross_entropy`; the layer's own.
    """

    kernel: Any
    bias: Any = None
    softcap: float | None = None

    def capped(self, softcap):
        """The same with the cap that a loss has, if it has one.

        Raises:
            ValueError: if there is one already.
        """
        if softcap is None:
            return self
        if self.softcap is not None:
            raise ValueError(
                "Expected no `softcap` of LinearCrossEntropy beside that of "
                f"the layer, {self.softcap}. Received: softcap={softcap}."
            )
        return dataclasses.replace(self, softcap=softcap)


class Unprojected:
    """Predictions of an output before the layer that makes its logits.

    It goes where `y_pred` does, to losses that set `takes_features`.

    Args:
        features: `(batch, ..., width)`, what the layer is given.
        projection: The `Projection` of the layer.
        mask: `(batch, ...)`, the mask that the logits would have, or None.
        shares: `(batch, ...)`, what each place is likely to count for in the
            total; None for all alike.
    """

    def __init__(self, features, projection, mask=None, shares=None):
        self.features = features
        self.projection = projection
        self.mask = mask
        self.shares = shares
        self._derived = {}

    @property
    def shape(self):
        """The shape of the features."""
        return self.features.shape

    def counted(self, flags, sample_weight=None):
        """What losses see of it under `Flags` and weights; made once.

        All losses of an output have the same ones.
        """
        if not flags and sample_weight is None:
            return self
        return self.once("counted", lambda: self._counted(flags, sample_weight))

    def _counted(self, flags, sample_weight):
        dtype = keras.config.floatx()
        shares = flags.apply(ops.ones(ops.shape(self.features)[:-1], dtype))
        if sample_weight is not None:
            weight = ops.convert_to_tensor(sample_weight, dtype=dtype)
            shares = shares * align(weight, shares, "sample_weight")
        features = flags.apply(self.features)
        return Unprojected(features, self.projection, self.mask, shares)

    def once(self, key, compute):
        """`compute()`, whose result the next call with this key returns."""
        if key not in self._derived:
            self._derived[key] = compute()
        return self._derived[key]
