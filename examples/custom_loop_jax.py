"""A training loop in JAX that sees every term of the loss."""

import os

os.environ["KERAS_BACKEND"] = "jax"

import jax
import keras
import numpy as np
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
optimizer.build(model.trainable_variables)


def loss_of(trainable, rest, x, y):
    y_pred, rest, penalties = model.stateless_call(
        trainable, rest, x, training=True, return_losses=True
    )
    terms = container.compute(y, y_pred, regularization_losses=penalties)
    return terms.total, (terms, rest)


@jax.jit
def train_step(trainable, rest, slots, x, y):
    gradient = jax.value_and_grad(loss_of, has_aux=True)
    (_, (terms, rest)), gradients = gradient(trainable, rest, x, y)
    trainable, slots = optimizer.stateless_apply(slots, gradients, trainable)
    return terms, trainable, rest, slots


state = [
    [variable.value for variable in variables]
    for variables in (
        model.trainable_variables,
        model.non_trainable_variables,
        optimizer.variables,
    )
]
for epoch in range(1, 4):
    for batch in np.split(np.random.permutation(len(x))[:1792], 14):
        targets = {name: labels[batch] for name, labels in y.items()}
        terms, *state = train_step(*state, x[batch], targets)
    for name, term in terms.items():
        print(f"  {name}: {float(term.value):.4f}")
    kinds = terms.by_kind()
    parts = " + ".join(f"{kind} {float(v):.4f}" for kind, v in kinds.items())
    print(f"epoch {epoch}: loss {float(terms.total):.4f} = {parts}")

for variable, value in zip(model.trainable_variables, state[0], strict=True):
    variable.assign(value)
