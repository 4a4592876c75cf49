"""Value and gradient of every loss are finite at the edges of its domain.

One batch holds every edge, so that a loss is evaluated once for each dtype: a
sum over the batch keeps the gradients of the samples apart.
"""

import keras
import numpy as np
import pytest
from keras import ops
from support.autodiff import value_and_gradient

from keras_losskit import losses
from keras_losskit.losses import _catalogue

RNG = np.random.default_rng(0)
CLASSES = np.array([0, 1, 2, 0, 1, 2, 0, 0])
ONE_HOT = np.eye(3, dtype="float32")[CLASSES]
BINARY = ONE_HOT
#: Surely right, surely wrong, zero, huge, ordinary; 19 is where float32's
#: sigmoid begins to be 1.
LOGITS = np.stack(
    [
        40.0 * ONE_HOT[0],
        40.0 * ONE_HOT[0],
        np.zeros(3),
        1e4 * ONE_HOT[3],
        -1e4 * ONE_HOT[4],
        1e4 * np.ones(3),
        19.0 * (2 * ONE_HOT[6] - 1),
        np.array([0.5, -0.3, 0.1]),
    ]
)
PROBABILITIES = np.stack(
    [
        ONE_HOT[0],
        ONE_HOT[0],
        np.zeros(3),
        np.ones(3),
        1 - ONE_HOT[4],
        np.full(3, 1 / 3),
        np.array([1e-30, 1.0, 0.0]),
        np.array([0.5, 0.3, 0.2]),
    ]
)
#: Right, 0, huge, ordinary, and beside a target of 0.
NUMBERS = np.stack(
    [
        np.array([1.0, 2.0, 3.0]),
        np.zeros(3),
        np.full(3, 1e4),
        np.full(3, -1e4),
        np.array([0.5, -0.3, 0.1]),
        np.ones(3),
        np.array([1e-30, 0.0, 1e-4]),
        np.zeros(3),
    ]
)
TARGETS = np.tile(np.array([1.0, 2.0, 3.0], "float32"), (8, 1))
WITH_ZERO = np.concatenate([TARGETS[:7], np.zeros((1, 3), "float32")])


def maps(predictions):
    """A sample per edge, of four places each, the last class absent in some."""
    return np.repeat(predictions[:, None], 4, axis=1)


PLACES = np.array([[0, 0, 0, 0], [0, 1, 0, 1], [2, 2, 2, 2], [0, 1, 2, 0]] * 2)
#: The first sample has no label at all.
MAPS = np.eye(3, dtype="float32")[PLACES] * (np.arange(8) > 0)[:, None, None]
WORDS = np.array(
    [[1, 2], [1, 1], [2, 0], [0, 0], [1, 2], [2, 2], [2, 1], [1, 0]]
)
LOGIT = {"from_logits": True}

#: `{name: [(arguments, targets, predictions), ...]}`.
CASES = {
    "AsymmetricLoss": [
        (LOGIT, BINARY, LOGITS),
        ({}, BINARY, PROBABILITIES),
        (LOGIT | {"gamma_positive": 0.5}, BINARY, LOGITS),
        ({"gamma_negative": 0.0, "margin": 0.0}, BINARY, PROBABILITIES),
    ],
    "BinaryCrossentropy": [
        (LOGIT, BINARY, LOGITS),
        ({}, BINARY, PROBABILITIES),
    ],
    "BinaryFocalCrossentropy": [
        (LOGIT | {"gamma": gamma}, BINARY, LOGITS)
        for gamma in (0.0, 0.5, 1.0, 2.0)
    ]
    + [({"gamma": gamma}, BINARY, PROBABILITIES) for gamma in (0.0, 0.5, 2.0)],
    "CTC": [({}, WORDS, maps(LOGITS))],
    "CategoricalCrossentropy": [
        (LOGIT, ONE_HOT, LOGITS),
        ({}, ONE_HOT, PROBABILITIES),
        ({"normalize": False}, ONE_HOT, PROBABILITIES),
    ],
    "CategoricalFocalCrossentropy": [
        (LOGIT | {"gamma": gamma}, ONE_HOT, LOGITS) for gamma in (0.0, 0.5, 2.0)
    ]
    + [({"gamma": gamma}, ONE_HOT, PROBABILITIES) for gamma in (0.0, 0.5, 2.0)],
    "CategoricalGeneralizedCrossEntropy": [
        ({"q": q}, CLASSES, PROBABILITIES) for q in (0.5, 0.9)
    ],
    "CategoricalHinge": [({}, ONE_HOT, LOGITS)],
    "Charbonnier": [({}, WITH_ZERO, NUMBERS)],
    "Circle": [
        # Several of a class, one of each, and all of one.
        ({}, labels, PROBABILITIES)
        for labels in (CLASSES, np.arange(8), 0 * CLASSES)
    ],
    "CosineSimilarity": [
        ({}, WITH_ZERO, NUMBERS),
        ({"axis": 0}, WITH_ZERO, NUMBERS),
    ],
    "Dice": [
        ({"axis": 1}, MAPS, maps(PROBABILITIES)),
        (LOGIT, MAPS, maps(LOGITS)),
    ],
    "Distillation": [({}, LOGITS[::-1], LOGITS)],
    "FocalTversky": [
        ({}, MAPS, maps(PROBABILITIES)),
        (LOGIT, MAPS, maps(LOGITS)),
        (LOGIT, PLACES, maps(LOGITS)),
    ],
    "GaussianNLL": [({}, WITH_ZERO, np.tile(NUMBERS * 1e-3, (1, 2)))],
    "GeneralizedDice": [
        ({}, MAPS, maps(PROBABILITIES)),
        (LOGIT, MAPS, maps(LOGITS)),
        (LOGIT, PLACES, maps(LOGITS)),
    ],
    "Hinge": [({}, BINARY, LOGITS), ({}, 2 * BINARY - 1, LOGITS)],
    "Huber": [({}, WITH_ZERO, NUMBERS)],
    "KLDivergence": [({}, ONE_HOT, PROBABILITIES)],
    "KLToStandardNormal": [({}, WITH_ZERO, np.tile(NUMBERS * 1e-3, (1, 2)))],
    "LogCosh": [({}, WITH_ZERO, NUMBERS)],
    "LovaszSoftmax": [
        ({}, MAPS, maps(PROBABILITIES)),
        (LOGIT, MAPS, maps(LOGITS)),
        (LOGIT | {"per_image": False}, PLACES, maps(LOGITS)),
    ],
    "MeanAbsoluteError": [({}, WITH_ZERO, NUMBERS)],
    "MeanAbsolutePercentageError": [({}, TARGETS, NUMBERS)],
    "MeanSquaredError": [({}, WITH_ZERO, NUMBERS)],
    "MeanSquaredLogarithmicError": [({}, WITH_ZERO, NUMBERS)],
    "Pinball": [({}, WITH_ZERO, NUMBERS)],
    "Poisson": [({}, WITH_ZERO, np.abs(NUMBERS))],
    "Poly1": [(LOGIT, CLASSES, LOGITS), ({}, CLASSES, PROBABILITIES)],
    "SparseCategoricalFocalCrossentropy": [
        (LOGIT, CLASSES, LOGITS),
        ({}, CLASSES, PROBABILITIES),
        (LOGIT | {"ignore_class": 0}, CLASSES, LOGITS),
        (LOGIT | {"gamma": 0.0}, CLASSES, LOGITS),
        (LOGIT | {"gamma": 0.5}, CLASSES, LOGITS),
    ],
    "SparseCategoricalCrossentropy": [
        (LOGIT, CLASSES, LOGITS),
        ({}, CLASSES, PROBABILITIES),
        (LOGIT | {"ignore_class": 0}, CLASSES, LOGITS),
    ],
    "SquaredHinge": [({}, BINARY, LOGITS)],
    "Tversky": [
        ({"axis": 1}, MAPS, maps(PROBABILITIES)),
        (LOGIT, MAPS, maps(LOGITS)),
    ],
}

each = pytest.mark.parametrize(
    ("name", "arguments", "y_true", "y_pred"),
    [
        pytest.param(name, *case, id=f"{name}-{index}")
        for name, cases in CASES.items()
        for index, case in enumerate(cases)
    ],
)

one_of_each = pytest.mark.parametrize(
    ("name", "arguments", "y_true", "y_pred"),
    [(name, *cases[-1]) for name, cases in CASES.items()],
    ids=CASES,
)


def test_every_loss_is_here():
    every = {**_catalogue.KERAS_LOSSES, **_catalogue.FURTHER_LOSSES}
    assert {cls.__name__ for cls in every.values()} == set(CASES)


#: Whose slope is over 65504 at some edge.
FAST_GROWING = {"GaussianNLL", "Poisson"}


@each
def test_finite_at_the_edges(name, arguments, y_true, y_pred):
    check_edges(name, arguments, y_true, y_pred, "float32")


@one_of_each
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_finite_in_half_precision(name, arguments, y_true, y_pred, dtype):
    if dtype == "float16" and name in FAST_GROWING:
        pytest.skip("the gradient is over float16's largest number, 65504")
    check_edges(name, arguments, y_true, y_pred, dtype)


def check_edges(name, arguments, y_true, y_pred, dtype):
    loss = getattr(losses, name)(reduction="sum", dtype=dtype, **arguments)
    # NumPy has no bfloat16.
    value, gradient = value_and_gradient(
        lambda x: losses.evaluate(loss, y_true, ops.cast(x, dtype)), y_pred
    )
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    "name",
    [
        *("CTC", "CategoricalFocalCrossentropy", "CosineSimilarity"),
        *("GeneralizedDice", "LovaszSoftmax", "MeanSquaredError"),
    ],
)
def test_finite_where_nothing_counts(name):
    arguments, y_true, y_pred = CASES[name][-1]
    loss = getattr(losses, name)(**arguments)
    weight = np.zeros(len(y_pred), "float32")
    if not getattr(loss, "values_follow_batch", True):
        weight = 0.0
    value, gradient = value_and_gradient(
        lambda x: losses.evaluate(loss, y_true, x, weight), y_pred
    )
    assert value == 0.0
    assert (gradient == 0.0).all()


@one_of_each
def test_an_empty_batch_costs_nothing(name, arguments, y_true, y_pred):
    loss = getattr(losses, name)(**arguments)
    value = float(losses.evaluate(loss, y_true[:0], y_pred[:0]))
    assert np.isfinite(value)
    if getattr(loss, "values_follow_batch", True):
        assert value == 0.0


def test_an_empty_batch_has_an_empty_gradient():
    loss = losses.CategoricalHinge() + losses.CategoricalCrossentropy()
    _, gradient = value_and_gradient(
        lambda x: loss(ONE_HOT[:0], x), PROBABILITIES[:0]
    )
    assert gradient.shape == (0, 3)


NEARLY = RNG.normal(size=(200, 3)).astype("float32")
SURE = (20 * np.eye(3)[RNG.integers(0, 3, (200, 30))]).astype("float32")
#: Targets and predictions of which the loss is 0 but for rounding.
ZERO = {
    "Distillation": ({}, NEARLY, NEARLY * (1 + 1e-6)),
    "GeneralizedDice": (LOGIT, SURE.argmax(-1), SURE),
    "KLToStandardNormal": ({}, NEARLY, 1e-6 * NEARLY[:, :2]),
    "LogCosh": ({}, NEARLY, NEARLY + 1e-4 * NEARLY[::-1]),
    "LovaszSoftmax": (LOGIT, SURE.argmax(-1), SURE),
}


@pytest.mark.parametrize("name", ZERO)
def test_rounding_does_not_take_it_below_0(name):
    arguments, y_true, y_pred = ZERO[name]
    loss = getattr(losses, name)(reduction="none", **arguments)
    values = ops.convert_to_numpy(loss(y_true, y_pred))
    assert (values >= 0).all()
    assert values.max() < 1e-5


def test_a_small_error_keeps_its_gradient():
    _, gradient = value_and_gradient(
        lambda x: losses.LogCosh()([[0.0]], x), [[1e-4]]
    )
    np.testing.assert_allclose(gradient, np.tanh([[1e-4]]), rtol=1e-2)


def test_no_probability_at_all_says_nothing():
    """Keras divides by their sum, 0; on TensorFlow it says even ones."""
    zeros = np.zeros((1, 3), "float32")
    for loss, label in (
        (losses.CategoricalCrossentropy(), ONE_HOT[:1]),
        (losses.SparseCategoricalCrossentropy(), CLASSES[:1]),
    ):
        assert float(loss(label, zeros)) == pytest.approx(np.log(3), rel=1e-5)


def test_a_sample_without_labels_is_missed_altogether():
    y_true, y_pred = MAPS[:1], maps(PROBABILITIES)[-1:]
    assert float(losses.GeneralizedDice()(y_true, y_pred)) == 1.0


@pytest.mark.parametrize("gamma", [0.0, 0.5])
@pytest.mark.parametrize("from_logits", [False, True])
def test_a_small_gamma_has_the_value_of_keras(gamma, from_logits):
    arguments = {
        "gamma": gamma,
        "from_logits": from_logits,
        "label_smoothing": 0.1,
        "apply_class_balancing": True,
    }
    y_pred = RNG.uniform(0.05, 0.95, BINARY.shape).astype("float32")
    ours = losses.BinaryFocalCrossentropy(**arguments)(BINARY, y_pred)
    theirs = keras.losses.BinaryFocalCrossentropy(**arguments)(BINARY, y_pred)
    assert float(ours) == pytest.approx(float(theirs), rel=1e-6)


def test_a_probability_of_0_is_pushed_up():
    loss = losses.CategoricalGeneralizedCrossEntropy(q=0.5)
    value, gradient = value_and_gradient(lambda x: loss([0], x), [[0.0, 1.0]])
    assert value == 2.0  # (1 - 0) / 0.5
    assert gradient[0, 0] < -1e3
    assert gradient[0, 1] == 0.0


@pytest.mark.parametrize("label", [-1, 7])
@pytest.mark.parametrize(
    "make",
    [
        losses.LovaszSoftmax,
        losses.GeneralizedDice,
        losses.FocalTversky,
        losses.Poly1,
        lambda name: losses.CategoricalGeneralizedCrossEntropy(name=name),
    ],
)
def test_labels_that_are_no_class_are_refused(make, label):
    loss = make(name="mine")
    labels = np.where(np.arange(8)[:, None] == 3, label, PLACES)
    y_pred = maps(PROBABILITIES)
    with pytest.raises(ValueError, match=r"'mine' to be in \[0, 3\)"):
        loss(labels, y_pred)
    # Of what does not count, they may be anything.
    weight = (np.arange(8) != 3).astype("float32")
    want = float(loss(PLACES, y_pred, weight))
    assert float(loss(labels, y_pred, weight)) == want


def test_labels_of_a_column_are_compared_one_by_one():
    loss = losses.CategoricalGeneralizedCrossEntropy()
    want = float(loss(CLASSES, PROBABILITIES))
    assert float(loss(CLASSES[:, None], PROBABILITIES)) == want
