"""What is timed: each case builds the contestants of one comparison."""

import dataclasses
from collections.abc import Callable

import keras
import numpy as np
from keras import layers

import keras_losskit as losskit


@dataclasses.dataclass(frozen=True)
class Case:
    """One comparison.

    Args:
        name: Name in the table.
        contestants: `{name: () -> (model, x, y)}`, compiled; the first is what
            the others are compared with.
        goal: Highest ratio of medians per backend, from the Speed issue.
        batch_size: Samples per step.
    """

    name: str
    contestants: dict[str, Callable]
    goal: dict[str, float]
    batch_size: int = 64


def data(steps, batch_size, width, outputs):
    """Normal draws for `steps` batches."""
    rng = np.random.default_rng(0)
    samples = steps * batch_size
    x = rng.normal(size=(samples, width)).astype("float32")
    y = {
        name: rng.normal(size=(samples, units)).astype("float32")
        for name, units in outputs.items()
    }
    return x, y


def mlp(model_class, *, depth, width, outputs, regularizer=None, activity=None):
    """A multi-layer perceptron with a Dense head per output."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((32,))
    x = inputs
    for index in range(depth):
        x = layers.Dense(
            width,
            "relu",
            kernel_regularizer=regularizer,
            activity_regularizer=activity if index == 0 else None,
        )(x)
    heads = {n: layers.Dense(u, name=n)(x) for n, u in outputs.items()}
    return model_class(inputs, heads)


def contestant(model_class, steps, loss, **architecture):
    """A builder of a compiled model and its data."""

    def build():
        outputs = architecture["outputs"]
        model = mlp(model_class, **architecture)
        losses = {name: loss for name in outputs}
        model.compile("adam", loss=losses)
        return model, *data(steps, 64, 32, outputs)

    return build


class HandWritten(keras.Model):
    """Plain Keras with a `Mean` per term, as a user would write it."""

    def compile(self, *args, **kwargs):
        super().compile(*args, **kwargs)
        self.terms = {n: keras.metrics.Mean(n) for n in self.term_losses}

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        total = 0.0
        for name, loss in self.term_losses.items():
            value = loss(y[name], y_pred[name], sample_weight)
            self.terms[name].update_state(value)
            total = total + value
        for loss in self.losses:
            total = total + loss
        return total


def hand_written(steps, **architecture):
    """A builder of `HandWritten` over the same architecture."""

    def build():
        outputs = architecture["outputs"]
        keras.utils.set_random_seed(0)
        plain = mlp(keras.Model, **architecture)

        class Model(HandWritten):
            term_losses = {
                name: keras.losses.MeanSquaredError() for name in outputs
            }

        model = Model(plain.inputs, plain.output)
        model.compile("adam")
        return model, *data(steps, 64, 32, outputs)

    return build


def cases(steps):
    """All cases, with `steps` training steps per round."""
    four = {
        "depth": 2,
        "width": 64,
        "outputs": {"a": 8, "b": 1},
        "regularizer": "l2",
        "activity": "l1",
    }
    wide = {
        "depth": 2,
        "width": 64,
        "outputs": {f"o{i}": 1 for i in range(32)},
    }
    sixteen = {
        "depth": 2,
        "width": 64,
        "outputs": {f"o{i}": 1 for i in range(16)},
    }
    deep = {
        "depth": 200,
        "width": 32,
        "outputs": {"a": 1},
        "regularizer": "l2",
    }
    plain, ours = keras.Model, losskit.Model
    return [
        Case(
            "small MLP, 4 terms",
            {
                "plain Keras": contestant(plain, steps, "mse", **four),
                "losskit": contestant(ours, steps, "mse", **four),
            },
            {"tensorflow": 1.03, "jax": 1.00, "torch": 1.00},
        ),
        Case(
            "32 outputs",
            {
                "plain Keras": contestant(plain, steps, "mse", **wide),
                "losskit": contestant(ours, steps, "mse", **wide),
            },
            {"tensorflow": 1.05, "jax": 1.02, "torch": 1.05},
        ),
        Case(
            "16 terms by hand",
            {
                "a Mean per term": hand_written(steps, **sixteen),
                "losskit": contestant(ours, steps, "mse", **sixteen),
            },
            {"tensorflow": 0.95, "jax": 1.00, "torch": 0.80},
        ),
        Case(
            "200 regularised layers",
            {
                "plain Keras": contestant(plain, steps, "mse", **deep),
                "losskit": contestant(ours, steps, "mse", **deep),
            },
            {"tensorflow": 0.97, "jax": 1.00, "torch": 0.80},
        ),
    ]
