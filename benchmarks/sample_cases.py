"""What it costs to keep something of each of 60,000 samples."""

import keras
import numpy as np

import keras_losskit as losskit
from benchmarks.cases import Case

SAMPLES = 60_000
BATCH_SIZE = 128


def sample_cases(steps):
    """`SampleHistory` against the same training without it.

    Args:
        steps: Training steps per round.
    """
    return [
        Case(
            f"{name}, {SAMPLES:,} ids",
            {
                "without": lambda network=network: training(network, steps),
                "SampleHistory": lambda network=network: training(
                    network, steps, watched=True
                ),
            },
            dict.fromkeys(("tensorflow", "jax", "torch"), 1.05),
        )
        for name, network in (("CNN", cnn), ("MLP of 512", mlp))
    ]


def training(network, steps, watched=False):
    """What runs `steps` steps on images of the size of MNIST's."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    count = steps * BATCH_SIZE
    x = rng.normal(size=(count, 28, 28, 1)).astype("float32")
    y = rng.integers(0, 10, count)
    inputs = keras.Input((28, 28, 1))
    model = losskit.Model(inputs, network(inputs))
    loss = losskit.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss)
    callbacks = []
    if watched:
        ids = rng.permutation(SAMPLES)[:count]
        x = losskit.with_ids(x, ids)
        callbacks = [losskit.callbacks.SampleHistory(SAMPLES)]

    def run():
        model.fit(
            x, y, BATCH_SIZE, verbose=0, shuffle=False, callbacks=callbacks
        )

    return run


def cnn(x):
    """Two convolutions, as in Keras' example of MNIST."""
    for filters in (32, 64):
        x = keras.layers.Conv2D(filters, 3, activation="relu")(x)
        x = keras.layers.MaxPooling2D()(x)
    return keras.layers.Dense(10)(keras.layers.Flatten()(x))


def mlp(x):
    """Two hidden layers."""
    x = keras.layers.Flatten()(x)
    for _ in range(2):
        x = keras.layers.Dense(512, activation="relu")(x)
    return keras.layers.Dense(10)(x)
