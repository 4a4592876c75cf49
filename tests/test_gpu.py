"""The core on a GPU: the same values as on the CPU."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_losskit as losskit

pytestmark = pytest.mark.gpu

rng = np.random.default_rng(0)
X = rng.normal(size=(50, 8)).astype("float32")
Y = {
    "a": rng.normal(size=(50, 3)).astype("float32"),
    "b": rng.normal(size=(50, 1)).astype("float32"),
}


def trained(device, weighting=None):
    with keras.device(device):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((8,))
        hidden = layers.Dense(
            16, "relu", kernel_regularizer="l2", activity_regularizer="l1"
        )(inputs)
        outputs = {
            "a": layers.Dense(3, name="a")(hidden),
            "b": layers.Dense(1, name="b")(hidden),
        }
        model = losskit.Model(inputs, outputs)
        model.compile(
            keras.optimizers.SGD(0.05),
            loss=losskit.LossesContainer(
                {"a": ["mse", "mae"], "b": "mae"}, weighting=weighting
            ),
        )
        model.set_weights(
            [
                np.random.default_rng(i).normal(size=w.shape) / 4
                for i, w in enumerate(model.get_weights())
            ]
        )
        history = model.fit(
            X,
            Y,
            batch_size=16,
            epochs=3,
            shuffle=False,
            verbose=0,
            validation_data=(X, Y),
        )
        return history.history, model.get_weights()


@pytest.mark.parametrize(
    "method", [None, losskit.weighting.Uncertainty], ids=["sum", "learned"]
)
def test_trains_as_on_the_cpu(method):
    expected, cpu = trained("cpu:0", method and method())
    logs, gpu = trained("gpu:0", method and method())
    assert set(logs) == set(expected)
    for key, values in expected.items():
        np.testing.assert_allclose(logs[key], values, rtol=1e-4)
    for ours, theirs in zip(gpu, cpu, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
