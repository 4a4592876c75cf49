"""`gradient_report` and its callback, against gradients taken by NumPy."""

import functools
import json

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops
from rich.console import Console

import keras_losskit as losskit
from keras_losskit import callbacks
from keras_losskit import weighting
from keras_losskit.callbacks.gradient_report import first_batch

rng = np.random.default_rng(2)
X = rng.normal(size=(12, 3)).astype("float32")
Y = {
    "a": rng.normal(size=(12, 1)).astype("float32"),
    "b": 3 * rng.normal(size=(12, 2)).astype("float32"),
}
START = {
    "trunk": rng.normal(size=(3, 4)).astype("float32"),
    "a": rng.normal(size=(4, 1)).astype("float32"),
    "b": rng.normal(size=(4, 2)).astype("float32"),
}


def network(model_class=losskit.Model, **trunk_options):
    """Linear layers without biases: `x T A` and `x T B`."""
    inputs = keras.Input((3,))
    made = {
        "trunk": layers.Dense(4, use_bias=False, name="trunk", **trunk_options),
        "a": layers.Dense(1, use_bias=False, name="a"),
        "b": layers.Dense(2, use_bias=False, name="b"),
    }
    hidden = made["trunk"](inputs)
    model = model_class(inputs, {n: made[n](hidden) for n in ("a", "b")})
    for name, layer in made.items():
        layer.set_weights([START[name]])
    return model


def jacobian():
    """Rows: `mse(a)`, `0.5 * mse(b)`, and the penalty `0.1 * sum(T ** 2)`."""
    trunk = START["trunk"].astype("float64")
    hidden, rows = X @ trunk, []
    for name, weight in (("a", 1.0), ("b", 0.5)):
        error = hidden @ START[name] - Y[name]
        error = weight * 2 * error / error.size
        parts = {key: np.zeros(value.shape) for key, value in START.items()}
        parts["trunk"] = X.T @ (error @ START[name].T)
        parts[name] = hidden.T @ error
        rows.append(parts)
    zeros = {key: np.zeros(value.shape) for key, value in START.items()}
    rows.append({**zeros, "trunk": 0.2 * trunk})
    return np.array(
        [np.concatenate([p.ravel() for p in row.values()]) for row in rows]
    )


def compiled(model, method=None):
    model.compile(
        keras.optimizers.SGD(0.01),
        loss=losskit.LossesContainer(
            {"a": "mse", "b": "mse"},
            loss_weights={"b": 0.5},
            weighting=method,
        ),
    )
    return model


def assert_is_of(report, rows, weights=None):
    weights = np.ones(len(rows)) if weights is None else weights
    gramian = rows @ rows.T
    norms = np.linalg.norm(rows, axis=1)
    np.testing.assert_allclose(report.norms, norms, rtol=1e-5)
    np.testing.assert_allclose(
        report.cosines, gramian / np.outer(norms, norms), atol=1e-5
    )
    update = weights @ rows
    np.testing.assert_allclose(
        report.shares,
        weights * (rows @ update) / (update @ update),
        atol=1e-4,
    )
    np.testing.assert_allclose(report.weights, weights, rtol=1e-4)
    pairs = gramian[np.triu_indices(len(rows), 1)]
    assert report.conflict_rate == pytest.approx(np.mean(pairs < 0))


def test_the_report_is_that_derived_by_hand():
    model = compiled(network(kernel_regularizer=keras.regularizers.L2(0.1)))
    report = losskit.gradient_report(model, X, Y)
    assert report.names == ["a", "b", "regularization"]
    assert_is_of(report, jacobian())
    assert (report.cosines < 0).any()  # or the rate would not be tested
    trunk = losskit.gradient_report(model, X, Y, wrt="trunk/.*")
    assert_is_of(trunk, jacobian()[:, :12])
    layer = losskit.gradient_report(model, X, Y, wrt=model.get_layer("trunk"))
    np.testing.assert_array_equal(layer.gramian, trunk.gramian)
    with pytest.raises(ValueError, match="`wrt`"):
        losskit.gradient_report(model, X, Y, wrt="decoder")


def test_a_plain_model_and_sample_weights():
    model = network(keras.Model)
    model.compile(loss="mse", loss_weights={"a": 1.0, "b": 0.5})
    assert_is_of(losskit.gradient_report(model, X, Y), jacobian()[:2])
    doubled = {"a": np.full(12, 2.0), "b": np.ones(12)}
    report = losskit.gradient_report(model, X, Y, doubled)
    assert_is_of(report, jacobian()[:2] * [[2.0], [1.0]])


class ByNorm(weighting.GradientWeighting):
    def weigh(self, gramian, training):
        return 10.0 / ops.sqrt(ops.diagonal(gramian))


@pytest.mark.parametrize("wrt", [None, "trunk/.*"])
def test_weights_of_a_gradient_weighting_shape_the_shares(wrt):
    penalty = keras.regularizers.L2(0.1)
    model = compiled(network(kernel_regularizer=penalty), ByNorm(wrt=wrt))
    rows = jacobian()
    norms = np.linalg.norm(rows[:2, : 12 if wrt else None], axis=1)
    report = losskit.gradient_report(model, X, Y)
    assert_is_of(report, rows, np.array([*(10.0 / norms), 1.0]))
    assert "weight" in str(report)


@pytest.mark.parametrize("wrt", [None, "trunk/.*"])
def test_a_term_without_labels_is_absent_as_in_training(wrt):
    model = compiled(network(), ByNorm(wrt=wrt))
    report = losskit.gradient_report(model, X, {"a": Y["a"], "b": None})
    assert report.names == ["a"]
    rows = jacobian()[:1]
    norm = np.linalg.norm(rows[0, : 12 if wrt else None])
    np.testing.assert_allclose(report.weights, [10.0 / norm], rtol=1e-4)
    np.testing.assert_allclose(report.norms, np.linalg.norm(rows), rtol=1e-4)
    assert report.shares.tolist() == [1.0]


class Twice(losskit.Model):
    """Adds a term in `call`, and one in `compute_loss`."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(1, activity_regularizer="l2")

    def call(self, x):
        y = self.dense(x)
        self.add_loss(ops.mean(y**2), name="size", weight=0.5)
        return y

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        total = super().compute_loss(x, y, y_pred, sample_weight, training)
        return total + ops.sum(self.dense.kernel**2)


def test_terms_of_every_kind_and_nothing_moves():
    model = Twice()
    method = weighting.Uncertainty()
    model.compile("adam", loss=losskit.LossesContainer("mse", weighting=method))
    x, y = X, Y["a"]
    model.fit(x, y, verbose=0)
    variables = [*model.variables, *model.compiled_loss.variables]
    # Copies: PyTorch's arrays are the variables' own memory.
    state = [np.array(ops.convert_to_numpy(v)) for v in variables]
    report = losskit.gradient_report(model, x, y)
    assert sorted(report.names) == [
        "activity",
        "compute_loss",
        "mse",
        "twice/size",
    ]
    # d/dw sum(w^2)
    kernel = model.dense.kernel.numpy()
    norm = report.norms[report.names.index("compute_loss")]
    assert norm == pytest.approx(2 * np.linalg.norm(kernel), rel=1e-5)
    for variable, before in zip(variables, state, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(variable), before)
    model.fit(x, y, verbose=0)


def test_it_prints_a_table_and_a_dict():
    report = losskit.TermGradients(
        ["a", "b", "none"],
        np.array([[4.0, -3.0, 0.0], [-3.0, 9.0, 0.0], [0.0, 0.0, 0.0]]),
        np.ones(3),
    )
    found = json.loads(json.dumps(report.to_dict()))
    assert found["norms"] == [2.0, 3.0, 0.0]
    assert found["cosines"][0] == [1.0, -0.5, 0.0]
    np.testing.assert_allclose(found["shares"], [1 / 7, 6 / 7, 0.0])
    assert found["conflict_rate"] == 1.0  # of the one pair with gradients
    console = Console(record=True, width=100, file=open("/dev/null", "w"))
    console.print(report)
    table = console.export_text()
    for text in (table, str(report)):
        assert "conflict rate 100%" in text
        row = next(line for line in text.splitlines() if "-0.50" in line)
        assert row.split() == ["a", "2", "14.3%", "+1.00", "-0.50", "+0.00"]
        assert "weight" not in text


# --------------------------------------------------------------------- callback


def fit(model, *watching, **arguments):
    arguments = {"validation_data": (X, Y), "epochs": 4, **arguments}
    return model.fit(
        X,
        Y,
        batch_size=6,
        shuffle=False,
        verbose=0,
        callbacks=list(watching),
        **arguments,
    ).history


def test_the_callback_records_without_a_trace():
    plain, watched = compiled(network()), compiled(network())
    epochs = callbacks.GradientReport(every=2)
    steps = callbacks.GradientReport(X, Y, every=3, by="step")
    expected = fit(plain)
    logs = fit(watched, epochs, steps)
    assert logs == expected
    assert [entry[:2] for entry in epochs.history] == [(1, 4), (3, 8)]
    assert [entry[:2] for entry in steps.history] == [(1, 3), (2, 6)]
    # The last one is of the model as it is now, on the first 6 samples.
    now = losskit.gradient_report(
        watched, X[:6], {key: value[:6] for key, value in Y.items()}
    )
    np.testing.assert_allclose(
        epochs.history[-1].report.gramian, now.gramian, rtol=1e-5
    )
    # Before any step, what the reports were of was not this.
    assert not np.allclose(steps.history[0].report.gramian, now.gramian)


def test_each_fit_reports_on_its_own_validation_data():
    model, watch = compiled(network()), callbacks.GradientReport()
    other = {key: 2 * value for key, value in Y.items()}
    for labels in (Y, other):
        fit(model, watch, validation_data=(X, labels), epochs=1)
        now = losskit.gradient_report(
            model, X[:6], {key: value[:6] for key, value in labels.items()}
        )
        np.testing.assert_allclose(
            watch.history[-1].report.gramian, now.gramian, rtol=1e-5
        )


@pytest.mark.skipif(
    keras.config.backend() == "torch", reason="refused by Keras on PyTorch"
)
def test_the_callback_counts_the_steps_of_an_execution():
    model = compiled(network())
    model.steps_per_execution = 4
    # 6 steps in an epoch, executed as 4 and 2
    every = {2: callbacks.GradientReport(X, Y, every=2, by="step")}
    every[5] = callbacks.GradientReport(X, Y, every=5, by="step")
    every["epoch"] = callbacks.GradientReport(X, Y)
    settings = {"batch_size": 2, "epochs": 2, "shuffle": False, "verbose": 0}
    model.fit(X, Y, callbacks=list(every.values()), **settings)
    assert {n: [e[:2] for e in w.history] for n, w in every.items()} == {
        2: [(0, 4), (0, 6), (1, 10), (1, 12)],
        # the fifth step is in the second execution, the tenth in the third
        5: [(0, 6), (1, 10)],
        "epoch": [(0, 6), (1, 12)],
    }


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        cut = slice(6 * index, 6 * index + 6)
        return X[cut], {key: value[cut] for key, value in Y.items()}


def test_the_callback_takes_a_first_batch_of_any_data():
    first = first_batch((X, Y), 6)
    batches = {"one": Batches()[0], "two": Batches()[1]}.values()
    # Keras takes a list as it does a tuple.
    for data, size in ((Batches(), 32), (batches, 32), ([X, Y], 6)):
        found = first_batch(data, size)
        for ours, theirs in zip(
            keras.tree.flatten(found), keras.tree.flatten(first), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(ValueError, match="generator.*Received"):
        first_batch((pair for pair in [(X, Y)]), 6)


def test_the_callback_without_a_batch_is_refused():
    with pytest.raises(ValueError, match="be given a batch.*Received"):
        fit(
            compiled(network()),
            callbacks.GradientReport(),
            validation_data=None,
        )
    with pytest.raises(ValueError, match="`by`.*Received"):
        callbacks.GradientReport(by="batch")
    with pytest.raises(ValueError, match="`every`.*Received"):
        callbacks.GradientReport(every=0)


@pytest.mark.parametrize(
    "report",
    [
        losskit.gradient_report,
        functools.partial(losskit.gradient_noise_scale, batch_size=4),
    ],
)
def test_a_model_of_which_nothing_is_trainable_is_refused(report):
    model = compiled(network())
    model.trainable = False
    with pytest.raises(ValueError, match="trainable variables. Received: none"):
        report(model, X, Y)


@pytest.mark.parametrize("report", [losskit.gradient_report, losskit.summary])
def test_a_data_set_is_no_batch(report):
    batches = (pair for pair in [(X, Y)])
    with pytest.raises(TypeError, match="one batch.*Received.*next"):
        report(compiled(network()), batches)
