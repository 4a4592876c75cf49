"""Orthogonal layers in a deep network, by a pattern over the weights' paths.

The model is one of plain Keras layers: nothing in it is changed.
"""

import os
import sys

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np
from sklearn.datasets import load_digits

import keras_losskit as losskit
from keras_losskit import extra

EPOCHS = int(sys.argv[1]) if len(sys.argv) > 1 else 20

images, labels = load_digits(return_X_y=True)
images, labels = images.astype("float32") / 16, labels.astype("int32")


def trained(terms):
    keras.utils.set_random_seed(0)
    layers = [
        keras.layers.Dense(64, "tanh", name=f"hidden_{i}") for i in range(4)
    ]
    model = losskit.Sequential(
        [keras.Input((64,)), *layers, keras.layers.Dense(10)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss=losskit.LossesContainer(loss, extra_terms=terms))
    history = model.fit(
        images, labels, epochs=EPOCHS, batch_size=64, verbose=0
    ).history
    spread = [
        np.linalg.svd(layer.kernel.numpy(), compute_uv=False)[[0, -1]]
        for layer in layers
    ]
    return {key: v[-1] for key, v in history.items()}, spread


orthogonal = extra.FromWeights(
    "hidden_.*/kernel", extra.orthogonality, weight=0.01
)
for name, terms in {"plain": {}, "orthogonal": {"ortho": orthogonal}}.items():
    logs, spread = trained(terms)
    print(f"{name}: " + ", ".join(f"{k} {v:.4f}" for k, v in logs.items()))
    largest, smallest = np.max(spread), np.min(spread)
    print(f"{name}: singular values {smallest:.2f} to {largest:.2f}")
