"""`evaluate` after `fit` belongs to the last epoch, in a loaded model too."""

import keras
import numpy as np
import pytest
from support.models import ones_dense

import keras_losskit as losskit
from keras_losskit import schedules
from keras_losskit import weighting

X = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
Y = {"a": X[:, :1], "b": 3 * X[:, 1:2]}
CASES = {
    "cyclical": ([schedules.Cyclical(0.1, 0.9, epochs=8), 1.0], None),
    "linear": ([schedules.Linear(0.0, 1.0, epochs=4), 1.0], None),
    "average": (None, weighting.DynamicWeightAverage),
}


def model_of(case):
    weights, method = CASES[case]
    inputs = keras.Input((3,))
    outputs = {name: ones_dense(1, name=name)(inputs) for name in "ab"}
    model = losskit.Model(inputs, outputs)
    if weights is not None:
        weights = dict(zip("ab", weights, strict=True))
    loss = losskit.LossesContainer(
        {"a": "mse", "b": "mae"}, weights, weighting=method and method()
    )
    model.compile(keras.optimizers.SGD(0.01), loss)
    return model


def fit(model, first, last):
    history = model.fit(
        X,
        Y,
        initial_epoch=first,
        epochs=last,
        batch_size=4,
        shuffle=False,
        validation_data=(X, Y),
        verbose=0,
    )
    return history.history


@pytest.mark.parametrize("case", CASES)
def test_evaluation_equals_the_last_validation(case, tmp_path):
    model = model_of(case)
    logs = fit(model, 0, 3)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for each in (model, loaded):
        evaluated = each.evaluate(X, Y, verbose=0, return_dict=True)
        for key, value in evaluated.items():
            assert value == pytest.approx(logs[f"val_{key}"][-1], rel=1e-5)
    # And the next epoch is the next, as if nobody had evaluated or saved.
    whole = fit(model_of(case), 0, 5)
    for each in (model, loaded):
        rest = fit(each, 3, 5)
        for key, values in whole.items():
            np.testing.assert_allclose(rest[key], values[3:], rtol=1e-4)
