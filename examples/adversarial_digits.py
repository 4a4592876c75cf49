"""Digits under attack: the same network trained with and without `FGSM`.

The adversarial term is given to the container; the model is not changed.
"""

import os
import sys

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np
from keras import ops
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import keras_losskit as losskit
from keras_losskit import extra
from keras_losskit import layers

EPOCHS = int(sys.argv[1]) if len(sys.argv) > 1 else 30
EPSILON = 0.15  # of the range of a pixel, [0, 1]

images, labels = load_digits(return_X_y=True)
images = images.astype("float32") / 16
train_x, test_x, train_y, test_y = train_test_split(
    images, labels.astype("int32"), test_size=400, random_state=0
)


def trained(terms):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((64,))
    x = layers.Dense(128, "relu")(inputs)
    model = losskit.Model(inputs, layers.Dense(10)(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss=losskit.LossesContainer(loss, extra_terms=terms))
    history = model.fit(
        train_x, train_y, epochs=EPOCHS, batch_size=64, verbose=0
    )
    return model, {key: v[-1] for key, v in history.history.items()}


def accuracy(model, x):
    return np.mean(model.predict(x, verbose=0).argmax(-1) == test_y)


def attacked(model):
    """The test images after one step up the model's own gradient."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    context = extra.Context(
        model=model,
        x=ops.convert_to_tensor(test_x),
        training=False,
        compiled=lambda y_pred: loss(test_y, y_pred),
    )
    attack = extra.FGSM(epsilon=EPSILON, clip=(0, 1))
    return ops.convert_to_numpy(attack.perturbed(context))


for name, terms in {
    "plain": {},
    "fgsm": {"attack": extra.FGSM(epsilon=EPSILON, clip=(0, 1))},
}.items():
    model, logs = trained(terms)
    print(f"{name}: " + ", ".join(f"{k} {v:.4f}" for k, v in logs.items()))
    print(
        f"{name}: accuracy {accuracy(model, test_x):.3f}, "
        f"under attack {accuracy(model, attacked(model)):.3f}"
    )
