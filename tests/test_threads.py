"""Several threads that use one model, or models that share layers."""

import threading

import keras
import numpy as np
import pytest
from support.models import ones_dense
from support.models import still
from support.results import record

import keras_losskit as losskit

THREADS = 8
#: A thread predicts and trains in each of so many rounds.
TRAINED = 10
JAX = keras.config.backend() == "jax"


@keras.saving.register_keras_serializable("tests>threads")
class Adds(keras.layers.Layer):
    """Adds the mean of its inputs to the loss."""

    def call(self, x):
        self.add_loss(keras.ops.mean(x))
        return x


class Models:
    """A model that all threads call, and one that each trains.

    They share the frozen layers below their heads. The variables stay as they
    are, so that every step of a thread has the same values.
    """

    def __init__(self):
        inputs = keras.Input((1,))
        below = keras.Sequential(
            [
                keras.Input((1,)),
                ones_dense(
                    1,
                    activity_regularizer=keras.regularizers.L2(0.5),
                    trainable=False,
                ),
                Adds(),
                losskit.layers.Dense(
                    1,
                    kernel_initializer="ones",
                    activity_regularizer=keras.regularizers.L1(0.25),
                    trainable=False,
                ),
            ],
            name="below",
        )

        def over(name):
            head = ones_dense(
                1, name=name, kernel_regularizer=keras.regularizers.L2(2.0)
            )
            return losskit.wrap(keras.Model(inputs, head(below(inputs))))

        self.common = over("common")
        self.own = [over(f"head{index}") for index in range(THREADS)]
        for model in [self.common, *self.own]:
            # On JAX a compiled step consumes the variables that it is given.
            model.compile(still(), "mse", run_eagerly=JAX)
            batch = np.zeros((2, 1), "float32")
            model.train_on_batch(batch, batch)
            model.reset_metrics()

    @property
    def layers(self):
        models = [self.common, *self.own]
        return [layer for m in models for layer in m._flatten_layers()]

    def round(self, thread, number):
        """What a thread sees of its own batch: names and values."""
        x = np.full((thread + 1, 1), thread + 1.0, "float32")
        seen = {"output": float(keras.ops.mean(self.common(x)))}
        for term in self.common._losskit_penalty_terms():
            seen[term.name] = float(term.value)
        if number % TRAINED == 0:
            predicted = self.common.predict_on_batch(x)
            seen["predicted"] = float(keras.ops.mean(predicted))
            logs = self.own[thread].train_on_batch(x, x, return_dict=True)
            seen |= {name: float(value) for name, value in logs.items()}
        return seen


def expected(thread, number):
    x = thread + 1.0
    seen = {
        "output": x,
        "below/dense/activity": 0.5 * x**2,
        "below/adds/added": x,
        "below/dense_1/activity": 0.25 * x,
        "common/kernel": 2.0,
    }
    if number % TRAINED == 0:
        activity = seen["below/dense/activity"] + seen["below/dense_1/activity"]
        seen |= {
            "predicted": x,
            "compiled_loss": 0.0,
            "regularization_loss": 2.0,
            "activity_loss": activity,
            "added_loss": x,
            "loss": 2.0 + activity + x,
        }
    return seen


def in_threads(*functions):
    """Run functions at once; what any of them raises is raised here."""
    errors = []
    start = threading.Barrier(len(functions))

    def run(function):
        try:
            start.wait()
            function()
        except BaseException as error:
            errors.append(error)

    threads = [
        threading.Thread(target=run, args=(function,)) for function in functions
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def attributes(layers):
    """What the attributes of layers are, object by object."""
    return [
        {name: id(value) for name, value in vars(layer).items()}
        for layer in layers
    ]


@pytest.mark.parametrize(
    "rounds",
    [100, pytest.param(1000, marks=[pytest.mark.slow, pytest.mark.timeout(0)])],
)
def test_each_thread_has_the_values_of_its_own_batch(rounds, tmp_path):
    keras.utils.clear_session()  # the names of layers start anew
    models = Models()
    for thread in range(THREADS):
        assert models.round(thread, 0) == pytest.approx(expected(thread, 0))
        models.own[thread].reset_metrics()
    before = attributes(models.layers)

    def rounds_of(thread):
        def run():
            for number in range(rounds):
                seen = models.round(thread, number)
                assert seen == pytest.approx(expected(thread, number))

        return run

    in_threads(*[rounds_of(thread) for thread in range(THREADS)])
    assert [set(now) for now in attributes(models.layers)] == [
        set(then) for then in before
    ]
    for layer, then in zip(models.layers, before, strict=True):
        if not isinstance(layer, keras.Model):  # whose trainer keeps logs
            assert attributes([layer]) == [then]

    x = np.full((3, 1), 2.0, "float32")
    models.common.fit(x, x, verbose=0)
    models.common.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    losses = []
    for model in (models.common, loaded):
        output = keras.ops.convert_to_numpy(model(x))
        np.testing.assert_allclose(output, x)
        losses.append([float(loss) for loss in model.losses])
    assert losses[0] == pytest.approx(losses[1])
    if rounds >= 1000:
        steps = THREADS * len(range(0, rounds, TRAINED))
        facts = {
            "threads": THREADS,
            "calls": THREADS * rounds,
            "training steps": steps,
            "predictions": steps,
            "layers whose attributes stayed the same": len(models.layers),
            "values that differed from those of one thread": 0,
        }
        record("threads", "Threads that share models and layers", facts)


def test_training_logs_its_own_activity_while_another_thread_predicts():
    model = losskit.Sequential(
        [
            keras.Input((1,)),
            ones_dense(1, activity_regularizer=keras.regularizers.L2(1.0)),
        ]
    )
    model.compile(still(), "mse", run_eagerly=JAX)
    x = np.full((2, 1), 2.0, "float32")
    model.train_on_batch(x, x)
    model.predict_on_batch(x)
    trained = threading.Event()

    def train():
        try:
            for _ in range(100):
                model.reset_metrics()
                logs = model.train_on_batch(x, x, return_dict=True)
                assert float(logs["activity_loss"]) == pytest.approx(4.0)
        finally:
            trained.set()

    def predict():
        while not trained.is_set():
            y = model.predict_on_batch(10 * x[:1])
            assert y == pytest.approx(20.0)
            model(30 * x)
            (term,) = model._losskit_penalty_terms()
            assert float(term.value) == pytest.approx(3600.0)

    in_threads(train, predict)


def test_a_thread_that_a_layer_starts_records_nothing_of_its_pass():
    aside = keras.layers.Dense(1, activity_regularizer="l2")
    aside.build((None, 1))

    class Starts(keras.layers.Layer):
        def call(self, x):
            thread = threading.Thread(target=aside, args=(np.ones((2, 1)),))
            thread.start()
            thread.join()
            self.add_loss(keras.ops.mean(x))
            return x

    class Owner(losskit.Model):
        def __init__(self):
            super().__init__()
            self.starts, self.aside = Starts(), aside

        def call(self, x):
            return self.starts(x)

    model = Owner()
    model(np.ones((2, 1), "float32"))
    assert [term.kind for term in model._losskit_recorded_terms()] == ["added"]
