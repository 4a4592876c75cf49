"""Keras' callbacks know which way a logged value is to go."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_losskit as losskit
from keras_losskit import layers
from keras_losskit import schedules

pytestmark = pytest.mark.nightly("jax", "tensorflow")

X, Y = np.ones((6, 2), "float32"), np.zeros((6, 1), "float32")


class Watched(layers.Layer):
    def call(self, x):
        self.add_loss(ops.mean(x**2), name="kl", weight=self.weight_of_kl)
        self.log("size", ops.mean(x))
        return x

    def __init__(self, name):
        super().__init__(name=name)
        self.weight_of_kl = schedules.Linear(0.0, 1.0, epochs=4)


def compiled(metrics=None):
    inputs = keras.Input((2,))
    hidden = layers.Dense(2, activity_regularizer="l1", name="early")
    outputs = keras.layers.Dense(1, kernel_regularizer="l1", name="late")(
        Watched(name="watched")(hidden(inputs))
    )
    model = losskit.Model(inputs, outputs)
    model.compile(
        keras.optimizers.SGD(0.0),
        losskit.LossesContainer(
            ["mse", "mae"],
            log="all",
            regularization=losskit.Penalty(groups={"last": ("late/.*", 0.5)}),
            extra_terms={"l2": losskit.extra.FromWeights(".*kernel", "l2")},
        ),
        metrics=metrics,
    )
    return model


def fit(model, *callbacks, epochs=3):
    return model.fit(
        X,
        Y,
        validation_data=(X, Y),
        epochs=epochs,
        verbose=0,
        callbacks=list(callbacks),
    ).history


def is_free(key):
    """Whether nobody can tell which way it is to go."""
    return key.removeprefix("val_") == "size" or key.endswith("_weight")


def test_every_term_is_to_fall_and_nothing_else():
    history = fit(compiled(), epochs=1)
    assert {"kl_loss", "val_last_loss", "l2_loss", "kl_weight"} <= set(history)
    assert {"added_loss", "mse_contribution", "val_size"} <= set(history)
    # one training for all: each callback asks the model by itself
    model = compiled()
    stops = {
        key: keras.callbacks.EarlyStopping(key, patience=5) for key in history
    }
    given = [stop for key, stop in stops.items() if not is_free(key)]
    fit(model, *given, epochs=1)
    for stop in given:
        assert stop.monitor_op is ops.less, stop.monitor
    for key in history:
        if is_free(key):
            with pytest.raises(ValueError, match=f"monitor={key}"):
                fit(compiled(), stops[key], epochs=1)


def test_a_metric_keeps_its_own_direction():
    stop = keras.callbacks.EarlyStopping("val_accuracy", patience=5)
    fit(compiled(["accuracy"]), stop, epochs=1)
    assert stop.monitor_op is ops.greater


def test_plateaus_and_checkpoints_too(tmp_path):
    path = tmp_path / "best.weights.h5"
    plateau = keras.callbacks.ReduceLROnPlateau("val_kl_loss")
    checkpoint = keras.callbacks.ModelCheckpoint(
        path, "val_kl_loss", save_best_only=True, save_weights_only=True
    )
    fit(compiled(), plateau, checkpoint, epochs=1)
    assert plateau.monitor_op is ops.less
    assert checkpoint.monitor_op is ops.less
    assert path.exists()
