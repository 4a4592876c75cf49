"""CTC by its definition: the sum over all alignments, one by one."""

import itertools

import keras
import numpy as np
import pytest
from keras import ops
from support.autodiff import compiled
from support.autodiff import value_and_gradient

from keras_losskit import losses
from keras_losskit import weighting

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(4, 4, 3)).astype("float32")
#: As Keras pads, and three more ways to write the same.
PADDED = {
    0: np.array([[1, 2, 0], [1, 1, 0], [2, 0, 0], [1, 2, 1]]),
    -1: np.array([[1, 2, -1], [1, 1, -1], [2, -1, -1], [1, 2, 1]]),
    "in front": np.array([[-1, 1, 2], [-9, 1, 1], [-1, -1, 2], [1, 2, 1]]),
    "between": np.array([[1, -1, 2], [1, 1, -1], [-1, 2, 0], [1, 2, 1]]),
}
WORDS = [[1, 2], [1, 1], [2], [1, 2, 1]]


def collapsed(path):
    """What an alignment spells: repetitions once, then without blanks."""
    return [label for label, _ in itertools.groupby(path) if label]


def definition(words, logits):
    """`-log sum(product of probabilities)` over the alignments of each word."""
    p = np.exp(logits.astype("float64"))
    p /= p.sum(-1, keepdims=True)
    values = []
    for word, steps in zip(words, p, strict=True):
        total = sum(
            np.prod(steps[np.arange(len(steps)), path])
            for path in itertools.product(range(3), repeat=len(steps))
            if collapsed(path) == word
        )
        values.append(-np.log(total))
    return np.array(values)


@pytest.mark.parametrize("padding", PADDED)
@pytest.mark.parametrize("compiling", [False, True], ids=["eager", "compiled"])
def test_equals_its_definition_however_it_is_padded(padding, compiling):
    loss = losses.CTC(reduction="none")
    call = compiled(loss) if compiling else loss
    for _ in range(3):
        values = call(ops.convert_to_tensor(PADDED[padding]), LOGITS)
        np.testing.assert_allclose(
            ops.convert_to_numpy(values), definition(WORDS, LOGITS), rtol=1e-5
        )


@pytest.mark.parametrize("padding", PADDED)
def test_gradient_is_that_of_its_definition(padding):
    y_true = PADDED[padding]
    _, gradient = value_and_gradient(lambda x: losses.CTC()(y_true, x), LOGITS)
    step = 1e-5
    for index in [(0, 0, 1), (1, 2, 0), (2, 3, 2), (3, 1, 2)]:
        up, down = (LOGITS.astype("float64") for _ in range(2))
        up[index] += step
        down[index] -= step
        want = definition(WORDS, up).mean() - definition(WORDS, down).mean()
        assert gradient[index] == pytest.approx(want / (2 * step), abs=1e-5)


@pytest.mark.parametrize("dtype", ["int32", "int64", "float32"])
def test_masked_by_its_padding_it_is_the_same(dtype):
    y_true = PADDED[-1].astype(dtype)
    masked = losses.Masked(losses.CTC(), ignore_value=-1)
    want = definition(WORDS, LOGITS)
    assert float(masked(y_true, LOGITS)) == pytest.approx(want.mean(), rel=1e-5)
    weight = np.array([1.0, 0.0, 2.0, 0.5])
    assert float(masked(y_true, LOGITS, weight)) == pytest.approx(
        (weight * want).mean(), rel=1e-5
    )


def test_masked_leaves_out_a_sample_without_labels():
    y_true = PADDED[-1].copy()
    y_true[2] = -1
    masked = losses.Masked(losses.CTC(), ignore_value=-1)
    want = np.delete(definition(WORDS, LOGITS), 2).mean()
    assert float(masked(y_true, LOGITS)) == pytest.approx(want, rel=1e-5)
    # By itself, the empty word is one as well.
    words = [WORDS[0], WORDS[1], [], WORDS[3]]
    want = definition(words, LOGITS).mean()
    assert float(losses.CTC()(y_true, LOGITS)) == pytest.approx(want, rel=1e-5)


def test_masked_within_a_sum():
    total = 0.5 * losses.CTC(name="a") + losses.CTC(name="b")
    masked = losses.Masked(total, ignore_value=-1)
    want = 1.5 * definition(WORDS, LOGITS).mean()
    assert float(masked(PADDED[-1], LOGITS)) == pytest.approx(want, rel=1e-5)


def test_a_label_that_is_no_class_is_refused():
    with pytest.raises(ValueError, match=r"'ctc' to be in \[0, 3\)"):
        losses.CTC()(np.array([[1, 3]]), LOGITS[:1])


def test_sure_logits_cost_nothing_and_not_less():
    path = [1, 0, 2, 0]
    logits = 40.0 * np.eye(3, dtype="float32")[[path]]
    value, gradient = value_and_gradient(
        lambda x: losses.CTC()(np.array([[1, 2]]), x), logits
    )
    assert 0.0 <= value < 1e-6
    assert np.isfinite(gradient).all()
    term = ops.convert_to_tensor(np.array([value, 1.0], "float32"))
    weights = weighting.GeometricMean()(term)
    assert np.isfinite(ops.convert_to_numpy(weights)).all()


def test_trains_on_padding_of_either_kind():
    results = []
    for padding in (0, -1):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((4, 3)), keras.layers.Dense(3)])
        model.compile("sgd", losses.CTC())
        logs = model.fit(LOGITS, PADDED[padding], epochs=2, verbose=0).history
        results.append(logs["loss"])
    assert results[0] == pytest.approx(results[1], rel=1e-6)
    assert results[0][1] < results[0][0]
