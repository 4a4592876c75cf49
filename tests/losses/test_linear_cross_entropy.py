"""Crossentropy of a linear layer, as that of its logits."""

import keras
import numpy as np
import pytest
from keras import ops
from support.autodiff import compiled

from keras_losskit import _backend
from keras_losskit import extra
from keras_losskit.losses import linear_cross_entropy

RANDOM = np.random.default_rng(0)
TOKENS, WIDTH, CLASSES = 13, 5, 11
FEATURES = RANDOM.normal(size=(TOKENS, WIDTH)).astype("float32")
KERNEL = RANDOM.normal(size=(WIDTH, CLASSES)).astype("float32")
BIAS = RANDOM.normal(size=(CLASSES,)).astype("float32")
LABELS = RANDOM.integers(0, CLASSES, TOKENS)
LABELS[[3, 7]] = -1
OPTIONS = {
    "plain": {},
    "smoothed": {"label_smoothing": 0.1},
    "z_loss": {"z_loss": 0.05},
    "capped": {"softcap": 2.0},
    "all": {"label_smoothing": 0.2, "z_loss": 0.05, "softcap": 3.0},
}
#: What the values count for: alike, apart, and some for nothing.
SHARES = {
    "mean": np.full(TOKENS, 1 / TOKENS),
    "weighted": RANDOM.uniform(0.0, 2.0, TOKENS),
    "masked": (np.arange(TOKENS) % 3 > 0) / 4.0,
}


def of_logits(
    features, kernel, bias, label_smoothing=0.0, z_loss=0.0, softcap=None
):
    """The same from all of the logits, for the framework to differentiate."""
    logits = ops.matmul(features, kernel) + bias
    if softcap is not None:
        logits = softcap * ops.tanh(logits / softcap)
    lse = ops.logsumexp(logits, axis=-1)
    target = ops.one_hot(np.maximum(LABELS, 0), CLASSES)
    target = (1.0 - label_smoothing) * target + label_smoothing / CLASSES
    values = lse - ops.sum(target * logits, axis=-1) + z_loss * lse**2
    return ops.where(LABELS == -1, 0.0, values)


def expected_values(label_smoothing=0.0, z_loss=0.0, softcap=None):
    """In NumPy, float64."""
    logits = FEATURES.astype("float64") @ KERNEL + BIAS
    if softcap is not None:
        logits = softcap * np.tanh(logits / softcap)
    lse = np.log(np.sum(np.exp(logits), axis=-1))
    at_label = logits[np.arange(TOKENS), np.maximum(LABELS, 0)]
    values = lse - (1 - label_smoothing) * at_label + z_loss * lse**2
    values -= label_smoothing * logits.mean(axis=-1)
    return np.where(LABELS == -1, 0.0, values)


def tensors(*arrays):
    return [ops.convert_to_tensor(array) for array in arrays]


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("chunk_size", [None, 1, 4, 13, 50])
@pytest.mark.parametrize("name", OPTIONS)
def test_values_are_those_of_the_logits(name, chunk_size, jit):
    def function(*arguments):
        return linear_cross_entropy(
            LABELS,
            *arguments,
            ignore_class=-1,
            chunk_size=chunk_size,
            **OPTIONS[name],
        )

    function = compiled(function) if jit else function
    values = function(*tensors(FEATURES, KERNEL, BIAS))
    np.testing.assert_allclose(
        ops.convert_to_numpy(values),
        expected_values(**OPTIONS[name]),
        rtol=1e-5,
        atol=1e-5,
    )


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("name", OPTIONS)
def test_gradients_are_those_of_the_logits(name, share):
    share = ops.convert_to_tensor(SHARES[share].astype("float32"))

    def ours(arguments):
        values = linear_cross_entropy(
            LABELS, *arguments, ignore_class=-1, chunk_size=4, **OPTIONS[name]
        )
        return ops.sum(share * values)

    def theirs(arguments):
        return ops.sum(share * of_logits(*arguments, **OPTIONS[name]))

    arguments = tensors(FEATURES, KERNEL, BIAS)
    found = _backend.input_gradients(ours, arguments)
    for ours_, theirs_ in zip(
        found, _backend.input_gradients(theirs, arguments), strict=True
    ):
        np.testing.assert_allclose(
            ops.convert_to_numpy(ours_),
            ops.convert_to_numpy(theirs_),
            rtol=1e-5,
            atol=1e-5,
        )


def test_a_second_derivative_is_right_or_refused():
    def outer(fn):
        def cubes(arguments):
            return ops.sum(extra.input_gradient(fn, arguments[0]) ** 3)

        (found,) = _backend.input_gradients(cubes, tensors(FEATURES))
        return ops.convert_to_numpy(found)

    def ours(features):
        values = linear_cross_entropy(
            LABELS, features, *tensors(KERNEL, BIAS), ignore_class=-1
        )
        return ops.sum(values)

    if keras.config.backend() == "torch":
        with pytest.raises(RuntimeError, match="Expected a first derivative"):
            outer(ours)
        return
    expected = outer(lambda x: ops.sum(of_logits(x, *tensors(KERNEL, BIAS))))
    np.testing.assert_allclose(outer(ours), expected, rtol=1e-4, atol=1e-5)


def test_variables_are_taken_as_they_are():
    kernel, bias = keras.Variable(KERNEL), keras.Variable(BIAS)

    def total(arguments):
        values = linear_cross_entropy(
            LABELS, arguments[0], kernel, bias, ignore_class=-1
        )
        return ops.sum(values)

    (gradient,) = _backend.input_gradients(total, tensors(FEATURES))
    logits = FEATURES @ KERNEL + BIAS
    share = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    share -= np.eye(CLASSES)[np.maximum(LABELS, 0)]
    share[LABELS == -1] = 0.0
    np.testing.assert_allclose(
        ops.convert_to_numpy(gradient), share @ KERNEL.T, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("shape", [(0,), (1,), (2, 3), (2, 0, 3)])
def test_any_number_of_tokens_in_any_shape(shape):
    labels = np.zeros(shape, "int64")
    features = np.ones((*shape, WIDTH), "float32")

    def total(arguments):
        return ops.sum(linear_cross_entropy(labels, *arguments))

    arguments = tensors(features, KERNEL)
    values = linear_cross_entropy(labels, *arguments)
    logits = KERNEL.sum(axis=0)
    value = np.log(np.exp(logits).sum()) - logits[0]
    np.testing.assert_allclose(
        ops.convert_to_numpy(values), np.full(shape, value), rtol=1e-5
    )
    gradient = _backend.input_gradients(total, arguments)[0]
    assert tuple(gradient.shape) == features.shape
    assert np.isfinite(ops.convert_to_numpy(gradient)).all()


def test_ignored_tokens_add_nothing_whatever_they_are():
    features = np.where(np.arange(TOKENS)[:, None] == 3, np.nan, FEATURES)
    labels = np.full(TOKENS, -1)

    def total(arguments):
        return ops.sum(
            linear_cross_entropy(labels, *arguments, ignore_class=-1)
        )

    arguments = tensors(FEATURES, KERNEL, BIAS)
    assert float(total(arguments)) == 0.0
    for gradient in _backend.input_gradients(total, arguments):
        assert not ops.convert_to_numpy(gradient).any()
    labels = np.where(np.arange(TOKENS) == 3, -1, 2)
    arguments = tensors(features.astype("float32"), KERNEL, BIAS)
    assert np.isfinite(float(total(arguments)))
    for gradient in _backend.input_gradients(total, arguments):
        assert np.isfinite(ops.convert_to_numpy(gradient)).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_sums_in_float32(dtype):
    arguments = [ops.cast(x, dtype) for x in (FEATURES, KERNEL, BIAS)]
    values = linear_cross_entropy(LABELS, *arguments, ignore_class=-1)
    assert keras.backend.standardize_dtype(values.dtype) == "float32"
    np.testing.assert_allclose(
        ops.convert_to_numpy(values), expected_values(), rtol=0.05, atol=0.05
    )

    def total(arguments):
        return ops.sum(
            linear_cross_entropy(LABELS, *arguments, ignore_class=-1)
        )

    for gradient, like in zip(
        _backend.input_gradients(total, arguments), arguments, strict=True
    ):
        assert gradient.dtype == like.dtype
        gradient = ops.convert_to_numpy(ops.cast(gradient, "float32"))
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("arguments", "options", "error", "match"),
    [
        ((FEATURES, KERNEL), {"softcap": 0.0}, ValueError, "`softcap`"),
        ((FEATURES, KERNEL), {"z_loss": -1.0}, ValueError, "`z_loss`"),
        ((FEATURES, KERNEL), {"chunk_size": 0}, ValueError, "`chunk_size`"),
        ((FEATURES, KERNEL), {"label_smoothing": 2.0}, ValueError, "smoothing"),
        ((FEATURES, KERNEL.T), {}, ValueError, "Expected `y_true`.*Received"),
        ((FEATURES[0], KERNEL), {}, ValueError, "Expected `y_true`.*Received"),
        ((FEATURES[1:], KERNEL), {}, ValueError, "Expected `y_true`.*Received"),
        ((FEATURES, KERNEL, BIAS[1:]), {}, ValueError, "`bias`.*Received"),
        (
            (FEATURES, KERNEL, np.zeros((TOKENS, CLASSES), "float32")),
            {},
            ValueError,
            "`bias`.*Received",
        ),
    ],
)
def test_what_does_not_fit_is_refused(arguments, options, error, match):
    with pytest.raises(error, match=match):
        linear_cross_entropy(
            np.zeros(TOKENS, "int32"), *tensors(*arguments), **options
        )


def test_class_probabilities_are_refused_by_name():
    with pytest.raises(TypeError, match="integer labels.*float32"):
        linear_cross_entropy(
            np.ones((TOKENS, CLASSES), "float32"), FEATURES, KERNEL
        )
