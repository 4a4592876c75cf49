"""Keras' sequence losses."""

import keras

from keras_losskit.losses.base import LossMixin
from keras_losskit.typing import DType
from keras_losskit.typing import KerasLoss
from keras_losskit.typing import ReductionLike
from keras_losskit.typing import Weight


@keras.saving.register_keras_serializable("keras_losskit")
class CTC(LossMixin, KerasLoss[keras.losses.CTC]):
    """Connectionist temporal classification.

    `loss = -log(p(y_true))`, summed over all alignments with the logits; label
    0 is the blank and pads the targets.

    Args:
        reduction, name, dtype, weight: See `Loss`.

    Reference:
        Graves et al., "Connectionist Temporal Classification", ICML 2006.

    Example:
        >>> loss = CTC()
        >>> round(float(loss([[1]], [[[0.0, 2.0]]])), 4)
        0.1269
    """

    #: See `ClassLoss`.
    fills_targets = True

    def __init__(
        self,
        reduction: ReductionLike = "sum_over_batch_size",
        name: str | None = "ctc",
        dtype: DType | None = None,
        *,
        weight: Weight = 1.0,
    ):
        super().__init__(
            reduction=reduction,
            name=name,
            dtype=dtype,
            weight=weight,
        )
