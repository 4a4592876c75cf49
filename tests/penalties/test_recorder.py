"""Recording leaves no trace: on layers, on Keras, or in a later step."""

import linecache
import subprocess
import sys

import keras
import numpy as np
import pytest
from support.models import MODES
from support.models import ones_dense
from support.models import still

import keras_losskit as losskit

JAX = keras.config.backend() == "jax"
X = np.full((2, 1), 2.0, "float32")


class Adds(keras.layers.Layer):
    def call(self, x):
        self.add_loss(keras.ops.mean(x))
        return x


def every_way():
    """A model whose layers add to the loss in every way."""
    inputs = keras.Input((1,))
    x = ones_dense(1, activity_regularizer=keras.regularizers.L2(0.5))(inputs)
    x = Adds()(x)
    x = losskit.layers.AddLoss(keras.ops.sum, name="sum", weight=0.5)(x)
    x = losskit.layers.Dense(
        1,
        kernel_initializer="ones",
        activity_regularizer=keras.regularizers.L1(0.25),
        kernel_regularizer=keras.regularizers.L2(0.125),
    )(x)
    return losskit.Model(inputs, x)


#: 0.5 * 4, 2, 2 + 2, 0.25 * 2, 0.125
VALUES = [2.0, 2.0, 4.0, 0.5, 0.125]


def step(model):
    """The terms of a step, which on JAX enters by another door."""
    model(X)
    values = [float(term.value) for term in model._losskit_penalty_terms()]
    if JAX:
        _, (total, *_) = model.compute_loss_and_updates(
            [v.value for v in model.trainable_variables],
            [v.value for v in model.non_trainable_variables],
            [v.value for v in model.metrics_variables],
            X,
            X,
            None,
            training=False,
        )
    else:
        total = model.compute_loss(X, X, model(X), training=False)
    return [*values, float(total)]


# What a step leaves behind.


class Looking(keras.layers.Layer):
    """Notes the attributes of the layers of a model from inside a call."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.look = None

    def call(self, x):
        if self.look is not None:
            self.look()
        return x


def attributes(model):
    return {
        layer.name: {name: id(value) for name, value in vars(layer).items()}
        for layer in model.layers
    }


@pytest.mark.parametrize("mode", ["graph", "eager"])
def test_layers_have_the_same_attributes_before_during_and_after_a_step(mode):
    inner = every_way()
    looking = Looking()
    rnn = losskit.layers.LSTM(
        1, activity_regularizer="l2", recurrent_regularizer="l2"
    )
    inputs = keras.Input((3, 1))
    outputs = looking(inner(rnn(inputs)))
    model = losskit.Model(inputs, outputs)
    x = np.ones((4, 3, 1), "float32")
    model.compile(still(), "mse", **MODES[mode])
    model.train_on_batch(x, X[:1])
    seen = []

    def look():
        seen.append({**attributes(model), **attributes(inner)})

    look()
    looking.look = look
    model.fit(x[:2], X, verbose=0)  # another size: traced again
    looking.look = None
    look()
    assert len(seen) > 1
    for now in seen:
        del now[looking.name]["look"]
        assert now == seen[0] | {looking.name: now[looking.name]}


@pytest.mark.nightly("jax", "tensorflow")
def test_importing_the_package_changes_nothing_of_keras():
    code = """if True:
        import keras
        watched = keras.layers.Layer, keras.Operation, keras.layers.RNN
        before = [dict(vars(cls)) for cls in watched]
        import keras_losskit
        from keras_losskit import layers, losses
        assert [dict(vars(cls)) for cls in watched] == before
        layers.Dense(1)
        assert [dict(vars(cls)) for cls in watched] != before
    """
    subprocess.run([sys.executable, "-c", code], check=True)


def test_keras_itself_goes_on_as_before():
    every_way()(X)
    layer = ones_dense(1, activity_regularizer=keras.regularizers.L2(0.5))
    model = keras.Sequential([keras.Input((1,)), layer, Adds()])
    model(X)
    assert [float(loss) for loss in model.losses] == [2.0, 2.0]
    assert not hasattr(keras.layers.Layer, "activity_regularizer")
    del layer.activity_regularizer
    with pytest.raises(AttributeError, match="activity_regularizer"):
        _ = layer.activity_regularizer


# An exception at any line.

RECORDING = (
    "penalties/_recorder.py",
    "models/_recorded_call.py",
    "_keras_hooks.py",
    "_scoped.py",
)


class Interrupts:
    """Raises at the line of this number that the recording runs.

    Where a scope of Keras' is entered and left it does not: a trace function
    may raise between the end of the scope and its `__exit__`, where no signal
    arrives.

    Args:
        number: How many lines are run before.
        files: The ends of the paths of the files whose lines count.
    """

    def __init__(self, number, files):
        self.left = number
        self.files = files
        self.place = None

    def __call__(self, frame, event, argument):
        file = frame.f_code.co_filename
        if self.place is not None or not file.endswith(self.files):
            return None
        line = linecache.getline(file, frame.f_lineno).lstrip()
        if event in ("line", "return") and not line.startswith("with "):
            self.left -= 1
            if self.left < 0:
                self.place = f"{file}:{frame.f_lineno}"
                raise KeyboardInterrupt(self.place)
        return self

    def __enter__(self):
        self.outer = sys.gettrace()
        sys.settrace(self)

    def __exit__(self, *exception):
        sys.settrace(self.outer)


def interrupted_everywhere(function, files=RECORDING):
    """Interrupt `function` at each line in `files`, one after the other.

    Yields:
        Each place; the last time, at the end, None.
    """
    caught = []
    while True:
        interrupts = Interrupts(len(caught), files)
        try:
            with interrupts:
                function()
        except KeyboardInterrupt as error:
            # Kept, as an interactive session keeps the last traceback.
            caught.append(error)
        yield interrupts.place
        if interrupts.place is None:
            return


def small_model():
    inputs = keras.Input((1,))
    regularizer = keras.regularizers.L2(0.5)
    x = ones_dense(1, activity_regularizer=regularizer)(inputs)
    x = losskit.layers.Dense(
        1, kernel_initializer="ones", activity_regularizer=regularizer
    )(x)
    return losskit.Model(inputs, x)


def test_a_call_after_one_that_was_interrupted_anywhere_is_as_any():
    model = small_model()
    plain = keras.Sequential(model.layers)
    model(X)
    before = attributes(model)
    places = []
    for place in interrupted_everywhere(lambda: model(X)):
        places.append(place)
        assert attributes(model) == before, place
        plain(X)
        assert [float(loss) for loss in plain.losses] == [2.0, 2.0], place
        model(X)
        terms = [
            (t.kind, float(t.value)) for t in model._losskit_penalty_terms()
        ]
        assert terms == [("activity", 2.0), ("activity", 2.0)], place
    assert len(places) > 50


@pytest.mark.skipif(not JAX, reason="the JAX trainer's")
def test_a_step_after_one_that_was_interrupted_anywhere_is_as_any():
    model = small_model()
    model.compile(still(), "mse")
    expected = step(model)
    assert expected == [2.0, 2.0, 4.0]
    files = ("models/_recorded_call.py",)
    for place in interrupted_everywhere(lambda: step(model), files):
        assert step(model) == expected, place


def test_an_error_that_a_model_catches_leaves_the_recording_in_order():
    class Fails(keras.layers.Layer):
        def call(self, x):
            raise RuntimeError("fails")

    class Catching(losskit.Model):
        def __init__(self):
            super().__init__()
            self.fails = Fails(activity_regularizer="l2")
            self.dense = ones_dense(
                1, activity_regularizer=keras.regularizers.L2(0.5)
            )

        def call(self, x):
            try:
                return self.fails(x)
            except RuntimeError:
                return self.dense(x)

    model = Catching()
    for _ in range(2):
        model(X)
        assert [float(loss) for loss in model.activity_losses] == [2.0]


# What a layer sees of its own regularizer.


class UsesItsOwn(keras.layers.Layer):
    def call(self, x):
        self.config = self.get_config()
        self.seen = self.activity_regularizer
        return x

    def get_config(self):
        return super().get_config() | {"mine": self.activity_regularizer}


@pytest.mark.parametrize("base", [keras.layers.Layer, losskit.layers.Layer])
def test_a_layer_sees_its_true_regularizer_in_its_call(base):
    regularizer = keras.regularizers.L2(0.5)
    cls = type("Uses", (UsesItsOwn, base), {})
    layer = cls(activity_regularizer=regularizer)
    model = losskit.Sequential([layer])
    model(X)
    assert layer.seen is regularizer
    assert layer.config["mine"] is regularizer
    assert [float(loss) for loss in model.activity_losses] == [2.0]


def test_a_class_that_declares_the_attribute_has_its_penalty_told_apart():
    class Declares(keras.layers.Layer):
        activity_regularizer = None

        def call(self, x):
            return x

    layer = Declares(activity_regularizer=keras.regularizers.L2(0.5))
    model = losskit.Sequential([layer])
    model(X)
    assert [float(loss) for loss in model.activity_losses] == [2.0]


# Work that is done once.


def test_a_step_computes_each_weight_penalty_once():
    calls = []

    class Counts(keras.regularizers.Regularizer):
        def __call__(self, x):
            calls.append(x)
            return keras.ops.sum(x)

    dense = ones_dense(1, kernel_regularizer=Counts())
    model = losskit.Sequential([keras.Input((1,)), dense])
    model.compile(still(), "mse")
    model.train_on_batch(X, X)
    if JAX:
        calls.clear()
        step(model)
        calls.pop(0)  # of `_losskit_penalty_terms`, before the step
    else:
        model(X)
        calls.clear()
        model.compute_loss(X, X, X, training=False)
    assert len(calls) == 1


def test_the_layers_are_walked_once_for_all_losses(monkeypatch):
    layers = [Adds() for _ in range(30)]
    model = losskit.Sequential([keras.Input((1,)), *layers])
    model(X)
    walks = []
    flatten = losskit._keras.flatten_layers
    monkeypatch.setattr(
        losskit._keras,
        "flatten_layers",
        lambda model: walks.append(model) or flatten(model),
    )
    model(X)
    assert len(model._losskit_recorded_terms()) == 30
    assert len(walks) == 1
