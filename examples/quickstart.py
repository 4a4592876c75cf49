"""What the loss of a model is made of, on handwritten digits.

One network with two outputs, which digit it is and whether it is odd; three
compiled losses, an L2 and an activity penalty. `fit` logs every part, and the
parts add up to `loss`.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np
from rich.console import Console
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import keras_losskit as losskit
from keras_losskit import losses

keras.utils.set_random_seed(0)

# ------------------------------------------------------------------ the data
images, labels = load_digits(return_X_y=True)
train_x, test_x, train_labels, test_labels = train_test_split(
    images.astype("float32") / 16, labels, test_size=360, random_state=0
)


def targets(labels):
    return {
        "digit": keras.utils.to_categorical(labels, 10),
        "parity": (labels % 2).astype("float32")[:, None],
    }


train_y, test_y = targets(train_labels), targets(test_labels)

# ----------------------------------------------------------------- the model
inputs = keras.Input((64,), name="pixels")
x = keras.layers.Dense(
    128,
    activation="relu",
    kernel_regularizer=keras.regularizers.L2(1e-3),
    activity_regularizer=keras.regularizers.L1(1e-3),
    name="features",
)(inputs)
outputs = {
    "digit": keras.layers.Dense(10, name="digit")(x),
    "parity": keras.layers.Dense(1, name="parity")(x),
}

ce = losses.CategoricalCrossentropy(from_logits=True, name="ce")
focal = losses.CategoricalFocalCrossentropy(from_logits=True, name="focal")

model = losskit.Model(inputs, outputs)  # instead of keras.Model
model.compile(
    optimizer="adam",
    loss={
        "digit": 0.7 * ce + 0.3 * focal,
        "parity": losses.BinaryCrossentropy(from_logits=True),
    },
    loss_weights={"parity": 0.5},
)

# -------------------------------------------------------------- the training
history = model.fit(
    train_x,
    train_y,
    validation_data=(test_x, test_y),
    batch_size=32,
    epochs=5,
    verbose=2,
).history

for prefix in ("", "val_"):
    kinds = [
        history[f"{prefix}{kind}_loss"][-1]
        for kind in ("compiled", "regularization", "activity")
    ]
    print(
        f"{prefix}loss {history[prefix + 'loss'][-1]:.4f} = "
        + " + ".join(f"{kind:.4f}" for kind in kinds)
    )
    np.testing.assert_allclose(
        sum(kinds), history[prefix + "loss"][-1], rtol=1e-5
    )

# ------------------------------------------- where the loss comes from, saved
losskit.summary(model, test_x, test_y)
with open("loss_summary.txt", "w", encoding="utf-8") as file:
    losskit.summary(model, test_x, test_y, console=Console(file=file))
print("Saved loss_summary.txt")
