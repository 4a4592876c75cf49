"""A `train_step` or `compute_loss` of the user's own, as Keras' guides have it.

On TensorFlow and PyTorch the guide's step is enough. On JAX the guide calls
`compute_loss` in a bare `jax.value_and_grad`, where no metric can be updated.
"""

import keras
import numpy as np
import pytest
from keras import ops
from support.models import ones_dense

import keras_losskit as losskit

BACKEND = keras.config.backend()

KINDS = [f"{kind}_loss" for kind in losskit.terms.KINDS]

rng = np.random.default_rng(0)
X = rng.normal(size=(20, 3)).astype("float32")
Y = rng.normal(size=(20, 2)).astype("float32")


class StepOfTensorFlow:
    def train_step(self, data):
        import tensorflow as tf

        x, y = data
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self.compute_loss(x=x, y=y, y_pred=y_pred)
        variables = self.trainable_variables
        gradients = tape.gradient(loss, variables)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return self.updated(loss, y, y_pred)

    def updated(self, loss, y, y_pred):
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss, sample_weight=ops.shape(y)[0])
            else:
                metric.update_state(y, y_pred)
        return {metric.name: metric.result() for metric in self.metrics}


class StepOfTorch(StepOfTensorFlow):
    def train_step(self, data):
        import torch

        x, y = data
        self.zero_grad()
        y_pred = self(x, training=True)
        loss = self.compute_loss(x=x, y=y, y_pred=y_pred)
        loss.backward()
        variables = self.trainable_weights
        with torch.no_grad():
            gradients = [variable.value.grad for variable in variables]
            self.optimizer.apply(gradients, variables)
        return self.updated(loss, y, y_pred)


class StepOfGuideForJax:
    def loss_and_updates(self, trainable, non_trainable, x, y):
        y_pred, non_trainable = self.stateless_call(
            trainable, non_trainable, x, training=True
        )
        return self.compute_loss(x, y, y_pred), (y_pred, non_trainable)

    def train_step(self, state, data):
        import jax

        trainable, non_trainable, slots, metrics = state
        x, y = data
        (loss, (y_pred, non_trainable)), gradient = jax.value_and_grad(
            self.loss_and_updates, has_aux=True
        )(trainable, non_trainable, x, y)
        trainable, slots = self.optimizer.stateless_apply(
            slots, gradient, trainable
        )
        return self.updated(
            loss, y, y_pred, trainable, non_trainable, slots, metrics
        )

    def updated(self, loss, y, y_pred, trainable, non_trainable, slots, given):
        logs, metrics = {}, []
        for metric in self.metrics:
            values = given[len(metrics) : len(metrics) + len(metric.variables)]
            if metric.name == "loss":
                values = metric.stateless_update_state(
                    values, loss, ops.shape(y)[0]
                )
            else:
                values = metric.stateless_update_state(values, y, y_pred)
            logs[metric.name] = metric.stateless_result(values)
            metrics += values
        return logs, (trainable, non_trainable, slots, metrics)


class StepOfJax(StepOfGuideForJax):
    def train_step(self, state, data):
        import jax

        trainable, non_trainable, slots, metrics = state
        x, y = data
        (loss, (_, y_pred, non_trainable, metrics)), gradient = (
            jax.value_and_grad(self.compute_loss_and_updates, has_aux=True)(
                trainable,
                non_trainable,
                metrics,
                x,
                y,
                None,
                training=True,
                optimizer_variables=slots,
            )
        )
        trainable, slots = self.optimizer.stateless_apply(
            slots, gradient, trainable
        )
        return self.updated(
            loss, y, y_pred, trainable, non_trainable, slots, metrics
        )


OWN_STEP = {
    "jax": StepOfJax,
    "tensorflow": StepOfTensorFlow,
    "torch": StepOfTorch,
}[BACKEND]


def trained(step, regularizer="l2"):
    """History and weights after two epochs, with `step` or Keras' own."""

    class Model(*([step] if step else []), losskit.Model):
        pass

    keras.utils.set_random_seed(1)
    inputs = keras.Input((3,))
    outputs = keras.layers.Dense(
        2, kernel_regularizer=regularizer, activity_regularizer=regularizer
    )(inputs)
    model = Model(inputs, outputs)
    model.compile(keras.optimizers.SGD(0.1), "mse", metrics=["mae"])
    history = model.fit(X, Y, epochs=2, batch_size=8, shuffle=False, verbose=0)
    return history.history, model.get_weights()


def test_a_step_that_calls_compute_loss_trains_and_logs_as_keras_step():
    want_logs, want = trained(None)
    logs, got = trained(OWN_STEP)
    assert set(logs) == set(want_logs)
    for key, values in want_logs.items():
        if key != "mae":  # whose batches the guide does not weigh
            np.testing.assert_allclose(logs[key], values, rtol=1e-6)
    for one, other in zip(got, want, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
    kinds = ("compiled_loss", "regularization_loss", "activity_loss")
    np.testing.assert_allclose(
        np.sum([logs[kind] for kind in kinds], axis=0), logs["loss"], rtol=1e-6
    )


class LeavesLossAlone(OWN_STEP):
    """`compute_loss` and `compute_metrics` only."""

    def updated(self, loss, y, y_pred, *state):
        if not state:
            return self.compute_metrics(None, y, y_pred)
        *state, metrics = state
        scope = keras.StatelessScope(
            zip(self.metrics_variables, metrics, strict=True)
        )
        with scope:
            logs = self.compute_metrics(None, y, y_pred)
        metrics = [scope.get_current_value(v) for v in self.metrics_variables]
        return logs, (*state, metrics)


def test_a_step_that_leaves_the_metric_loss_alone_has_the_total_logged():
    want, _ = trained(None)
    logs, _ = trained(LeavesLossAlone)
    assert set(logs) == set(want)
    for key, values in want.items():
        np.testing.assert_allclose(logs[key], values, rtol=1e-6)


class Named(losskit.Model):
    """Adds the mean of its inputs, weighted by a variable."""

    def __init__(self):
        super().__init__()
        self.weight = keras.Variable(1.0, trainable=False, name="kl_weight")
        self.dense = keras.layers.Dense(2)

    def call(self, x):
        self.add_loss(ops.mean(x), name="kl", weight=self.weight)
        return self.dense(x)


@pytest.mark.parametrize("by_name", [False, True])
def test_a_weight_is_set_also_in_a_step_of_ones_own(by_name):
    class Stepping(OWN_STEP, Named):
        pass

    model = Stepping()
    model.compile("sgd", "mse")
    which = "kl_weight" if by_name else model.weight
    setter = losskit.callbacks.SetLossWeight(which, lambda e: 2.0 + e)
    logs = model.fit(
        X, Y, epochs=2, batch_size=20, verbose=0, callbacks=[setter]
    ).history
    assert logs["kl_weight"] == [2.0, 3.0]
    np.testing.assert_allclose(
        logs["added_loss"], X.mean() * np.array([2, 3]), rtol=1e-5
    )


@pytest.mark.parametrize("eagerly", [False, True])
def test_a_variable_of_a_loss_function_is_set_in_a_step_of_ones_own(eagerly):
    scale = keras.Variable(1.0, trainable=False, name="scale")

    class Stepping(OWN_STEP, losskit.Model):
        pass

    inputs = keras.Input((3,))
    model = Stepping(inputs, ones_dense(2)(inputs))
    model.compile(
        keras.optimizers.SGD(0.0),
        lambda y_true, y_pred: scale * ops.mean((y_true - y_pred) ** 2, -1),
        run_eagerly=eagerly,
    )
    setter = losskit.callbacks.SetLossWeight(scale, lambda e: 2.0 + e)
    fitting = {"epochs": 2, "verbose": 0, "callbacks": [setter]}
    mse = np.mean((X.sum(-1, keepdims=True) - Y) ** 2)
    for _ in range(2):
        logs = model.fit(X, Y, **fitting).history
        np.testing.assert_allclose(logs["loss"], [2 * mse, 3 * mse], rtol=1e-5)


@pytest.mark.parametrize("weight", [1.0, 0.5])
def test_losses_after_fit_have_values(weight):
    class Adds(losskit.layers.Layer):
        def call(self, x):
            self.add_loss(ops.mean(x), name="mean", weight=weight)
            return x

    inputs = keras.Input((3,))
    outputs = ones_dense(2, kernel_regularizer=keras.regularizers.L2(0.5))
    model = losskit.Model(inputs, outputs(Adds()(inputs)))
    model.compile(keras.optimizers.SGD(0.0), "mse")
    model.fit(X, Y, batch_size=20, verbose=0)
    # PyTorch runs as it goes; elsewhere the tensors of the step are gone.
    added = [weight * X.mean()] if BACKEND == "torch" else []
    got = [float(loss) for loss in model.losses]
    np.testing.assert_allclose(got, [*added, 3.0], rtol=1e-5)
    assert len(model.added_losses) == len(added)
    # Of a call all are known.
    model(X)
    got = [float(loss) for loss in model.losses]
    np.testing.assert_allclose(got, [weight * X.mean(), 3.0], rtol=1e-5)


@pytest.mark.skipif(BACKEND != "jax", reason="a bare jax.value_and_grad")
def test_the_guides_step_for_jax_trains_and_says_why_no_term_is_logged():
    _, want = trained(None, regularizer=None)
    with pytest.warns(UserWarning, match="compute_loss_and_updates.*No term"):
        logs, got = trained(StepOfGuideForJax, regularizer=None)
    assert set(logs) == {"loss", "mae"}
    for one, other in zip(got, want, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
    # Plain Keras: "'NoneType' object is not callable".
    with pytest.raises(RuntimeError, match="Expected.*Received"):
        trained(StepOfGuideForJax)


def test_a_model_without_call_trains_by_its_own_step():
    if BACKEND == "jax":
        pytest.skip("a step over two optimizers is the user's own on JAX")

    class Pair(losskit.Model):
        """Two parts, as in a GAN, and no `call`."""

        def __init__(self):
            super().__init__()
            self.part = keras.Sequential([keras.Input((3,)), ones_dense(2)])
            self.mean = keras.metrics.Mean(name="part_loss")
            self.built = True

        def train_step(self, data):
            x, y = data
            value = ops.mean(ops.square(self.part(x) - y))
            self.mean.update_state(value)
            return {"part_loss": self.mean.result()}

    model = Pair()
    model.compile("sgd")
    logs = model.fit(X, Y, batch_size=20, verbose=0).history
    want = np.mean((X.sum(-1, keepdims=True) - Y) ** 2)
    assert logs == {"part_loss": [pytest.approx(want, rel=1e-5)]}


class OwnLoss(losskit.Model):
    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        total = super().compute_loss(x, y, y_pred, sample_weight, training)
        return total + 0.5 * ops.mean(ops.square(y_pred))


def test_what_an_own_compute_loss_adds_is_the_kind_added():
    inputs = keras.Input((3,))
    model = OwnLoss(inputs, ones_dense(2)(inputs))
    model.compile(keras.optimizers.SGD(0.0), "mse")
    logs = model.fit(X, Y, batch_size=8, verbose=0).history
    y_pred = np.repeat(X.sum(-1, keepdims=True), 2, -1)
    added = 0.5 * np.mean(y_pred**2)
    compiled = np.mean((y_pred - Y) ** 2)
    assert logs["added_loss"] == [pytest.approx(added, rel=1e-5)]
    assert logs["compiled_loss"] == [pytest.approx(compiled, rel=1e-5)]
    assert logs["loss"] == [pytest.approx(added + compiled, rel=1e-5)]


class TwoPasses(losskit.Model):
    """Compares two predictions with the labels in one step."""

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        first = super().compute_loss(x, y, y_pred, sample_weight, training)
        return first + super().compute_loss(
            x, y, y_pred + 1.0, sample_weight, training
        )


def test_two_passes_in_one_step_add_up():
    inputs = keras.Input((3,))
    outputs = ones_dense(2, kernel_regularizer=keras.regularizers.L2(0.5))
    model = TwoPasses(inputs, outputs(inputs))
    ramp = losskit.schedules.Linear(0.0, 1.0, steps=10)
    model.compile(
        keras.optimizers.SGD(0.0),
        losskit.LossesContainer(["mse", "mae"], [1.0, ramp]),
    )
    # Batches of 8, 8 and 4: the weight is 0, 0.1 and 0.2.
    logs = model.fit(
        X, Y, validation_data=(X, Y), batch_size=8, shuffle=False, verbose=0
    ).history
    y_pred = np.repeat(X.sum(-1, keepdims=True), 2, -1)
    errors = [y_pred - Y, y_pred + 1.0 - Y]
    mse = sum(np.mean(error**2) for error in errors)
    parts = [slice(0, 8), slice(8, 16), slice(16, 20)]
    mae = [sum(np.abs(e[part]).mean() for e in errors) for part in parts]
    compiled = mse + (8 * 0.1 * mae[1] + 4 * 0.2 * mae[2]) / 20
    assert logs["mae_weight"] == pytest.approx([(8 * 0.1 + 4 * 0.2) / 20])
    assert logs["mse_loss"] == pytest.approx([mse], rel=1e-5)
    assert logs["compiled_loss"] == pytest.approx([compiled], rel=1e-5)
    # The penalty is in both passes, 0.5 * 6 ones each.
    assert logs["regularization_loss"] == pytest.approx([6.0])
    assert logs["loss"] == pytest.approx([compiled + 6.0], rel=1e-5)
    assert logs["added_loss"] == pytest.approx([0.0], abs=1e-5)
    total = mse + 0.3 * sum(np.abs(error).mean() for error in errors) + 6.0
    assert logs["val_loss"] == pytest.approx([total], rel=1e-5)


class Plain(keras.Model):
    """What a method of Keras' would be overridden in, without this package."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = ones_dense(
            2, kernel_regularizer=keras.regularizers.L2(0.5)
        )

    def call(self, x):
        return self.dense(x)


class OtherLoss(Plain):
    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
        return 10.0 * ops.mean(ops.abs(y - y_pred))


class TenfoldLoss(Plain):
    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        return 10.0 * super().compute_loss(x, y, y_pred, sample_weight)


class TripleAdded(Plain):
    def add_loss(self, loss):
        super().add_loss(3.0 * loss)

    def call(self, x):
        self.add_loss(ops.mean(ops.square(x)))
        return self.dense(x)


class OtherCompile(Plain):
    def compile(self, first, loss_fn):
        super().compile(first, loss_fn, 0.5)


class CountsMore(Plain):
    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        logs = super().compute_metrics(x, y, y_pred, sample_weight)
        return {**logs, "seven": 7.0}


class OtherTestStep(Plain):
    def test_step(self, *args):
        logs = super().test_step(*args)
        if BACKEND == "jax":
            return {**logs[0], "tested": 1.0}, logs[1]
        return {**logs, "tested": 1.0}


def mixed_in(plain):
    """As of `class Model(LossTermsMixin, type(plain))`."""
    return type("Model", (losskit.LossTermsMixin, type(plain)), {})()


@pytest.mark.parametrize("terms", [losskit.wrap, mixed_in])
@pytest.mark.parametrize(
    "plain",
    [
        OtherLoss,
        TenfoldLoss,
        TripleAdded,
        OtherCompile,
        CountsMore,
        OtherTestStep,
    ],
)
def test_a_method_behind_the_mixin_counts_as_in_keras(plain, terms):
    logs = []
    for model in (plain(), terms(plain())):
        if plain is OtherCompile:
            model.compile(first=keras.optimizers.SGD(0.0), loss_fn="mse")
        else:
            model.compile(keras.optimizers.SGD(0.0), "mse")
        history = model.fit(X, Y, validation_data=(X, Y), verbose=0)
        logs.append(history.history)
    want, got = logs
    assert set(want) >= {"loss", "val_loss"}
    for key in want:
        np.testing.assert_allclose(got[key], want[key], rtol=1e-5)
    kinds = [value for key, value in got.items() if key in KINDS]
    if kinds:
        np.testing.assert_allclose(np.sum(kinds, 0), got["loss"], rtol=1e-5)


def test_a_named_loss_keeps_its_name_through_a_method_behind_the_mixin():
    class Named(losskit.LossTermsMixin, TripleAdded):
        def call(self, x):
            self.add_loss(ops.mean(ops.square(x)), name="size", weight=0.5)
            return self.dense(x)

    model = Named()
    model.compile(keras.optimizers.SGD(0.0), "mse")
    logs = model.fit(X, Y, batch_size=20, verbose=0).history
    size = 3.0 * np.mean(X**2)
    assert logs["size_loss"] == [pytest.approx(size, rel=1e-5)]
    assert logs["added_loss"] == [pytest.approx(0.5 * size, rel=1e-5)]
