"""Weightings over the values of the terms, against formulas in NumPy."""

import math

import keras
import numpy as np
import pytest
from keras import ops
from support.frameworks import variable_gradients
from support.weightings import OF_TERMS

from keras_losskit import weighting

OVER_VALUES = [
    name
    for name in OF_TERMS
    if name != "Weighting" and getattr(weighting, name).statistic == "values"
]


def softmax(x):
    exponentials = np.exp(x - np.max(x))
    return exponentials / exponentials.sum()


def ask(method, values, training=True):
    weights = method(ops.array(values, "float32"), training=training)
    return ops.convert_to_numpy(weights)


def assert_close(actual, expected, rtol=2e-6):
    np.testing.assert_allclose(
        ops.convert_to_numpy(actual), expected, rtol=rtol
    )


RANDOM = np.random.default_rng(0)
# Five steps of three terms of different size.
STEPS = RANDOM.uniform(0.5, 2.0, (5, 3)) * [1.0, 100.0, 0.01]


def test_equal_is_one():
    assert_close(ask(weighting.Equal(), [3.0, 0.0, -1.0]), [1.0, 1.0, 1.0])


# Uncertainty and IMTL-L: total = sum(w(s) * L) + extra(s)


@pytest.mark.parametrize(
    "make, variable, weight, extra",
    [
        (
            weighting.Uncertainty,
            "log_variance",
            lambda s: 0.5 * np.exp(-s),
            lambda s: 0.5 * s,
        ),
        (weighting.IMTLLoss, "log_scale", np.exp, lambda s: -s),
    ],
)
def test_learned_weights_follow_their_variable(make, variable, weight, extra):
    method = make()
    values = np.array([2.0, 4.0, 8.0])
    assert_close(ask(method, values), weight(np.zeros(3)))
    s = np.array([-1.0, 0.5, 2.0], "float32")
    getattr(method, variable).assign(s)
    assert_close(ask(method, values), weight(s))
    assert_close(ask(method, values, training=False), weight(s))
    assert_close(method.extra_loss(), extra(s).sum())
    # The second term is absent: it adds nothing.
    present = np.array([True, False, True])
    assert_close(
        method.extra_loss(ops.array([2.0, 0.0, 8.0])), extra(s)[present].sum()
    )


@pytest.mark.parametrize(
    "make, gradient",
    [
        # d/ds (exp(-s) L / 2 + s / 2) = (1 - exp(-s) L) / 2
        (weighting.Uncertainty, lambda s, v: (1 - np.exp(-s) * v) / 2),
        # d/ds (exp(s) L - s) = exp(s) L - 1
        (weighting.IMTLLoss, lambda s, v: np.exp(s) * v - 1),
    ],
)
def test_learned_weights_have_the_gradient_of_the_total(make, gradient):
    method = make()
    method.build(3)
    (variable,) = method.trainable_variables
    s = np.array([-1.0, 0.5, 2.0], "float32")
    variable.assign(s)

    def total_of(values):
        tensor = ops.array(values, "float32")

        def total():
            weighted = ops.sum(method(tensor, training=True) * tensor)
            return weighted + method.extra_loss(tensor)

        return total

    values = np.array([2.0, 4.0, 8.0])
    (actual,) = variable_gradients(total_of(values), [variable])
    assert_close(actual, gradient(s, values), rtol=1e-5)
    # A term that is absent leaves its variable where it is.
    (actual,) = variable_gradients(total_of([2.0, 0.0, 8.0]), [variable])
    assert actual[1] == 0.0
    assert_close(actual[[0, 2]], gradient(s, values)[[0, 2]], rtol=1e-5)


def test_clamp_holds_log_variance_after_an_update():
    method = weighting.Uncertainty(clamp=(-0.5, 0.25))
    method.build(2)
    optimizer = keras.optimizers.SGD(1.0)
    # s = 0 - 1 * [3, -3], clamped
    optimizer.apply([ops.array([3.0, -3.0])], [method.log_variance])
    assert_close(method.log_variance, [-0.5, 0.25])
    # And it comes back: -0.5 - (-0.3)
    optimizer.apply([ops.array([-0.3, 0.0])], [method.log_variance])
    assert_close(method.log_variance, [-0.2, 0.25])


@pytest.mark.parametrize("clamp", [(1.0, 2.0), (1.0, -1.0), (0.0,)])
def test_a_clamp_that_leaves_out_the_start_is_refused(clamp):
    with pytest.raises(ValueError, match="`clamp`.*Received"):
        weighting.Uncertainty(clamp=clamp)


def test_trainable_is_only_what_is_learned():
    learned = {"Uncertainty": 1, "IMTLLoss": 1}
    for name in OF_TERMS:
        method = getattr(weighting, name)()
        method.build(3)
        assert len(method.trainable_variables) == learned.get(name, 0), name


# Dynamic weight average


def test_dynamic_weight_average_follows_epoch_means():
    method = weighting.DynamicWeightAverage(temperature=0.7)
    epochs = RANDOM.uniform(0.5, 2.0, (4, 5, 3))
    means = epochs.mean(axis=1)
    for t, epoch in enumerate(epochs):
        expected = np.ones(3)
        if t >= 2:
            expected = 3 * softmax(means[t - 1] / means[t - 2] / 0.7)
        for values in epoch:
            assert_close(ask(method, values), expected, rtol=1e-5)
        method.on_epoch_end()


def test_dynamic_weight_average_leaves_out_absent_terms():
    method = weighting.DynamicWeightAverage(temperature=1.0)
    # Means: 2, then 1 over the one batch with labels; 4, then 4 kept.
    for values in ([2.0, 4.0], [2.0, 4.0]):
        ask(method, values)
    method.on_epoch_end()
    for values in ([1.0, 0.0], [0.0, 0.0]):
        ask(method, values)
    method.on_epoch_end()
    assert_close(ask(method, [1.0, 1.0]), 2 * softmax(np.array([0.5, 1.0])))


def test_validation_does_not_enter_epoch_means():
    method = weighting.DynamicWeightAverage()
    for values in ([2.0, 2.0], [1.0, 2.0]):
        ask(method, values)
        ask(method, [1000.0, 1.0], training=False)
        method.on_epoch_end()
    expected = 2 * softmax(np.array([0.5, 1.0]) / 2.0)
    assert_close(ask(method, [1.0, 1.0]), expected)


# SoftAdapt


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("loss_weighted", [False, True])
def test_softadapt_follows_slopes(normalize, loss_weighted):
    method = weighting.SoftAdapt(
        0.3, normalize=normalize, loss_weighted=loss_weighted
    )
    previous = STEPS[0]
    for values in STEPS:
        slopes = values - previous
        if normalize and np.any(slopes):
            slopes = slopes / np.abs(slopes).sum()
        expected = softmax(0.3 * slopes)
        if loss_weighted:
            expected = expected * values / (expected * values).sum()
        assert_close(ask(method, values), expected, rtol=1e-4)
        assert_close(ask(method, values * 9, training=False), expected, 1e-4)
        previous = values


def test_softadapt_takes_no_slope_of_an_absent_term():
    method = weighting.SoftAdapt(1.0)
    ask(method, [2.0, 2.0])
    # softmax([1 - 2, 0])
    assert_close(ask(method, [1.0, 0.0]), softmax(np.array([-1.0, 0.0])))
    # The second term's slope is taken from 2, its last value: 5 - 2.
    assert_close(ask(method, [1.0, 5.0]), softmax(np.array([0.0, 3.0])))


# ReLoBRaLo


@pytest.mark.parametrize("rho", [0.0, 1.0])
def test_relobralo_follows_its_formula(rho):
    method = weighting.ReLoBRaLo(alpha=0.9, temperature=0.5, rho=rho)
    first, previous, weights = STEPS[0], STEPS[0], np.ones(3)
    for values in STEPS:
        to_first = 3 * softmax(values / (0.5 * first))
        to_previous = 3 * softmax(values / (0.5 * previous))
        history = rho * weights + (1 - rho) * to_first
        weights = 0.9 * history + 0.1 * to_previous
        assert_close(ask(method, values), weights, rtol=1e-5)
        assert_close(ask(method, values * 9, training=False), weights, 1e-5)
        previous = values


def test_relobralo_looks_back_as_often_as_rho_says():
    method = weighting.ReLoBRaLo(alpha=1.0, temperature=0.5, rho=0.75, seed=3)
    ask(method, [1.0, 1.0])
    kept = 0
    # Kept weights are those of the step before, exactly.
    before = ask(method, [1.0, 2.0])
    for step in range(200):
        weights = ask(method, [1.0, 2.0 + 0.01 * step])
        kept += np.array_equal(weights, before)
        before = weights
    # 150 expected, standard deviation sqrt(200 * 0.75 * 0.25) = 6.1
    assert 130 < kept < 170


def test_relobralo_takes_ratio_one_for_an_absent_term():
    method = weighting.ReLoBRaLo(alpha=0.0, temperature=1.0)
    ask(method, [2.0, 0.0])
    # Ratios 1/2 and, without a first value, 1.
    assert_close(ask(method, [1.0, 4.0]), 2 * softmax(np.array([0.5, 1.0])))
    # Ratios 1 and 2/4; then 1 for the absent one.
    assert_close(ask(method, [1.0, 2.0]), 2 * softmax(np.array([1.0, 0.5])))
    assert_close(ask(method, [1.0, 0.0]), [1.0, 1.0])


# Random loss weighting


def test_random_weights_are_a_softmax_of_normal_draws():
    method = weighting.RandomLossWeighting(seed=5)
    drawn = np.array([ask(method, [1.0, 1.0, 1.0]) for _ in range(2000)])
    assert_close(drawn.sum(axis=1), np.ones(2000), rtol=1e-5)
    logs = np.log(drawn)
    # Differences of two standard normals: mean 0, variance 2.
    differences = logs[:, 0] - logs[:, 1]
    assert abs(differences.mean()) < 0.15
    assert abs(differences.var() - 2.0) < 0.3
    assert_close(ask(method, [1.0, 9.0, 0.0], training=False), [1 / 3] * 3)


# Geometric mean


def test_geometric_mean_gives_value_and_gradient():
    x = keras.Variable(np.array([2.0, 8.0, 0.5], "float32"))
    method = weighting.GeometricMean()

    def total():
        values = x.value**2
        return ops.sum(method(values, training=True) * values)

    values = np.array([4.0, 64.0, 0.25])
    mean = np.prod(values) ** (1 / 3)
    assert_close(ops.convert_to_numpy(total()), mean, rtol=1e-5)
    # dG/dx = G / (3 x^2) * 2x
    (gradient,) = variable_gradients(total, [x])
    assert_close(gradient, mean / (3 * values) * 2 * np.sqrt(values), 1e-5)


def test_geometric_mean_is_that_of_the_terms_present():
    weights = ask(weighting.GeometricMean(), [2.0, 0.0, 8.0])
    # sqrt(2 * 8) = 4: 4 / (2 * 2), 0, 4 / (2 * 8)
    assert_close(weights, [1.0, 0.0, 0.25])
    assert_close(ask(weighting.GeometricMean(), [0.0, 0.0]), [0.0, 0.0])


def test_geometric_mean_of_a_negative_term_is_no_number():
    assert np.isnan(ask(weighting.GeometricMean(), [2.0, -1.0])).any()


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20])
@pytest.mark.parametrize("name", OVER_VALUES)
def test_weights_are_finite_at_every_scale(name, scale):
    method = getattr(weighting, name)()
    for values in (*STEPS, [0.0, 1.0, 1.0], [0.0, 0.0, 0.0], [1e-9, 1, 1e9]):
        weights = ask(method, scale * np.asarray(values))
        assert np.isfinite(weights).all()
        assert (weights >= 0).all()
        method.on_epoch_end()


@pytest.mark.parametrize(
    "make",
    [
        lambda: weighting.DynamicWeightAverage(temperature=0.0),
        lambda: weighting.ReLoBRaLo(alpha=1.5),
        lambda: weighting.ReLoBRaLo(rho=-0.1),
        lambda: weighting.ReLoBRaLo(temperature=-1.0),
        lambda: weighting.SoftAdapt(math.nan),
    ],
)
def test_arguments_out_of_range_are_refused(make):
    with pytest.raises(ValueError, match="Expected.*Received"):
        make()
