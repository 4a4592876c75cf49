"""`evaluate`: from any loss to a reduced scalar."""

import warnings

import keras
import numpy as np
import pytest
from keras import ops
from keras.src.backend.common.masking import set_keras_mask
from support.autodiff import value_and_gradient

from keras_losskit import losses
from keras_losskit.losses._core import values as values_lib

ZEROS = np.zeros((4, 1), "float32")
COLUMN = np.array([[1.0], [2.0], [3.0], [4.0]], "float32")


@pytest.fixture(autouse=True)
def fresh_warnings():
    values_lib._warned.clear()


class Square(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return ops.square(y_true - y_pred)


def with_mask(x, mask):
    x = ops.convert_to_tensor(x)
    set_keras_mask(x, ops.convert_to_tensor(np.array(mask, "bool")))
    return x


@pytest.mark.parametrize(
    "loss",
    [Square(), losses.MeanSquaredError(), "mse"],
    ids=["user", "ours", "name"],
)
def test_honours_mask_and_weight(loss):
    loss = losses.get(loss)
    y_pred = with_mask(COLUMN, [1, 0, 1, 1])
    # weights 1 9 2 0 on squares 1 4 9 16: (1 + 18 + 0) / 3 valid
    value = losses.evaluate(loss, ZEROS, y_pred, [1.0, 9.0, 2.0, 0.0])
    assert float(value) == pytest.approx(19 / 3)


def test_honours_a_mask_on_the_values():
    loss = losses.SparseCategoricalCrossentropy(ignore_class=-1)
    y_pred = np.full((3, 2), 0.5, "float32")
    value = losses.evaluate(loss, np.array([0, -1, 1]), y_pred)
    assert float(value) == pytest.approx(np.log(2), rel=1e-5)
    # joined with a mask on the prediction
    value = losses.evaluate(
        loss, np.array([0, -1, 1]), with_mask(y_pred, [0, 1, 1])
    )
    assert float(value) == pytest.approx(np.log(2), rel=1e-5)


@pytest.mark.parametrize("loss", [Square(), losses.MeanSquaredError()])
def test_inputs_are_never_written_to(loss):
    # Keras on PyTorch: 0.5, 1.0, 2.0 and so on, the weights being multiplied
    weight = np.ones(4, "float32")
    tensor = ops.convert_to_tensor(np.ones(4, "float32"))
    for given in (weight, tensor):
        y_pred = with_mask(COLUMN, [1, 1, 0, 0])
        values = {
            float(losses.evaluate(loss, ZEROS, y_pred, given)) for _ in range(3)
        }
        assert values == {2.5}
        np.testing.assert_array_equal(ops.convert_to_numpy(given), 1.0)


class CallsItself(keras.losses.Loss):
    """Overrides `__call__`, as some of the losses that users write."""

    def __call__(self, y_true, y_pred, sample_weight=None):
        if sample_weight is not None:
            sample_weight *= 2.0
        return super().__call__(y_true, y_pred, sample_weight) + 1.0

    def call(self, y_true, y_pred):
        return ops.square(y_true - y_pred)


def test_calls_a_loss_that_overrides_call_as_it_is():
    weight = np.ones((4, 1), "float32")
    # 2 * 7.5 + 1
    assert float(losses.evaluate(CallsItself(), ZEROS, COLUMN, weight)) == 16.0
    np.testing.assert_array_equal(weight, 1.0)
    assert (
        float((0.5 * losses.MeanSquaredError() + CallsItself())(ZEROS, COLUMN))
        == 0.5 * 7.5 + 8.5
    )


class Doubled(losses.MeanSquaredError):
    def __call__(self, y_true, y_pred, sample_weight=None):
        return 2.0 * super().__call__(y_true, y_pred, sample_weight)


def test_a_subclass_of_ours_that_overrides_call_is_called():
    assert float(losses.evaluate(Doubled(), ZEROS, COLUMN)) == 15.0
    assert float((Doubled(name="d") * 3)(ZEROS, COLUMN)) == 45.0
    assert float((Doubled(weight=0.5) * 3)(ZEROS, COLUMN)) == 22.5


def scalar(y_true, y_pred):
    return ops.mean(ops.square(ops.cast(y_true, y_pred.dtype) - y_pred))


def test_a_scalar_beside_weights_is_warned_of_once():
    loss = losses.FunctionLoss(scalar)
    with pytest.warns(UserWarning, match="'scalar' returns one scalar"):
        value = losses.evaluate(loss, ZEROS, COLUMN, [1.0, 1.0, 1.0, 3.0])
    # 7.5 times the mean weight, 1.5
    assert float(value) == pytest.approx(11.25)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        losses.evaluate(loss, ZEROS, COLUMN, [1.0, 1.0, 1.0, 3.0])
        losses.evaluate(loss, ZEROS, COLUMN, 2.0)
        losses.evaluate(losses.FunctionLoss(scalar, name="b"), ZEROS, COLUMN)


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (lambda a, b: ops.cast(b, "int32"), "floating point.*int32"),
        (lambda a, b: None, "return a tensor.*NoneType"),
        (lambda a, b: {"x": b}, "tensor.*dict.*Components"),
    ],
)
def test_refuses_values_that_are_none(fn, message):
    loss = losses.FunctionLoss(fn, name="odd")
    with pytest.raises(ValueError, match=f"(?s)'odd'.*{message}"):
        losses.evaluate(loss, ZEROS, COLUMN)


def test_a_python_number_is_a_constant():
    loss = losses.FunctionLoss(lambda a, b: 3, name="odd")
    value = losses.evaluate(loss, ZEROS, COLUMN)
    assert keras.backend.is_float_dtype(value.dtype)
    assert float(value) == 3.0


def test_an_outer_product_is_refused():
    with pytest.raises(ValueError, match=r"\(4,\).*\(4, 1\).*\(4, 4\)"):
        losses.evaluate(Square(), ZEROS[:, 0], COLUMN)
    # A function gets one rank for both.
    difference = losses.FunctionLoss(lambda a, b: ops.square(a - b))
    assert float(losses.evaluate(difference, ZEROS[:, 0], COLUMN)) == 7.5


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_widened(dtype):
    y_pred = ops.cast(ops.full((4, 1), 300.0), dtype)
    value = losses.evaluate(losses.get("mse"), ZEROS, y_pred)
    assert keras.backend.standardize_dtype(value.dtype) == "float32"
    assert float(value) == 90000.0
    half = losses.MeanAbsoluteError(dtype=dtype, reduction="sum")
    big = ops.full((40, 1), 4000.0)
    value = losses.evaluate(half, ops.zeros((40, 1)), big)
    assert float(value) == pytest.approx(160000.0, rel=1e-2)


def test_gradient_equals_keras():
    ours, theirs = losses.Huber(delta=2.0), keras.losses.Huber(delta=2.0)
    _, got = value_and_gradient(lambda x: ours(ZEROS, x), COLUMN)
    _, want = value_and_gradient(lambda x: theirs(ZEROS, x), COLUMN)
    np.testing.assert_allclose(got, want, rtol=1e-6)
    assert np.abs(want).max() > 0.1


@pytest.mark.parametrize("shape", [(0, 3), (1, 3)])
def test_empty_and_single_batches(shape):
    values = np.ones(shape, "float32")
    for name in ("mse", "mae", "binary_crossentropy", "kl_divergence"):
        value = float(losses.evaluate(losses.get(name), values, values))
        assert np.isfinite(value)
        assert shape[0] or value == 0.0
