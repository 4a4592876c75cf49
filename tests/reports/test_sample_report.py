"""`sample_report`: shares that add up to what `evaluate` gives."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops
from support.autodiff import compiled
from support.autodiff import value_and_gradient

import keras_losskit as losskit
from keras_losskit import extra
from keras_losskit import losses
from keras_losskit import reductions
from keras_losskit import weighting
from keras_losskit.losses._core.evaluation import own_value
from keras_losskit.reductions._sample_values import SampleWatch
from keras_losskit.reductions._sample_values import watched_by

rng = np.random.default_rng(0)
X = rng.normal(size=(10, 3)).astype("float32")
Y = {
    "a": rng.normal(size=(10, 1)).astype("float32"),
    "b": rng.normal(size=(10, 5, 2)).astype("float32"),
}
WEIGHTS = {
    "a": rng.uniform(0, 2, 10).astype("float32"),
    "b": rng.uniform(0, 2, (10, 5)).astype("float32"),
}
ERRORS = rng.normal(size=(6, 4)).astype("float32")
MASK = np.array([[1, 1, 1, 0]] * 5 + [[0, 0, 0, 0]])
#: A weight per sample, one of them 0.
OF_SAMPLES = np.array([1.0, 0.5, 0.0, 2.0, 1.0, 3.0], "float32")


def root_mean_square(values, sample_weight=None, mask=None):
    if sample_weight is not None:
        values = values * ops.convert_to_tensor(sample_weight)
    return ops.sqrt(ops.mean(ops.square(values)))


REDUCTIONS = {
    **{n: n for n in ("sum", "mean", "mean_with_sample_weight")},
    "own": root_mean_square,
    "CVaR": reductions.CVaR(alpha=0.6),
    "ClassWeighted": reductions.ClassWeighted(weights=[1.0, 3.0]),
    "MeanNonZero": reductions.MeanNonZero(),
    "Quantile": reductions.Quantile(q=0.7),
    "Threshold": reductions.Threshold(low=0.3),
    "TopK": reductions.TopK(fraction=0.4),
    "TrimmedMean": reductions.TrimmedMean(fraction=0.2),
}


def shares_and_value(loss, y_true, y_pred, sample_weight=None, mask=None):
    with watched_by(SampleWatch()) as watch:
        value = own_value(loss, y_true, y_pred, sample_weight, mask)
    watch.assign(["loss"], [value])
    (noted,) = watch.found["loss"]
    return noted.shares(), value


class PerPlace(losses.Loss):
    def call(self, y_true, y_pred):
        return ops.abs(y_pred)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", REDUCTIONS)
def test_shares_sum_to_the_reduced_value(name, weighted):
    loss = PerPlace(reduction=REDUCTIONS[name])
    labels = np.tile([0, 1, 1, 0], (6, 1))
    weight = OF_SAMPLES[:, None] if weighted else None
    shares, value = shares_and_value(loss, labels, ERRORS, weight)
    assert shares.shape == (6,)
    assert float(value) > 0.1
    np.testing.assert_allclose(np.sum(to_numpy(shares)), value, rtol=1e-5)
    if weighted:
        assert to_numpy(shares)[2] == 0.0


def to_numpy(tensor):
    return ops.convert_to_numpy(tensor)


def test_shares_are_what_each_sample_has():
    x = np.abs(ERRORS) * OF_SAMPLES[:, None]
    counted = MASK.astype(bool)
    largest = np.sort(x[counted & (x > 0)])[-3:]
    expected = {
        "sum": (x * MASK).sum(1),
        "mean": (x * MASK).sum(1) / MASK.sum(),
        "mean_with_sample_weight": (x * MASK).sum(1)
        / (MASK * OF_SAMPLES[:, None]).sum(),
        "TopK": (x * np.isin(x, largest) * MASK).sum(1) / 3,
    }
    for name, shares in expected.items():
        reduction = reductions.TopK(k=3) if name == "TopK" else name

        def of(y_pred, reduction=reduction):
            loss = PerPlace(reduction=reduction)
            return shares_and_value(loss, y_pred, y_pred, OF_SAMPLES, MASK)[0]

        for run in (of, compiled(of)):
            found = run(ops.convert_to_tensor(ERRORS))
            np.testing.assert_allclose(
                to_numpy(found), shares, rtol=1e-5, err_msg=name
            )


def test_what_is_masked_need_not_be_finite():
    errors = np.where(MASK, ERRORS, np.nan)
    shares, value = shares_and_value(PerPlace(), errors, errors, None, MASK)
    expected = (np.abs(ERRORS) * MASK).sum(1) / MASK.sum()
    np.testing.assert_allclose(to_numpy(shares), expected, rtol=1e-5)
    np.testing.assert_allclose(to_numpy(value), expected.sum(), rtol=1e-5)


def test_a_gradient_of_shares_is_that_of_the_value():
    for reduction in (reductions.TopK(k=3), reductions.Tilted(t=2.0)):
        loss = PerPlace(reduction=reduction)
        _, of_value = value_and_gradient(lambda p, f=loss: f(p, p), ERRORS)
        _, of_shares = value_and_gradient(
            lambda p, f=loss: ops.sum(shares_and_value(f, p, p)[0]), ERRORS
        )
        assert np.abs(of_value).max() > 0.01
        np.testing.assert_allclose(of_shares, of_value, atol=1e-6)


class Rising(layers.Layer):
    def call(self, x):
        self.add_loss(0.1 * ops.mean(ops.square(x)))
        return x


def network(model_class=losskit.Model):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((3,))
    hidden = layers.Dense(
        4, "tanh", kernel_regularizer="l2", activity_regularizer="l2"
    )(inputs)
    hidden = layers.Dropout(0.5)(Rising()(hidden))
    places = layers.Dense(10, name="wide")(hidden)
    outputs = {
        "a": layers.Dense(1, name="a")(hidden),
        "b": layers.Reshape((5, 2), name="b")(places),
    }
    return model_class(inputs, outputs)


@pytest.fixture(scope="module")
def model():
    made = network()
    mse = losses.MeanSquaredError(name="mse")
    topk = losses.Huber(name="hard", reduction=reductions.TopK(fraction=0.3))
    tilted = losses.MeanAbsoluteError(
        name="tilted", reduction=reductions.Tilted(t=2.0)
    )
    made.compile(
        loss=losskit.LossesContainer(
            {"a": 0.5 * mse + topk, "b": [tilted, losses.Dice(name="dice")]},
            loss_weights={"a": 2.0, "b": [1.0, 0.3]},
            extra_terms={
                "kernel": extra.FromWeights(
                    "wide/kernel", lambda w: ops.mean(ops.square(w))
                )
            },
            log="all",
        )
    )
    return made


def test_shares_add_up_to_what_evaluate_gives(model):
    # 10 samples in batches of 4: the last has 2
    logs = model.evaluate(
        X, Y, 4, sample_weight=WEIGHTS, verbose=0, return_dict=True
    )
    report = losskit.sample_report(model, X, Y, WEIGHTS, batch_size=4, top=None)
    names = ["mse", "hard", "tilted"]
    names = [next(n for n in report.terms if name in n) for name in names]
    for name in names:
        assert report.terms[name].shape == (10,)
        logged = logs[f"{name}_contribution"]
        sums = report.contributions[name].sum()
        np.testing.assert_allclose(sums, logged, rtol=1e-5, err_msg=name)
    assert list(report.terms) == names
    beside = sum(v for k, v in report.beside.items() if "dice" in k)
    total = report.total.sum() + beside
    np.testing.assert_allclose(total, logs["compiled_loss"], rtol=1e-5)
    np.testing.assert_allclose(report.loss, logs["loss"], rtol=1e-5)
    assert report.count == len(report) == 10 and report.others == 0.0
    assert sorted(report.ids) == list(range(10))
    assert (np.diff(report.total) <= 0.0).all()
    beside = {key.split("/")[-1].split("_")[0] for key in report.beside}
    assert len(report.beside) == 5 and {"kernel", "activity"} <= beside


@pytest.mark.nightly("jax", "tensorflow")
def test_the_first_ones_are_listed_and_drawn(model):
    whole = losskit.sample_report(model, X, Y, top=None)
    names = np.array([f"[id]{i}" for i in range(10)])
    report = losskit.sample_report(model, X, Y, top=3, ids=names)
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    ax = report.plot()
    widths = np.array([bar.get_width() for bar in ax.patches])
    np.testing.assert_allclose(widths.reshape(3, 3).sum(0), report.total)
    labels = [text.get_text() for text in ax.get_yticklabels()]
    assert labels == report.ids.tolist()
    assert report.ids.tolist() == names[whole.ids[:3]].tolist()
    np.testing.assert_allclose(report.total, whole.total[:3])
    np.testing.assert_allclose(report.others, whole.total[3:].sum())
    np.testing.assert_allclose(report.loss, whole.loss)
    for text in (*report.ids, "7 others", "dice", "hard", "loss"):
        assert text in str(report)
    frame = report.to_dataframe()
    assert list(frame.index) == report.ids.tolist()
    np.testing.assert_array_equal(frame["total"], report.total)
    assert list(frame) == ["total", *report.terms]


def test_nothing_moves_in_the_model(model):
    before = [np.array(v.numpy()) for v in model.variables]
    losskit.sample_report(model, X, Y)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_a_plain_model_is_reported_by_its_compile_loss():
    model = network(keras.Model)
    model.compile(
        loss={"a": "mse", "b": keras.losses.Huber(reduction="sum")},
        loss_weights={"a": 1.0, "b": 0.1},
    )
    report = losskit.sample_report(model, X, Y, batch_size=5, top=None)
    logs = model.evaluate(X, Y, 5, verbose=0, return_dict=True)
    np.testing.assert_allclose(report.loss, logs["loss"], rtol=1e-5)
    predicted = model.predict(X, verbose=0)
    # both batches are of 5: the mean over 10 samples
    squares = (predicted["a"] - Y["a"])[:, 0] ** 2 / 10
    error = np.abs(predicted["b"] - Y["b"])
    huber = np.where(error < 1, error**2 / 2, error - 0.5).mean(-1).sum(1) / 2
    expected = (squares + 0.1 * huber)[report.ids]
    np.testing.assert_allclose(report.total, expected, rtol=1e-4)


def one_layer(loss, **options):
    model = losskit.Sequential(
        [keras.Input((3,)), layers.Dense(1, use_bias=False, name="only")]
    )
    model.compile(loss=loss, **options)
    return model


def test_gradient_norm_of_each_sample():
    model = one_layer(losses.MeanSquaredError(weight=3.0))
    report = losskit.sample_report(
        model, X, Y["a"], batch_size=4, top=None, wrt=".*"
    )
    error = (X @ model.layers[0].kernel.numpy() - Y["a"])[:, 0]
    # of 3 * error ** 2 / 10
    norms = 3 * 2 * np.abs(error) * np.linalg.norm(X, axis=1) / 10
    np.testing.assert_allclose(
        report.gradient_norms, norms[report.ids], rtol=1e-5
    )
    assert "gradient" in str(report)
    assert "gradient_norm" in report.to_dataframe()


@pytest.mark.nightly("jax", "tensorflow")
def test_gradient_norms_equal_those_of_a_loop():
    model = network()
    model.compile(loss={"a": "mse", "b": losses.Huber(reduction="sum")})
    report = losskit.sample_report(
        model, X, Y, top=None, batch_size=10, wrt=".*"
    )
    for place in (0, 9):
        # the other samples have a weight of 0
        alone = one_hot_weights(report.ids[place])
        found = losskit.gradient_report(model, X, Y, alone)
        rows = [found.names.index(name) for name in report.terms]
        square = found.gramian[np.ix_(rows, rows)].sum()
        np.testing.assert_allclose(
            report.gradient_norms[place], np.sqrt(square), rtol=1e-5
        )


def one_hot_weights(i):
    weight = np.zeros(10, "float32")
    weight[i] = 1.0
    return {"a": weight, "b": weight}


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        part = slice(4 * index, 4 * index + 4)
        return X[part], Y["a"][part]


def test_a_sample_weighting_does_not_hide_the_samples():
    reports = []
    for methods in ((), weighting.SmallLoss(0.8)):
        keras.utils.set_random_seed(0)
        model = losskit.Sequential([keras.Input((3,)), layers.Dense(1)])
        model.compile(
            "sgd", losskit.LossesContainer("mse", sample_weighting=methods)
        )
        reports.append(losskit.sample_report(model, X, Y["a"], wrt=".*"))
    plain, weighed = reports
    np.testing.assert_array_equal(weighed.ids, plain.ids)
    np.testing.assert_allclose(weighed.total, plain.total, rtol=1e-6)
    np.testing.assert_allclose(
        weighed.gradient_norms, plain.gradient_norms, rtol=1e-5
    )
    assert weighed.total[0] > 0 and not weighed.beside


def test_data_sets_are_read_batch_by_batch():
    model = one_layer("mse")
    expected = losskit.sample_report(model, X, Y["a"], batch_size=4, top=None)
    pairs = [Batches()[i] for i in range(3)]
    for data in (Batches(), pairs_of(pairs)):
        report = losskit.sample_report(model, data, top=None)
        np.testing.assert_array_equal(report.ids, expected.ids)
        np.testing.assert_allclose(report.total, expected.total, rtol=1e-6)


def pairs_of(pairs):
    yield from pairs


@pytest.mark.parametrize("kind", ["arrays", "PyDataset", "generator", "plain"])
def test_samples_go_by_the_ids_that_they_bear(kind):
    ids = np.array([20, 3, 17, 5, 11, 2, 30, 8, 0, 12])
    model = one_layer("mse")
    expected = losskit.sample_report(model, X, Y["a"], batch_size=4, top=None)
    labels, data = Y["a"], losskit.with_ids(X, ids)
    if kind == "plain":
        plain = keras.Sequential([keras.Input((3,)), *model.layers])
        plain.compile(loss="mse")
        model = plain
    elif kind != "arrays":
        labels = None
        data = losskit.with_ids(Batches(), lambda i: ids[4 * i : 4 * i + 4])
        if kind == "generator":
            data = pairs_of([data[i] for i in range(3)])
    report = losskit.sample_report(model, data, labels, batch_size=4, top=None)
    np.testing.assert_array_equal(report.ids, ids[expected.ids])
    np.testing.assert_allclose(report.total, expected.total, rtol=1e-6)
    if kind == "arrays":
        named = losskit.sample_report(
            model, data, labels, ids=ids + 100, batch_size=4, top=None
        )
        np.testing.assert_array_equal(named.ids, report.ids + 100)


def test_samples_that_are_not_finite_come_first():
    labels = Y["a"].copy()
    labels[[4, 7]] = [[np.nan], [np.inf]]
    model = one_layer("mse")
    report = losskit.sample_report(model, X, labels, top=3)
    assert report.ids.tolist()[:2] == [4, 7]
    assert np.isnan(report.total[0]) and report.total[1] == np.inf
    error = (X @ model.layers[0].kernel.numpy() - Y["a"])[:, 0] ** 2 / 10
    error[[4, 7]] = 0.0
    assert report.ids[2] == error.argmax()
    np.testing.assert_allclose(report.total[2], error.max(), rtol=1e-5)
    assert np.isfinite(report.others)


def test_an_empty_batch_adds_nothing():
    model = one_layer("mse")
    expected = losskit.sample_report(model, X, Y["a"], batch_size=4, top=None)
    pairs = [Batches()[i] for i in range(3)]
    pairs = [(X[:0], Y["a"][:0]), pairs[0], (X[:0], Y["a"][:0]), *pairs[1:]]
    report = losskit.sample_report(model, pairs_of(pairs), top=None)
    np.testing.assert_array_equal(report.ids, expected.ids)
    np.testing.assert_allclose(report.total, expected.total, rtol=1e-6)
    assert report.count == 10


@pytest.mark.parametrize("shape", [(0,), (0, 4), (0, 2, 3)])
def test_an_empty_batch_has_no_shares(shape):
    empty = np.zeros((*shape, 2), "float32")
    with watched_by(SampleWatch()) as watch:
        value = own_value(PerPlaceMean(), empty, empty)
    watch.assign(["loss"], [value])
    (noted,) = watch.found["loss"]
    for found in (noted.shares(), noted.means(), noted.counts()):
        assert tuple(found.shape) == (0,)


class PerPlaceMean(losses.Loss):
    def call(self, y_true, y_pred):
        return ops.mean(ops.abs(y_pred), axis=-1)


def test_masks_of_layers_are_honoured():
    x = np.array([[1, 2, 0], [3, 0, 0]])
    y = np.ones((2, 3, 1), "float32")
    model = losskit.Sequential(
        [
            layers.Embedding(4, 2, mask_zero=True),
            layers.Dense(1, kernel_initializer="ones"),
        ]
    )
    model.compile(loss="mse")
    report = losskit.sample_report(model, x, y, top=None)
    squares = (model.predict(x, verbose=0) - y)[..., 0] ** 2
    expected = (squares * (x > 0)).sum(1) / 3
    np.testing.assert_allclose(report.total, expected[report.ids], rtol=1e-5)


def test_a_custom_compute_loss_is_named_beside():
    class Twice(losskit.Sequential):
        def compute_loss(self, *args, **kwargs):
            return 2.0 * super().compute_loss(*args, **kwargs)

    model = Twice([keras.Input((3,)), layers.Dense(1)])
    model.compile(loss="mse")
    report = losskit.sample_report(model, X, Y["a"], top=None)
    assert list(report.beside) == ["compute_loss"]
    rest = report.beside["compute_loss"]
    np.testing.assert_allclose(rest, report.total.sum(), rtol=1e-5)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"x": X, "y": Y["a"], "ids": [1, 2]}, "one per sample"),
        ({"x": X, "y": Y["a"][:3]}, "same number"),
        ({"x": X[:0], "y": Y["a"][:0]}, "one sample or more"),
        ({"x": Batches(), "y": Y["a"]}, "no labels"),
        ({"x": iter([])}, "a batch or more"),
        ({"x": X, "y": Y["a"], "top": 0}, "top"),
        ({"x": X, "y": Y["a"], "wrt": "nothing"}, "nothing"),
    ],
)
def test_refusals(arguments, message):
    with pytest.raises(ValueError, match=message):
        losskit.sample_report(one_layer("mse"), **arguments)
