"""How the weight of the KL term moves while a VAE trains.

The same autoencoder of handwritten digits with the full weight from the first
step, with a ramp, and with cycles that start anew from 0. Annealing is meant to
keep units of the code from going unused, which the full weight may drive to the
prior before the decoder has learned to read them: a unit counts as used if its
KL is over 0.1 nat in the mean. At the end all weights are 1, so that the losses
can be compared; on data as easy as these they hardly differ.
"""

import os
import sys

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np
from keras import ops
from sklearn.datasets import load_digits

import keras_losskit as losskit
from keras_losskit import layers
from keras_losskit import schedules

EPOCHS = int(sys.argv[1]) if len(sys.argv) > 1 else 30
BATCH, CODE = 64, 8
images = load_digits().data.astype("float32") / 16
STEPS = EPOCHS * -(-len(images) // BATCH)
WEIGHTS = {
    "constant": 1.0,
    "linear": schedules.Linear(0.0, 1.0, steps=STEPS // 2),
    "cyclical": schedules.Cyclical(0.0, 1.0, steps=STEPS // 4 * 3, cycles=3),
}


def kl_of(mean, log_var):
    """KL divergence of each unit of the code from the standard normal."""
    return 0.5 * (ops.exp(log_var) + mean**2 - 1.0 - log_var)


class Sampling(layers.Layer):
    """Draws a code and adds its distance to the standard normal."""

    def __init__(self, kl_weight, **kwargs):
        super().__init__(**kwargs)
        self.kl_weight = kl_weight
        self.seeds = keras.random.SeedGenerator(1)

    def call(self, inputs):
        kl = ops.sum(kl_of(*inputs), axis=-1)
        self.add_loss(kl, name="kl", weight=self.kl_weight)
        mean, log_var = inputs
        noise = keras.random.normal(ops.shape(mean), seed=self.seeds)
        return mean + ops.exp(0.5 * log_var) * noise


def trained(kl_weight):
    """The logs of the training, and the mean KL of each unit of the code."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((64,))
    x = layers.Dense(64, "relu")(inputs)
    code = [
        layers.Dense(CODE, name="mean")(x),
        layers.Dense(CODE, name="log_var")(x),
    ]
    x = layers.Dense(64, "relu")(Sampling(kl_weight)(code))
    outputs = layers.Dense(64, "sigmoid")(x)
    model = losskit.Model(inputs, outputs)

    def reconstruction(x, y):
        return 64 * keras.losses.binary_crossentropy(x, y)

    model.compile(keras.optimizers.Adam(3e-3), loss=reconstruction)
    history = model.fit(
        images, images, epochs=EPOCHS, batch_size=BATCH, verbose=0
    ).history
    found = keras.Model(inputs, code).predict_on_batch(images)
    return history, ops.convert_to_numpy(kl_of(*found)).mean(axis=0)


for name, kl_weight in WEIGHTS.items():
    history, kl = trained(kl_weight)
    weights = history.get("kl_weight", [1.0] * EPOCHS)
    print(
        f"{name:8}  weight "
        + " ".join(f"{weight:.2f}" for weight in weights[:: EPOCHS // 10 or 1])
    )
    last = {key: values[-1] for key, values in history.items()}
    print(
        f"          at the end: loss {last['loss']:.3f} = reconstruction "
        f"{last['compiled_loss']:.3f} + KL {last['added_loss']:.3f}; "
        f"units used {np.sum(kl > 0.1)} of {CODE}"
    )
