"""Drop-in recurrent cells and layers."""

import inspect

import keras

from keras_losskit.layers._loss_layer import LossLayer
from keras_losskit.layers._loss_layer import registered
from keras_losskit.layers._rnn_losses import CarriesCellLosses

SIMPLE_RNN = inspect.signature(keras.layers.SimpleRNN)


@registered
class SimpleRNNCell(LossLayer, keras.layers.SimpleRNNCell):
    """`keras.layers.SimpleRNNCell` with reducible, readable penalties.

    Takes `activity_reduction` and `regularization_reduction` as well; see
    `keras_losskit.layers`. Put it into a `keras_losskit.layers.RNN`, which
    carries its losses out of the loop.

    Example:
        >>> cell = SimpleRNNCell(2, kernel_regularizer="l1",
        ...     kernel_initializer="ones")
        >>> cell.build((1, 3))
        >>> [round(float(loss), 4) for loss in cell.regularization_losses]
        [0.06]
    """


@registered
class GRUCell(LossLayer, keras.layers.GRUCell):
    """`keras.layers.GRUCell` with reducible, readable penalties.

    Takes `activity_reduction` and `regularization_reduction` as well; see
    `keras_losskit.layers`. Put it into a `keras_losskit.layers.RNN`, which
    carries its losses out of the loop.

    Example:
        >>> cell = GRUCell(2, kernel_regularizer="l1",
        ...     kernel_initializer="ones")
        >>> cell.build((1, 3))
        >>> [round(float(loss), 4) for loss in cell.regularization_losses]
        [0.18]
    """


@registered
class LSTMCell(LossLayer, keras.layers.LSTMCell):
    """`keras.layers.LSTMCell` with reducible, readable penalties.

    Takes `activity_reduction` and `regularization_reduction` as well; see
    `keras_losskit.layers`. Put it into a `keras_losskit.layers.RNN`, which
    carries its losses out of the loop.

    Example:
        >>> cell = LSTMCell(2, kernel_regularizer="l1",
        ...     kernel_initializer="ones")
        >>> cell.build((1, 3))
        >>> [round(float(loss), 4) for loss in cell.regularization_losses]
        [0.24]
    """


@registered
class RNN(CarriesCellLosses, keras.layers.RNN):
    """`keras.layers.RNN` that counts what its cell adds at every step.

    `loss = sum over steps`. Takes `activity_reduction` and
    `regularization_reduction` as well; see `keras_losskit.layers`. As in Keras,
    a cell's activity regularizer penalizes its output and its state alike.

    Example:
        >>> class Thrifty(SimpleRNNCell):
        ...     def call(self, inputs, states, training=False):
        ...         self.add_loss(keras.ops.sum(inputs, axis=-1), name="use")
        ...         return super().call(inputs, states, training=training)
        >>> layer = RNN(Thrifty(1))
        >>> _ = layer(keras.ops.ones((3, 4, 2)))
        >>> [float(loss) for loss in layer.added_losses]
        [8.0]
    """


@registered
class SimpleRNN(CarriesCellLosses, keras.layers.SimpleRNN):
    """`keras.layers.SimpleRNN` with reducible, readable penalties.

    Takes `activity_reduction` and `regularization_reduction` as well; see
    `keras_losskit.layers`.

    Example:
        >>> layer = SimpleRNN(2, kernel_regularizer="l1",
        ...     kernel_initializer="ones")
        >>> _ = layer(keras.ops.ones((1, 4, 3)))
        >>> [round(float(loss), 4) for loss in layer.regularization_losses]
        [0.06]
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        # Keras takes the argument and forgets it.
        if self.activity_regularizer is None:
            regularizer = SIMPLE_RNN.bind(*args, **kwargs).arguments.get(
                "activity_regularizer"
            )
            self.activity_regularizer = keras.regularizers.get(regularizer)


@registered
class GRU(CarriesCellLosses, keras.layers.GRU):
    """`keras.layers.GRU` with reducible, readable penalties.

    Takes `activity_reduction` and `regularization_reduction` as well; see
    `keras_losskit.layers`.

    Example:
        >>> layer = GRU(2, kernel_regularizer="l1",
        ...     kernel_initializer="ones")
        >>> _ = layer(keras.ops.ones((1, 4, 3)))
        >>> [round(float(loss), 4) for loss in layer.regularization_losses]
        [0.18]
    """


@registered
class LSTM(CarriesCellLosses, keras.layers.LSTM):
    """`keras.layers.LSTM` with reducible, readable penalties.

    Takes `activity_reduction` and `regularization_reduction` as well; see
    `keras_losskit.layers`.

    Example:
        >>> layer = LSTM(2, kernel_regularizer="l1",
        ...     kernel_initializer="ones")
        >>> _ = layer(keras.ops.ones((1, 4, 3)))
        >>> [round(float(loss), 4) for loss in layer.regularization_losses]
        [0.24]
    """


@registered
class ConvLSTM1D(CarriesCellLosses, keras.layers.ConvLSTM1D):
    """`keras.layers.ConvLSTM1D` with reducible, readable penalties.

    Takes `activity_reduction` and `regularization_reduction` as well; see
    `keras_losskit.layers`.

    Example:
        >>> layer = ConvLSTM1D(2, 1, kernel_regularizer="l1",
        ...                    kernel_initializer="ones")
        >>> _ = layer(keras.ops.ones((1, 2, 3, 1)))
        >>> [round(float(loss), 4) for loss in layer.regularization_losses]
        [0.08]
    """


@registered
class ConvLSTM2D(CarriesCellLosses, keras.layers.ConvLSTM2D):
    """`keras.layers.ConvLSTM2D` with reducible, readable penalties.

    Takes `activity_reduction` and `regularization_reduction` as well; see
    `keras_losskit.layers`.

    Example:
        >>> layer = ConvLSTM2D(2, 1, kernel_regularizer="l1",
        ...                    kernel_initializer="ones")
        >>> _ = layer(keras.ops.ones((1, 2, 3, 3, 1)))
        >>> [round(float(loss), 4) for loss in layer.regularization_losses]
        [0.08]
    """


@registered
class ConvLSTM3D(CarriesCellLosses, keras.layers.ConvLSTM3D):
    """`keras.layers.ConvLSTM3D` with reducible, readable penalties.

    Takes `activity_reduction` and `regularization_reduction` as well; see
    `keras_losskit.layers`.

    Example:
        >>> layer = ConvLSTM3D(2, 1, kernel_regularizer="l1",
        ...                    kernel_initializer="ones")
        >>> _ = layer(keras.ops.ones((1, 2, 3, 3, 3, 1)))
        >>> [round(float(loss), 4) for loss in layer.regularization_losses]
        [0.08]
    """
