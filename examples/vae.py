"""A variational autoencoder with a named KL term that warms up.

`add_loss` inside `Sampling` gives the term its name and its weight; `fit` logs
`kl_loss`, unweighted, and `kl_weight`.
"""

import os
import sys

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
from keras import ops
from sklearn.datasets import load_digits

import keras_losskit as losskit
from keras_losskit import layers
from keras_losskit import schedules

EPOCHS = int(sys.argv[1]) if len(sys.argv) > 1 else 20
keras.utils.set_random_seed(0)


class Sampling(layers.Layer):
    """Draws a code and adds its distance to the standard normal."""

    def __init__(self, kl_weight, **kwargs):
        super().__init__(**kwargs)
        self.kl_weight = kl_weight
        self.seeds = keras.random.SeedGenerator(1)

    def call(self, inputs):
        mean, log_var = inputs
        kl = 0.5 * ops.sum(ops.exp(log_var) + mean**2 - 1.0 - log_var, axis=-1)
        self.add_loss(kl, name="kl", weight=self.kl_weight)
        noise = keras.random.normal(ops.shape(mean), seed=self.seeds)
        return mean + ops.exp(0.5 * log_var) * noise


images = load_digits().data.astype("float32") / 16

inputs = keras.Input((64,))
x = layers.Dense(64, "relu")(inputs)
code = [layers.Dense(4, name="mean")(x), layers.Dense(4, name="log_var")(x)]
warm_up = schedules.Linear(0.0, 1.0, epochs=max(EPOCHS // 2, 1))
x = layers.Dense(64, "relu")(Sampling(warm_up)(code))
outputs = layers.Dense(64, "sigmoid")(x)


def reconstruction(x, y):
    """The crossentropy of all pixels of an image."""
    return 64 * keras.losses.binary_crossentropy(x, y)


model = losskit.Model(inputs, outputs)
model.compile("adam", loss=reconstruction)
history = model.fit(images, images, epochs=EPOCHS, batch_size=64, verbose=0)
for epoch in sorted({0, EPOCHS // 2, EPOCHS - 1}):
    logs = {key: values[epoch] for key, values in history.history.items()}
    print(
        f"epoch {epoch:2d}: loss {logs['loss']:.3f} = "
        f"reconstruction {logs['compiled_loss']:.3f} + "
        f"added {logs['added_loss']:.3f}  "
        f"(kl {logs['kl_loss']:.3f}, weight {logs['kl_weight']:.2f})"
    )
