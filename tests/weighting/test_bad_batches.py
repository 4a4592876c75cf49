"""A batch whose statistic is not finite, or a hair below 0."""

import math

import keras
import numpy as np
import pytest
from keras import ops
from support.frameworks import compiled_with_state
from support.frameworks import variable_gradients
from support.weightings import OF_TERMS

import keras_losskit as losskit
from keras_losskit import weighting

METHODS = [
    name for name in OF_TERMS if name not in ("Weighting", "GradientWeighting")
]
OVER_GRADIENTS = [
    name for name in METHODS if getattr(weighting, name).statistic == "gramian"
]
#: A step is finite, whatever the batch.
OVER_THE_BATCH = [
    name for name in METHODS if getattr(weighting, name).statistic != "step"
]
BAD = [math.nan, math.inf, -math.inf]


def make(name, **options):
    method = getattr(weighting, name)(**options)
    method.build(3)
    return method


def good(method, step):
    random = np.random.default_rng(step)
    if method.statistic != "gramian":
        return random.uniform(0.5, 2.0, 3)
    jacobian = random.normal(size=(3, 5))
    return jacobian @ jacobian.T


def ask(method, statistic, training=True, values=(1.0, 2.0, 3.0)):
    more = {}
    if method.takes_values:
        more["values"] = ops.array(values, "float32")
    weights = method(ops.array(statistic, "float32"), training, **more)
    return ops.convert_to_numpy(weights)


def state_of(method):
    return [ops.convert_to_numpy(v.value).copy() for v in method.variables]


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("when", [0, 3])
@pytest.mark.parametrize("name", OVER_THE_BATCH)
def test_a_bad_batch_leaves_the_state_as_it_was(name, when, bad):
    options = {"every": 2} if name in OVER_GRADIENTS else {}
    method = make(name, **options)
    for step in range(when):
        ask(method, good(method, step))
        method.on_epoch_end()
    before = state_of(method)
    statistic = np.array(good(method, 9))
    statistic[..., 1] = bad
    ask(method, statistic)
    if method.takes_values:
        ask(method, good(method, 9), values=(1.0, bad, 3.0))
    for value, expected in zip(state_of(method), before, strict=True):
        np.testing.assert_array_equal(value, expected)
    assert np.isfinite(ask(method, good(method, 10))).all()


class Mean(weighting.Weighting):
    """A method of the user's own, which takes no precautions."""

    def build(self, num_terms):
        super().build(num_terms)
        self.total = self.add_state("total")

    def weigh(self, values, training):
        if training:
            self.total.assign_add(values)
        return 1.0 / ops.convert_to_tensor(self.total)


def test_a_method_of_the_users_own_need_not_look_out():
    method = Mean()
    ask(method, [1.0, 2.0])
    compiled = compiled_with_state(
        lambda values: method(values, training=True), method.variables
    )
    compiled(ops.array([math.nan, 1.0]))
    compiled(ops.array([1.0, 2.0]))
    np.testing.assert_allclose(state_of(method), [[2.0, 4.0]])


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("name", ["Uncertainty", "IMTLLoss"])
def test_a_bad_batch_teaches_a_learned_weight_nothing(name, bad):
    method = make(name)
    (variable,) = method.trainable_variables
    values = ops.array([1.0, bad, 3.0], "float32")

    def total():
        weighted = ops.sum(method(values, training=True) * values)
        return weighted + method.extra_loss(values)

    (gradient,) = variable_gradients(total, [variable])
    np.testing.assert_array_equal(gradient, np.zeros(3))


def test_training_goes_on_after_a_bad_batch():
    x = np.ones((8, 2), "float32")
    y = {"a": np.ones((8, 1), "float32"), "b": np.zeros((8, 1), "float32")}
    inputs = keras.Input((2,))
    outputs = {n: keras.layers.Dense(1, name=n)(inputs) for n in "ab"}
    model = losskit.Model(inputs, outputs)
    method = weighting.ReLoBRaLo()
    loss = losskit.LossesContainer("mse", weighting=method)
    model.compile(keras.optimizers.SGD(0.0), loss)
    broken = {"a": np.nan * y["a"], "b": y["b"]}
    model.fit(x, broken, verbose=0)
    before = state_of(model.compiled_loss.weighting)
    np.testing.assert_array_equal(before[2], [1.0, 1.0])


# ---------------------------------------------------------------- the Gramian


@pytest.mark.parametrize(
    "terms",
    [
        2,
        *(
            pytest.param(n, marks=pytest.mark.nightly("jax", "tensorflow"))
            for n in (3, 9)
        ),
    ],
)
@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("name", OVER_GRADIENTS)
def test_a_gramian_that_is_not_finite_is_one_of_zeros(name, bad, terms):
    if terms == 9 and not np.isnan(bad):
        pytest.skip("one is enough where compiling takes long")
    methods = [getattr(weighting, name)() for _ in range(3)]
    for method in methods:
        method.build(terms)
    eager, compiled, zeros = methods
    statistic = np.eye(terms, dtype="float32")
    statistic[0, 1] = statistic[1, 0] = bad
    values = np.ones(terms)
    expected = ask(zeros, 0.0 * np.eye(terms), values=values)
    assert np.isfinite(expected).all()
    np.testing.assert_array_equal(
        ask(eager, statistic, values=values), expected
    )
    more = {"values": ops.ones(terms)} if eager.takes_values else {}
    weights = compiled_with_state(
        lambda statistic, **more: compiled(statistic, training=True, **more),
        compiled.variables,
        xla=False,
    )(ops.array(statistic), **more)
    np.testing.assert_allclose(ops.convert_to_numpy(weights), expected)


# -------------------------------------------------------------- a hair below 0


@pytest.mark.parametrize("hair", [-8e-8, -5e-7])
def test_a_hair_below_zero_is_zero_to_a_geometric_mean(hair):
    method = weighting.GeometricMean()
    actual = ask(method, [2.0, hair, 8.0])
    np.testing.assert_array_equal(actual, ask(method, [2.0, 0.0, 8.0]))
    assert np.isnan(ask(method, [2.0, -1e-4, 8.0])).any()


def test_a_hair_below_zero_is_zero_to_imtl():
    method = make("IMTLLoss")
    method.log_scale.assign([1.0, 2.0, 3.0])
    # -(1 + 3)
    assert float(method.extra_loss(ops.array([2.0, -8e-8, 8.0]))) == -4.0
    # One that is really negative counts, as it always did.
    assert float(method.extra_loss(ops.array([2.0, -1e-4, 8.0]))) == -6.0
