"""Names in the logs: the total and the kinds have theirs, metrics their own."""

import keras
import pytest
from support.models import column
from support.models import passing
from support.models import still

import keras_losskit as losskit
from keras_losskit import extra

X, Y = column(3, 3), column(0, 0)
RESERVED = ["loss", "compiled", "regularization", "activity", "added"]
NO_NAMES = ["", " ", 1, b"x"]


def mean_square(x):
    return keras.ops.mean(x**2)


class AddsOne(losskit.layers.Dense):
    def __init__(self, label):
        super().__init__(1)
        self.label = label

    def call(self, inputs):
        self.add_loss(1.0, name=self.label)
        return super().call(inputs)


@pytest.mark.parametrize("name", [*RESERVED, "weighting", *NO_NAMES])
def test_names_of_the_total_and_the_kinds_are_reserved(name):
    with pytest.raises(ValueError, match=r"(?s)Expected.*Received"):
        AddsOne(name)(X)
    with pytest.raises(ValueError, match=r"(?s)Expected.*Received"):
        losskit.layers.AddLoss(mean_square, name=name)
    term = extra.FromLayer("dense", mean_square)
    with pytest.raises((TypeError, ValueError), match="Expected.*Received"):
        losskit.LossesContainer("mse", extra_terms={name: term})
    with pytest.raises((TypeError, ValueError), match="Expected.*Received"):
        losskit.Penalty(groups={name: (".*", 1.0)})


@pytest.mark.parametrize("name", [*RESERVED, 1])
def test_a_loss_may_not_be_named_as_the_total_or_a_kind(name):
    loss = keras.losses.MeanSquaredError(name=name)
    model = passing()
    with pytest.raises(ValueError, match=f"Expected.*Received: {name!r}"):
        model.compile(still(), loss)


def test_a_function_called_loss_is_a_loss():
    def loss(y_true, y_pred):
        return keras.ops.square(y_true - y_pred)

    model = passing()
    model.compile(still(), loss)
    assert model.evaluate(X, Y, verbose=0) == 9.0


class Batches(keras.callbacks.Callback):
    count = 0

    def on_train_batch_end(self, batch, logs=None):
        self.count += 1


def metric(name):
    return keras.metrics.MeanAbsoluteError(name=name)


@pytest.mark.parametrize(
    ("settings", "clash"),
    [
        ({"metrics": [[metric("m")], [metric("loss")]]}, "b_loss"),
        ({"metrics": {"a": metric("loss")}}, "a_loss"),
        ({"weighted_metrics": [[], [metric("loss")]]}, "b_loss"),
    ],
)
def test_a_metric_named_as_a_term_is_refused_before_training(settings, clash):
    model, batches = passing(outputs=("a", "b")), Batches()
    model.compile(still(), "mse", **settings)
    with pytest.raises(ValueError, match=f"Expected.*Received.*'{clash}'"):
        model.fit(X, [Y, Y], verbose=0, callbacks=[batches])
    assert batches.count == 0
    model.compile(still(), "mse", metrics=[[metric("m")], [metric("m")]])
    history = model.fit(X, [Y, Y], verbose=0).history
    assert history["b_loss"] == [9.0]
    assert history["b_m"] == [3.0]


def test_a_metric_named_as_a_kind_is_refused_before_training():
    model, batches = passing(kernel_regularizer="l2"), Batches()
    model.compile(still(), "mse", metrics=[metric("compiled_loss")])
    with pytest.raises(ValueError, match="Expected.*'compiled_loss'"):
        model.fit(X, Y, verbose=0, callbacks=[batches])
    assert batches.count == 0


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_step_that_only_asks_keras_is_refused_such_a_metric(wrapped):
    class Behind(keras.Model):
        def train_step(self, *args, **kwargs):
            return super().train_step(*args, **kwargs)

    class Before(losskit.Model):
        def train_step(self, *args, **kwargs):
            return super().train_step(*args, **kwargs)

    inputs = keras.Input((1,))
    outputs = keras.layers.Dense(1, kernel_regularizer="l2")(inputs)
    model = (Behind if wrapped else Before)(inputs, outputs)
    model = losskit.wrap(model) if wrapped else model
    batches = Batches()
    model.compile(still(), "mse", metrics=[metric("compiled_loss")])
    with pytest.raises(ValueError, match="Expected.*'compiled_loss'"):
        model.fit(X, Y, verbose=0, callbacks=[batches])
    assert batches.count == 0
    model.compile(still(), "mse", metrics=[metric("mae")])
    logs = model.fit(X, Y, verbose=0).history
    assert {"mae", "compiled_loss"} <= set(logs)


def test_a_metric_of_the_model_named_as_a_term_is_refused():
    model = passing(outputs=("a", "b"))
    model.score = metric("b_loss")
    model.compile(still(), "mse")
    with pytest.raises(ValueError, match="Expected.*'b_loss'"):
        model.fit(X, [Y, Y], verbose=0)
