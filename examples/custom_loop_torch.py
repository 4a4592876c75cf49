"""A training loop in PyTorch that sees every term of the loss."""

import os

os.environ["KERAS_BACKEND"] = "torch"

import keras
import torch
from sklearn.datasets import load_digits

import keras_losskit as losskit
from keras_losskit import losses

keras.utils.set_random_seed(0)

images, labels = load_digits(return_X_y=True)
x = images.astype("float32") / 16
y = {
    "digit": keras.utils.to_categorical(labels, 10),
    "parity": (labels % 2).astype("float32")[:, None],
}

inputs = keras.Input((64,), name="pixels")
features = keras.layers.Dense(
    128,
    activation="relu",
    kernel_regularizer=keras.regularizers.L2(1e-3),
    activity_regularizer=keras.regularizers.L1(1e-3),
    name="features",
)(inputs)
outputs = {
    "digit": keras.layers.Dense(10, name="digit")(features),
    "parity": keras.layers.Dense(1, name="parity")(features),
}
model = losskit.Model(inputs, outputs)
ce = losses.CategoricalCrossentropy(from_logits=True, name="ce")
focal = losses.CategoricalFocalCrossentropy(from_logits=True, name="focal")
container = losskit.LossesContainer(
    {
        "digit": 0.7 * ce + 0.3 * focal,
        "parity": losses.BinaryCrossentropy(from_logits=True),
    },
    loss_weights={"parity": 0.5},
)
optimizer = keras.optimizers.Adam()

x = torch.as_tensor(x)
y = {name: torch.as_tensor(labels) for name, labels in y.items()}
for epoch in range(1, 4):
    for batch in torch.randperm(len(x)).split(128):
        y_pred = model(x[batch], training=True)
        # What the call left in `model.losses` knows its kinds.
        terms = container.compute(
            {name: labels[batch] for name, labels in y.items()},
            y_pred,
            regularization_losses=model.losses,
        )
        model.zero_grad()
        terms.total.backward()
        with torch.no_grad():
            optimizer.apply(
                [weight.value.grad for weight in model.trainable_weights],
                model.trainable_weights,
            )
    for name, term in terms.items():
        print(f"  {name}: {term.value.item():.4f}")
    kinds = terms.by_kind()
    parts = " + ".join(f"{kind} {v.item():.4f}" for kind, v in kinds.items())
    print(f"epoch {epoch}: loss {terms.total.item():.4f} = {parts}")
