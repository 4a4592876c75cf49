"""Reductions against formulas in NumPy."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops
from keras.src.backend.common.masking import set_keras_mask
from support.autodiff import value_and_gradient

from keras_losskit import reductions

SEED = np.random.default_rng(0)
VALUES = SEED.normal(size=(4, 3)).astype("float32")
WEIGHTS = SEED.uniform(0.5, 2.0, (4, 3)).astype("float32")
MASK = np.array([[1, 0, 1], [1, 1, 1], [0, 0, 0], [0, 1, 1]], "bool")
NAMES = ["sum_over_batch_size", "mean", "mean_with_sample_weight", "sum"]


def expected(name, values, weight=None, mask=None):
    """The definition: `mask` and `weight` of the shape of `values`."""
    valid = np.ones(values.shape) if mask is None else mask.astype(float)
    weighted = values * valid * (1.0 if weight is None else weight)
    if name == "sum":
        return weighted.sum()
    if name == "mean_with_sample_weight" and weight is not None:
        return weighted.sum() / (weight * valid).sum()
    return weighted.sum() / valid.sum()


def reduce(name, *args, **kwargs):
    return float(reductions.get(name)(*args, **kwargs))


@pytest.mark.parametrize("mask", [None, MASK], ids=["plain", "masked"])
@pytest.mark.parametrize("weight", [None, WEIGHTS], ids=["even", "weighted"])
@pytest.mark.parametrize("name", NAMES)
def test_equals_its_definition(name, weight, mask):
    assert reduce(name, VALUES, weight, mask) == pytest.approx(
        expected(name, VALUES, weight, mask), rel=1e-5
    )


@pytest.mark.parametrize("name", NAMES)
@given(
    rows=st.integers(1, 5),
    columns=st.integers(1, 5),
    weighted=st.booleans(),
    masked=st.booleans(),
    seed=st.integers(0, 99),
)
def test_equals_keras(name, rows, columns, weighted, masked, seed):
    rng = np.random.default_rng(seed)
    y_pred = rng.normal(size=(rows, columns)).astype("float32")
    y_true = np.zeros_like(y_pred)
    weight = rng.uniform(0, 2, (rows, columns)).astype("float32")
    mask = rng.uniform(size=(rows, columns)) > 0.3
    plain = Squares(reduction=name)
    tensor = ops.convert_to_tensor(y_pred)
    if masked:
        set_keras_mask(tensor, ops.convert_to_tensor(mask))
    theirs = plain(y_true, tensor, weight.copy() if weighted else None)
    ours = reduce(
        name,
        y_pred**2,
        weight if weighted else None,
        mask if masked else None,
    )
    assert ours == pytest.approx(float(theirs), rel=1e-5, abs=1e-6)


class Squares(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return ops.square(y_pred - y_true)


@pytest.mark.parametrize("name", ["none", None])
def test_none_weights_and_masks_but_does_not_reduce(name):
    result = reductions.get(name)(VALUES, WEIGHTS, MASK)
    np.testing.assert_allclose(result, VALUES * WEIGHTS * MASK, rtol=1e-6)
    assert reductions.is_unreduced(name)
    assert not reductions.is_unreduced("sum")


@pytest.mark.parametrize("name", ["mean", "sum", "sum_over_batch_size"])
@pytest.mark.parametrize("mask", [None, MASK], ids=["plain", "masked"])
def test_a_weight_per_sample_serves_all_its_steps(name, mask):
    per_sample = WEIGHTS[:, 0]
    full = np.repeat(per_sample[:, None], 3, axis=1)
    want = expected(name, VALUES, full, mask)
    assert reduce(name, VALUES, per_sample, mask) == pytest.approx(want, 1e-5)
    column = per_sample[:, None]
    assert reduce(name, VALUES, column, mask) == pytest.approx(want, 1e-5)


def test_a_weight_per_sample_counts_once_in_the_divisor():
    # (1*(1+2) + 3*(3+5)) / (1 + 3) = 6.75
    value = reduce(
        "mean_with_sample_weight", [[1.0, 2.0], [3.0, 5.0]], [1.0, 3.0]
    )
    assert value == 6.75


def test_a_mask_per_sample_masks_all_its_steps():
    mask = np.array([1, 0, 1, 1], "bool")
    want = VALUES[mask].mean()
    assert reduce("mean", VALUES, mask=mask) == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize("shapes", [((4,), (4, 1)), ((4, 1), (4,))])
def test_a_trailing_one_never_makes_a_square(shapes):
    values, weights = np.arange(4.0), np.array([1.0, 2.0, 3.0, 4.0])
    # 0*1 + 1*2 + 2*3 + 3*4 = 20
    value = reduce("sum", values.reshape(shapes[0]), weights.reshape(shapes[1]))
    assert value == 20.0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(3,), (4, 2), (4, 3, 2), (2, 3)])
def test_refuses_weights_that_do_not_fit(name, shape):
    with pytest.raises(ValueError, match="Received: sample_weight.shape="):
        reduce(name, VALUES, np.ones(shape))
    with pytest.raises(ValueError, match="Received: mask.shape="):
        reduce(name, VALUES, None, np.ones(shape))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", ["mask", "weight", "both", "empty"])
def test_nothing_left_gives_zero_and_no_gradient(name, case):
    values = np.zeros((0,)) if case == "empty" else VALUES
    weight = np.zeros_like(VALUES) if case in ("weight", "both") else None
    mask = np.zeros_like(VALUES) if case in ("mask", "both") else None

    def fn(x):
        return reductions.get(name)(x, weight, mask)

    value, gradient = value_and_gradient(fn, values)
    assert value.shape == ()
    assert value == 0.0
    np.testing.assert_array_equal(gradient, np.zeros_like(values))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", NAMES)
def test_what_is_left_out_may_be_anything(name, bad):
    # The last value is left out by mask or weight: 1 + 2 of 2 or 3 values.
    values = np.array([1.0, 2.0, bad])
    for weight, mask in [(None, [1, 1, 0]), ([1.0, 1.0, 0.0], None)]:
        want = expected(
            name,
            np.array([1.0, 2.0, 0.0]),
            None if weight is None else np.array(weight),
            None if mask is None else np.array(mask),
        )
        assert reduce(name, values, weight, mask) == pytest.approx(want)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sums_half_precision_in_float32(dtype):
    # The sum, 160000, is over float16's largest number, 65504.
    values = ops.cast(ops.full((40,), 4000.0), dtype)
    for name, want in [("sum", 160000.0), ("mean", 4000.0)]:
        result = reductions.get(name)(values)
        assert keras.backend.standardize_dtype(result.dtype) == "float32"
        assert float(result) == pytest.approx(want, rel=1e-2)


@pytest.mark.skipif(
    keras.config.backend() == "jax", reason="JAX has no float64 by default"
)
def test_float64_stays():
    result = reductions.get("mean")(np.array([1.0, 2.0 + 1e-12]))
    assert keras.backend.standardize_dtype(result.dtype) == "float64"
    assert float(result) - 1.5 == pytest.approx(5e-13, rel=1e-2)


@pytest.mark.parametrize("name", NAMES + [None])
def test_inputs_are_never_written_to(name):
    values, weight = VALUES.copy(), WEIGHTS.copy()
    mask = MASK.copy()
    tensors = [ops.convert_to_tensor(x) for x in (values, weight, mask)]
    first = ops.convert_to_numpy(reductions.get(name)(*tensors))
    second = ops.convert_to_numpy(reductions.get(name)(*tensors))
    np.testing.assert_array_equal(first, second)
    for tensor, original in zip(tensors, (VALUES, WEIGHTS, MASK), strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(tensor), original)


def test_a_scalar_is_multiplied_by_the_mean_weight():
    # 2 * (1 + 3) / 2 = 4; the sum of weights divides out to 2
    assert reduce("mean", 2.0, [1.0, 3.0]) == 4.0
    assert reduce("sum", 2.0, [1.0, 3.0]) == 8.0
    assert reduce("mean_with_sample_weight", 2.0, [1.0, 3.0]) == 2.0
    assert reduce("mean", 2.0) == 2.0


@pytest.mark.skipif(
    keras.config.backend() != "tensorflow", reason="tf.distribute"
)
@pytest.mark.parametrize("name", NAMES)
def test_means_are_shared_among_replicas(name):
    import tensorflow as tf

    alone = reduce(name, VALUES)

    class Two:
        num_replicas_in_sync = 2

    original = tf.distribute.get_strategy, tf.distribute.get_replica_context
    tf.distribute.get_strategy = Two
    # Outside of a replica, where all of them are taken to be alike.
    tf.distribute.get_replica_context = lambda: None
    try:
        shared = reduce(name, VALUES)
        scalar = reduce(name, 2.0)
    finally:
        tf.distribute.get_strategy, tf.distribute.get_replica_context = original
    factor = 1.0 if name == "sum" else 0.5
    assert shared == pytest.approx(alone * factor)
    assert scalar == pytest.approx(2.0 * factor)


def largest(values, sample_weight, mask):
    return ops.max(values)


def test_a_function_of_ones_own():
    assert reductions.get(largest) is largest


@pytest.mark.parametrize("bad", ["abc", 3, 1.5, reductions.Reduction])
def test_refuses_what_is_no_reduction(bad):
    with pytest.raises(ValueError, match="Received: reduction="):
        reductions.get(bad)


@keras.saving.register_keras_serializable("test_reductions")
class Power(reductions.Reduction):
    def __init__(self, *, exponent):
        self.exponent = exponent

    def settings(self):
        return {"exponent": self.exponent}


def test_a_reduction_of_ones_own_serializes():
    revived = reductions.get(reductions.serialize(Power(exponent=3)))
    assert revived == Power(exponent=3)
    assert revived != Power(exponent=2)
    assert repr(revived) == "Power(exponent=3)"
    assert reductions.serialize("mean") == "mean"
    assert reductions.serialize(None) is None


def test_a_config_from_the_future_is_refused_by_name():
    config = {"exponent": 3, "version": 2}
    with pytest.raises(ValueError, match="`Power`.*version=2"):
        Power.from_config(config)
