"""Metrics, or a `train_step`, that say themselves what is logged."""

import keras
import numpy as np
import pytest
from keras import ops
from support.models import ones_dense
from support.pages import data_of
from support.pages import pictures

import keras_losskit as losskit
from keras_losskit import callbacks

X = np.ones((8, 3), "float32")
Z = np.repeat(np.array([[0.0], [1.0]], "float32"), 4, axis=0)


class OwnLosses(losskit.Model):
    """Logs the mean of its inputs, and none of Keras' metrics."""

    def __init__(self):
        super().__init__()
        self.dense = ones_dense(1)
        self.kl = keras.metrics.Mean(name="kl_loss")

    @property
    def metrics(self):
        return [self.kl]

    def call(self, x):
        return self.dense(x)

    def train_step(self, *args):
        x, _ = args[-1]
        if len(args) == 1:
            self.kl.update_state(ops.mean(x))
            return {"kl_loss": self.kl.result()}
        state = args[0]
        metrics = self.kl.stateless_update_state(state[3], ops.mean(x))
        logs = {"kl_loss": self.kl.stateless_result(metrics)}
        return logs, (*state[:3], metrics)


def fitted(callback, x=X, optimizer="sgd"):
    model = OwnLosses()
    model.compile(optimizer, "mse")
    model.fit(
        x, X[:, :1], batch_size=4, epochs=2, verbose=0, callbacks=[callback]
    )
    return callback


def test_a_loss_that_is_not_finite_is_named():
    callback = callbacks.TerminateOnNonFiniteTerm()
    with pytest.warns(RuntimeWarning, match="Not finite: kl_loss"):
        fitted(callback, np.nan * X)
    assert callback.non_finite == {"epoch": 0, "batch": 0, "terms": ["kl_loss"]}


def test_history_has_the_losses_that_are_logged():
    history = fitted(callbacks.TermHistory(batches=True))
    assert history.history == {"kl_loss": [1.0, 1.0]}
    assert [row["kl_loss"] for row in history.rows("batch")] == [1.0] * 4


class OwnOfKeras(keras.Model):
    """Has metrics of its own, and Keras' steps."""

    def __init__(self):
        super().__init__()
        self.dense = ones_dense(1, kernel_regularizer="l2")
        self.own = keras.metrics.Mean(name="own")

    @property
    def metrics(self):
        return [self.own]

    def call(self, x):
        return self.dense(x)


class OwnMetrics(OwnOfKeras, losskit.Model):
    pass


@pytest.mark.parametrize("wrapped", [False, True])
def test_terms_are_logged_beside_metrics_of_ones_own(wrapped):
    model = losskit.wrap(OwnOfKeras()) if wrapped else OwnMetrics()
    model.compile(keras.optimizers.SGD(0.0), "mse")
    history = callbacks.TermHistory(batches=True)
    fitting = {"batch_size": 4, "epochs": 2, "verbose": 0, "shuffle": False}
    model.fit(X, Z, callbacks=[history], **fitting)
    # 3 - 0, 3 - 1: squared 9, 4; three ones, each 0.01
    want = {"compiled_loss": 6.5, "regularization_loss": 0.03, "loss": 6.53}
    for key, value in want.items():
        np.testing.assert_allclose(history.history[key], 2 * [value], rtol=1e-5)
    compiled = [row["compiled_loss"] for row in history.batches]
    np.testing.assert_allclose(compiled, [9.0, 4.0, 9.0, 4.0], rtol=1e-5)
    results = model.evaluate(X, Z, verbose=0, return_dict=True)
    assert set(results) == {"own", *want}
    # The list is that of Keras.
    assert model.evaluate(X, Z, verbose=0) == 0.0
    stop = callbacks.TerminateOnNonFiniteTerm()
    with pytest.warns(RuntimeWarning, match="Not finite: compiled_loss"):
        model.fit(X, np.nan * Z, callbacks=[stop], **fitting)
    assert stop.non_finite["terms"] == ["compiled_loss"]


def test_a_live_page_has_the_losses_that_are_logged(tmp_path):
    path = tmp_path / "live.html"
    fitted(callbacks.LiveReport(path))
    (section,) = data_of(path.read_text("utf-8"))["sections"]
    assert pictures(section)["Metrics"]["kl", False]["y"] == [1.0, 1.0]


def test_there_is_no_live_page_of_nothing(tmp_path):
    path = tmp_path / "live.html"
    live = callbacks.LiveReport(path)
    live.set_model(OwnLosses())
    live.on_train_begin()
    live.on_epoch_end(0, {})
    live.on_epoch_end(1, {})
    live.on_train_end()
    assert not path.exists()


@pytest.mark.parametrize("optimizer", ["sgd", None])
def test_a_tracker_has_the_losses_that_are_logged(optimizer):
    if optimizer is None and keras.config.backend() == "jax":
        pytest.skip("Keras on JAX fits no model without an optimizer")
    calls = []
    logger = callbacks.TermLogger(
        lambda values, step: calls.append((step, values)), every=2
    )
    # Two epochs of two batches, in which the optimizer does nothing.
    fitted(logger, optimizer=optimizer)
    batches, epoch = {"batch/kl_loss": 1.0}, {"kl_loss": 1.0}
    assert calls == [(1, batches), (1, epoch), (3, batches), (3, epoch)]


def test_a_tracker_is_not_called_with_nothing():
    calls = []
    logger = callbacks.TermLogger(lambda *args, **kwargs: calls.append(args))
    logger.on_epoch_end(0, {"several": np.ones(2)})
    assert calls == []
