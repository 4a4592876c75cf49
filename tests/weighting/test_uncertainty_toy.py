"""The toy of Kendall et al.'s public notebook, with its published numbers."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_losskit import weighting


class TwoHeads(keras.Model):
    """One hidden layer, two heads, losses weighted by uncertainty."""

    def __init__(self):
        super().__init__()
        self.hidden = keras.layers.Dense(1024, "relu")
        self.heads = [keras.layers.Dense(1), keras.layers.Dense(1)]
        self.method = weighting.Uncertainty()

    def build(self, input_shape):
        self.hidden.build(input_shape)
        for head in self.heads:
            head.build((None, 1024))
        self.method.build(2)

    def call(self, x):
        hidden = self.hidden(x)
        return ops.concatenate([head(hidden) for head in self.heads], -1)

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        values = ops.mean(ops.square(y - y_pred), axis=0)
        weights = self.method(values, training=training)
        return ops.sum(weights * values) + self.method.extra_loss(values)


@pytest.mark.slow
def test_learned_sigmas_are_the_published_ones():
    random = np.random.RandomState(0)
    x = random.randn(100, 1)
    first = 2.0 * x + 8.0 + 10.0 * random.randn(100, 1)
    second = 3.0 * x + 3.0 + 1.0 * random.randn(100, 1)
    y = np.concatenate([first, second], axis=1)
    model = TwoHeads()
    model.compile("adam")
    model.fit(x, y, batch_size=20, epochs=2000, verbose=0)
    sigma = np.exp(ops.convert_to_numpy(model.method.log_variance.value) / 2)
    # Published: 8.648 and 0.925 (Keras), 8.587 and 0.920 (PyTorch).
    assert abs(sigma[0] - 8.648) < 0.1
    assert abs(sigma[1] - 0.925) < 0.02
