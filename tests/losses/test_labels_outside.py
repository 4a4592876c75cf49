"""Labels from outside of a function that a framework compiles.

Inside it they are still known, and operations over them are not.
"""

import keras
import numpy as np
import pytest
from keras import ops

import keras_losskit as losskit
from keras_losskit import _backend
from keras_losskit import _keras
from keras_losskit import losses

LABELS = np.array([0, 2, 1, 2])
SCORES = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
LOSSES = {
    "linear": lambda labels, x: losses.linear_cross_entropy(
        labels, x, ops.eye(3)
    ),
    "sparse": losses.SparseCategoricalCrossentropy(from_logits=True),
    "generalized": losses.GeneralizedDice(from_logits=True),
    "lovasz": losses.LovaszSoftmax(from_logits=True),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_compiled_function_may_close_over_labels(name):
    labels = ops.convert_to_tensor(LABELS)
    loss = LOSSES[name]
    expected = ops.convert_to_numpy(loss(labels, ops.convert_to_tensor(SCORES)))

    def function(x):
        return ops.convert_to_tensor(loss(labels, x))

    compiled = _backend.compiled(function, [ops.zeros((4, 3))], batch=False)
    found = compiled(ops.convert_to_tensor(SCORES))
    np.testing.assert_allclose(ops.convert_to_numpy(found), expected, rtol=1e-5)


def test_and_over_masks_and_weights():
    """What counts is asked of a flag that comes from outside too."""
    mask = ops.convert_to_tensor([True, True, False, True])
    weights = ops.convert_to_tensor(np.float32([1.0, 0.0, 2.0, 1.0]))
    targets = ops.convert_to_tensor(SCORES[:, :1])
    loss = losskit.losses.MeanSquaredError()

    def function(x):
        x = 1.0 * x
        _keras.set_keras_mask(x, mask)
        return loss(targets, x, sample_weight=weights)

    inputs = ops.convert_to_tensor(SCORES[:, 1:2])
    eager = keras.losses.MeanSquaredError()
    expected = ops.mean(
        ops.where(
            mask,
            eager.call(targets, inputs) * weights,
            0.0,
        )
    )
    compiled = _backend.compiled(function, [ops.zeros((4, 1))], batch=False)
    found = compiled(inputs)
    ratio = float(found) / float(expected)
    # Keras' mean over what a mask leaves, of all samples
    assert ratio == pytest.approx(4 / 3)


NO_CLASSES = {
    "sparse": losses.SparseCategoricalCrossentropy(from_logits=True),
    "focal": losses.SparseCategoricalFocalCrossentropy(from_logits=True),
    "linear": losses.LinearCrossEntropy("head"),
    "linear, of features": lambda labels, x: ops.mean(
        losses.linear_cross_entropy(labels, x, ops.eye(3))
    ),
}


@pytest.mark.parametrize("name", NO_CLASSES)
@pytest.mark.parametrize("label", [-1, -3, 3, 7])
def test_a_label_that_is_no_class_is_not_taken_for_another(
    name, label, monkeypatch
):
    """As in Keras on JAX, it adds 0 where nobody can refuse it."""
    # As on an accelerator, and in a step that is compiled.
    monkeypatch.setattr(_backend, "is_concrete_on_cpu", lambda _: False)
    if _backend.CHECKS_INDICES and (label > 0 or name == "sparse"):
        pytest.skip("refused by the framework, or the loss is the framework's")
    loss = NO_CLASSES[name]
    labels = np.array([0, 2, label, 2])
    known = np.array([True, True, False, True])

    def found(scores, labels):
        def function(x, y):
            def total(inputs):
                return ops.convert_to_tensor(loss(y, *inputs))

            return total([x]), _backend.input_gradients(total, [x])[0]

        arguments = [*map(ops.convert_to_tensor, (scores, labels))]
        return _backend.compiled(function, arguments, batch=False)(*arguments)

    value, gradient = found(SCORES, labels)
    expected, of_known = found(SCORES[known], labels[known])
    np.testing.assert_allclose(value, 0.75 * expected, rtol=1e-5)
    np.testing.assert_allclose(gradient[known], 0.75 * of_known, rtol=1e-5)
    np.testing.assert_array_equal(gradient[2], 0.0)
