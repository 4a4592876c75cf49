"""A custom `compute_loss` names the parts that it adds, as layers do."""

import keras
import numpy as np
import pytest
from keras import ops
from support.models import ones_dense
from support.models import still

import keras_losskit as losskit
from keras_losskit import schedules
from keras_losskit import weighting

X = np.array([[1.0], [3.0]], "float32")
# Predictions are the inputs: size = (1 + 9) / 2 = 5, drift = (1 + 3) / 2 = 2.
SIZE, DRIFT = 5.0, 2.0


class Parts(losskit.Model):
    """Adds two named parts, one with a schedule, to the compiled loss."""

    def compute_loss(self, x, y, y_pred, *args, **kwargs):
        rising = schedules.Linear(0.0, 1.0, epochs=4)
        self.add_loss(ops.mean(y_pred**2), name="size", weight=0.5)
        self.add_loss(y_pred, name="drift", weight=rising)
        return super().compute_loss(x, y, y_pred, *args, **kwargs)


def model_of(cls=Parts, method=None, optimizer=None, **arguments):
    inputs = keras.Input((1,))
    penalty = keras.regularizers.L2(3.0)
    out = ones_dense(1, name="out", kernel_regularizer=penalty)
    model = cls(inputs, out(inputs))
    loss = losskit.LossesContainer("mse", weighting=method)
    model.compile(optimizer or still(), loss, **arguments)
    return model


def fit(model, **arguments):
    return model.fit(
        X, X, epochs=2, validation_data=(X, X), verbose=0, **arguments
    ).history


@pytest.mark.parametrize("eager", [True, False])
def test_each_part_is_a_term_with_name_and_weight(eager):
    model = model_of(run_eagerly=eager)
    logs = fit(model)
    for prefix in ("", "val_"):
        assert logs[f"{prefix}size_loss"] == pytest.approx([SIZE] * 2)
        assert logs[f"{prefix}drift_loss"] == pytest.approx([DRIFT] * 2)
        assert logs[f"{prefix}drift_weight"] == [0.0, 0.25]
        added = [0.5 * SIZE, 0.5 * SIZE + 0.25 * DRIFT]
        assert logs[f"{prefix}added_loss"] == pytest.approx(added)
        assert logs[f"{prefix}regularization_loss"] == pytest.approx([3.0] * 2)
        assert logs[f"{prefix}loss"] == pytest.approx([3 + a for a in added])
    # Nothing of a step is left for the next pass.
    model(X)
    assert [float(loss) for loss in model.losses] == [3.0]
    again = model.evaluate(X, X, verbose=0, return_dict=True)
    assert again["loss"] == pytest.approx(3 + added[1])


def test_the_parts_are_trained():
    # d/dw of 0.5 * mean((w x)^2) at w = 1 is mean(x^2) = 5; of 3 w^2 it is 6.
    model = model_of(optimizer=keras.optimizers.SGD(0.1))
    model.fit(X, X, epochs=1, batch_size=2, verbose=0)
    kernel = model.get_layer("out").kernel
    assert float(kernel[0, 0]) == pytest.approx(1 - 0.1 * (5 + 6), rel=1e-5)


@pytest.mark.parametrize(
    "method", [weighting.PCGrad, weighting.Uncertainty, weighting.MGDA]
)
def test_a_weighting_balances_them_by_name(method):
    class Layered(losskit.Model):
        """The same by `add_loss` in `call`."""

        def call(self, x):
            y_pred = super().call(x)
            rising = schedules.Linear(0.0, 1.0, epochs=4)
            self.add_loss(ops.mean(y_pred**2), name="size", weight=0.5)
            self.add_loss(y_pred, name="drift", weight=rising)
            return y_pred

    logs, kernels = [], []
    for cls in (Parts, Layered):
        model = model_of(
            cls,
            method(terms=["size", "drift"]),
            keras.optimizers.SGD(0.01),
        )
        logs.append(fit(model))
        kernels.append(float(model.get_layer("out").kernel[0, 0]))
    assert kernels[0] == pytest.approx(kernels[1], rel=1e-6)
    assert set(logs[0]) == set(logs[1])
    for key, values in logs[1].items():
        np.testing.assert_allclose(logs[0][key], values, rtol=1e-5)


def test_reports_count_them():
    model = model_of()
    terms, _, _, _, cells, *_ = losskit.summary(model, X, X).columns
    values = {
        term.strip(): value
        for term, value in zip(terms.cells, cells.cells, strict=True)
    }
    names = {name.rpartition("/")[2]: name for name in values}
    assert float(values[names["size"]]) == SIZE
    assert float(values[names["drift"]]) == DRIFT
    report = losskit.gradient_report(model, X, X)
    norms = dict(zip(report.names, report.norms, strict=True))
    # The gradient of 0.5 * mean((w x) ** 2) is 5, the weight of drift is 0.
    assert norms[names["size"]] == pytest.approx(5.0, rel=1e-5)
    assert norms[names["drift"]] == 0.0


class Late(losskit.Model):
    def compute_loss(self, x, y, y_pred, *args, **kwargs):
        total = super().compute_loss(x, y, y_pred, *args, **kwargs)
        self.add_loss(ops.mean(y_pred), name="late")
        return total


def test_a_part_that_is_added_too_late_is_refused():
    with pytest.raises(ValueError, match=r"before `super\(\).compute_loss"):
        fit(model_of(Late))


class Alone(losskit.Model):
    def compute_loss(self, x, y, y_pred, *args, **kwargs):
        self.add_loss(ops.mean(y_pred), name="alone")
        return ops.mean((y - y_pred) ** 2)


def test_a_part_that_nothing_counts_is_refused():
    with pytest.raises(ValueError, match=r"super\(\).compute_loss.*'alone'"):
        fit(model_of(Alone))
