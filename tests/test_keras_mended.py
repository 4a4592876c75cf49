"""On which versions stock Keras is right about the rows of `docs/defects.md`.

A probe per row asks the installed Keras, on plain `keras.Model` and
`keras.losses`, and `RIGHT` says what it is to answer. When a later Keras mends
or breaks a row, the test fails and names it: correct `RIGHT`, the column of the
document, and what `keras_losskit` does about the row.
"""

import tempfile
import warnings
from inspect import signature
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops
from keras.src.backend.common.masking import set_keras_mask
from keras.src.trainers.compile_utils import CompileLoss
from support.models import column
from support.models import fit_logs
from support.models import ones_dense
from support.models import still

import keras_losskit as losskit

BACKEND = keras.config.backend()
NAMES = {"jax": "JAX", "tensorflow": "TensorFlow", "torch": "PyTorch"}
DEFECTS = Path(__file__).parents[1] / "docs" / "defects.md"

#: The lowest version that was tried: what is right there is so on all.
LOWEST = "3.14"

NOT_JAX = {"tensorflow": LOWEST, "torch": LOWEST}
NOT_TENSORFLOW = {"jax": LOWEST, "torch": LOWEST}
NOT_TORCH = {"jax": LOWEST, "tensorflow": LOWEST}
EVERYWHERE = NOT_JAX | NOT_TORCH

#: The first version on which stock Keras is right, by backend, for a row or a
#: part of one. What is absent was wrong on every version that was tried.
RIGHT = {
    (3, None): NOT_TENSORFLOW,
    (5, None): NOT_JAX | {"jax": "3.16"},
    (6, None): NOT_JAX,
    (7, "inside `compute_loss`"): NOT_JAX,
    (7, "after an exception"): NOT_JAX,
    (8, "followed"): NOT_JAX,
    (8, "saved"): {"tensorflow": LOWEST},
    (15, None): NOT_JAX,
    (16, "configs"): dict.fromkeys(NAMES, "3.16"),
    (20, None): NOT_JAX,
    (21, "activity"): NOT_TENSORFLOW,
    (21, "`add_loss`"): NOT_JAX,
    (22, None): NOT_JAX,
    (25, "one label"): EVERYWHERE,
    (27, None): NOT_TORCH,
}

#: Rows that no probe can tell, and why.
NOT_PROBED = {
    4: "at random",
    12: "needs two devices",
    23: "a matter of what is logged",
    24: "a choice, not a defect",
    29: "needs several devices",
}

#: Rows that an option, a container or a layer of ours mends, so that the same
#: probe finds our classes as wrong as Keras'.
NOT_OF_ITSELF = {
    (10, "masks"),
    (10, "cells"),
    (17, None),
    (18, None),
    (27, None),
    (28, None),
}

PROBES = {}


def probe(row, part=None, *, wrong=()):
    """Register a function that says whether Keras is right about a row.

    It takes what it is to ask, by name: `Model`, `losses` or nothing. `wrong`
    are exceptions which mean that the answer is no.
    """

    def register(function):
        PROBES[row, part] = function, wrong
        return function

    return register


def says_right(key, source):
    """Whether a probe finds `source`, Keras or this package, to be right."""
    function, wrong = PROBES[key]
    asked = [getattr(source, name) for name in signature(function).parameters]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return bool(function(*asked))
        except wrong:
            return False


def installed_has(version):
    """Whether the installed Keras is of this version or a later one."""
    numbers = keras.__version__.split(".")[:2]
    return [int(n) for n in numbers] >= [int(n) for n in version.split(".")]


@pytest.fixture(autouse=True, scope="module")
def without_a_trace():
    yield
    keras.utils.clear_session()


def label(key):
    row, part = key
    return f"row {row}" if part is None else f"row {row}, {part}"


def logs_of(model, x, y=None, loss=None, **kwargs):
    """The logs of one epoch. To be quick, only JAX compiles the step."""
    compiled = {
        key: kwargs.pop(key)
        for key in ("loss_weights", "metrics", "run_eagerly", "jit_compile")
        if key in kwargs
    }
    compiled = {"jit_compile": BACKEND == "jax"} | compiled
    model.compile(still(), loss, **compiled)
    return fit_logs(model, x, y, **kwargs)


def passing(Model, outputs=("out",), **kwargs):
    """A model that returns its input at every named output."""
    inputs = keras.Input((1,))
    results = [ones_dense(1, name=name, **kwargs)(inputs) for name in outputs]
    return Model(inputs, results[0] if len(results) == 1 else results)


def subclassed(Model, outputs=1):
    """A subclassed model that returns its input, or a list of it."""

    class Passes(Model):
        def __init__(self):
            super().__init__()
            self.dense = ones_dense(1)

        def call(self, x):
            return [self.dense(x)] * outputs if outputs > 1 else self.dense(x)

    return Passes()


def close(value, expected):
    return np.allclose(value, expected, rtol=1e-3)


@probe(1)
def every_loss_of_one_output(Model):
    # errors 3: mse 9, mae 3
    logs = logs_of(passing(Model), column(3), column(0), ["mse", "mae"])
    return close(logs["loss"], 12.0)


@probe(2)
def names_of_terms(Model):
    y = [column(0), column(2)]
    # errors 3 and 1: mse 9, mae 3, mse 1
    several = logs_of(
        subclassed(Model, 2), column(3), y, [["mse", "mae"], "mse"]
    )
    alike = logs_of(subclassed(Model, 2), column(3), y, ["mse", "mse"])
    return {9.0, 3.0, 1.0} <= {*several.values()} and {9.0, 1.0} <= {
        *alike.values()
    }


@probe(3)
def short_last_batch(Model):
    x = column(0, 0, 0, 0, 10, 10)
    y = {"a": 0 * x, "b": x}
    model = passing(Model, outputs=("a", "b"))
    logs = logs_of(model, x, y, {"a": "mse", "b": "mse"}, batch_size=4)
    # (4 * 0 + 2 * 100) / 6
    return close(logs["a_loss"], 100 / 3)


@probe(5)
def layer_called_twice(Model):
    shared = ones_dense(1, activity_regularizer=keras.regularizers.L2(1.0))
    inputs = [keras.Input((1,)), keras.Input((1,))]
    model = Model(inputs, keras.layers.Add()([shared(x) for x in inputs]))
    logs = logs_of(model, [column(1)] * 2, column(2), "mse")
    # 1 ** 2 for either call; the error is 2 - 2
    return close(logs["loss"], 2.0)


@probe(6)
def tensor_added_twice(Model):
    class Adds(keras.layers.Layer):
        def __init__(self, inner=None):
            super().__init__()
            self.inner = inner

        def call(self, x, loss):
            self.add_loss(loss)
            return x if self.inner is None else self.inner(x, loss)

    class AddsTwice(Model):
        def __init__(self):
            super().__init__()
            self.layer = Adds(Adds())

        def call(self, x):
            return self.layer(x, ops.mean(x))

    # mean(1, 3) = 2, twice; the error is 0
    logs = logs_of(AddsTwice(), column(1, 3), column(1, 3), "mse")
    return close(logs["loss"], 4.0)


def with_penalties(cls):
    dense = ones_dense(
        1,
        kernel_regularizer=keras.regularizers.L2(0.5),
        activity_regularizer=keras.regularizers.L2(0.25),
    )
    inputs = keras.Input((1,))
    return cls(inputs, dense(inputs))


@probe(7, "inside `compute_loss`")
def losses_inside_compute_loss(Model):
    class Looks(Model):
        def compute_loss(self, *args, **kwargs):
            self.__dict__["seen"] = len(self.layers[-1].losses)
            return super().compute_loss(*args, **kwargs)

    model = with_penalties(Looks)
    logs_of(model, column(2), column(2), "mse")
    # of the activity and of the kernel
    return model.seen == 2


@probe(7, "after an exception", wrong=Exception)
def exception_in_fit(Model):
    class Fails(Model):
        def compute_loss(self, *args, **kwargs):
            total = super().compute_loss(*args, **kwargs)
            if self.__dict__.get("fails"):
                raise ArithmeticError("on purpose")
            return total

    model = with_penalties(Fails)
    model.compile(still(), "mse", jit_compile=BACKEND == "jax")
    model.fit(column(2), column(2), verbose=0)
    model.__dict__["fails"] = True
    model.make_train_function(force=True)
    with pytest.raises(ArithmeticError):
        model.fit(column(2), column(2), verbose=0)
    model.__dict__["fails"] = False
    # 0.5 * 1 and 0.25 * 4
    logs = logs_of(model, column(2), column(2), "mse")
    return close(logs["loss"], 1.5)


class Assigns(keras.callbacks.Callback):
    def __init__(self, variable):
        super().__init__()
        self.variable = variable

    def on_epoch_begin(self, epoch, logs=None):
        self.variable.assign(10.0**epoch)


@probe(8, "followed", wrong=(TypeError, ValueError))
def variable_as_loss_weight(Model):
    weight = keras.Variable(1.0, trainable=False)
    logs = logs_of(
        passing(Model),
        column(3),
        column(0),
        "mse",
        loss_weights=[weight],
        epochs=2,
        callbacks=[Assigns(weight)],
    )
    # 10 * 9
    return close(logs["loss"], 90.0)


@probe(8, "saved", wrong=(TypeError, ValueError, NotImplementedError))
def variable_as_loss_weight_is_saved(Model):
    model = passing(Model)
    weight = keras.Variable(10.0, trainable=False)
    model.compile(still(), "mse", loss_weights=[weight])
    config = keras.saving.serialize_keras_object(model.get_compile_config())
    restored = passing(Model)
    restored.compile_from_config(
        keras.saving.deserialize_keras_object(config)
        if "class_name" in config
        else config
    )
    y_pred = ops.convert_to_tensor(column(3))
    loss = restored.compute_loss(y=ops.zeros((1, 1)), y_pred=y_pred)
    return close(float(loss), 90.0)


@probe(9, wrong=TypeError)
def half_precision(Model):
    def loss(dtype):
        dense = ones_dense(
            512,
            dtype=dtype,
            activity_regularizer=keras.regularizers.L2(2.0**-20),
        )
        inputs = keras.Input((16,))
        outputs = keras.layers.Activation("linear", dtype="float32")(
            dense(inputs)
        )
        x, y = np.ones((8, 16)), np.full((8, 512), 16.0, "float32")
        return logs_of(Model(inputs, outputs), x, y, "mse")["loss"]

    # every activation 16: 2 ** -20 * 512 * 256, where the sum over the batch,
    # 2 ** 20, is beyond float16
    return all(
        close(loss(f"mixed_{d}"), 0.125) for d in ("float16", "bfloat16")
    )


@probe(10, "masks")
def activity_regularizer_and_mask(Model):
    inputs = keras.Input((2, 1))
    dense = ones_dense(
        1,
        use_bias=True,
        bias_initializer="ones",
        activity_regularizer=keras.regularizers.L2(1.0),
    )
    outputs = dense(keras.layers.Masking()(inputs))
    x, y = column(1, 0)[None], column(2, 0)[None]
    # 1 + 1 where the mask is: 2 ** 2; there the error is 0
    return close(logs_of(Model(inputs, outputs), x, y, "mse")["loss"], 4.0)


@probe(10, "cells", wrong=Exception)
def add_loss_in_a_cell(Model):
    class Cell(keras.layers.SimpleRNNCell):
        def call(self, x, states, training=False):
            self.add_loss(ops.ones(()))
            return super().call(x, states, training)

    inputs = keras.Input((3, 1))
    rnn = keras.layers.RNN(Cell(1, kernel_initializer="zeros"))
    x = np.ones((1, 3, 1), "float32")
    # 1 in each of 3 steps; the output is 0
    logs = logs_of(Model(inputs, rnn(inputs)), x, column(0), "mse")
    return close(logs["loss"], 3.0)


@probe(11)
def no_reduction(Model):
    def refused(**kwargs):
        loss = keras.losses.MeanSquaredError(reduction=None)
        try:
            logs_of(passing(Model, **kwargs), column(1), column(1), loss)
        except Exception as error:
            return "reduction" in str(error)
        return False

    return refused() and refused(kernel_regularizer="l2")


@probe(13)
def scalar_loss_with_sample_weights(Model):
    def scalar_of_row_13(y_true, y_pred):
        return ops.mean(ops.abs(y_true - y_pred))

    weight = np.array([1.0, 0.0], "float32")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            logs_of(
                passing(Model),
                column(3, 1),
                column(0, 0),
                scalar_of_row_13,
                sample_weight=weight,
            )
        except ValueError as error:
            caught.append(error)
    return any("scalar_of_row_13" in str(said) for said in caught)


@probe(14)
def compiled_without_a_loss(Model):
    model = passing(Model, kernel_regularizer=keras.regularizers.L2(0.5))
    model.compile(still(), "mse")
    logs = logs_of(model, column(3), column(0), None)
    # 0.5 * 1 ** 2
    return close(logs["loss"], 0.5)


@probe(15)
def no_loss_at_all(Model):
    try:
        logs_of(passing(Model), column(3), column(0), None)
    except ValueError:
        return True
    return False


@probe(16, "configs")
def configs_of_losses(losses):
    y_pred = np.array([[10.0, 2.0], [0.3, 0.7]], "float32")
    labels = column(0, 1)
    cases = [
        (losses.Huber(delta=3.0), 0 * y_pred),
        (losses.CosineSimilarity(axis=0), y_pred**2),
        (losses.SparseCategoricalCrossentropy(ignore_class=1), labels),
        (losses.SparseCategoricalCrossentropy(from_logits=True), labels),
    ]
    return all(
        close(
            float(type(loss).from_config(loss.get_config())(y_true, y_pred)),
            float(loss(y_true, y_pred)),
        )
        for loss, y_true in cases
    )


@probe(16, "`dtype`")
def dtype_of_losses(losses):
    loss = losses.MeanSquaredError(dtype="float16")
    restored = losses.MeanSquaredError.from_config(loss.get_config())
    return restored.dtype == "float16"


@probe(17, wrong=NotImplementedError)
def config_of_several_losses():
    loss = CompileLoss(["mse", "mae"], [1.0, 2.0])
    return CompileLoss.from_config(loss.get_config()) is not None


@probe(18)
def crossentropy_of_probabilities(losses):
    y_true = np.array([[1.0, 0.0, 0.0]] * 2)
    y_pred = np.array([[0.2, 0.3, 0.1], [0.0, 0.0, 0.0]])
    values = ops.convert_to_numpy(
        losses.categorical_crossentropy(y_true, y_pred)
    )
    return close(values[0], -np.log(0.2)) and np.isfinite(values[1])


def kept_or_refused(model, value):
    """Whether a value given to `add_loss` counts, or an error tells why not."""
    try:
        model.add_loss(value)
    except Exception as error:
        return bool(str(error))
    logs = logs_of(model, column(1), column(0), "mse")
    # 1 for the error, 1 for the value
    return close(logs["loss"], 2.0)


@probe(19, "outside of `call`")
def add_loss_outside_of_call(Model):
    return kept_or_refused(subclassed(Model), ops.ones(()))


@probe(19, "symbolic tensor")
def add_loss_of_a_symbolic_tensor(Model):
    model = passing(Model)
    return kept_or_refused(model, ops.mean(model.output))


@probe(20, wrong=Exception)
def metric_inside_call(Model):
    class Measures(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.mean = keras.metrics.Mean(name="mean")

        def call(self, x):
            self.mean.update_state(x)
            return x

    inputs = keras.Input((1,))
    model = Model(inputs, Measures()(ones_dense(1)(inputs)))
    logs = logs_of(model, column(1, 3), column(1, 3), "mse")
    return close(logs["mean"], 2.0)


@probe(21, "activity", wrong=Exception)
def activity_under_remat(Model):
    inputs = keras.Input((1,))
    with keras.RematScope(mode="full"):
        dense = ones_dense(1, activity_regularizer=keras.regularizers.L2(1.0))
    model = Model(inputs, dense(inputs))
    logs = logs_of(model, column(2), column(2), "mse")
    return close(logs["loss"], 4.0)


@probe(21, "`add_loss`", wrong=Exception)
def add_loss_under_remat(Model):
    class Adds(keras.layers.Layer):
        def call(self, x):
            self.add_loss(ops.sum(x))
            return x * 1.0

        def compute_output_shape(self, shape):
            return shape

    inputs = keras.Input((1,))
    with keras.RematScope(mode="full"):
        adds = Adds()
    model = Model(inputs, ones_dense(1)(adds(inputs)))
    logs = logs_of(model, column(2), column(2), "mse")
    return close(logs["loss"], 2.0)


@probe(22)
def masks_in_metrics(Model):
    inputs = keras.Input((4, 1))
    model = Model(inputs, ones_dense(1)(keras.layers.Masking()(inputs)))
    x = column(2, 2, 0, 0)[None]
    logs = logs_of(model, x, np.ones_like(x) * (x > 0), "mse", metrics=["mse"])
    # errors 1, 1 where the mask is
    return close(logs["mse"], 1.0)


ZERO, ONE, FIRST = column(0, 0), column(1, 1), column(1, 0)
EITHER = {"a": "mse", "b": "mse"}


def takes(Model, expected, loss, y, loss_weights=None, sample_weight=None):
    """Whether a model of the outputs a and b, both 3, has this loss."""
    logs = logs_of(
        passing(Model, outputs=("a", "b")),
        column(3, 3),
        y,
        loss,
        loss_weights=loss_weights,
        sample_weight=sample_weight,
        run_eagerly=True,
    )
    return close(logs["loss"], expected)


@probe(25, "partial labels", wrong=(AttributeError, KeyError, ValueError))
def partial_labels(Model):
    # 9 for a, 4 for b
    return takes(Model, 9.0, EITHER, {"a": ZERO}) and takes(
        Model, 4.0, ["mse", "mse"], [None, ONE]
    )


@probe(25, "partial losses", wrong=ValueError)
def partial_losses(Model):
    return takes(Model, 9.0, {"a": "mse"}, [ZERO, ONE])


@probe(25, "partial weights", wrong=ValueError)
def partial_loss_weights(Model):
    # 0.5 * 9 + 4
    return takes(Model, 8.5, "mse", [ZERO, ONE], loss_weights={"a": 0.5})


@probe(25, "partial sample weights", wrong=ValueError)
def partial_sample_weights(Model):
    # mean(9, 0) + 4
    return takes(Model, 8.5, "mse", [ZERO, ONE], sample_weight={"a": FIRST})


@probe(25, "one label", wrong=ValueError)
def one_label_for_many_outputs(Model):
    # 9 + 9
    return takes(Model, 18.0, "mse", ZERO) and takes(Model, 18.0, EITHER, ZERO)


@probe(26, wrong=TypeError)
def functional_call_of_a_subclass(Model):
    class Mine(Model):
        pass

    bases = Mine.__bases__
    passing(Mine)

    class Yours(Mine):
        def __init__(self):
            super().__init__()

    Yours()
    return Mine.__bases__ == bases


@probe(27)
def masks_leave_weights_alone(losses):
    weight = ops.ones((2, 2))
    y_pred = ops.ones((2, 2, 1))
    set_keras_mask(y_pred, ops.convert_to_tensor(np.array([[True, False]] * 2)))
    loss = losses.MeanSquaredError()
    values = [
        float(loss(ops.zeros((2, 2, 1)), y_pred, weight)) for _ in range(3)
    ]
    return close(values, values[0])


@probe(28, wrong=ValueError)
def early_stopping_on_a_term(Model):
    model = passing(Model, outputs=("a", "b"))
    data = column(3), {"a": column(0), "b": column(0)}
    stopping = keras.callbacks.EarlyStopping("val_a_loss")
    logs_of(
        model,
        *data,
        {"a": "mse", "b": "mse"},
        validation_data=data,
        callbacks=[stopping],
    )
    return True


@probe(30)
def dropout_of_a_loaded_model(Sequential):
    model = Sequential([keras.Input((64,)), keras.layers.Dropout(0.5, seed=1)])
    model.compile(still(), "mse")
    x = np.ones((2, 64), "float32")
    model.train_on_batch(x, x)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/model.keras"
        model.save(path)
        loaded = keras.saving.load_model(path)
    dropped, by_loaded = (
        ops.convert_to_numpy(each(x, training=True)) for each in (model, loaded)
    )
    return close(by_loaded, dropped)


@pytest.mark.parametrize("key", PROBES, ids=label)
def test_keras_is_right_from_the_version_that_is_given(key):
    first = RIGHT.get(key, {}).get(BACKEND)
    expected = first is not None and installed_has(first)
    right = says_right(key, keras)
    assert right == expected, (
        f"{label(key)}: Keras {keras.__version__} on {NAMES[BACKEND]} is "
        f"{'right by now' if right else 'wrong'}, which RIGHT does not say."
    )


@pytest.mark.skipif(
    BACKEND != "torch", reason="one backend does; this one compiles nothing"
)
@pytest.mark.parametrize(
    "key", [key for key in PROBES if key not in NOT_OF_ITSELF], ids=label
)
def test_a_probe_can_say_that_a_row_is_right(key):
    assert says_right(key, losskit)


# --------------------------------------------------------------- the document


def where(versions):
    """The versions of a row in `RIGHT`, as the document says them."""
    if not versions:
        return "no version"
    if set(versions) == set(NAMES) and len(set(versions.values())) == 1:
        return versions["jax"]
    always = [NAMES[b] for b, first in versions.items() if first == LOWEST]
    later = [
        f"{NAMES[b]} {first}"
        for b, first in versions.items()
        if first != LOWEST
    ]
    return ", ".join(always + later)


def right_from(row):
    """What the last column of the document is to say of a row."""
    if row in NOT_PROBED:
        return f"not asked: {NOT_PROBED[row]}"
    parts = {
        part: where(RIGHT.get((number, part)))
        for number, part in PROBES
        if number == row
    }
    if len(set(parts.values())) == 1:
        return next(iter(parts.values()))
    return "; ".join(
        f"{part}: {answer}"
        for part, answer in parts.items()
        if answer != "no version"
    )


def test_the_document_says_from_which_version_keras_is_right():
    lines = DEFECTS.read_text().splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line[:1] == "|"]
    assert rows[0][-1] == "right from"
    written = {int(row[0]): row[-1] for row in rows[2:]}
    assert written == {row: right_from(row) for row in range(1, 31)}


def test_every_row_is_probed_or_says_why_not():
    assert set(RIGHT) <= set(PROBES)
    assert not {row for row, _ in PROBES} & set(NOT_PROBED)
