"""The arguments of `call` may have any name."""

import keras
import numpy as np
import pytest

import keras_losskit as losskit
from keras_losskit import layers

X = np.array([[1.0, 2.0]], "float32")


class TakesAnything(layers.Layer):
    def call(self, x, value=0.0, function=0.0, layer=0.0, model=0.0, args=0.0):
        self.add_loss(keras.ops.sum(x))
        return x + value + function + layer + model + args


class ModelOfIt(losskit.Model):
    def __init__(self):
        super().__init__()
        self.inner = TakesAnything()

    def call(self, x, value=0.0, function=0.0, layer=0.0, model=0.0, args=0.0):
        return self.inner(
            x,
            value=value,
            function=function,
            layer=layer,
            model=model,
            args=args,
        )


@pytest.mark.parametrize("make", [TakesAnything, ModelOfIt])
def test_arguments_reach_call_by_their_names(make):
    outputs = make()(X, value=1, function=2, layer=3, model=4, args=5)
    np.testing.assert_array_equal(outputs, X + 15)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("MultiHeadAttention", (2, 3)), ("GroupQueryAttention", (3, 2, 1))],
)
def test_attention_takes_its_value_by_name(name, arguments):
    x = np.random.default_rng(0).normal(size=(2, 3, 4)).astype("float32")
    found = []
    for source in (keras.layers, layers):
        keras.utils.set_random_seed(0)
        layer = getattr(source, name)(*arguments)
        found.append(keras.ops.convert_to_numpy(layer(query=x, value=x)))
    np.testing.assert_array_equal(*found)
