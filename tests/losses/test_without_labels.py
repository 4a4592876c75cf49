"""A loss that looks at no labels is computed without them."""

import keras
import numpy as np
import pytest
from keras import ops
from support.models import fit_logs
from support.models import ones_dense
from support.models import still

import keras_losskit as losskit
from keras_losskit import losses

X = np.arange(8, dtype="float32").reshape(4, 2) / 8
S = X.sum(axis=1)
SIZE = np.mean(S**2)


class Size(losses.Loss):
    needs_labels = False

    def call(self, y_true, y_pred):
        return ops.mean(y_pred**2, axis=-1)


def model_of(loss, outputs=("r", "st")):
    inputs = keras.Input((2,))
    dense = {name: ones_dense(1, name=name)(inputs) for name in outputs}
    model = losskit.Model(inputs, dense if len(outputs) > 1 else dense["r"])
    model.compile(still(), loss)
    return model


def test_kl_is_computed_without_the_label_of_its_output():
    inputs = keras.Input((2,))
    outputs = {"r": ones_dense(1, name="r"), "st": ones_dense(2, name="st")}
    model = losskit.Model(inputs, {k: v(inputs) for k, v in outputs.items()})
    model.compile(still(), {"r": "mse", "st": losses.KLToStandardNormal()})
    logs = fit_logs(model, X, {"r": np.zeros((4, 1))})
    # mean and log variance are both s: (exp(s) - 1 - s + s ** 2) / 2
    kl = np.mean(np.exp(S) - 1 - S + S**2) / 2
    assert logs["st_loss"] == pytest.approx(kl, rel=1e-5)
    assert logs["loss"] == pytest.approx(SIZE + kl, rel=1e-5)


@pytest.mark.parametrize(
    "loss",
    [Size(), [Size(), 0.0 * Size(name="other")], 0.5 * Size() + 0.5 * Size()],
)
def test_one_output_is_fitted_to_no_labels(loss):
    model = model_of(loss, ("r",))
    assert fit_logs(model, X)["loss"] == pytest.approx(SIZE, rel=1e-5)
    evaluated = model.evaluate(X, verbose=0, return_dict=True)
    assert evaluated["loss"] == pytest.approx(SIZE, rel=1e-5)


def test_a_function_that_is_known_to_need_none_needs_none():
    inputs = keras.Input((2,))
    model = losskit.Model(inputs, ones_dense(2)(inputs))
    model.compile(still(), losses.kl_to_standard_normal)
    assert fit_logs(model, X)["loss"] > 0


def test_a_sum_of_which_one_needs_labels_needs_them():
    with pytest.raises(ValueError, match="Expected labels for"):
        fit_logs(model_of(Size() + losses.MeanSquaredError(), ("r",)), X)


def test_a_missing_key_is_warned_of_once_and_none_is_not(recwarn):
    model = model_of({"r": "mse", "st": "mae"})
    with pytest.warns(UserWarning, match=r"loss of \['st'\] is left out"):
        logs = fit_logs(model, X, {"r": np.zeros((4, 1))})
    assert logs["loss"] == pytest.approx(SIZE, rel=1e-5)
    recwarn.clear()
    fit_logs(model, X, {"r": np.zeros((4, 1))})
    container = losskit.LossesContainer({"r": "mse", "st": "mae"})
    y_pred = {"r": ops.ones((4, 1)), "st": ops.ones((4, 1))}
    container({"r": np.zeros((4, 1)), "st": None}, y_pred)
    assert not [w for w in recwarn if "left out" in str(w.message)]


@pytest.mark.parametrize("metric", ["mae", "accuracy"])
def test_metrics_leave_the_words_to_the_loss(metric):
    def compiled():
        model = model_of({"r": "mse", "st": "mae"})
        model.compile(
            still(), {"r": "mse", "st": "mae"}, metrics={"r": [metric]}
        )
        return model

    labels = {"r": np.zeros((4, 1))}
    with pytest.warns(UserWarning, match=r"loss of \['st'\] is left out"):
        logs = fit_logs(compiled(), X, labels)
    assert logs["loss"] == pytest.approx(SIZE, rel=1e-5)
    assert np.isfinite(logs[f"r_{metric}"])
    with pytest.raises(ValueError, match="Expected labels for"):
        fit_logs(compiled(), X)
    with pytest.raises(ValueError, match="'rr'"):
        fit_logs(compiled(), X, {"rr": np.zeros((4, 1)), "st": labels["r"]})
