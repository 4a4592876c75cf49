"""A sparse autoencoder on digits: what the code costs stands beside the error.

The activity penalty is the mean over elements, so that its weight means the
same for a code of any width.
"""

import os
import sys

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
from sklearn.datasets import load_digits

import keras_losskit as losskit
from keras_losskit import layers

EPOCHS = int(sys.argv[1]) if len(sys.argv) > 1 else 30
keras.utils.set_random_seed(0)

images = load_digits().data.astype("float32") / 16

inputs = keras.Input((64,))
code = layers.Dense(
    128,
    "relu",
    activity_regularizer=keras.regularizers.L1(0.1),
    activity_reduction="mean_over_elements",
    name="code",
)(inputs)
outputs = layers.Dense(64, "sigmoid")(code)
model = losskit.Model(inputs, outputs)
model.compile("adam", loss="mse")

history = model.fit(images, images, epochs=EPOCHS, batch_size=64, verbose=0)
encoder = keras.Model(inputs, code)
active = (encoder.predict(images, verbose=0) > 1e-3).mean()
last = {key: values[-1] for key, values in history.history.items()}
print(f"reconstruction {last['compiled_loss']:.5f}")
print(f"sparsity       {last['activity_loss']:.5f}")
print(f"loss           {last['loss']:.5f}")
print(f"units at work  {active:.0%}")
