"""`losskit.Model` in the place of `keras.Model`, with nothing else changed."""

import keras
import numpy as np
import pytest
from keras import ops
from support.frameworks import variable_gradients
from support.models import floats
from support.models import ones_dense
from support.models import passing
from support.models import still

import keras_losskit as losskit

BACKEND = keras.config.backend()
EPOCHS = 5
SAMPLES = 20
BATCH_SIZE = 8  # batches of 8, 8 and 4

rng = np.random.default_rng(0)
X = rng.normal(size=(SAMPLES, 6)).astype("float32")
Y = {
    "a": rng.normal(size=(SAMPLES, 2)).astype("float32"),
    "b": rng.integers(0, 3, size=(SAMPLES,)),
}
WEIGHTS = {
    "a": rng.uniform(0, 2, size=(SAMPLES,)).astype("float32"),
    "b": rng.uniform(0, 2, size=(SAMPLES,)).astype("float32"),
}
LOSSES = {
    "a": "mse",
    "b": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
}


def two_outputs(base, activity):
    """A model with L2, two outputs and, if asked for, activity penalties."""
    keras.utils.set_random_seed(1)
    activity = keras.regularizers.L2(0.01) if activity else None
    inputs = keras.Input((6,))
    x = keras.layers.Dense(
        8, "tanh", kernel_regularizer="l2", activity_regularizer=activity
    )(inputs)
    x = keras.layers.Dropout(0.25, seed=3)(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Dense(
        5, "tanh", bias_regularizer="l1", activity_regularizer=activity
    )(x)
    outputs = {
        "a": keras.layers.Dense(2, name="a", dtype="float32")(x),
        "b": keras.layers.Dense(3, name="b", dtype="float32")(x),
    }
    return base(inputs, outputs)


def one_output(base):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((6,))
    x = keras.layers.Dense(8, "tanh", kernel_regularizer="l2")(inputs)
    return base(inputs, keras.layers.Dense(3, name="b")(x))


def trained(model, y, loss, optimizer=None, compiling=None, fitting=None):
    """History and variables after five epochs."""
    model.compile(
        optimizer or keras.optimizers.Adam(0.01), loss, **(compiling or {})
    )
    settings = {
        "epochs": EPOCHS,
        "batch_size": BATCH_SIZE,
        "shuffle": False,
        "verbose": 0,
        "validation_data": (X, y),
    }
    history = model.fit(X, y, **settings | (fitting or {})).history
    variables = [ops.convert_to_numpy(v) for v in model.variables]
    return history, variables


#: Where plain Keras on TensorFlow is a graph, it takes the mean of an output's
#: loss over batches, whatever their sizes: with a short batch it is another.
SHORT_BATCH_KEYS = (
    ("a_loss", "b_loss", "val_a_loss", "val_b_loss")
    if BACKEND == "tensorflow"
    else ()
)


def same(ours, plain, wrong=()):
    """The same values for all the keys that Keras has, and the same weights.

    What plain Keras logs for the keys `wrong` is not compared.
    """
    assert set(plain[0]) <= set(ours[0])
    for key, values in plain[0].items():
        if key in wrong:
            continue
        np.testing.assert_allclose(
            ours[0][key], values, rtol=1e-6, atol=1e-6, err_msg=key
        )
    for one, other in zip(ours[1], plain[1], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)


VARIANTS = {
    "default": {},
    "run_eagerly": {"compiling": {"run_eagerly": True}},
    "whole batches": {"fitting": {"batch_size": 10}},
    "jit_compile": {"compiling": {"jit_compile": True}},
    "every argument": {
        "compiling": {
            "loss_weights": {"a": 0.5, "b": 2.0},
            "metrics": {"a": "mae", "b": "accuracy"},
            "auto_scale_loss": False,
            # Keras on PyTorch has no steps per execution.
            "steps_per_execution": 1 if BACKEND == "torch" else 2,
        },
        "fitting": {
            "sample_weight": WEIGHTS,
            "validation_data": None,
            "validation_split": 0.25,
        },
    },
}


def variant_params():
    for name in VARIANTS:
        marks = []
        if BACKEND == "torch" and name == "jit_compile":
            marks.append(pytest.mark.slow)  # TorchInductor takes a minute
        if BACKEND == "jax" and name == "jit_compile":
            continue  # the default
        yield pytest.param(name, marks=marks)


@pytest.mark.parametrize("variant", list(variant_params()))
def test_five_epochs_end_as_with_keras(variant):
    # On JAX plain Keras loses activity terms, at random: see below.
    activity = BACKEND != "jax"
    exact = variant in ("run_eagerly", "whole batches")
    same(
        *(
            trained(two_outputs(base, activity), Y, LOSSES, **VARIANTS[variant])
            for base in (losskit.Model, keras.Model)
        ),
        wrong=() if exact else SHORT_BATCH_KEYS,
    )


def test_gradient_accumulation_ends_as_with_keras():
    activity = BACKEND != "jax"
    same(
        *(
            trained(
                two_outputs(base, activity),
                Y,
                LOSSES,
                keras.optimizers.Adam(0.01, gradient_accumulation_steps=2),
                fitting={"validation_data": None},
            )
            for base in (losskit.Model, keras.Model)
        ),
        wrong=SHORT_BATCH_KEYS,
    )


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_ends_as_with_keras(policy):
    # Without activity: under these policies plain Keras raises or overflows.
    keras.config.set_dtype_policy(policy)
    same(
        *(
            trained(
                two_outputs(base, activity=False),
                Y,
                LOSSES,
                fitting={"validation_data": None},
            )
            for base in (losskit.Model, keras.Model)
        ),
        wrong=SHORT_BATCH_KEYS,
    )


def test_class_weight_ends_as_with_keras():
    fitting = {"class_weight": {0: 0.5, 1: 2.0, 2: 1.0}}
    same(
        *(
            trained(one_output(base), Y["b"], LOSSES["b"], fitting=fitting)
            for base in (losskit.Model, keras.Model)
        )
    )


def test_sequential_ends_as_with_keras():
    def build(base):
        keras.utils.set_random_seed(1)
        return base(
            [
                keras.Input((6,)),
                keras.layers.Dense(8, "relu", kernel_regularizer="l2"),
                keras.layers.Dense(3),
            ]
        )

    same(
        *(
            trained(build(base), Y["b"], LOSSES["b"])
            for base in (losskit.Sequential, keras.Sequential)
        )
    )


def test_batches_end_as_with_keras():
    results = []
    for base in (losskit.Model, keras.Model):
        model = two_outputs(base, activity=False)
        model.compile("sgd", LOSSES)
        y = {name: labels[:8] for name, labels in Y.items()}
        logs = model.train_on_batch(X[:8], y, return_dict=True)
        logs = floats(logs) | {
            f"test_{key}": value
            for key, value in floats(
                model.test_on_batch(X[:8], y, return_dict=True)
            ).items()
        }
        results.append(
            (logs, [ops.convert_to_numpy(v) for v in model.variables])
        )
    same(*results)


# Activity penalties, against a loop with the penalties written out: plain
# Keras on JAX loses some of them, even in an eager call.


def written_out(model, x, y):
    """The loss of `no_state`'s model on a batch, term by term."""
    first, shared = model.layers[1:3]
    hidden = first(x)
    once = shared(hidden)
    twice = shared(once)
    a, b = (model.get_layer(name)(twice) for name in ("a", "b"))
    return (
        ops.mean(ops.square(y["a"] - a))
        + LOSSES["b"](y["b"], b)
        + 0.01 * ops.sum(ops.square(first.kernel))
        + 0.01 * ops.sum(ops.square(hidden)) / len(x)
        + 0.02 * ops.sum(ops.absolute(once)) / len(x)
        + 0.02 * ops.sum(ops.absolute(twice)) / len(x)
    )


def epochs_written_out(model, optimizer):
    """The loss of every epoch with the formula of `written_out`."""
    optimizer.build(model.trainable_variables)
    history = []
    for _ in range(EPOCHS):
        total = 0.0
        for start in range(0, SAMPLES, BATCH_SIZE):
            batch = slice(start, start + BATCH_SIZE)
            x = ops.convert_to_tensor(X[batch])
            y = {
                name: ops.convert_to_tensor(labels[batch])
                for name, labels in Y.items()
            }
            total += floats(written_out(model, x, y)) * len(x)
            gradients = variable_gradients(
                lambda x=x, y=y: written_out(model, x, y),
                model.trainable_variables,
            )
            optimizer.apply([ops.convert_to_tensor(g) for g in gradients])
        history.append(total / SAMPLES)
    return history


def no_state(base):
    """Two activity regularizers, L2 and two outputs; nothing random."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((6,))
    x = keras.layers.Dense(
        8,
        "tanh",
        kernel_regularizer="l2",
        activity_regularizer=keras.regularizers.L2(0.01),
    )(inputs)
    shared = keras.layers.Dense(
        8, "tanh", activity_regularizer=keras.regularizers.L1(0.02)
    )
    x = shared(shared(x))
    outputs = {
        "a": keras.layers.Dense(2, name="a")(x),
        "b": keras.layers.Dense(3, name="b")(x),
    }
    return base(inputs, outputs)


def test_activity_ends_as_written_out():
    ours = no_state(losskit.Model)
    history, variables = trained(
        ours,
        Y,
        LOSSES,
        keras.optimizers.Adam(0.01),
        fitting={"validation_data": None},
    )
    plain = no_state(keras.Model)
    losses = epochs_written_out(plain, keras.optimizers.Adam(0.01))
    np.testing.assert_allclose(history["loss"], losses, rtol=1e-6)
    for one, other in zip(variables, plain.variables, strict=True):
        np.testing.assert_allclose(
            one, ops.convert_to_numpy(other), rtol=1e-6, atol=1e-6
        )


# Names.


def test_one_kind_and_one_term_logs_what_keras_logs():
    histories = []
    for base in (losskit.Model, keras.Model):
        inputs = keras.Input((6,))
        model = base(inputs, keras.layers.Dense(3)(inputs))
        history, _ = trained(
            model, Y["b"], LOSSES["b"], compiling={"metrics": ["accuracy"]}
        )
        histories.append(list(history))
    assert histories[0] == histories[1]


def test_lists_from_evaluate_begin_as_those_of_keras():
    names, values = [], []
    for base in (losskit.Model, keras.Model):
        model = two_outputs(base, activity=False)
        model.compile("sgd", LOSSES, metrics={"a": "mae", "b": "accuracy"})
        values.append(model.evaluate(X, Y, batch_size=10, verbose=0))
        names.append(
            model.evaluate(X, Y, batch_size=10, verbose=0, return_dict=True)
        )
    ours, plain = values
    np.testing.assert_allclose(ours[: len(plain)], plain, rtol=1e-6)
    assert len(ours) == len(names[0])
    assert set(names[1]) <= set(names[0])


def test_evaluate_of_one_term_is_a_number():
    inputs = keras.Input((6,))
    model = losskit.Model(inputs, keras.layers.Dense(2)(inputs))
    model.compile("sgd", "mse")
    assert isinstance(model.evaluate(X, Y["a"], verbose=0), float)
    # With a second kind Keras' number is still the first.
    model = one_output(losskit.Model)
    model.compile("sgd", LOSSES["b"])
    result = model.evaluate(X, Y["b"], verbose=0, return_dict=True)
    as_list = model.evaluate(X, Y["b"], verbose=0)
    assert as_list[0] == pytest.approx(result["loss"])


def test_compile_takes_its_arguments_in_the_order_of_keras():
    model = passing()
    model.compile(still(), "mse", None, ["mae"], None, True)
    assert model.run_eagerly
    x, y = np.ones((4, 1)), np.full((4, 1), 3.0)
    logs = model.fit(x, y, verbose=0).history
    assert logs == {"loss": [4.0], "mae": [2.0]}
    with pytest.raises(TypeError, match="after `auto_scale_loss`.*1 more"):
        model.compile(*[None] * 10)


def test_a_class_may_take_fewer_arguments_of_compile_by_position():
    class Named(keras.Model):
        def compile(self, optimizer="sgd", loss=None, *, metrics=None, **rest):
            super().compile(
                optimizer=optimizer, loss=loss, metrics=metrics, **rest
            )

    inputs = keras.Input((1,))
    model = losskit.wrap(Named(inputs, ones_dense(1)(inputs)))
    model.compile(still(), "mse", metrics=["mae"])
    logs = model.fit(np.ones((4, 1)), np.full((4, 1), 3.0), verbose=0).history
    assert logs == {"loss": [4.0], "mae": [2.0]}
