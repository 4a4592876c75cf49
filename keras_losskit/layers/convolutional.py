"""Drop-in convolutions, plain, transposed, depthwise and separable."""

import keras

from keras_losskit.layers._loss_layer import LossLayer
from keras_losskit.layers._loss_layer import registered


@registered
class Conv1D(LossLayer, keras.layers.Conv1D):
    """`keras.layers.Conv1D` with reducible, readable penalties.

    Takes `activity_reduction` and `regularization_reduction` as well; see
    `keras_losskit.layers`.

    Example:
        >>> layer = Conv1D(3, 1, kernel_regularizer="l1",
        ...     kernel_initializer="ones")
        >>> _ = layer(keras.ops.ones((1, 4, 2)))
        >>> [round(float(loss), 4) for loss in layer.regularization_losses]
        [0.06]
    """


@registered
class Conv2D(LossLayer, keras.layers.Conv2D):
    """`keras.layers.Conv2D` with reducible, readable penalties.

    Takes `activity_reduction` and `regularization_reduction` as well; see
    `keras_losskit.layers`.

    Example:
        >>> layer = Conv2D(3, 1, kernel_regularizer="l1",
        ...     kernel_initializer="ones")
        >>> _ = layer(keras.ops.ones((1, 4, 4, 2)))
        >>> [round(float(loss), 4) for loss in layer.regularization_losses]
        [0.06]
    """


@registered
class Conv3D(LossLayer, keras.layers.Conv3D):
    """`keras.layers.Conv3D` with reducible, readable penalties.

    Takes `activity_reduction` and `regularization_reduction` as well; see
    `keras_losskit.layers`.

    Example:
        >>> layer = Conv3D(3, 1, kernel_regularizer="l1",
        ...     kernel_initializer="ones")
        >>> _ = layer(keras.ops.ones((1, 4, 4, 4, 2)))
        >>> [round(float(loss), 4) for loss in layer.regularization_losses]
        [0.06]
    """


@registered
class Conv1DTranspose(LossLayer, keras.layers.Conv1DTranspose):
    """`keras.layers.Conv1DTranspose` with reducible, readable penalties.

    Takes `activity_reduction` and `regularization_reduction` as well; see
    `keras_losskit.layers`.

    Example:
        >>> layer = Conv1DTranspose(3, 1, kernel_regularizer="l1",
        ...     kernel_initializer="ones")
        >>> _ = layer(keras.ops.ones((1, 4, 2)))
        >>> [round(float(loss), 4) for loss in layer.regularization_losses]
        [0.06]
    """


@registered
class Conv2DTranspose(LossLayer, keras.layers.Conv2DTranspose):
    """`keras.layers.Conv2DTranspose` with reducible, readable penalties.

    Takes `activity_reduction` and `regularization_reduction` as well; see
    `keras_losskit.layers`.

    Example:
        >>> layer = Conv2DTranspose(3, 1, kernel_regularizer="l1",
        ...     kernel_initializer="ones")
        >>> _ = layer(keras.ops.ones((1, 4, 4, 2)))
        >>> [round(float(loss), 4) for loss in layer.regularization_losses]
        [0.06]
    """


@registered
class Conv3DTranspose(LossLayer, keras.layers.Conv3DTranspose):
    """`keras.layers.Conv3DTranspose` with reducible, readable penalties.

    Takes `activity_reduction` and `regularization_reduction` as well; see
    `keras_losskit.layers`.

    Example:
        >>> layer = Conv3DTranspose(3, 1, kernel_regularizer="l1",
        ...     kernel_initializer="ones")
        >>> _ = layer(keras.ops.ones((1, 4, 4, 4, 2)))
        >>> [round(float(loss), 4) for loss in layer.regularization_losses]
        [0.06]
    """


@registered
class DepthwiseConv1D(LossLayer, keras.layers.DepthwiseConv1D):
    """`keras.layers.DepthwiseConv1D` with reducible, readable penalties.

    Takes `activity_reduction` and `regularization_reduction` as well; see
    `keras_losskit.layers`.

    Example:
        >>> layer = DepthwiseConv1D(1, depthwise_regularizer="l1",
        ...     depthwise_initializer="ones")
        >>> _ = layer(keras.ops.ones((1, 4, 2)))
        >>> [round(float(loss), 4) for loss in layer.regularization_losses]
        [0.02]
    """


@registered
class DepthwiseConv2D(LossLayer, keras.layers.DepthwiseConv2D):
    """`keras.layers.DepthwiseConv2D` with reducible, readable penalties.

    Takes `activity_reduction` and `regularization_reduction` as well; see
    `keras_losskit.layers`.

    Example:
        >>> layer = DepthwiseConv2D(1, depthwise_regularizer="l1",
        ...     depthwise_initializer="ones")
        >>> _ = layer(keras.ops.ones((1, 4, 4, 2)))
        >>> [round(float(loss), 4) for loss in layer.regularization_losses]
        [0.02]
    """


@registered
class SeparableConv1D(LossLayer, keras.layers.SeparableConv1D):
    """`keras.layers.SeparableConv1D` with reducible, readable penalties.

    Takes `activity_reduction` and `regularization_reduction` as well; see
    `keras_losskit.layers`.

    Example:
        >>> layer = SeparableConv1D(3, 1, depthwise_regularizer="l1",
        ...     depthwise_initializer="ones")
        >>> _ = layer(keras.ops.ones((1, 4, 2)))
        >>> [round(float(loss), 4) for loss in layer.regularization_losses]
        [0.02]
    """


@registered
class SeparableConv2D(LossLayer, keras.layers.SeparableConv2D):
    """`keras.layers.SeparableConv2D` with reducible, readable penalties.

    Takes `activity_reduction` and `regularization_reduction` as well; see
    `keras_losskit.layers`.

    Example:
        >>> layer = SeparableConv2D(3, 1, depthwise_regularizer="l1",
        ...     depthwise_initializer="ones")
        >>> _ = layer(keras.ops.ones((1, 4, 4, 2)))
        >>> [round(float(loss), 4) for loss in layer.regularization_losses]
        [0.02]
    """


# Keras' longer names for the same.
Convolution1D = Conv1D
Convolution2D = Conv2D
Convolution3D = Conv3D
Convolution1DTranspose = Conv1DTranspose
Convolution2DTranspose = Conv2DTranspose
Convolution3DTranspose = Conv3DTranspose
SeparableConvolution1D = SeparableConv1D
SeparableConvolution2D = SeparableConv2D
