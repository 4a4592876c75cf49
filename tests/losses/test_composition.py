"""Sums of losses: the algebra, and that a sum equals its parts."""

import json

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops
from keras.src.backend.common.masking import set_keras_mask
from support.autodiff import compiled
from support.autodiff import value_and_gradient
from support.models import MODES
from support.models import each_mode
from support.models import passing
from support.models import still

from keras_losskit import losses
from keras_losskit import reductions
from keras_losskit import schedules

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(6, 4)).astype("float32")
LABELS = np.eye(4, dtype="float32")[[0, 1, 2, 3, 0, 1]]
WEIGHTS = RNG.uniform(0.5, 2.0, 6).astype("float32")
MASK = np.array([1, 1, 0, 1, 0, 1], "bool")


def a_loss(name, **kwargs):
    return losses.MeanSquaredError(name=name, **kwargs)


A, B, C = a_loss("a"), a_loss("b"), a_loss("c")


def weights_of(composite):
    return {part.name: part.weight for part in composite.parts}


@pytest.mark.parametrize(
    ("composite", "weights"),
    [
        (A + B, {"a": 1.0, "b": 1.0}),
        (A - B, {"a": 1.0, "b": -1.0}),
        (-A, {"a": -1.0}),
        (2 * A, {"a": 2.0}),
        (A * 2, {"a": 2.0}),
        (A / 4, {"a": 0.25}),
        (np.float32(0.5) * A, {"a": 0.5}),
        (A * np.float64(0.5), {"a": 0.5}),
        (np.int64(3) * A, {"a": 3.0}),
        (np.array(3.0) * A, {"a": 3.0}),
        (sum([A, B, C]), {"a": 1.0, "b": 1.0, "c": 1.0}),
        (0.5 * (A + 2 * (B - C)), {"a": 0.5, "b": 1.0, "c": -1.0}),
        (-(A - (B - C)), {"a": -1.0, "b": 1.0, "c": -1.0}),
        (a_loss("a", weight=3.0) * 2, {"a": 6.0}),
        (0 * A + B, {"a": 0.0, "b": 1.0}),
    ],
    ids=repr,
)
def test_flattens_and_multiplies_nested_weights_once(composite, weights):
    assert weights_of(composite) == pytest.approx(weights)
    assert list(weights_of(composite)) == list(weights)


@pytest.mark.parametrize(
    ("composite", "formula"),
    [
        (0.7 * A + 0.3 * B, "0.7 * a + 0.3 * b"),
        (A - 0.5 * B, "a - 0.5 * b"),
        (-A - B, "-a - b"),
        (-0.1 * (0.7 * A) + B, "-0.07 * a + b"),
        (A * schedules.Linear(0.0, 1.0, epochs=5), None),
        (A * keras.Variable(1.0, name="v") + B, "v * a + b"),
        (A / keras.Variable(1.0, name="v"), "1 / v * a"),
    ],
)
def test_repr_is_the_formula(composite, formula):
    if formula is None:
        formula = "Linear(0.0, 1.0, epochs=5) * a"
    assert repr(composite) == formula


def test_iterates_over_its_parts_and_finds_them_by_name():
    composite = 0.7 * A + 0.3 * B
    assert [part.name for part in composite] == ["a", "b"]
    assert len(composite) == 2
    assert composite["b"].weight == 0.3
    assert composite["b"].loss is B
    assert "a" in composite
    assert "c" not in composite
    with pytest.raises(KeyError, match="'c'"):
        composite["c"]


def test_a_plain_keras_loss_stands_on_either_side():
    plain = keras.losses.MeanAbsoluteError(name="plain")
    assert repr(A + plain) == "a + plain"
    assert repr(plain + A) == "plain + a"
    assert repr(plain - A) == "plain - a"
    assert repr(A - plain) == "a - plain"
    y_true, y_pred = np.zeros((2, 1)), np.array([[1.0], [3.0]])
    # mae 2, mse 5
    assert float((plain + 2 * A)(y_true, y_pred)) == 12.0


@pytest.mark.parametrize("bad", [True, False, np.bool_(True)])
def test_refuses_bool_weights(bad):
    with pytest.raises(TypeError, match="Received"):
        A * bad
    with pytest.raises(TypeError, match="Received"):
        A / bad
    with pytest.raises(TypeError, match="Received"):
        losses.MeanSquaredError(weight=bad)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 10**400])
def test_refuses_weights_that_are_not_finite(bad):
    with pytest.raises(ValueError, match="finite"):
        bad * A
    with pytest.raises(ValueError, match="finite"):
        losses.WeightedSum([A], [bad])
    with pytest.raises(ValueError, match="finite"):
        (1e200 * A) * 1e200


@pytest.mark.parametrize("operand", ["mse", None, [1.0], object(), 1j])
def test_leaves_what_it_does_not_know_to_the_other_side(operand):
    for name in ("add", "radd", "sub", "rsub", "truediv"):
        method = getattr(A, f"__{name}__")
        if operand == 1j and name == "truediv":
            continue
        assert method(operand) is NotImplemented
    with pytest.raises(TypeError):
        A + operand
    with pytest.raises(TypeError):
        A * operand
    with pytest.raises(TypeError):
        A * B

    class Other:
        def __radd__(self, other):
            return "other"

    assert A + Other() == "other"


def test_refuses_two_terms_of_one_name():
    with pytest.raises(
        ValueError, match=r"Received twice: \['a'\]. Give one of them `name="
    ):
        A + B + a_loss("a")


def test_refuses_sums_of_nothing_and_of_no_losses():
    with pytest.raises(ValueError, match="0 losses"):
        losses.WeightedSum([])
    with pytest.raises(ValueError, match="1 losses and 2 weights"):
        losses.WeightedSum([A], [1.0, 2.0])
    with pytest.raises(TypeError, match="losses.get"):
        losses.WeightedSum(["mse"])


def five_losses():
    return {
        "ce": losses.CategoricalCrossentropy(from_logits=True, name="ce"),
        "focal": losses.CategoricalFocalCrossentropy(
            from_logits=True, gamma=1.5, name="focal"
        ),
        "dice": losses.Dice(axis=1, from_logits=True, name="dice"),
        "smooth": losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=0.1, name="smooth"
        ),
        "huber": keras.losses.Huber(delta=0.3, reduction="sum", name="huber"),
    }


def a_composite():
    parts = five_losses()
    weights = dict(zip(parts, [0.7, 0.3, -0.2, 1.0, 0.05], strict=True))
    return sum(
        (losses.WeightedSum([loss], [weights[n]]) for n, loss in parts.items())
    ), weights


@pytest.mark.parametrize(
    "dtype",
    [
        "float32",
        pytest.param("float16", marks=pytest.mark.nightly("jax", "tensorflow")),
    ],
)
@pytest.mark.parametrize("mask", [None, MASK], ids=["plain", "masked"])
@pytest.mark.parametrize("weight", [None, WEIGHTS], ids=["even", "weighted"])
@pytest.mark.parametrize("compiling", [False, True], ids=["eager", "compiled"])
def test_equals_the_hand_weighted_sum(weight, mask, dtype, compiling):
    composite, weights = a_composite()

    def whole(x):
        return composite(LABELS, masked(x, mask), weight)

    def by_hand(x):
        return sum(
            weights[name] * loss(LABELS, masked(x, mask), weight)
            for name, loss in five_losses().items()
        )

    if compiling:
        whole, by_hand = compiled(whole), compiled(by_hand)
    got, got_gradient = value_and_gradient(whole, LOGITS, dtype)
    want, want_gradient = value_and_gradient(by_hand, LOGITS, dtype)
    tolerance = 1e-6 if dtype == "float32" else 2e-3
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(
        got_gradient, want_gradient, rtol=1e-5, atol=tolerance
    )
    assert np.abs(want_gradient).max() > 1e-3


def masked(x, mask):
    """`x` with a Keras mask, as a `Masking` layer leaves it."""
    if mask is None:
        return x
    x = x * 1.0
    set_keras_mask(x, ops.convert_to_tensor(mask))
    return x


@given(
    st.lists(
        st.floats(-3, 3, allow_nan=False, width=32), min_size=1, max_size=4
    ),
    st.integers(1, 5),
    st.booleans(),
)
def test_any_sum_is_linear(weights, batch, weighted):
    rng = np.random.default_rng(batch)
    y_true, y_pred = rng.normal(size=(2, batch, 3)).astype("float32")
    weight = rng.uniform(0, 2, batch).astype("float32") if weighted else None
    kinds = [
        losses.MeanSquaredError,
        losses.MeanAbsoluteError,
        losses.Huber,
        losses.LogCosh,
    ]
    terms = [kind() for kind in kinds[: len(weights)]]
    composite = sum(w * t for w, t in zip(weights, terms, strict=True))
    want = sum(
        w * float(t(y_true, y_pred, weight))
        for w, t in zip(weights, terms, strict=True)
    )
    got = float(composite(y_true, y_pred, weight))
    assert got == pytest.approx(want, rel=1e-5, abs=1e-5)


def test_shares_one_softmax(monkeypatch):
    calls = []
    original = ops.log_softmax
    monkeypatch.setattr(
        ops, "log_softmax", lambda *a, **k: calls.append(1) or original(*a, **k)
    )
    composite, _ = a_composite()
    composite(LABELS, LOGITS)
    assert len(calls) == 1


def test_every_term_keeps_its_own_reduction():
    values = np.array([[1.0], [3.0]])
    mean, total = a_loss("mean"), a_loss("total", reduction="sum")
    # squares 1, 9: mean 5, sum 10
    parts = (mean + total).part_values(np.zeros((2, 1)), values)
    assert [float(value) for value in parts] == [5.0, 10.0]


def test_part_values_are_unweighted():
    composite = 3.0 * a_loss("a", weight=2.0) + B
    values = composite.part_values([[0.0]], [[2.0]])
    assert [float(value) for value in values] == [4.0, 4.0]
    assert float(composite([[0.0]], [[2.0]])) == 28.0
    assert float(losses.evaluate(composite, [[0.0]], [[2.0]])) == 28.0


def test_a_variable_is_followed():
    weight = keras.Variable(2.0, name="weight")
    composite = A * weight + B
    assert composite.variables[0] is weight
    assert float(composite([[0.0]], [[1.0]])) == 3.0
    weight.assign(5.0)
    assert float(composite([[0.0]], [[1.0]])) == 6.0
    assert float((A / weight)([[0.0]], [[1.0]])) == pytest.approx(0.2)


@pytest.mark.parametrize("start", [1.0, 2.0])
@each_mode
def test_a_loss_with_a_variable_for_its_weight_follows_it(start, mode):
    weight = keras.Variable(start, name="weight")
    model = passing()
    model.compile(still(), a_loss("a", weight=weight), **MODES[mode])
    for value in (start, 10.0):
        weight.assign(value)
        logs = model.fit(np.ones((4, 1)), np.zeros((4, 1)), verbose=0).history
        assert logs == {"loss": [value], "a_weight": [value]}


def test_arguments_that_are_no_numbers_can_be_shown():
    assert "weight=<" in repr(a_loss("a", weight=keras.Variable(1.0)))
    focal = losses.CategoricalFocalCrossentropy(alpha=np.array([0.25, 0.75]))
    assert "alpha=array([0.25, 0.75])" in repr(focal)


def test_a_variable_on_the_left_is_refused():
    # On JAX the message is its own.
    message = None if keras.config.backend() == "jax" else "loss . variable"
    with pytest.raises((TypeError, ValueError), match=message):
        keras.Variable(2.0) * A
    with pytest.raises(TypeError, match="Received: loss 'a'"):
        np.asarray(A)


def test_a_schedule_stands_at_its_start():
    schedule = schedules.Linear(0.25, 1.0, epochs=5)
    assert float((A * schedule)([[0.0]], [[2.0]])) == 1.0
    assert float((schedule * A)([[0.0]], [[2.0]])) == 1.0
    assert float((A / schedule)([[0.0]], [[2.0]])) == 16.0


def test_a_config_survives_json():
    composite, _ = a_composite()
    composite = composite - 0.25 * losses.Huber(
        delta=2.0,
        name="schedule",
        weight=schedules.Linear(0.0, 1.0, epochs=5),
    )
    config = keras.saving.serialize_keras_object(composite)
    config = json.loads(json.dumps(config))
    revived = keras.saving.deserialize_keras_object(config)
    assert repr(revived) == repr(composite)
    np.testing.assert_allclose(
        float(revived(LABELS, LOGITS)), float(composite(LABELS, LOGITS))
    )
    assert revived.get_config() == composite.get_config()


def test_trains_and_saves_with_a_plain_keras_model(tmp_path):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(4)(inputs))
    composite, _ = a_composite()
    model.compile("sgd", loss=composite)
    history = model.fit(LOGITS, LABELS, epochs=3, verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0]
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert repr(loaded.loss) == repr(composite)
    np.testing.assert_allclose(
        loaded.evaluate(LOGITS, LABELS, verbose=0),
        model.evaluate(LOGITS, LABELS, verbose=0),
        rtol=1e-5,
    )


def test_reductions_are_saved_within_a_sum():
    loss = a_loss("a", reduction="mean_with_sample_weight") + B
    revived = losses.WeightedSum.from_config(loss.get_config())
    assert revived["a"].loss.reduction == "mean_with_sample_weight"
    assert reductions.serialize(revived["b"].loss.reduction) == (
        "sum_over_batch_size"
    )
