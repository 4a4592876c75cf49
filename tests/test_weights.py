import json
import math
from decimal import Decimal
from fractions import Fraction

import keras
import numpy as np
import pytest
from keras import ops
from support.frameworks import variable_gradients

from keras_losskit import _weights
from keras_losskit import schedules
from keras_losskit._weights import check_weight
from keras_losskit._weights import deserialize_weight
from keras_losskit._weights import multiply_weights
from keras_losskit._weights import serialize_weight
from keras_losskit._weights import weight_value
from keras_losskit._weights import weight_variables


@pytest.mark.parametrize(
    "number",
    [
        2,
        2.0,
        Fraction(4, 2),
        np.float32(2),
        np.float16(2),
        np.int64(2),
        np.array(2.0),
        np.array(2),
    ],
    ids=lambda n: type(n).__name__,
)
def test_numbers_become_floats(number):
    weight = check_weight(number, name="mse")
    assert type(weight) is float
    assert weight == 2.0
    assert type(weight_value(weight, 0, 0)) is float


@pytest.mark.parametrize(
    "weight",
    [
        True,
        np.bool_(True),
        np.array(True),
        "0.5",
        None,
        1j,
        Decimal("0.5"),
        [1.0],
        np.array([1.0]),
        lambda step, epoch: 1.0,
        schedules.Linear,
    ],
    ids=lambda weight: type(weight).__name__,
)
def test_what_is_no_weight_is_refused_by_name(weight):
    with pytest.raises(TypeError, match="term 'mse'.*Received"):
        check_weight(weight, name="mse")


@pytest.mark.parametrize("weight", [math.nan, math.inf, -np.inf, 10**400])
def test_what_is_not_finite_is_refused_by_name(weight):
    with pytest.raises(ValueError, match="term 'mse'.*finite.*Received"):
        check_weight(weight, name="mse")


def test_a_tensor_is_refused_with_the_way_out():
    with pytest.raises(TypeError, match="never change.*keras.Variable"):
        check_weight(ops.ones(()), name="mse")


def test_a_function_is_refused_with_the_way_out():
    with pytest.raises(TypeError, match="subclass of .*Schedule"):
        check_weight(lambda step, epoch: 1.0, name="mse")


@pytest.mark.parametrize(
    "variable",
    [
        lambda: keras.Variable([1.0, 2.0]),
        lambda: keras.Variable(True, dtype="bool", trainable=False),
    ],
)
def test_a_variable_that_is_no_scalar_number_is_refused(variable):
    with pytest.raises(ValueError, match="term 'mse'.*scalar.*Received"):
        check_weight(variable(), name="mse")


def test_negative_and_zero_weights_are_weights():
    assert check_weight(-1, name="mse") == -1.0
    assert check_weight(0, name="mse") == 0.0


def test_a_variable_follows_what_is_assigned():
    variable = check_weight(keras.Variable(1.0), name="mse")
    assert float(weight_value(variable, 0, 0)) == 1.0
    variable.assign(10.0)
    assert float(weight_value(variable, 0, 0)) == 10.0


@pytest.mark.parametrize(
    "dtype, expected",
    [
        ("float16", "float32"),
        ("bfloat16", "float32"),
        ("float32", "float32"),
        ("int32", "float32"),
    ],
)
def test_a_variable_is_read_in_float32_at_least(dtype, expected):
    variable = keras.Variable(2, dtype=dtype, trainable=False)
    value = weight_value(variable, 0, 0)
    assert keras.backend.standardize_dtype(value.dtype) == expected
    assert float(value) == 2.0


def test_a_variable_is_a_constant_of_the_gradient():
    variable = keras.Variable(3.0)

    # d(weight * variable) / d(variable) is the weight, not twice the value.
    def contribution():
        return weight_value(variable, 0, 0) * variable.value

    (gradient,) = variable_gradients(contribution, [variable])
    assert float(gradient) == 3.0


def test_learning_rate_schedule_is_read_by_step():
    decay = keras.optimizers.schedules.ExponentialDecay(1.0, 1, 0.5)
    weight = check_weight(decay, name="mse")
    assert float(weight_value(weight, step=3, epoch=0)) == 0.125


def test_a_schedule_is_known_by_its_attribute():
    class Own:
        is_schedule = True

        def __call__(self, step, epoch):
            return ops.cast(step, "float32")

    own = Own()
    assert check_weight(own, name="mse") is own
    assert float(weight_value(own, 3, 0)) == 3.0
    assert weight_variables(own) == []


def test_only_numbers_do_not_move():
    assert not _weights.moves(0.5)
    assert _weights.moves(keras.Variable(0.5))
    assert _weights.moves(schedules.Linear(0.0, 1.0, steps=3))
    assert _weights.moves(multiply_weights(0.5, keras.Variable(0.5)))


def test_product_of_numbers_is_a_number():
    product = multiply_weights(0.5, 3.0)
    assert type(product) is float
    assert product == 1.5
    with pytest.raises(ValueError, match="product.*finite"):
        multiply_weights(1e200, 1e200)


def test_factor_one_leaves_the_other_weight():
    variable = keras.Variable(1.0)
    assert multiply_weights(1.0, variable) is variable
    assert multiply_weights(variable, 1.0) is variable


def test_product_follows_every_factor():
    variable = keras.Variable(2.0, name="beta")
    warm_up = schedules.Linear(0.0, 1.0, steps=4)
    product = multiply_weights(0.5, multiply_weights(variable, warm_up))
    # 0.5 * 2 * 3/4
    assert float(weight_value(product, 3, 0)) == 0.75
    variable.assign(20.0)
    assert float(weight_value(product, 3, 0)) == 7.5
    assert repr(product) == "0.5 * beta * Linear(0.0, 1.0, steps=4)"
    assert weight_variables(product) == [variable]
    assert check_weight(product, name="mse") is product


def test_product_gathers_its_numbers():
    variable = keras.Variable(2.0, name="beta")
    product = multiply_weights(
        multiply_weights(2.0, variable), multiply_weights(3.0, variable)
    )
    assert repr(product) == "6.0 * beta * beta"
    assert float(weight_value(product, 0, 0)) == 24.0
    # One variable in two factors is one variable to track.
    assert len(weight_variables(product)) == 1


@pytest.mark.parametrize(
    "dtype, trainable",
    [
        ("float32", True),
        ("float32", False),
        ("float16", True),
        ("bfloat16", True),
        ("int32", False),
    ],
)
def test_a_variable_is_saved_and_comes_back(dtype, trainable):
    variable = keras.Variable(3, dtype=dtype, trainable=trainable, name="beta")
    variable.assign(5)
    config = json.loads(json.dumps(serialize_weight(variable)))
    again = deserialize_weight(config)
    assert isinstance(again, keras.Variable)
    assert again is not variable
    assert (again.name, again.dtype, again.trainable) == (
        "beta",
        dtype,
        trainable,
    )
    assert float(again) == 5.0


@pytest.mark.parametrize(
    "make",
    [
        lambda: 0.5,
        lambda: schedules.Linear(0.0, 1.0, epochs=5),
        lambda: multiply_weights(
            0.5,
            multiply_weights(
                keras.Variable(3.0, name="beta"),
                schedules.Cyclical(steps=8, cycles=2),
            ),
        ),
    ],
)
def test_config_gives_back_the_same_weight(make):
    weight = make()
    config = json.loads(json.dumps(serialize_weight(weight)))
    again = deserialize_weight(config)
    assert _weights.weight_repr(again) == _weights.weight_repr(weight)
    for step, epoch in [(0, 0), (1, 2), (9, 9)]:
        assert float(weight_value(again, step, epoch)) == float(
            weight_value(weight, step, epoch)
        )
