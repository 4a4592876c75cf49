"""`losskit.Model` in the place of `keras.Model`, with nothing else changed."""

import functools
import warnings

import keras
import numpy as np
import pytest
from keras import ops
from support.frameworks import variable_gradients
from support.models import floats
from support.models import ones_dense
from support.models import passing
from support.models import still
from support.versions import IS_KERAS_3_14

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


@pytest.mark.nightly("jax", "tensorflow")
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


def first_logit(y_true, y_pred):
    """A metric."""
    return y_pred[:, 0]


def results_of(base, model_of, loss, y, **compiling):
    """All that comes out of the methods that return results."""
    keras.utils.set_random_seed(0)
    model = model_of(base)
    model.compile("sgd", loss, **compiling)
    names = [model.metrics_names]
    results = [
        model.evaluate(X, y, batch_size=10, verbose=0),
        model.train_on_batch(X, y),
        model.test_on_batch(X, y),
    ]
    names.append(model.metrics_names)
    return names, results


@pytest.mark.parametrize(
    ("outputs", "compiling"),
    [
        (1, {}),
        (1, {"metrics": ["accuracy"]}),
        (1, {"weighted_metrics": ["accuracy"], "metrics": [first_logit]}),
        (2, {}),
        (2, {"metrics": {"a": "mae", "b": "accuracy"}}),
    ],
)
def test_results_as_lists_are_those_of_keras(outputs, compiling):
    model_of, loss, y = one_output, LOSSES["b"], Y["b"]
    if outputs == 2:
        model_of = functools.partial(two_outputs, activity=True)
        loss, y = LOSSES, Y
    names, results = results_of(losskit.Model, model_of, loss, y, **compiling)
    wanted = results_of(keras.Model, model_of, loss, y, **compiling)
    assert names == wanted[0]
    for received, expected in zip(results, wanted[1], strict=True):
        assert type(received) is type(expected)
        assert np.shape(received) == np.shape(expected)
        np.testing.assert_allclose(received, expected, rtol=1e-5)


@pytest.mark.parametrize(
    "of",
    [
        *("dict", "nest", "subclassed"),
        pytest.param("list", marks=pytest.mark.nightly("jax", "tensorflow")),
    ],
)
@pytest.mark.parametrize(
    "loss",
    [{"b": "mse", "a": "mae"}, {"a": "mae", "b": "mse"}, "mse"],
    ids=["b first", "a first", "one loss"],
)
def test_lists_are_in_the_order_of_keras(of, loss):
    if of == "nest" and keras.config.backend() == "tensorflow":
        if "b" in loss and next(iter(loss)) == "b":
            pytest.xfail("Keras sorts an inner dict of losses there alone")
    x, y = np.ones((4, 3), "float32"), {"b": np.zeros((4, 1))}
    y["a"] = y["b"] + 1.0
    if of == "list":
        y = [y["b"], y["a"]]
    elif of == "nest":
        y = {"b": y, "a": y["a"]}
        loss = loss if isinstance(loss, str) else {**loss, "b": loss}

    def model_of(base):
        dense = keras.layers.Dense
        heads = [dense(1, name=name) for name in ("b", "a", "c", "d")]

        def outputs(x):
            b, a, c, d = (head(x) for head in heads)
            if of == "list":
                return [b, a]
            return {"b": {"b": b, "a": c} if of == "nest" else b, "a": a}

        if of != "subclassed":
            inputs = keras.Input((3,))
            return base(inputs, outputs(inputs))

        class Subclassed(base):
            def call(self, x):
                return outputs(x)

        return Subclassed()

    results = []
    for base in (losskit.Model, keras.Model):
        keras.utils.set_random_seed(0)
        model = model_of(base)
        model.compile("sgd", loss)
        evaluated = model.evaluate(x, y, verbose=0)
        results.append([*evaluated, *model.train_on_batch(x, y)])
        results.append(model.metrics_names)
    assert results[0] == pytest.approx(results[2], rel=1e-5)
    assert results[1] == results[3]


@pytest.mark.parametrize("base", [keras.Sequential, losskit.Sequential])
def test_fit_warns_of_nothing_more_than_with_keras(base):
    x, y = np.ones((8, 3), "float32"), np.zeros((8, 1), "float32")
    dense = keras.layers.Dense(1, kernel_regularizer="l2")
    model = base([keras.Input((3,)), dense])
    model.compile("sgd", "mse")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        logs = model.fit(x, y, epochs=2, validation_data=(x, y), verbose=0)
        model.evaluate(x, y, verbose=0)
    assert len(logs.history["val_loss"]) == 2


def test_metrics_are_those_of_keras_and_that_of_the_terms_second():
    def metrics(base):
        model = two_outputs(base, activity=False)
        model.compile("sgd", LOSSES, metrics={"a": "mae"})
        return [metric.name for metric in model.metrics]

    assert metrics(keras.Model) == ["loss", "compile_metrics"]
    assert metrics(losskit.Model) == ["loss", "compile_metrics"]
    model = two_outputs(losskit.Model, activity=False)
    model.compile("sgd", LOSSES, metrics={"a": "mae"})
    model.evaluate(X, Y, verbose=0)
    names = [metric.name for metric in model.metrics]
    assert names == ["loss", "loss_terms", "compile_metrics"]


def total_distance(y_true, y_pred):
    """A loss over a nest: the distance of the sums of all its members."""
    sums = [sum(keras.tree.flatten(nest)) for nest in (y_true, y_pred)]
    return ops.mean(ops.abs(sums[0] - sums[1]), axis=-1)


class TotalDistance(keras.losses.Loss):
    """The same as a class."""

    def call(self, y_true, y_pred):
        return total_distance(y_true, y_pred)


NEST_LOSSES = {
    "function": {"o": total_distance, "p": "mse"},
    "class": {"o": TotalDistance(), "p": "mse"},
    "in part": {"o": total_distance},
    "beside others": {"o": [total_distance, {"a": "mse"}], "p": "mae"},
    "of all": [total_distance, {"o": {"b": "mae"}, "p": "mse"}],
}


@pytest.mark.parametrize(
    "weighted",
    [
        False,
        pytest.param(True, marks=pytest.mark.nightly("jax", "tensorflow")),
    ],
)
@pytest.mark.parametrize("loss", NEST_LOSSES.values(), ids=list(NEST_LOSSES))
def test_a_loss_over_a_nest_of_outputs_is_that_of_keras(loss, weighted):
    targets = {"o": {"a": Y["a"], "b": 2 * Y["a"]}, "p": -Y["a"]}
    compiling = {}
    if weighted:
        weights = iter([0.5, 2.0, 3.0])
        compiling["loss_weights"] = keras.tree.map_structure(
            lambda _: next(weights), loss
        )
    histories = []
    for base in (losskit.Model, keras.Model):
        keras.utils.set_random_seed(1)
        inputs = keras.Input((6,))
        a, b, p = (keras.layers.Dense(2, name=name)(inputs) for name in "abp")
        model = base(inputs, {"o": {"a": a, "b": b}, "p": p})
        history, _ = trained(
            model,
            targets,
            loss,
            compiling=compiling,
            fitting={"batch_size": 10},
        )
        histories.append(history)
    ours, plain = histories
    assert set(ours) == set(plain)
    for key, values in plain.items():
        np.testing.assert_allclose(ours[key], values, rtol=1e-5, err_msg=key)


def test_what_compares_one_output_is_for_each_output_of_a_nest():
    inputs = keras.Input((6,))
    a, b = ones_dense(2, name="a")(inputs), ones_dense(2, name="b")(inputs)
    model = losskit.Model(inputs, {"o": {"a": a, "b": b}})
    model.compile("sgd", {"o": "mse"})
    targets = {"o": {"a": Y["a"], "b": 2 * Y["a"]}}
    logs = model.evaluate(X, targets, verbose=0, return_dict=True)
    outputs = X.sum(1, keepdims=True)
    mse = [np.mean((outputs - k * Y["a"]) ** 2) for k in (1, 2)]
    assert logs["o/a_loss"] == pytest.approx(mse[0], rel=1e-5)
    assert logs["loss"] == pytest.approx(sum(mse), rel=1e-5)


@pytest.mark.parametrize("single", [True, False])
def test_sample_weights_of_a_nest_are_the_mean_of_those_of_its_outputs(single):
    inputs = keras.Input((6,))
    a, b = ones_dense(2, name="a")(inputs), ones_dense(2, name="b")(inputs)
    model = losskit.Model(inputs, {"o": {"a": a, "b": b}})
    model.compile("sgd", {"o": total_distance})
    targets = {"o": {"a": Y["a"], "b": Y["a"]}}
    weight, mean = WEIGHTS["a"], WEIGHTS["a"]
    if not single:
        weight = {"o": {"a": WEIGHTS["a"], "b": WEIGHTS["b"]}}
        mean = (WEIGHTS["a"] + WEIGHTS["b"]) / 2
    received = model.evaluate(X, targets, sample_weight=weight, verbose=0)
    distances = np.abs(2 * Y["a"] - 2 * X.sum(1, keepdims=True)).mean(1)
    assert received == pytest.approx(np.mean(mean * distances), rel=1e-5)


class TwoOutputs(losskit.Model):
    """A subclassed model, whose outputs have no names but their keys."""

    def __init__(self, kind):
        super().__init__()
        self.first, self.second = ones_dense(2), ones_dense(2)
        self.kind = kind

    def call(self, inputs):
        outputs = [self.first(inputs), self.second(inputs)]
        return outputs if self.kind == "list" else named(outputs)


def functional_of_two(kind):
    inputs = keras.Input((6,))
    outputs = [ones_dense(2, name=f"output_{i}")(inputs) for i in (1, 2)]
    return losskit.Model(inputs, outputs if kind == "list" else named(outputs))


def named(pair):
    return dict(zip(("output_1", "output_2"), pair, strict=True))


class OneBatch(keras.utils.PyDataset):
    """One batch of inputs, labels and sample weights."""

    def __init__(self, *batch):
        super().__init__()
        self.batch = batch

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return self.batch


def logs_of_way(way, model, x, y, sample_weight):
    """Logs of one batch of everything, by one of the ways to hand it in."""
    given = {"sample_weight": sample_weight}
    if way == "fit":
        logs = model.fit(x, y, batch_size=len(x), verbose=0, **given).history
        return {key: value for key, (value,) in logs.items()}
    if way == "evaluate":
        return model.evaluate(x, y, verbose=0, return_dict=True, **given)
    if way in ("train_on_batch", "test_on_batch"):
        return getattr(model, way)(x, y, return_dict=True, **given)
    data = OneBatch(x, y, sample_weight)
    if way == "generator":
        data = (batch for batch in [data[0]])
    return model.evaluate(data, verbose=0, return_dict=True)


@pytest.mark.parametrize(
    ("outputs", "labels"),
    [("list", "tuple"), ("list", "dict"), ("dict", "dict")],
)
@pytest.mark.parametrize("model_of", [TwoOutputs, functional_of_two])
def test_sample_weights_by_name_count_by_every_way_in(
    model_of, outputs, labels
):
    prediction = X.sum(1, keepdims=True)
    weight, targets = WEIGHTS["a"], (Y["a"], -Y["a"])
    errors = [np.mean((prediction - y) ** 2, axis=1) for y in targets]
    loss = np.mean(errors[0]) + np.mean(weight * errors[1])
    metrics = [np.mean(errors[0]), np.average(errors[1], weights=weight)]
    if labels == "dict":
        targets = named(targets)
    names = [["mse"], ["mse"]]
    compiling = {"weighted_metrics": names if outputs == "list" else None}
    if outputs == "dict":
        compiling["weighted_metrics"] = named(names)
    if IS_KERAS_3_14 and model_of is TwoOutputs and outputs != labels == "dict":
        # It has no metrics for labels by name beside outputs without names.
        compiling, metrics = {}, []
    model = model_of(outputs)
    model.compile(still(), "mse", **compiling)
    for way in (
        *("fit", "evaluate", "train_on_batch", "test_on_batch"),
        *("generator", "dataset"),
    ):
        for given in (
            {"output_2": weight},
            {"output_1": np.ones_like(weight), "output_2": weight},
        ):
            logs = logs_of_way(way, model, X, targets, given)
            received = [v for key, v in sorted(logs.items()) if "mse" in key]
            np.testing.assert_allclose(received, metrics, rtol=1e-5)
            np.testing.assert_allclose(logs["loss"], loss, rtol=1e-5)
            model.reset_metrics()


class AddsMean(keras.layers.Layer):
    """Adds the mean of its inputs."""

    def call(self, inputs):
        self.add_loss(ops.mean(inputs))
        return inputs


class Batches(keras.utils.PyDataset):
    """The inputs alone, in batches."""

    def __len__(self):
        return 5

    def __getitem__(self, index):
        return (X[4 * index : 4 * index + 4],)


@pytest.mark.parametrize("kind", ["arrays", "dataset", "generator"])
def test_a_seed_draws_the_batches_that_it_draws_for_keras(kind):
    def losses(base):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((6,))
        outputs = AddsMean()(keras.layers.Dense(2)(inputs))
        model = base(inputs, outputs)
        model.compile("sgd")
        given = {
            "arrays": {"x": X, "batch_size": 4},
            "dataset": {"x": Batches()},
            "generator": {"x": iter(Batches()), "steps_per_epoch": 2},
        }[kind]
        history = LossOfBatches()
        model.fit(**given, epochs=2, verbose=0, callbacks=[history])
        return history.losses

    np.testing.assert_allclose(
        losses(losskit.Model), losses(keras.Model), rtol=1e-5
    )


class LossOfBatches(keras.callbacks.Callback):
    """Keeps the loss of every batch."""

    def on_train_begin(self, logs=None):
        self.losses = []

    def on_train_batch_end(self, batch, logs=None):
        self.losses.append(logs["loss"])


def test_a_functional_model_is_named_as_in_keras():
    def name(base):
        keras.backend.clear_session()
        inputs = keras.Input((6,))
        return base(inputs, keras.layers.Dense(1)(inputs)).name

    class Named(losskit.Model):
        pass

    class NamedInKeras(keras.Model):
        pass

    assert name(losskit.Model) == name(keras.Model) == "functional"
    assert name(Named) == "named"
    assert name(NamedInKeras) == "named_in_keras"


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


def test_a_sequential_model_is_a_model_as_in_keras():
    model = losskit.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    assert isinstance(model, losskit.Model)
    assert isinstance(model, keras.Sequential)


def runs_of_train_step(base):
    """How often the Python of `train_step` runs in `fit`, and fits again."""
    runs = 0

    class Counting(base):
        def train_step(self, *args, **kwargs):
            nonlocal runs
            runs += 1
            return super().train_step(*args, **kwargs)

    model = two_outputs(Counting, activity=False)
    model.compile("adam", LOSSES, metrics={"a": ["mae"]})
    for _ in range(2):
        model.fit(X, Y, batch_size=SAMPLES // 2, epochs=2, verbose=0)
    return runs


def test_a_step_is_traced_no_more_often_than_with_keras():
    # Once where it is compiled: tracing and compiling take seconds.
    assert runs_of_train_step(losskit.Model) <= runs_of_train_step(keras.Model)
