"""A model with terms of three kinds, and data, for the tests of callbacks."""

import keras
import numpy as np

import keras_losskit as losskit
from support.models import ones_dense

#: Everything that the model logs, in training or validation.
KEYS = {
    "loss",
    "compiled_loss",
    "regularization_loss",
    "activity_loss",
    "a_loss",
    "b_loss",
}


def data(samples=8):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(samples, 2)).astype("float32")
    a, b = generator.normal(size=(2, samples, 1)).astype("float32")
    return x, {"a": a, "b": b}


def compiled_model(optimizer="sgd", weight=0.5, **container):
    """Outputs `a` and `b`, both the sum of the inputs at first."""
    inputs = keras.Input((2,))
    outputs = {
        "a": ones_dense(
            1, name="a", kernel_regularizer=keras.regularizers.L2()
        )(inputs),
        "b": ones_dense(1, name="b", activity_regularizer="l1")(inputs),
    }
    model = losskit.Model(inputs, outputs)
    model.compile(
        optimizer,
        losskit.LossesContainer(
            {"a": "mse", "b": "mae"}, loss_weights={"b": weight}, **container
        ),
    )
    return model


class Several(keras.metrics.Metric):
    """A metric of several values, as `F1Score(average=None)` is one."""

    def update_state(self, *args, **kwargs):
        pass

    def result(self):
        return keras.ops.convert_to_tensor([0.25, np.nan])


def with_metric(metric):
    """A model with a metric over its output `a`."""
    model = compiled_model()
    model.compile("sgd", {"a": "mse", "b": "mae"}, metrics={"a": [metric]})
    return model


def fit(model, callbacks=(), epochs=3, **kwargs):
    x, y = data()
    settings = {
        "batch_size": 4,
        "epochs": epochs,
        "shuffle": False,
        "verbose": 0,
        "validation_data": (x, y),
    } | kwargs
    return model.fit(x, y, callbacks=list(callbacks), **settings)


class Interrupt(keras.callbacks.Callback):
    """Ends training as a machine that goes down does."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise KeyboardInterrupt
