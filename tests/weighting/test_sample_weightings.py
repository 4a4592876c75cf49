"""What each method that weighs samples does, against NumPy."""

import keras
import numpy as np
import pytest
from keras import ops
from support.data_sets import Fours
from support.own_classes import mean_square

import keras_losskit as losskit
from keras_losskit import losses
from keras_losskit import reductions
from keras_losskit import weighting

RNG = np.random.default_rng(0)
SAMPLES = 12
BATCHES = [
    np.array([3, 0, 7, 5]),
    np.array([11, 3, 2, 8]),
    np.array([0, 1, 3, 7]),
]
VALUES = [RNG.uniform(0.1, 4.0, 4).astype("float32") for _ in BATCHES]
COUNTS = [np.array([1, 1, 0, 1]), np.ones(4), np.array([0, 1, 1, 1])]
GROUPS = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 0, 3])
TIMES = np.linspace(-1.0, 1.0, SAMPLES)


def attention(steps):
    multipliers = np.full(SAMPLES, 0.3)
    for ids, values, counts in steps:
        residuals = np.sqrt(np.where(counts > 0, values, 0.0))
        multipliers[ids] = 0.9 * multipliers[ids] + 0.2 * residuals / max(
            residuals
        )
        yield multipliers[ids] ** 2, multipliers


def self_adaptive(steps):
    multipliers = np.full(SAMPLES, 0.5)
    for ids, values, counts in steps:
        values = np.where(counts > 0, values, 0.0)
        before = multipliers[ids].copy()
        multipliers[ids] += 0.1 * 3.0 * before**2 * values
        yield before**3, multipliers


def group_dro(steps):
    shares = np.full(4, 0.25)
    sizes = np.bincount(GROUPS)
    for ids, values, counts in steps:
        groups, seen = GROUPS[ids], counts > 0
        for group in range(4):
            own = seen & (groups == group)
            if own.any():
                loss = values[own].mean() + 0.5 / np.sqrt(sizes[group])
                shares[group] *= np.exp(0.3 * loss)
        shares /= shares.sum()
        yield (
            [
                shares[g] * seen.sum() / (seen & (groups == g)).sum() * counted
                if counted
                else 0.0
                for g, counted in zip(groups, counts, strict=True)
            ],
            shares,
        )


def causal(steps):
    losses_of = np.zeros(3)
    slices = np.repeat([0, 1, 2], 4)
    for ids, values, counts in steps:
        for index in range(3):
            own = (slices[ids] == index) & (counts > 0)
            if own.any():
                losses_of[index] = values[own].mean()
        earlier = np.cumsum(losses_of) - losses_of
        yield np.exp(-0.7 * earlier)[slices[ids]], losses_of


METHODS = {
    "attention": (
        lambda: weighting.ResidualBasedAttention(
            SAMPLES, decay=0.9, learning_rate=0.2, initial=0.3
        ),
        attention,
    ),
    "self_adaptive": (
        lambda: weighting.SelfAdaptive(
            SAMPLES, learning_rate=0.1, power=3.0, initial=0.5
        ),
        self_adaptive,
    ),
    "group_dro": (
        lambda: weighting.GroupDRO(GROUPS, step_size=0.3, adjustment=0.5),
        group_dro,
    ),
    "causal": (
        lambda: weighting.Causal(TIMES, slices=3, tolerance=0.7),
        causal,
    ),
}


@pytest.mark.parametrize("name", METHODS)
def test_updates_against_numpy(name):
    make, expected = METHODS[name]
    method = make()
    steps = list(zip(BATCHES, VALUES, COUNTS, strict=True))
    for (ids, values, counts), (weights, state) in zip(
        steps, expected(steps), strict=True
    ):
        got = method(values, ids, counts, training=True)
        np.testing.assert_allclose(
            ops.convert_to_numpy(got), weights, rtol=1e-5
        )
        (variable,) = method.non_trainable_variables
        np.testing.assert_allclose(
            ops.convert_to_numpy(variable.value), state, rtol=1e-5
        )
    # Outside of training nothing moves.
    method(VALUES[0], BATCHES[0])
    (variable,) = method.non_trainable_variables
    np.testing.assert_array_equal(
        ops.convert_to_numpy(variable.value), ops.convert_to_numpy(variable)
    )
    np.testing.assert_allclose(
        ops.convert_to_numpy(variable.value), state, rtol=1e-5
    )


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_batch_leaves_the_state_as_it_is(name, bad):
    method = METHODS[name][0]()
    method(VALUES[0], BATCHES[0], training=True)
    (variable,) = method.non_trainable_variables
    before = ops.convert_to_numpy(variable.value).copy()
    method(np.array([1.0, bad, 2.0, 3.0]), BATCHES[1], training=True)
    np.testing.assert_array_equal(ops.convert_to_numpy(variable.value), before)


@pytest.mark.parametrize("name", METHODS)
def test_an_empty_batch_leaves_the_state_as_it_is(name):
    method = METHODS[name][0]()
    method(VALUES[0], BATCHES[0], training=True)
    (variable,) = method.non_trainable_variables
    before = ops.convert_to_numpy(variable.value).copy()
    none, counts = np.zeros(0, "float32"), np.zeros(0, "bool")
    weights = method(none, np.zeros(0, "int32"), counts, training=True)
    assert tuple(weights.shape) == (0,)
    np.testing.assert_array_equal(ops.convert_to_numpy(variable.value), before)


def test_small_losses_are_selected_among_what_counts():
    method = weighting.SmallLoss(0.3, warmup=2)
    values = np.arange(10.0, 0.0, -1.0)
    counts = np.ones(10)
    counts[9] = 0  # the smallest
    method(values)
    for epoch, kept in enumerate([9, 6, 3, 3]):  # of 9: all, 65%, 30%
        weights = ops.convert_to_numpy(method(values, counts=counts))
        expected = np.zeros(10)
        expected[9 - kept : 9] = 1.0
        np.testing.assert_array_equal(weights, expected, err_msg=str(epoch))
        method.on_epoch_end()


def test_the_threshold_of_self_paced_learning_grows():
    method = weighting.SelfPaced(1.0, growth=2.0)
    values = np.array([0.5, 1.5, 3.0])
    found = []
    for _ in range(3):
        found.append(ops.convert_to_numpy(method(values)).tolist())
        method.on_epoch_end()
    assert found == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]


# --------------------------------------------------------------------- in fit


class Fixed(weighting.SampleWeighting):
    """Weights by the id."""

    def weigh(self, values, ids, counts, training):
        return 0.5 + ops.cast(ids, "float32") / 10.0


X = RNG.normal(size=(10, 3)).astype("float32")
Y = RNG.normal(size=(10, 2)).astype("float32")
CLASSES = RNG.integers(0, 2, 10)
IDS = RNG.permutation(10)
WEIGHTS = (0.5 + IDS / 10.0).astype("float32")
OWN = np.array([1.0, 0.0, 2.0, 0.5, 1.0, 1.0, 0.0, 3.0, 1.0, 1.0])


def trained(loss, x, y, sample_weight=None, layers=(), **container):
    """Logs and weights after two epochs with a short last batch."""
    keras.utils.set_random_seed(0)
    model = losskit.Sequential(
        [
            keras.Input((3,)),
            *layers,
            keras.layers.Dense(2, kernel_regularizer="l2", name="out"),
        ]
    )
    model.compile(
        keras.optimizers.SGD(0.1), losskit.LossesContainer(loss, **container)
    )
    history = model.fit(
        x, y, batch_size=4, epochs=2, sample_weight=sample_weight, verbose=0
    ).history
    return history, model.get_weights()


CASES = {
    "mse": (lambda: losses.MeanSquaredError(), Y),
    "sum": (lambda: losses.MeanSquaredError(reduction="sum"), Y),
    "by weight": (
        lambda: losses.MeanAbsoluteError(reduction="mean_with_sample_weight"),
        Y,
    ),
    "top": (
        lambda: losses.MeanAbsoluteError(reduction=reductions.TopK(k=2)),
        Y,
    ),
    "of classes": (
        lambda: losses.SparseCategoricalCrossentropy(from_logits=True),
        CLASSES,
    ),
    "sum of two": (
        lambda: (
            losses.MeanSquaredError(name="mse")
            + 0.3 * losses.Huber(name="huber")
        ),
        Y,
    ),
    "without logits": (
        lambda: losses.LinearCrossEntropy("out", z_loss=0.1),
        CLASSES,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_weights_act_as_sample_weights(name):
    """The same logs and variables as with `sample_weight`."""
    make, y = CASES[name]
    own = None if name == "mse" else OWN
    expected = trained(make(), X, y, WEIGHTS if own is None else WEIGHTS * own)
    got = trained(
        make(), losskit.with_ids(X, IDS), y, own, sample_weighting=Fixed(10)
    )
    assert got[0].keys() == expected[0].keys()
    for key, values in expected[0].items():
        np.testing.assert_allclose(got[0][key], values, rtol=1e-5)
    for new, old in zip(got[1], expected[1], strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-5, atol=1e-7)


class Adding(losskit.layers.Layer):
    """Adds the squares of its inputs, times weights that it is given."""

    def __init__(self, weights=None):
        super().__init__()
        self.factors = weights
        self.scale = self.add_weight(shape=(1,), initializer="ones")

    def call(self, x):
        values = (self.scale * x[:, :1]) ** 2
        if self.factors is not None:
            values = values * x[:, 2:]
        self.add_loss(values, name="square", reduction="mean")
        return x * 1.0


def test_added_losses_and_extra_terms_are_weighed_where_they_are_named():
    """`add_loss` of values, and `FromLayer`; of the compiled loss nothing."""
    x = np.concatenate([X[:, :2], WEIGHTS[:, None]], axis=1)
    expected, _ = trained(
        losses.MeanSquaredError(), x, Y, layers=[Adding(weights=True)]
    )
    got, _ = trained(
        losses.MeanSquaredError(),
        losskit.with_ids(x, IDS),
        Y,
        layers=[Adding()],
        sample_weighting=Fixed(10, terms="square"),
    )
    for key, values in expected.items():
        np.testing.assert_allclose(got[key], values, rtol=1e-5)


def of_values(x):
    return x[:, 0] ** 2


def of_weighted_values(x):
    return x[:, 0] ** 2 * x[:, 2]


def test_terms_from_layers_are_weighed():
    x = np.concatenate([X[:, :2], WEIGHTS[:, None]], axis=1)
    same = keras.layers.Identity
    found = []
    for fn, ids, method in (
        (of_weighted_values, None, None),
        (of_values, IDS, Fixed(10, terms="inner")),
    ):
        inner = losskit.extra.FromLayer("inner", fn, weight=0.5)
        history, _ = trained(
            None,
            x if ids is None else losskit.with_ids(x, ids),
            Y,
            layers=[same(name="inner")],
            extra_terms={"inner": inner},
            sample_weighting=method,
        )
        found.append(history)
    for key, values in found[0].items():
        np.testing.assert_allclose(found[1][key], values, rtol=1e-5)


def test_evaluation_weighs_nothing():
    model = losskit.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    method = Fixed(10)
    model.compile(
        "sgd", losskit.LossesContainer("mse", sample_weighting=method)
    )
    x = losskit.with_ids(X)
    model.fit(x, Y, epochs=1, verbose=0)
    plain = np.mean((model.predict(X, verbose=0) - Y) ** 2)
    assert model.evaluate(x, Y, verbose=0) == pytest.approx(plain, rel=1e-5)
    # Without ids as well.
    assert model.evaluate(X, Y, verbose=0) == pytest.approx(plain, rel=1e-5)


class Noting(weighting.SampleWeighting):
    """Keeps the values that it is given."""

    def build(self, num_terms):
        super().build(num_terms)
        self.noted = self.add_table("noted")

    def weigh(self, values, ids, counts, training):
        self.assign_rows(self.noted, ids, values)
        return ops.ones_like(values)


@pytest.mark.parametrize(
    "method", [weighting.SelfPaced(1.0), weighting.SmallLoss(0.5)]
)
def test_a_sample_that_is_not_finite_shows_in_the_loss(method):
    x = np.ones((4, 1), "float32")
    y = np.array([[0.5], [np.nan], [0.0], [9.0]], "float32")
    model = losskit.Sequential(
        [keras.Input((1,)), keras.layers.Dense(1, kernel_initializer="ones")]
    )
    model.compile(
        "sgd", losskit.LossesContainer("mse", sample_weighting=method)
    )
    stop = losskit.callbacks.TerminateOnNonFiniteTerm()
    logs = model.fit(x, y, epochs=3, verbose=0, callbacks=[stop]).history
    assert np.isnan(logs["loss"]).all() and len(logs["loss"]) == 1
    # What the user leaves out need not be finite.
    weights = np.array([1.0, 0.0, 1.0, 1.0], "float32")
    model.set_weights([np.ones((1, 1)), np.zeros(1)])
    logs = model.fit(x, y, sample_weight=weights, verbose=0).history
    assert np.isfinite(logs["loss"]).all()
    assert np.isfinite(model.get_weights()[0]).all()


def test_the_value_of_a_sample_is_what_it_adds_to_all_terms():
    model = losskit.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    container = losskit.LossesContainer(
        losses.MeanSquaredError(name="mse")
        + 0.5 * losses.MeanAbsoluteError(name="mae"),
        sample_weighting=Noting(10),
    )
    model.compile(keras.optimizers.SGD(0.0), container)
    model.fit(losskit.with_ids(X, IDS), Y, batch_size=4, verbose=0)
    error = model.predict(X, verbose=0) - Y
    expected = (error**2).mean(-1) + 0.5 * np.abs(error).mean(-1)
    np.testing.assert_allclose(variables_of(model)[0][IDS], expected, rtol=1e-5)


@pytest.mark.parametrize(
    "name",
    [
        "attention",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in METHODS
            if name != "attention"
        ),
    ],
)
def test_stop_and_resume_equals_not_stopping(name, tmp_path):
    def model_with(method):
        keras.utils.set_random_seed(0)
        model = losskit.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        model.compile(
            keras.optimizers.Adam(0.1),
            losskit.LossesContainer("mse", sample_weighting=method),
        )
        return model

    def fit(model):
        x = losskit.with_ids(X)
        model.fit(x, Y, batch_size=4, epochs=2, shuffle=False, verbose=0)

    model = model_with(METHODS[name][0]())
    fit(model)
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "only.weights.h5")
    resumed = keras.saving.load_model(tmp_path / "model.keras")
    from_weights = model_with(METHODS[name][0]())
    from_weights.build((None, 3))
    fit(from_weights)
    from_weights.load_weights(tmp_path / "only.weights.h5")
    for each in (model, resumed, from_weights):
        fit(each)
    expected = [*model.get_weights(), *variables_of(model)]
    for each in (resumed, from_weights):
        found = [*each.get_weights(), *variables_of(each)]
        for new, old in zip(found, expected, strict=True):
            np.testing.assert_allclose(new, old, rtol=1e-5)


def variables_of(model):
    """The state of the sample weightings of a model, NumPy."""
    return [
        ops.convert_to_numpy(variable.value)
        for each in model.compiled_loss.sample_weighting
        for variable in each.non_trainable_variables
    ]


def test_a_file_with_another_state_is_refused(tmp_path):
    def model_with(method):
        model = losskit.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        container = losskit.LossesContainer("mse", sample_weighting=method)
        model.compile("sgd", container)
        model.fit(losskit.with_ids(X), Y, verbose=0)
        return model

    path = tmp_path / "model.weights.h5"
    model_with(weighting.SelfAdaptive(10)).save_weights(path)
    other = model_with(weighting.ResidualBasedAttention(10))
    before = other.get_weights()
    with (
        pytest.warns(UserWarning, match="Expected the state of Residual"),
        pytest.raises(ValueError),
    ):
        other.load_weights(path)
    for new, old in zip(other.get_weights(), before, strict=True):
        np.testing.assert_array_equal(new, old)


def test_several_weigh_terms_of_their_own():
    def container(first, second):
        return losskit.LossesContainer(
            losses.MeanSquaredError(name="mse")
            + losses.MeanAbsoluteError(name="mae"),
            sample_weighting=[
                weighting.SelfAdaptive(10, terms=first),
                weighting.SmallLoss(0.5, terms=second),
            ],
        )

    model = losskit.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile("sgd", container("mse", "mae"))
    model.fit(losskit.with_ids(X), Y, epochs=2, verbose=0)
    adaptive, small = model.compiled_loss.sample_weighting
    assert ops.min(adaptive.multipliers) > 1.0
    assert float(small.epochs) == 1.0
    model.compile("sgd", container("mse", "m.*"))
    with pytest.raises(ValueError, match=r"several for \['mse'\]"):
        model.fit(losskit.with_ids(X), Y, verbose=0)


def test_samples_are_kept_without_their_weights():
    """`SampleHistory` beside a weighting notes the values themselves."""
    model = losskit.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    loss = losses.MeanSquaredError(name="mse")
    model.compile(
        keras.optimizers.SGD(0.0),
        losskit.LossesContainer(loss, sample_weighting=Fixed(10)),
    )
    samples = losskit.callbacks.SampleHistory()
    model.fit(losskit.with_ids(X), Y, verbose=0, callbacks=[samples])
    error = model.predict(X, verbose=0) - Y
    np.testing.assert_allclose(
        samples.statistics()["mse_last"], (error**2).mean(-1), rtol=1e-5
    )


# ------------------------------------------------------------------- refusals


def refused_in_fit(container, x=X, **kwargs):
    model = losskit.Sequential(
        [keras.Input((3,)), keras.layers.Dense(2, kernel_regularizer="l2")]
    )
    model.compile("sgd", container)
    before = model.get_weights()
    with pytest.raises(ValueError) as error:
        model.fit(x, Y, verbose=0, **kwargs)
    for new, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(new, old)
    return str(error.value)


def test_samples_without_ids_are_refused():
    container = losskit.LossesContainer(
        "mse", sample_weighting=weighting.SelfAdaptive(10)
    )
    assert "with_ids" in refused_in_fit(container)


def test_ids_beyond_the_samples_are_refused():
    container = losskit.LossesContainer(
        "mse", sample_weighting=weighting.SelfAdaptive(9)
    )
    message = refused_in_fit(container, losskit.with_ids(X))
    assert "below `samples` of SelfAdaptive, 9" in message
    assert "Received: id 9" in message


@pytest.mark.parametrize("name", METHODS)
def test_ids_beyond_the_samples_are_refused_in_an_eager_call(name):
    method = METHODS[name][0]()
    method(VALUES[0], BATCHES[0], training=True)
    (variable,) = method.non_trainable_variables
    before = ops.convert_to_numpy(variable.value).copy()
    kind = type(method).__name__
    with pytest.raises(ValueError, match=f"of {kind}, 12. Received: id 12"):
        method(VALUES[0], np.array([3, 0, 12, 5]), training=True)
    with pytest.raises(ValueError, match=f"0 on for {kind}. Received: id -1"):
        method(VALUES[0], np.array([3, 0, -1, 5]), training=True)
    np.testing.assert_array_equal(ops.convert_to_numpy(variable.value), before)


def test_ids_of_a_data_set_beyond_the_samples_are_refused_before_training():
    model = losskit.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile(
        "sgd",
        losskit.LossesContainer(
            "mse", sample_weighting=weighting.SelfAdaptive(9)
        ),
    )
    before = model.get_weights()
    message = "below `samples` of SelfAdaptive, 9. Received: id 9"
    with pytest.raises(ValueError, match=message):
        model.fit(losskit.with_ids(Fours(X, Y)), verbose=0)
    for new, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(new, old)


@pytest.mark.parametrize("terms", ["dice", "nothing"])
def test_terms_without_values_of_samples_are_refused(terms):
    container = losskit.LossesContainer(
        losses.MeanSquaredError(name="mse")
        + losses.Dice(name="dice", axis=None),
        sample_weighting=weighting.SmallLoss(0.5, terms=terms),
    )
    assert terms in refused_in_fit(container)


def test_terms_of_other_numbers_of_samples_are_refused():
    """Points inside and on the border have no weights in common."""
    container = losskit.LossesContainer(
        {"inside": "mse", "border": "mse"},
        sample_weighting=weighting.SmallLoss(0.5),
    )
    y = {"inside": np.zeros((8, 1)), "border": np.zeros((4, 1))}
    with pytest.raises(ValueError, match="'border': 4, 'inside': 8") as error:
        container(y, y, training=True)
    assert "`terms=`" in str(error.value)


class Returns(weighting.SampleWeighting):
    """Returns what it is given."""

    def __init__(self, returned):
        super().__init__()
        self.returned = returned

    def weigh(self, values, ids, counts, training):
        return self.returned


@pytest.mark.parametrize(
    ("returned", "received"),
    [
        (None, "None"),
        (1.0, r"shape \(\)"),
        (np.ones(5), r"shape \(5,\)"),
        (np.ones((4, 1)), r"shape \(4, 1\)"),
    ],
)
def test_what_is_no_weight_for_each_sample_is_refused(returned, received):
    values = np.ones(4, "float32")
    message = f"`weigh` of Returns.*shape \\(4,\\). Received: {received}"
    with pytest.raises(ValueError, match=message):
        Returns(returned)(values)
    np.testing.assert_array_equal(Returns(np.ones(4))(values), values)


def test_a_call_outside_of_fit_needs_no_ids_unless_it_trains():
    container = losskit.LossesContainer(
        "mse", sample_weighting=weighting.SelfAdaptive(10)
    )
    y_pred = np.zeros_like(Y)
    plain = np.mean(Y**2)
    assert float(container.compute(Y, y_pred).total) == pytest.approx(plain)
    with pytest.raises(ValueError, match="with_ids"):
        container(Y, y_pred, training=True)


@pytest.mark.parametrize(
    ("given", "remedy"),
    [("small_loss", "SmallLoss"), (mean_square, "SmallLoss"), (3, "SmallLoss")],
)
def test_what_weighs_no_samples_is_refused(given, remedy):
    with pytest.raises(TypeError, match=remedy):
        losskit.LossesContainer("mse", sample_weighting=given)
    with pytest.raises(TypeError, match=remedy):
        losskit.LossesContainer("mse", sample_weighting=[given])


def test_a_sample_weighting_is_no_weighting():
    with pytest.raises(TypeError, match="as `sample_weighting`"):
        losskit.LossesContainer("mse", weighting=weighting.SmallLoss(0.5))


def test_a_config_tells_everything():
    container = losskit.LossesContainer(
        "mse",
        sample_weighting=[weighting.GroupDRO(GROUPS), weighting.Causal(TIMES)],
    )
    config = container.get_config()
    again = losskit.LossesContainer.from_config(config)
    assert again.get_config() == config
    assert "sample_weighting" not in losskit.LossesContainer("mse").get_config()
    assert len(repr(container)) < 600
