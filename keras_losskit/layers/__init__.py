"""Drop-in Keras layers: `from keras_losskit import layers`.

A subclass of every Keras layer that takes a regularizer, and `AddLoss`. Every
other name is that of `keras.layers`. Every layer here takes the arguments of
the Keras layer, and two more:

- `activity_reduction` is what the value of the activity regularizer is divided
  by: `"sum_over_batch_size"`, the default, divides by the batch size, as Keras
  does; `"mean_over_elements"` divides by the number of elements; `"sum"` does
  not divide. The last two respect the mask of the output: masked elements are 0
  for the regularizer, and do not count.
- `regularization_reduction` does the same for the regularizers of weights:
  `"sum"`, the default, is what Keras does; `"mean_over_parameters"` divides the
  penalty of each weight by its number of elements, so that its strength does
  not depend on the width of the layer.

Another value raises a `ValueError`. With the defaults the penalties are those
of Keras, computed in float32 or wider. After a call, `activity_losses`,
`regularization_losses` and `added_losses` of a layer list its losses by kind.

Their `add_loss(values, name=..., weight=..., reduction=...)` gives a term a
name in the logs, a weight (a number, a `keras.Variable` or a schedule), and a
reduction from per-sample values to a scalar.
"""

import keras

from keras_losskit.layers.add_loss import ActivityRegularization
from keras_losskit.layers.add_loss import AddLoss
from keras_losskit.layers.add_loss import Layer
from keras_losskit.layers.add_loss import Wrapper
from keras_losskit.layers.attention import GroupedQueryAttention
from keras_losskit.layers.attention import GroupQueryAttention
from keras_losskit.layers.attention import MultiHeadAttention
from keras_losskit.layers.convolutional import Conv1D
from keras_losskit.layers.convolutional import Conv1DTranspose
from keras_losskit.layers.convolutional import Conv2D
from keras_losskit.layers.convolutional import Conv2DTranspose
from keras_losskit.layers.convolutional import Conv3D
from keras_losskit.layers.convolutional import Conv3DTranspose
from keras_losskit.layers.convolutional import Convolution1D
from keras_losskit.layers.convolutional import Convolution1DTranspose
from keras_losskit.layers.convolutional import Convolution2D
from keras_losskit.layers.convolutional import Convolution2DTranspose
from keras_losskit.layers.convolutional import Convolution3D
from keras_losskit.layers.convolutional import Convolution3DTranspose
from keras_losskit.layers.convolutional import DepthwiseConv1D
from keras_losskit.layers.convolutional import DepthwiseConv2D
from keras_losskit.layers.convolutional import SeparableConv1D
from keras_losskit.layers.convolutional import SeparableConv2D
from keras_losskit.layers.convolutional import SeparableConvolution1D
from keras_losskit.layers.convolutional import SeparableConvolution2D
from keras_losskit.layers.core import Dense
from keras_losskit.layers.core import EinsumDense
from keras_losskit.layers.core import Embedding
from keras_losskit.layers.core import PReLU
from keras_losskit.layers.core import ReversibleEmbedding
from keras_losskit.layers.normalization import BatchNormalization
from keras_losskit.layers.normalization import GroupNormalization
from keras_losskit.layers.normalization import LayerNormalization
from keras_losskit.layers.recurrent import GRU
from keras_losskit.layers.recurrent import LSTM
from keras_losskit.layers.recurrent import RNN
from keras_losskit.layers.recurrent import ConvLSTM1D
from keras_losskit.layers.recurrent import ConvLSTM2D
from keras_losskit.layers.recurrent import ConvLSTM3D
from keras_losskit.layers.recurrent import GRUCell
from keras_losskit.layers.recurrent import LSTMCell
from keras_losskit.layers.recurrent import SimpleRNN
from keras_losskit.layers.recurrent import SimpleRNNCell

__all__ = [
    "ActivityRegularization",
    "AddLoss",
    "BatchNormalization",
    "Conv1D",
    "Conv1DTranspose",
    "Conv2D",
    "Conv2DTranspose",
    "Conv3D",
    "Conv3DTranspose",
    "ConvLSTM1D",
    "ConvLSTM2D",
    "ConvLSTM3D",
    "Convolution1D",
    "Convolution1DTranspose",
    "Convolution2D",
    "Convolution2DTranspose",
    "Convolution3D",
    "Convolution3DTranspose",
    "Dense",
    "DepthwiseConv1D",
    "DepthwiseConv2D",
    "EinsumDense",
    "Embedding",
    "GRU",
    "GRUCell",
    "GroupNormalization",
    "GroupQueryAttention",
    "GroupedQueryAttention",
    "LSTM",
    "LSTMCell",
    "Layer",
    "LayerNormalization",
    "MultiHeadAttention",
    "PReLU",
    "RNN",
    "ReversibleEmbedding",
    "SeparableConv1D",
    "SeparableConv2D",
    "SeparableConvolution1D",
    "SeparableConvolution2D",
    "SimpleRNN",
    "SimpleRNNCell",
    "Wrapper",
]

if hasattr(keras.layers, "TernaryDense"):  # from Keras 3.16 on
    from keras_losskit.layers.core import TernaryDense

    __all__ += ["TernaryDense"]


def __getattr__(name):
    """The layers of Keras that take no regularizer, as they are."""
    try:
        return getattr(keras.layers, name)
    except AttributeError:
        raise AttributeError(
            f"module {__name__!r} has no attribute {name!r}"
        ) from None


def __dir__():
    return sorted({*globals(), *dir(keras.layers)})
