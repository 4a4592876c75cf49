"""Drop-in normalization."""

import keras

from keras_losskit.layers._loss_layer import LossLayer
from keras_losskit.layers._loss_layer import registered


@registered
class BatchNormalization(LossLayer, keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` with reducible, readable penalties.

    Takes `activity_reduction` and `regularization_reduction` as well; see
    `keras_losskit.layers`.

    Example:
        >>> layer = BatchNormalization(gamma_regularizer="l1")
        >>> _ = layer(keras.ops.ones((2, 4)))
        >>> [round(float(loss), 4) for loss in layer.regularization_losses]
        [0.04]
    """


@registered
class GroupNormalization(LossLayer, keras.layers.GroupNormalization):
    """`keras.layers.GroupNormalization` with reducible, readable penalties.

    Takes `activity_reduction` and `regularization_reduction` as well; see
    `keras_losskit.layers`.

    Example:
        >>> layer = GroupNormalization(groups=2, gamma_regularizer="l1")
        >>> _ = layer(keras.ops.ones((2, 4)))
        >>> [round(float(loss), 4) for loss in layer.regularization_losses]
        [0.04]
    """


@registered
class LayerNormalization(LossLayer, keras.layers.LayerNormalization):
    """`keras.layers.LayerNormalization` with reducible, readable penalties.

    Takes `activity_reduction` and `regularization_reduction` as well; see
    `keras_losskit.layers`.

    Example:
        >>> layer = LayerNormalization(gamma_regularizer="l1")
        >>> _ = layer(keras.ops.ones((2, 4)))
        >>> [round(float(loss), 4) for loss in layer.regularization_losses]
        [0.04]
    """
