"""Small programs written for Keras, and what is seen when one runs.

A `Program` names no class of Keras or of this package: `observe` runs it with
the classes it is given.
"""

import dataclasses
import os
import tempfile

import keras
import numpy as np
from hypothesis import strategies as st
from keras import ops

SAMPLES, FEATURES = 8, 3
rng = np.random.default_rng(0)
X = rng.normal(size=(SAMPLES, FEATURES)).astype("float32")
A = rng.normal(size=(SAMPLES, 2)).astype("float32")
B = rng.normal(size=(SAMPLES, 2)).astype("float32")
WEIGHTS = rng.uniform(0.5, 2.0, size=SAMPLES).astype("float32")


@keras.saving.register_keras_serializable("programs")
def cubic(y_true, y_pred):
    """A loss function of one's own."""
    return ops.mean(ops.abs(y_true - y_pred) ** 3, axis=-1)


@keras.saving.register_keras_serializable("programs")
class Quartic(keras.losses.Loss):
    """A loss class of one's own."""

    def call(self, y_true, y_pred):
        return ops.mean((y_true - y_pred) ** 4, axis=-1)


@keras.saving.register_keras_serializable("programs")
class AddsMean(keras.layers.Layer):
    """Adds the mean square of its inputs."""

    def call(self, inputs):
        self.add_loss(0.1 * ops.mean(ops.square(inputs)))
        return inputs


LOSSES = {
    "mse": lambda: "mse",
    "mae": lambda: "mean_absolute_error",
    "huber": lambda: keras.losses.Huber(),
    "function": lambda: cubic,
    "class": lambda: Quartic(),
    "sum": lambda: keras.losses.MeanSquaredError(reduction="sum"),
    "none": lambda: None,
}
OPERATIONS = (
    *("fit", "fit_weighted", "fit_validated", "fit_split", "fit_stopped"),
    *("fit_dataset", "fit_shuffled", "evaluate", "evaluate_dict"),
    *("evaluate_weighted", "train_on_batch", "train_on_batch_dict"),
    *("test_on_batch", "predict", "predict_on_batch", "recompile", "freeze"),
    *("save_and_load", "weights_and_back", "metrics", "reset_metrics"),
)


@dataclasses.dataclass(frozen=True)
class Program:
    """A script: a model, what `compile` takes, and what is done with it."""

    style: str
    outputs: str
    outputs_backwards: bool
    regularizers: tuple
    adds_loss: bool
    dropout: bool
    losses: tuple
    losses_as: str
    losses_backwards: bool
    loss_weights: tuple
    metrics: tuple
    weighted_metrics: bool
    optimizer: str
    eager: bool
    operations: tuple

    @property
    def targets(self):
        """The structure of labels and predictions."""
        return "one" if self.style == "sequential" else self.outputs


def is_alike(program):
    """Whether a program is to do with ours what it does with Keras.

    Dropout of a loaded model starts anew in Keras and goes on here: row 30 of
    docs/defects.md. And two outputs
    without a name that have one loss are `output_1` and `output_2` here, where
    Keras gives both the same name.
    """
    files = {"save_and_load", "weights_and_back"}
    draws_anew = program.dropout and files & set(program.operations)
    unnamed = program.style == "subclassed" and program.outputs == "list"
    one_loss = program.losses_as != "nest" or len(set(program.losses)) == 1
    return not (draws_anew or (unnamed and one_loss))


def in_order(pair, backwards):
    """A dict, or the same with its keys the other way round."""
    return dict(reversed(pair.items())) if backwards else pair


def programs(eager=None):
    """Strategy of programs."""
    loss = st.sampled_from(sorted(LOSSES))
    return st.builds(
        Program,
        style=st.sampled_from(
            ["functional", "sequential", "subclassed", "nested"]
        ),
        outputs=st.sampled_from(["one", "list", "dict"]),
        outputs_backwards=st.booleans(),
        regularizers=st.tuples(
            st.sampled_from([None, "l2", "l1"]), st.sampled_from([None, "l2"])
        ),
        adds_loss=st.booleans(),
        dropout=st.booleans(),
        losses=st.tuples(loss, loss),
        losses_as=st.sampled_from(["nest", "names", "single", "partial"]),
        losses_backwards=st.booleans(),
        loss_weights=st.sampled_from([None, (0.5, 2.0)]),
        metrics=st.sampled_from([(), ("mse",), ("mae", "mse")]),
        weighted_metrics=st.booleans(),
        optimizer=st.sampled_from(["sgd", "adam"]),
        eager=st.booleans() if eager is None else st.just(eager),
        operations=st.lists(
            st.sampled_from(OPERATIONS), min_size=2, max_size=5
        ).map(tuple),
    ).filter(is_alike)


@dataclasses.dataclass(frozen=True)
class Classes:
    """The classes that a program is written with."""

    model: type
    sequential: type
    dense: type


class LossOfBatches(keras.callbacks.Callback):
    """Keeps the loss of every batch."""

    def on_train_begin(self, logs=None):
        self.losses = []

    def on_train_batch_end(self, batch, logs=None):
        self.losses.append(float(logs["loss"]))


class Batches(keras.utils.PyDataset):
    """Two batches."""

    def __init__(self, y):
        super().__init__()
        self.y = y

    def __len__(self):
        return 2

    def __getitem__(self, index):
        half = slice(4 * index, 4 * index + 4)
        return X[half], keras.tree.map_structure(lambda y: y[half], self.y)


class Run:
    """A program under way."""

    def __init__(self, program, classes):
        self.program, self.classes = program, classes
        self.targets = program.targets
        self.model = self.new_model()
        self.y = {
            "one": A,
            "list": (A, B),
            "dict": {"a": A, "b": B},
        }[self.targets]

    # ------------------------------------------------------------------ model

    def dense(self, units, which=None, **kwargs):
        regularizer = (
            None if which is None else self.program.regularizers[which]
        )
        return self.classes.dense(
            units, kernel_regularizer=regularizer, **kwargs
        )

    def body(self):
        layers = [self.dense(4, 0, activation="tanh")]
        if self.program.dropout:
            layers.append(keras.layers.Dropout(0.5, seed=1))
        if self.program.adds_loss:
            layers.append(AddsMean())
        return layers

    def new_model(self):
        return getattr(self, self.program.style)()

    def sequential(self):
        return self.classes.sequential(
            [keras.Input((FEATURES,)), *self.body(), self.dense(2, 1, name="a")]
        )

    def functional(self, body=None):
        inputs = keras.Input((FEATURES,))
        x = inputs
        for layer in body or self.body():
            x = layer(x)
        heads = {name: self.dense(2, 1, name=name) for name in "ab"}
        outputs = {name: head(x) for name, head in heads.items()}
        return self.classes.model(inputs, self.outputs(outputs))

    def nested(self):
        inputs = keras.Input((FEATURES,))
        x = inputs
        for layer in self.body():
            x = layer(x)
        return self.functional([self.classes.model(inputs, x, name="inner")])

    def subclassed(self):
        run = self

        class Subclassed(self.classes.model):
            def __init__(self):
                super().__init__()
                self.hidden = run.body()
                self.heads = [run.dense(2, 1, name=name) for name in "ab"]

            def call(self, inputs):
                for layer in self.hidden:
                    inputs = layer(inputs)
                a, b = (head(inputs) for head in self.heads)
                return run.outputs({"a": a, "b": b})

        return Subclassed()

    def packed(self, pair, backwards):
        if self.targets == "dict":
            return in_order(pair, backwards)
        return pair["a"] if self.targets == "one" else list(pair.values())

    def outputs(self, pair):
        return self.packed(pair, self.program.outputs_backwards)

    def settings(self, pair):
        return self.packed(pair, self.program.losses_backwards)

    # ---------------------------------------------------------------- compile

    def losses(self):
        first, second = (LOSSES[name]() for name in self.program.losses)
        if self.targets == "one" or self.program.losses_as == "single":
            return first
        if self.program.losses_as == "names":
            pair = {"a": first, "b": second}
            return in_order(pair, self.program.losses_backwards)
        if self.program.losses_as == "partial":
            second = None
        return self.settings({"a": first, "b": second})

    def compile(self):
        program = self.program
        kwargs = {}
        if program.loss_weights is not None:
            a, b = program.loss_weights
            kwargs["loss_weights"] = self.settings({"a": a, "b": b})
        metrics = list(program.metrics)
        if metrics:
            key = "weighted_metrics" if program.weighted_metrics else "metrics"
            both = self.settings({"a": metrics, "b": metrics})
            kwargs[key] = metrics if self.targets == "one" else both
        optimizer = {
            "sgd": lambda: keras.optimizers.SGD(0.05),
            "adam": lambda: keras.optimizers.Adam(0.01),
        }[program.optimizer]()
        self.model.compile(
            optimizer, self.losses(), run_eagerly=program.eager, **kwargs
        )

    # ------------------------------------------------------------- operations

    def weights(self):
        return keras.tree.map_structure(lambda _: WEIGHTS, self.y)

    def fitted(self, *data, **kwargs):
        batches = LossOfBatches()
        settings = {"batch_size": 4, "shuffle": False, "epochs": 2}
        if not isinstance(data[0], np.ndarray):
            del settings["batch_size"]
        settings |= kwargs
        callbacks = [batches, *settings.pop("callbacks", ())]
        history = self.model.fit(
            *data, verbose=0, callbacks=callbacks, **settings
        )
        return {
            "history": history.history,
            "epochs": history.epoch,
            "batches": batches.losses,
        }

    def fit(self):
        return self.fitted(X, self.y)

    def fit_shuffled(self):
        return self.fitted(X, self.y, shuffle=True)

    def fit_weighted(self):
        return self.fitted(X, self.y, sample_weight=self.weights())

    def fit_validated(self):
        return self.fitted(X, self.y, validation_data=(X, self.y))

    def fit_split(self):
        return self.fitted(X, self.y, validation_split=0.5)

    def fit_stopped(self):
        stop = keras.callbacks.EarlyStopping("loss", patience=0, min_delta=9.0)
        return self.fitted(X, self.y, epochs=4, callbacks=[stop])

    def fit_dataset(self):
        return self.fitted(Batches(self.y))

    def evaluate(self):
        return self.model.evaluate(X, self.y, batch_size=4, verbose=0)

    def evaluate_dict(self):
        return self.model.evaluate(
            X, self.y, batch_size=4, verbose=0, return_dict=True
        )

    def evaluate_weighted(self):
        weights = self.weights()
        return self.model.evaluate(
            X, self.y, batch_size=4, verbose=0, sample_weight=weights
        )

    def train_on_batch(self):
        return self.model.train_on_batch(X, self.y)

    def train_on_batch_dict(self):
        return self.model.train_on_batch(X, self.y, return_dict=True)

    def test_on_batch(self):
        return self.model.test_on_batch(X, self.y)

    def predict(self):
        return self.model.predict(X, batch_size=4, verbose=0)

    def predict_on_batch(self):
        return self.model.predict_on_batch(X)

    def recompile(self):
        self.compile()

    def freeze(self):
        self.model.layers[0].trainable = False
        self.compile()

    def save_and_load(self):
        if self.program.style == "subclassed":
            return self.weights_and_back()
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "model.keras")
            self.model.save(path)
            self.model = keras.saving.load_model(path)
        return self.model.compiled

    def weights_and_back(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "of.weights.h5")
            self.model.save_weights(path)
            self.train_on_batch()
            self.model.load_weights(path)
        return [np.asarray(w) for w in self.model.get_weights()]

    def metrics(self):
        return self.model.metrics_names

    def reset_metrics(self):
        self.model.reset_metrics()


def observe(program, classes):
    """What is seen when a program runs, operation by operation.

    Returns:
        A list of `(operation, result)`. Where one raises, the result is the
        exception, and the last one.
    """
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    seen = []
    operation = "compile"
    try:
        run = Run(program, classes)
        run.compile()
        for operation in program.operations:
            seen.append((operation, getattr(run, operation)()))
        weights = [np.asarray(w) for w in run.model.get_weights()]
        seen.append(("weights", weights))
    except Exception as error:  # what Keras raises is a result as well
        seen.append((operation, error))
    return seen
