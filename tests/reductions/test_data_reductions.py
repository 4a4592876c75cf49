"""Data-dependent reductions against formulas in NumPy."""

import json

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops
from support.autodiff import compiled
from support.autodiff import value_and_gradient

from keras_losskit import losses
from keras_losskit import reductions
from keras_losskit.reductions import ClassWeighted
from keras_losskit.reductions import CVaR
from keras_losskit.reductions import MeanNonZero
from keras_losskit.reductions import Quantile
from keras_losskit.reductions import Threshold
from keras_losskit.reductions import Tilted
from keras_losskit.reductions import TopK
from keras_losskit.reductions import TrimmedMean


def cvar(x, alpha):
    x, tail = np.sort(x)[::-1], (1 - alpha) * len(x)
    whole = int(np.floor(tail + 1e-9))
    part = tail - whole
    rest = part * x[whole] if part > 1e-9 else 0.0
    return (x[:whole].sum() + rest) / tail


def trimmed(x, fraction):
    cut = int(np.floor(fraction * len(x) + 1e-9))
    return np.sort(x)[cut : len(x) - cut].mean()


def top(x, count):
    return np.sort(x)[::-1][:count].mean()


def mean_or_zero(x):
    return x.mean() if len(x) else 0.0


#: Every reduction and what it is of the weighted values that are left.
CASES = {
    "non-zero": (MeanNonZero(), lambda x: mean_or_zero(x[x != 0])),
    "low": (Threshold(low=0.5), lambda x: mean_or_zero(x[x >= 0.5])),
    "band": (
        Threshold(low=0.2, high=1.5),
        lambda x: mean_or_zero(x[(x >= 0.2) & (x <= 1.5)]),
    ),
    "half": (
        TopK(fraction=0.5),
        lambda x: top(x, int(np.ceil(0.5 * len(x) - 1e-9))),
    ),
    "tenth": (
        TopK(fraction=0.1),
        lambda x: top(x, int(np.ceil(0.1 * len(x) - 1e-9))),
    ),
    "three": (TopK(k=3), lambda x: top(x, 3)),
    "trimmed": (TrimmedMean(fraction=0.2), lambda x: trimmed(x, 0.2)),
    "median": (Quantile(q=0.5), lambda x: np.quantile(x, 0.5)),
    "upper": (Quantile(q=0.83), lambda x: np.quantile(x, 0.83)),
    "cvar": (CVaR(alpha=0.7), lambda x: cvar(x, 0.7)),
    "cvar 0": (CVaR(alpha=0.0), np.mean),
    "tilted": (Tilted(t=2.0), lambda x: np.log(np.exp(2 * x).mean()) / 2),
    "untilted": (
        Tilted(t=-1.5),
        lambda x: np.log(np.exp(-1.5 * x).mean()) / -1.5,
    ),
    "not tilted": (Tilted(t=0.0), np.mean),
    "over the batch": (TopK(k=3, over="batch"), lambda x: top(x, 3)),
}
each = pytest.mark.parametrize(
    ("reduction", "formula"), list(CASES.values()), ids=list(CASES)
)


@each
@pytest.mark.parametrize("compiling", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("masked", [False, True], ids=["plain", "masked"])
@pytest.mark.parametrize("weighted", [False, True], ids=["even", "weighted"])
def test_equals_its_definition(reduction, formula, weighted, masked, compiling):
    rng = np.random.default_rng(1)
    values = rng.gamma(1.0, size=(10, 3)).astype("float32")
    values[::4] = 0.0
    weight = rng.uniform(0.5, 2.0, (10, 1)).astype("float32")
    weight[7] = 0.0
    mask = rng.uniform(size=(10, 3)) > 0.3
    left = np.ones((10, 3), "bool")
    x = values
    if weighted:
        left = left & (weight != 0)
        x = x * weight
    if masked:
        left = left & mask
    weight = weight if weighted else None
    mask = mask if masked else None

    def reduce(values):
        return reduction(values, weight, mask)

    if compiling:
        reduce = compiled(reduce)
    got = reduce(ops.convert_to_tensor(values))
    assert got.shape == ()
    np.testing.assert_allclose(got, formula(x[left]), rtol=1e-5)


@pytest.mark.nightly("jax")
@each
@given(st.integers(1, 40), st.integers(0, 10))
def test_equals_its_definition_for_any_number(reduction, formula, n, seed):
    values = np.random.default_rng(seed).gamma(1.0, size=n).astype("float32")
    np.testing.assert_allclose(
        float(reduction(values)), formula(values), rtol=1e-4, atol=1e-5
    )


@each
def test_gradient_is_that_of_its_definition(reduction, formula):
    values = np.random.default_rng(3).gamma(1.0, size=9).astype("float64")
    _, gradient = value_and_gradient(reduction, values)
    for index in range(9):
        up, down = values.copy(), values.copy()
        up[index] += 1e-6
        down[index] -= 1e-6
        want = (formula(up) - formula(down)) / 2e-6
        assert gradient[index] == pytest.approx(want, abs=1e-4)


@each
@pytest.mark.parametrize("case", ["mask", "weight", "empty"])
def test_nothing_left_gives_zero_and_no_gradient(reduction, formula, case):
    values = np.ones((0,)) if case == "empty" else np.array([1.0, 2.0])
    weight = [0.0, 0.0] if case == "weight" else None
    mask = [False, False] if case == "mask" else None
    value, gradient = value_and_gradient(
        lambda x: reduction(x, weight, mask), values
    )
    assert value == 0.0
    np.testing.assert_array_equal(gradient, np.zeros_like(values))


@each
def test_masked_values_may_be_anything(reduction, formula):
    values = np.array([1.0, 2.0, np.nan, np.inf, 3.0], "float32")
    mask = np.array([1, 1, 0, 0, 1])
    got = float(reduction(values, mask=mask))
    np.testing.assert_allclose(got, formula(values[mask == 1]), rtol=1e-5)


@each
def test_large_half_precision_values_stay_finite(reduction, formula):
    values = ops.cast(ops.full((20,), 6e4), "float16")
    result = reduction(values)
    assert keras.backend.standardize_dtype(result.dtype) == "float32"
    assert np.isfinite(float(result))


@each
def test_config_round_trip_within_a_loss(reduction, formula):
    loss = losses.MeanSquaredError(reduction=reduction, name="hard")
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(loss)))
    revived = keras.saving.deserialize_keras_object(config)
    assert revived.reduction == reduction
    assert repr(revived) == repr(loss)


def test_trains_in_a_plain_keras_model():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    loss = losses.MeanSquaredError(reduction=TopK(fraction=0.5))
    model.compile("sgd", loss=loss)
    x, y = np.ones((8, 2)), np.arange(8.0)[:, None]
    errors = (y - model.predict(x, verbose=0))[:, 0] ** 2
    want = np.mean([top(errors[:4], 2), top(errors[4:], 2)])
    got = model.evaluate(x, y, batch_size=4, verbose=0)
    assert got == pytest.approx(want, rel=1e-4)


def test_an_infinite_value_counts_where_it_has_a_share():
    values = [1.0, 2.0, 3.0, np.inf]
    assert float(Quantile(q=0.5)(values)) == np.quantile(values, 0.5) == 2.5
    assert float(Quantile(q=1.0)(values)) == np.inf
    assert float(CVaR(alpha=0.5)([-np.inf, 1.0, 2.0, 4.0])) == 3.0
    assert float(CVaR(alpha=0.5)(values)) == np.inf


LABELS = [0, 2, 1, 2]


@pytest.mark.parametrize(
    "y_true",
    [LABELS, np.array(LABELS)[:, None], np.eye(3)[LABELS]],
    ids=["integers", "column", "one-hot"],
)
@pytest.mark.parametrize("weights", [[1.0, 2.0, 5.0], {2: 5.0, 1: 2.0}])
def test_weights_by_class(weights, y_true):
    reduction = ClassWeighted(weights=weights)
    values = np.array([1.0, 2.0, 3.0, 4.0], "float32")
    # 1*1 + 5*2 + 2*3 + 5*4 = 37, over 4
    assert float(reduction(values, y_true=y_true)) == 37 / 4
    # without the last: 17 over 3; sample weights 1 0 2 1: 1 + 12 + 20 = 33
    assert float(
        reduction(values, mask=[1, 1, 1, 0], y_true=y_true)
    ) == pytest.approx(17 / 3)
    assert float(reduction(values, [1.0, 0.0, 2.0, 1.0], y_true=y_true)) == (
        33 / 4
    )


def test_weights_by_class_within_a_loss():
    loss = losses.SparseCategoricalCrossentropy(
        reduction=ClassWeighted(weights=[1.0, 3.0])
    )
    # each value log 2: (1 + 3) / 2 * log 2
    got = float(loss([0, 1], [[0.5, 0.5], [0.5, 0.5]]))
    assert got == pytest.approx(2 * np.log(2))
    revived = type(loss).from_config(json.loads(json.dumps(loss.get_config())))
    assert revived.reduction == loss.reduction


@pytest.mark.parametrize("y_true", [[0, 1, 2, -1], np.eye(3)[[0, 1, 2, 2]]])
def test_classes_missing_in_a_dict_weigh_one(y_true):
    reduction = ClassWeighted(weights={0: 2.0})
    revived = reductions.get(
        json.loads(json.dumps(reductions.serialize(reduction)))
    )
    # The last label names no class; the last row names class 2.
    want = [2.0, 1.0, 1.0, 0.0 if np.ndim(y_true) == 1 else 1.0]
    for each in (reduction, revived):
        got = each(np.full(4, 8.0, "float32"), y_true=y_true)
        assert float(got) == 2.0 * sum(want)


def test_classes_beyond_a_list_weigh_nothing():
    reduction = ClassWeighted(weights=[2.0, 1.0])
    assert float(reduction([8.0, 8.0], y_true=[0, 255])) == 8.0


def test_weights_by_class_equal_keras_class_weight():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 3)).astype("float32")
    y = rng.integers(0, 4, 8)
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(4, "softmax")]
    )
    table = {0: 1.0, 1: 0.5, 2: 3.0, 3: 2.0}
    model.compile("sgd", loss="sparse_categorical_crossentropy")
    weights = np.array([table[label] for label in y])
    want = model.evaluate(x, y, sample_weight=weights, verbose=0)
    model.compile(
        "sgd",
        loss=losses.SparseCategoricalCrossentropy(
            reduction=ClassWeighted(weights=table)
        ),
    )
    assert model.evaluate(x, y, verbose=0) == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: TopK(),
        lambda: TopK(fraction=0.5, k=1),
        lambda: TopK(fraction=0.0),
        lambda: TopK(fraction=1.5),
        lambda: TopK(k=0),
        lambda: TopK(k=True),
        lambda: Threshold(),
        lambda: Threshold(low=2.0, high=1.0),
        lambda: TrimmedMean(fraction=0.5),
        lambda: Quantile(q=1.1),
        lambda: CVaR(alpha=1.0),
        lambda: CVaR(alpha=0.5, over="world"),
        lambda: ClassWeighted(weights=[]),
        lambda: ClassWeighted(weights={-1: 1.0}),
        lambda: ClassWeighted(weights=[1.0])([1.0]),
        lambda: ClassWeighted(weights=[1.0])([1.0], y_true=[[0.0, 1.0]]),
        lambda: ClassWeighted(weights=[1.0])(1.0, y_true=[0]),
    ],
    ids=range(17),
)
def test_refuses_settings_out_of_range(make):
    with pytest.raises((TypeError, ValueError), match="Expected .* Received"):
        make()


def test_equal_reductions_are_equal():
    assert TopK(k=2) == TopK(k=2)
    assert TopK(k=2) != TopK(k=3)
    assert hash(TopK(k=2)) == hash(TopK(k=2))
    assert repr(TopK(k=2)) == "TopK(k=2)"
    assert TopK(k=2) != TopK(k=2, over="batch")
    assert repr(TopK(k=2, over="batch")) == "TopK(k=2, over='batch')"


def test_a_function_reduces_a_loss():
    def worst(values, sample_weight, mask):
        return ops.max(values)

    loss = losses.MeanSquaredError(reduction=worst)
    assert float(loss([[0.0], [0.0]], [[1.0], [3.0]])) == 9.0


def test_a_reduction_must_return_a_scalar():
    loss = losses.MeanSquaredError(reduction=lambda v, w, m: v, name="odd")
    with pytest.raises(ValueError, match="'odd' to return a scalar"):
        loss([[0.0], [0.0]], [[1.0], [3.0]])


def test_registry_is_complete():
    for name in reductions.__all__:
        cls = getattr(reductions, name)
        if isinstance(cls, type) and cls is not reductions.Reduction:
            registered = keras.saving.get_registered_name(cls)
            assert registered == f"keras_losskit>{name}"
