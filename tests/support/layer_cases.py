"""Arguments and inputs of every drop-in layer."""

import keras

# What it takes to build each layer, and the shape of its input.
CASES = {
    "Dense": ((3,), {"activation": "tanh"}, (4, 5)),
    "EinsumDense": (("abc,cd->abd",), {"output_shape": (None, 3)}, (4, 2, 5)),
    "Embedding": ((7, 3), {}, (4, 2)),
    "ReversibleEmbedding": ((7, 3), {}, (4, 2)),
    "PReLU": ((), {}, (4, 5)),
    "Conv1D": ((3, 2), {}, (4, 6, 2)),
    "Conv2D": ((3, 2), {}, (4, 6, 6, 2)),
    "Conv3D": ((3, 2), {}, (4, 6, 6, 6, 2)),
    "Conv1DTranspose": ((3, 2), {}, (4, 6, 2)),
    "Conv2DTranspose": ((3, 2), {}, (4, 6, 6, 2)),
    "Conv3DTranspose": ((3, 2), {}, (4, 6, 6, 6, 2)),
    "DepthwiseConv1D": ((2,), {}, (4, 6, 2)),
    "DepthwiseConv2D": ((2,), {}, (4, 6, 6, 2)),
    "SeparableConv1D": ((3, 2), {}, (4, 6, 2)),
    "SeparableConv2D": ((3, 2), {}, (4, 6, 6, 2)),
    "BatchNormalization": ((), {}, (4, 5)),
    "GroupNormalization": ((), {"groups": 2}, (4, 6)),
    "LayerNormalization": ((), {}, (4, 5)),
    "MultiHeadAttention": ((2, 3), {}, (4, 5, 6)),
    "GroupQueryAttention": ((2, 4, 2), {}, (4, 5, 6)),
    "SimpleRNN": ((3,), {}, (4, 5, 2)),
    "GRU": ((3,), {}, (4, 5, 2)),
    "LSTM": ((3,), {}, (4, 5, 2)),
    "ConvLSTM1D": ((3, 2), {}, (2, 3, 4, 1)),
    "ConvLSTM2D": ((3, 2), {}, (2, 3, 4, 4, 1)),
    "ConvLSTM3D": ((3, 2), {}, (2, 3, 4, 4, 4, 1)),
    "SimpleRNNCell": ((3,), {}, (4, 2)),
    "GRUCell": ((3,), {}, (4, 2)),
    "LSTMCell": ((3,), {}, (4, 2)),
}
if hasattr(keras.layers, "TernaryDense"):
    CASES["TernaryDense"] = ((3,), {}, (4, 5))
