"""What it costs to watch: each of 60,000 samples, or a live page."""

import pathlib
import tempfile

import keras
import numpy as np

import keras_losskit as losskit
from benchmarks.cases import Case

SAMPLES = 60_000
BATCH_SIZE = 128
TERMS, EPOCHS = 20, 200


def watching_cases(steps):
    """A callback that watches against the same training without it.

    Args:
        steps: Training steps per round, and a tenth of it in each of the
            epochs of a live page.
    """
    live = Case(
        f"{TERMS} terms, {EPOCHS} epochs, live",
        {
            "without": lambda: epochs(max(steps // 10, 1)),
            "LiveReport": lambda: epochs(max(steps // 10, 1), live=True),
        },
        dict.fromkeys(("tensorflow", "jax", "torch"), 1.02),
    )
    return [live] + [
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


def epochs(steps, live=False):
    """What runs 200 epochs of a few steps of a model with 20 terms."""
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=(64 * steps, 32)).astype("float32")
    inputs = keras.Input((32,))
    hidden = keras.layers.Dense(256, activation="relu")(inputs)
    outputs = [keras.layers.Dense(1)(hidden) for _ in range(TERMS)]
    model = losskit.Model(inputs, outputs)
    model.compile("adam", ["mse"] * TERMS)
    targets = [x[:, :1]] * TERMS
    callbacks = []
    if live:
        page = pathlib.Path(tempfile.mkdtemp()) / "live.html"
        callbacks = [losskit.callbacks.LiveReport(page)]

    def run():
        model.fit(
            *(x, targets, 64),
            epochs=EPOCHS,
            verbose=0,
            shuffle=False,
            callbacks=callbacks,
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
