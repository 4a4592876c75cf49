"""A `train_step` that logs losses of its own, as in Keras' guide to VAEs."""

import keras
import numpy as np
import pytest
from keras import ops
from support.models import ones_dense

import keras_losskit as losskit
from keras_losskit import callbacks

X = np.ones((8, 3), "float32")


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


def fitted(callback, x=X):
    model = OwnLosses()
    model.compile("sgd", "mse")
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
