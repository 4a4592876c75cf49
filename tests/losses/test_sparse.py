"""Crossentropies of integer labels, against their one-hot counterparts."""

import keras
import numpy as np
import pytest
from keras import ops
from keras.src.backend.common.masking import get_keras_mask

from keras_losskit import losses

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(6, 4)).astype("float32")
LABELS = np.array([0, 3, 1, 2, 2, 0])


def softmax(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def focal(labels, p, alpha, gamma):
    p = p[np.arange(len(labels)), labels]
    alpha = np.broadcast_to(alpha, 4)[labels]
    return -alpha * (1 - p) ** gamma * np.log(p)


@pytest.mark.parametrize("from_logits", [True, False])
@pytest.mark.parametrize("alpha", [0.25, [0.1, 0.2, 0.3, 0.4]])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_is_as_defined(alpha, gamma, from_logits):
    p = softmax(LOGITS)
    loss = losses.SparseCategoricalFocalCrossentropy(
        alpha=alpha, gamma=gamma, from_logits=from_logits, reduction=None
    )
    values = loss(LABELS, LOGITS if from_logits else 3.0 * p)
    expected = focal(LABELS, p, alpha, gamma)
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    function = losses.sparse_categorical_focal_crossentropy
    values = function(
        LABELS, LOGITS if from_logits else 3.0 * p, alpha, gamma, from_logits
    )
    np.testing.assert_allclose(values, expected, rtol=1e-5)


@pytest.mark.parametrize(
    "cls",
    [
        losses.SparseCategoricalCrossentropy,
        losses.SparseCategoricalFocalCrossentropy,
    ],
)
@pytest.mark.parametrize("ignored", [2, -1, 300])
def test_ignored_labels_count_for_nothing(cls, ignored):
    labels = np.where(LABELS == 2, ignored, LABELS)
    loss = cls(from_logits=True, ignore_class=ignored)
    kept = LABELS != 2
    expected = cls(from_logits=True)(LABELS[kept], LOGITS[kept])
    np.testing.assert_allclose(loss(labels, LOGITS), expected, rtol=1e-6)


def test_ignored_labels_are_masked_when_smoothed():
    loss = losses.SparseCategoricalCrossentropy(
        from_logits=True, ignore_class=2, label_smoothing=0.2
    )
    values = loss.call(LABELS, ops.convert_to_tensor(LOGITS))
    mask = ops.convert_to_numpy(get_keras_mask(values))
    assert mask.tolist() == (LABELS != 2).tolist()
    assert np.all(ops.convert_to_numpy(values)[LABELS == 2] == 0.0)


@pytest.mark.parametrize("from_logits", [True, False])
def test_smoothing_is_that_of_one_hot_labels(from_logits):
    settings = {"from_logits": from_logits, "label_smoothing": 0.3}
    predictions = LOGITS if from_logits else softmax(LOGITS)
    sparse = losses.SparseCategoricalCrossentropy(**settings)
    dense = losses.CategoricalCrossentropy(**settings)
    one_hot = np.eye(4, dtype="float32")[LABELS]
    np.testing.assert_allclose(
        sparse(LABELS, predictions), dense(one_hot, predictions), rtol=1e-6
    )


@pytest.mark.parametrize("smoothing", [-0.1, 1.5, "a name, as before 3.16"])
def test_a_smoothing_that_is_no_share_is_refused(smoothing):
    with pytest.raises(ValueError, match=r"label_smoothing.*0(, | to )1"):
        losses.SparseCategoricalCrossentropy(label_smoothing=smoothing)


def test_focal_needs_one_weight_per_class():
    loss = losses.SparseCategoricalFocalCrossentropy(alpha=[0.5, 0.5])
    with pytest.raises(ValueError, match="one for each class"):
        loss(LABELS, softmax(LOGITS))


def test_focal_refuses_one_hot_labels():
    loss = losses.SparseCategoricalFocalCrossentropy()
    with pytest.raises(ValueError, match="CategoricalFocalCrossentropy"):
        loss(np.eye(4)[LABELS], softmax(LOGITS))


def test_labels_stay_integers_in_half_precision():
    # bfloat16 has no number for 257: it would be class 256.
    logits = np.zeros((1, 300), "float32")
    logits[0, 257] = 100.0
    loss = losses.SparseCategoricalFocalCrossentropy(
        from_logits=True, dtype="bfloat16"
    )
    assert float(loss(np.array([257]), logits)) == 0.0


@pytest.mark.skipif(
    not hasattr(keras.losses, "SparseCategoricalFocalCrossentropy"),
    reason="Keras has it from 3.16 on",
)
@pytest.mark.parametrize("axis", [-1, 1])
def test_focal_equals_that_of_keras(axis):
    logits = np.moveaxis(RNG.normal(size=(2, 5, 4)).astype("float32"), -1, axis)
    labels = RNG.integers(0, 4, (2, 5))
    settings = {"from_logits": True, "axis": axis, "ignore_class": 1}
    ours = losses.SparseCategoricalFocalCrossentropy(**settings)
    keras_own = keras.losses.SparseCategoricalFocalCrossentropy(**settings)
    np.testing.assert_allclose(
        ours(labels, logits), keras_own(labels, logits), rtol=1e-5
    )
