"""The two solvers of small quadratic programs, against each other."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from keras_losskit.weighting import _quadratic

DTYPES = ["float32", "float64"]
# JAX also compiles every operation anew for every number of terms.
TERMS = [2, 3, 4, 5, 6, 7, 8]
if keras.config.backend() == "jax":
    DTYPES = ["float32"]
    TERMS = [2, 3, 8]
SOLVERS = [_quadratic.minimum_by_support, _quadratic.minimum_by_newton]


@pytest.mark.parametrize("solver", SOLVERS)
@given(
    seed=st.integers(0, 2**31),
    terms=st.sampled_from(TERMS),
    rank=st.integers(1, 8),
    dtype=st.sampled_from(DTYPES),
)
def test_minimum_fulfils_its_conditions(solver, seed, terms, rank, dtype):
    random = np.random.default_rng(seed)
    units = random.normal(size=(terms, rank))
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    matrix = units @ units.T
    # The linear part lies in the span: otherwise there may be no minimum.
    linear = random.normal(size=(3, rank)) @ units.T
    found = solver(ops.array(matrix, dtype), ops.array(linear, dtype))
    found = ops.convert_to_numpy(found).astype("float64")
    assert (found >= 0.0).all()
    slack = found @ matrix + linear
    tolerance = {"float32": 3e-3, "float64": 1e-6}[dtype]
    size = 1.0 + np.abs(found).max() + np.abs(linear).max()
    assert np.abs(np.minimum(found, slack)).max() <= tolerance * size


def test_many_unknowns_go_to_the_interior_point_method():
    random = np.random.default_rng(0)
    units = random.normal(size=(12, 6))
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    matrix = ops.array(units @ units.T, "float32")
    found = _quadratic.nonnegative_minimum(matrix, matrix)
    slack = ops.convert_to_numpy(found @ matrix + matrix)
    found = ops.convert_to_numpy(found)
    assert found.shape == (12, 12)
    assert np.abs(np.minimum(found, slack)).max() < 3e-3


def test_a_given_sum_is_kept():
    normal = ops.array([1.0, 0.5, 0.25])
    found = _quadratic.minimum_by_newton(
        ops.eye(3), ops.zeros((2, 3)), normal, ops.array([1.0, 100.0])
    )
    sums = ops.convert_to_numpy(ops.sum(found * normal, axis=-1))
    np.testing.assert_allclose(sums, [1.0, 100.0], rtol=1e-4)
