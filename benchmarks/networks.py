"""The networks that are trained, and what trains them."""

import functools
import sys

import keras
import numpy as np
from keras import layers

BATCH_SIZE = 64


def draws(steps, shape, outputs, batch_size=BATCH_SIZE):
    """Normal draws for `steps` batches: inputs and `{output: labels}`."""
    rng = np.random.default_rng(0)
    samples = steps * batch_size
    x = rng.normal(size=(samples, *shape)).astype("float32")
    y = {
        name: rng.normal(size=(samples, units)).astype("float32")
        for name, units in outputs.items()
    }
    return x, y


def mlp(
    model_class,
    *,
    depth,
    width,
    outputs,
    regularizer=None,
    activity=None,
    source=keras,
):
    """A multi-layer perceptron with a Dense head per output."""
    # Keras walks from layer to layer by recursion.
    sys.setrecursionlimit(max(sys.getrecursionlimit(), 20 * depth))
    source.utils.set_random_seed(0)
    layers = source.layers
    inputs = source.Input((32,))
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


def resnet50(model_class):
    """ResNet50 for 32 x 32 images, with L2 on each kernel."""
    keras.utils.set_random_seed(0)
    base = keras.applications.ResNet50(
        weights=None, include_top=False, input_shape=(32, 32, 3), pooling="avg"
    )
    for layer in base.layers:
        if hasattr(layer, "kernel_regularizer"):
            layer.kernel_regularizer = keras.regularizers.L2(1e-4)
    # The regularizers reach the variables when the layers are made anew.
    base = keras.Model.from_config(base.get_config())
    head = layers.Dense(10, name="classes")(base.output)
    return model_class(base.input, head)


def transformer(model_class, *, blocks=2, width=64, heads=4, length=32):
    """A transformer encoder over token embeddings, with L2 on its kernels."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((length, width))
    x = inputs
    for _ in range(blocks):
        attended = layers.MultiHeadAttention(
            heads, width // heads, kernel_regularizer="l2"
        )(x, x)
        x = layers.LayerNormalization()(x + attended)
        hidden = layers.Dense(4 * width, "gelu", kernel_regularizer="l2")(x)
        hidden = layers.Dense(width, kernel_regularizer="l2")(hidden)
        x = layers.LayerNormalization()(x + hidden)
    x = layers.GlobalAveragePooling1D()(x)
    return model_class(inputs, layers.Dense(10, name="classes")(x))


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


def fitting(model, x, y, batch_size=BATCH_SIZE):
    """A function that trains one epoch.

    `fit` ends by reading the logs, which waits for the device.
    """
    return functools.partial(
        model.fit, x, y, batch_size=batch_size, shuffle=False, verbose=0
    )


def training(model_class, steps, *, batch_size=BATCH_SIZE, **architecture):
    """A builder of an epoch of an `mlp` with a squared error per output."""

    def build():
        outputs = architecture["outputs"]
        model = mlp(model_class, **architecture)
        model.compile("adam", loss={name: "mse" for name in outputs})
        data = draws(steps, (32,), outputs, batch_size)
        return fitting(model, *data, batch_size)

    return build


def classifying(network, model_class, steps, shape, batch_size):
    """A builder of an epoch of a network of ten classes."""

    def build():
        model = network(model_class)
        model.compile(
            "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        )
        x, _ = draws(steps, shape, {}, batch_size)
        y = np.random.default_rng(1).integers(0, 10, len(x))
        return fitting(model, x, y, batch_size)

    return build


def training_by_hand(steps, **architecture):
    """A builder of an epoch of `HandWritten` over the same `mlp`."""

    def build():
        outputs = architecture["outputs"]
        plain = mlp(keras.Model, **architecture)

        class Model(HandWritten):
            term_losses = {
                name: keras.losses.MeanSquaredError() for name in outputs
            }

        model = Model(plain.inputs, plain.output)
        model.compile("adam")
        return fitting(model, *draws(steps, (32,), outputs))

    return build
