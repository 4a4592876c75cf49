"""Drop-in attention."""

import keras

from keras_losskit import _keras
from keras_losskit.layers._loss_layer import LossLayer
from keras_losskit.layers._loss_layer import registered
from keras_losskit.layers.core import EinsumDense
from keras_losskit.penalties._recorder import make_state


class AttentionLosses(LossLayer):
    """Mixin: hands the reductions to the projections that have penalties.

    Keras gives the regularizers to the `EinsumDense` layers of query,
    key, value and output.
    """

    def _losskit_after_build(self) -> None:
        """Make drop-in layers of the projections, once they are there."""
        for layer in _keras.flatten_layers(self):
            if type(layer) is keras.layers.EinsumDense:
                # The drop-in class adds no state but the two settings.
                _keras.become(layer, EinsumDense)
                make_state(layer)
            if isinstance(layer, EinsumDense):
                layer.activity_reduction = self.activity_reduction
                layer.regularization_reduction = self.regularization_reduction
        super()._losskit_after_build()


@registered
class MultiHeadAttention(AttentionLosses, keras.layers.MultiHeadAttention):
    """`keras.layers.MultiHeadAttention` with reducible, readable penalties.

    Takes `activity_reduction` and `regularization_reduction` as well; see
    `keras_losskit.layers`.

    Example:
        >>> layer = MultiHeadAttention(1, 2, kernel_regularizer="l1",
        ...                            kernel_initializer="ones")
        >>> _ = layer(keras.ops.ones((1, 3, 4)), keras.ops.ones((1, 3, 4)))
        >>> [round(float(loss), 4) for loss in layer.regularization_losses]
        [0.08, 0.08, 0.08, 0.08]
    """


@registered
class GroupQueryAttention(AttentionLosses, keras.layers.GroupQueryAttention):
    """`keras.layers.GroupQueryAttention` with reducible, readable penalties.

    Takes `activity_reduction` and `regularization_reduction` as well; see
    `keras_losskit.layers`.

    Example:
        >>> layer = GroupQueryAttention(2, 4, 2, kernel_regularizer="l1",
        ...                             kernel_initializer="ones")
        >>> _ = layer(keras.ops.ones((1, 3, 4)), keras.ops.ones((1, 3, 4)))
        >>> [round(float(loss), 4) for loss in layer.regularization_losses]
        [0.32, 0.16, 0.16, 0.32]
    """


#: The name that Keras 3.16 gives it.
GroupedQueryAttention = GroupQueryAttention
