"""Weightings over the Gramian: golden values and defining properties."""

import numpy as np
import pytest
from hypothesis import assume
from hypothesis import given
from hypothesis import strategies as st
from keras import ops
from support.gramians import DTYPES
from support.gramians import Case
from support.gramians import cases

from keras_losskit import weighting
from keras_losskit.weighting.aligned_mtl import balance
from keras_losskit.weighting.cagrad import cagrad
from keras_losskit.weighting.pcgrad import pcgrad
from keras_losskit.weighting.pcgrad import pcgrad_of_two

METHODS = {
    "AlignedMTL": weighting.AlignedMTL,
    "CAGrad": weighting.CAGrad,
    "GradNorm": weighting.GradNorm,
    "IMTLGradient": weighting.IMTLGradient,
    "LearningRateAnnealing": weighting.LearningRateAnnealing,
    "MGDA": weighting.MGDA,
    "PCGrad": weighting.PCGrad,
    "UPGrad": weighting.UPGrad,
}
# GradNorm and LearningRateAnnealing also depend on what was before.
MEMORYLESS = sorted(set(METHODS) - {"GradNorm", "LearningRateAnnealing"})
EXAMPLE = np.array([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])


@pytest.mark.parametrize("name", METHODS)
@given(case=cases())
def test_weights_are_finite(name, case):
    weights = case.weights(METHODS[name]())
    assert weights.shape == (case.terms,)
    assert np.isfinite(weights).all()


@pytest.mark.parametrize("name", MEMORYLESS)
@given(case=cases(scales=(1.0,)), scale=st.sampled_from([1e-12, 1e-6, 1e12]))
def test_weights_do_not_depend_on_the_scale(name, case, scale):
    # Singular cases have many solutions, and rounding chooses.
    assume(np.linalg.cond(case.gramian) < 1e4)
    scaled = Case(np.sqrt(scale) * case.jacobian, case.dtype)
    expected = case.weights(METHODS[name](), training=False)
    actual = scaled.weights(METHODS[name](), training=False)
    np.testing.assert_allclose(actual, expected, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_all_gradients_zero_give_one_sensible_weight_each(name):
    weights = Case(np.zeros((4, 3))).weights(METHODS[name]())
    one = name in ("GradNorm", "LearningRateAnnealing", "PCGrad")
    np.testing.assert_allclose(weights, np.full(4, 1.0 if one else 0.25))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", MEMORYLESS)
def test_a_zero_gradient_leaves_the_direction_of_the_others(name, dtype):
    random = np.random.default_rng(7)
    jacobian = random.normal(size=(3, 5))
    without = Case(jacobian, dtype).update(METHODS[name](), training=False)
    case = Case(np.vstack([jacobian, np.zeros(5)]), dtype)
    weights = case.weights(METHODS[name](), training=False)
    update = weights @ case.jacobian
    cosine = update @ without / np.linalg.norm(update) / np.linalg.norm(without)
    assert cosine > 1.0 - 1e-6
    alone = {"PCGrad": 1.0, "CAGrad": 0.25, "UPGrad": 0.25}.get(name, 0.0)
    assert weights[-1] == pytest.approx(alone, abs=1e-6)


# MGDA


def test_mgda_golden():
    weights = Case(EXAMPLE).weights(weighting.MGDA())
    np.testing.assert_allclose(weights, [0.6, 0.4], rtol=1e-6)


@given(case=cases(), seed=st.integers(0, 2**31))
def test_mgda_is_the_shortest_convex_combination(case, seed):
    weights = case.weights(weighting.MGDA())
    assert (weights >= 0.0).all()
    assert weights.sum() == pytest.approx(1.0, abs=1e-5)
    present = case.norms > 0
    if not present.any():
        return
    length = np.linalg.norm(weights @ case.jacobian)
    slack = case.tolerance * case.norms[present].max()
    others = np.random.default_rng(seed).dirichlet(np.ones(present.sum()), 50)
    others = np.vstack([others, np.eye(present.sum())])
    lengths = np.linalg.norm(others @ case.jacobian[present], axis=1)
    assert length <= lengths.min() + slack


@pytest.mark.parametrize("name", ["MGDA", "UPGrad"])
@given(case=cases())
def test_never_conflicts_with_any_term(name, case):
    weights = case.weights(METHODS[name]())
    projections = case.projections(weights @ case.jacobian)
    assert (projections >= -case.tolerance * case.size(weights)).all()


# UPGrad


def onto_dual_cone(gradient, jacobian):
    """The vector nearest to `gradient` that conflicts with no row."""
    terms = len(jacobian)
    best = None
    for support in range(2**terms):
        rows = [k for k in range(terms) if support >> k & 1]
        found = gradient
        if rows:
            faces = jacobian[rows]
            found = gradient - np.linalg.pinv(faces) @ (faces @ gradient)
        if (jacobian @ found >= -1e-9).all():
            distance = np.linalg.norm(found - gradient)
            if best is None or distance < best[0] - 1e-12:
                best = distance, found
    return best[1]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("terms", [2, 3, 5])
def test_upgrad_is_the_mean_of_the_projections(terms, dtype):
    random = np.random.default_rng(terms)
    for _ in range(5):
        jacobian = random.normal(size=(terms, 6))
        expected = np.mean(
            [onto_dual_cone(gradient, jacobian) for gradient in jacobian], 0
        )
        case = Case(jacobian, dtype)
        np.testing.assert_allclose(
            case.update(weighting.UPGrad()), expected, atol=case.tolerance
        )


@pytest.mark.parametrize("name, weight", [("UPGrad", 1.0), ("PCGrad", None)])
@given(case=cases(shapes=["aligned"], scales=(1e-6, 1.0, 1e6)))
def test_without_conflicts_nothing_is_projected(name, weight, case):
    weights = case.weights(METHODS[name]())
    expected = 1.0 if weight is None else weight / case.terms
    np.testing.assert_allclose(weights, expected, rtol=1e-5)


# PCGrad


def test_pcgrad_golden():
    # g1 . g2 = -22: 1 + 22 / 18 and 1 + 22 / 38
    weights = Case(EXAMPLE).weights(weighting.PCGrad())
    np.testing.assert_allclose(weights, [2.2222, 1.5789], rtol=1e-4)


@given(case=cases(scales=(1e-6, 1.0, 1e6)), seed=st.integers(0, 2**31))
def test_pcgrad_follows_its_loop(case, seed):
    # Whether gradients conflict that are orthogonal but for rounding is open.
    cosines = case.gramian / np.maximum(np.outer(case.norms, case.norms), 1e-99)
    assume(np.linalg.cond(cosines + np.eye(case.terms) * 1e-9) < 1e4)
    random = np.random.default_rng(seed)
    order = np.array(
        [
            random.permutation(np.delete(np.arange(case.terms), i))
            for i in range(case.terms)
        ]
    )
    expected = np.zeros(case.jacobian.shape[1])
    for i, gradient in enumerate(case.jacobian):
        for j in order[i]:
            other = case.jacobian[j]
            if gradient @ other < 0:
                gradient = gradient - gradient @ other / (other @ other) * other
        expected += gradient
    ways = [lambda gramian: pcgrad(gramian, ops.array(order, "int32"))]
    ways += [pcgrad_of_two] if case.terms == 2 else []
    for way in ways:
        weights = case.weights(way)
        np.testing.assert_allclose(
            weights @ case.jacobian,
            expected,
            atol=case.tolerance * case.size(weights),
        )


def test_pcgrad_draws_another_order_each_time():
    case = Case(np.random.default_rng(3).normal(size=(4, 4)))
    method = weighting.PCGrad(seed=1)
    drawn = {tuple(case.weights(method).round(4)) for _ in range(20)}
    assert len(drawn) > 1
    again = weighting.PCGrad(seed=1)
    assert drawn == {tuple(case.weights(again).round(4)) for _ in range(20)}


# CAGrad


def worst_improvement(case, c):
    """`min_w g_w . g_0 + c |g_0| |g_w|` of two terms, by a fine grid."""
    shares = np.linspace(0.0, 1.0, 200_001)[:, None]
    combined = shares * case.jacobian[0] + (1.0 - shares) * case.jacobian[1]
    mean = case.jacobian.mean(axis=0)
    lengths = np.linalg.norm(combined, axis=1)
    return (combined @ mean + c * np.linalg.norm(mean) * lengths).min()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("c", [0.1, 0.5, 0.9])
def test_cagrad_reaches_the_optimum_of_two_terms(c, dtype):
    random = np.random.default_rng(5)
    for jacobian in [EXAMPLE, *random.normal(size=(10, 2, 3))]:
        case = Case(jacobian, dtype)
        worst = (jacobian @ case.update(weighting.CAGrad(c=c))).min()
        best = worst_improvement(case, c)
        assert worst == pytest.approx(best, abs=1e-3 * case.norms.max() ** 2)


@given(
    case=cases(),
    c=st.sampled_from([0.1, 0.5, 0.9]),
    seed=st.integers(0, 2**31),
)
def test_cagrad_is_the_best_in_its_ball_for_the_worst_term(case, c, seed):
    present = case.norms > 0
    update = case.update(weighting.CAGrad(c=c))
    mean = case.jacobian.mean(axis=0)
    length = np.linalg.norm(mean)
    assert np.linalg.norm(update - mean) <= c * length * (1 + case.tolerance)
    random = np.random.default_rng(seed)
    others = random.normal(size=(100, len(mean)))
    others *= (c * length / np.linalg.norm(others, axis=1))[:, None]
    others = mean + others * random.uniform(size=(100, 1)) ** 0.25
    rows = case.jacobian[present]
    if len(rows):
        slack = case.tolerance * case.norms.max() ** 2
        assert (rows @ update).min() >= (others @ rows.T).min(1).max() - slack


@given(case=cases(scales=(1e-6, 1.0, 1e6)))
def test_cagrad_with_no_radius_is_the_mean(case):
    weights = case.weights(weighting.CAGrad(c=0.0))
    np.testing.assert_allclose(weights, 1.0 / case.terms, rtol=1e-5)


# IMTL-G


@given(case=cases())
def test_imtl_gradient_is_as_far_along_every_gradient(case):
    weights = case.weights(weighting.IMTLGradient())
    projections = case.projections(weights @ case.jacobian)
    if len(projections):
        slack = case.tolerance * case.size(weights)
        assert projections.max() - projections.min() <= slack
        assert projections.min() >= -slack


def test_imtl_gradient_weights_sum_to_one():
    for seed in range(5):
        jacobian = np.random.default_rng(seed).normal(size=(3, 8))
        weights = Case(jacobian).weights(weighting.IMTLGradient())
        assert abs(weights.sum()) == pytest.approx(1.0, abs=1e-5)


# Aligned-MTL


@given(case=cases(shapes=["random"], scales=(1e-6, 1.0, 1e6)))
def test_aligned_mtl_makes_gradients_orthogonal_and_equal(case):
    # B G B = l_min I
    assume(np.linalg.cond(case.gramian) < 1e3)
    gramian = case.gramian
    found = balance(ops.array(gramian, case.dtype))
    found = ops.convert_to_numpy(found).astype("float64")
    smallest = np.linalg.eigvalsh(gramian).min()
    np.testing.assert_allclose(
        found @ gramian @ found / smallest, np.eye(case.terms), atol=1e-2
    )
    weights = case.weights(weighting.AlignedMTL())
    np.testing.assert_allclose(weights, found.mean(axis=1), rtol=1e-4)


# GradNorm


@pytest.mark.parametrize("alpha", [0.0, 1.5])
def test_gradnorm_follows_its_descent(alpha):
    method = weighting.GradNorm(alpha=alpha, learning_rate=0.1)
    random = np.random.default_rng(2)
    weights, first = np.ones(3), None
    for _ in range(6):
        case = Case(random.normal(size=(3, 4)) * [[1.0], [5.0], [0.2]])
        values = random.uniform(0.5, 2.0, 3)
        first = values if first is None else first
        actual = case.weights(method, values=ops.array(values, "float32"))
        # The step uses the weights found by the one before.
        np.testing.assert_allclose(actual, weights, rtol=1e-4)
        weighted = weights * case.norms
        rates = values / first
        goal = weighted.mean() * (rates / rates.mean()) ** alpha
        slope = np.sign(weighted - goal) * case.norms / weighted.mean()
        weights = np.maximum(weights - 0.1 * slope, 1e-3 * weights)
        weights = weights * 3 / weights.sum()


def test_gradnorm_brings_norms_together():
    method = weighting.GradNorm(learning_rate=0.01)
    case = Case(np.diag([1.0, 4.0, 0.5]))
    for _ in range(300):
        weights = case.weights(method)
    assert weights.sum() == pytest.approx(3.0, abs=1e-4)
    weighted = weights * case.norms
    assert weighted.max() / weighted.min() < 1.2


def test_gradnorm_needs_values_in_training():
    gramian = ops.eye(2)
    with pytest.raises(ValueError, match="values of the terms.*Received"):
        weighting.GradNorm()(gramian, training=True)
    weights = weighting.GradNorm()(gramian)
    assert [float(w) for w in weights] == [1.0, 1.0]


# Learning rate annealing


@pytest.mark.parametrize("reference", [None, 1])
def test_learning_rate_annealing_follows_its_average(reference):
    method = weighting.LearningRateAnnealing(decay=0.8, reference=reference)
    random = np.random.default_rng(2)
    weights = np.ones(3)
    for _ in range(4):
        case = Case(random.normal(size=(3, 4)) * [[1.0], [100.0], [0.01]])
        norms = case.norms
        goal = norms.sum() if reference is None else norms[reference]
        weights = 0.8 * weights + 0.2 * goal / norms
        np.testing.assert_allclose(case.weights(method), weights, rtol=1e-4)
    # A zero gradient leaves the weight where it is.
    absent = Case(case.jacobian * [[1.0], [1.0], [0.0]])
    assert absent.weights(method)[2] == pytest.approx(weights[2], rel=1e-4)


@pytest.mark.parametrize(
    "make",
    [
        lambda: weighting.CAGrad(c=1.0),
        lambda: weighting.CAGrad(c=-0.1),
        lambda: weighting.GradNorm(learning_rate=0.0),
        lambda: weighting.LearningRateAnnealing(decay=1.1),
        lambda: weighting.LearningRateAnnealing(reference=0.5),
        lambda: weighting.LearningRateAnnealing(reference=3).build(3),
    ],
)
def test_arguments_out_of_range_are_refused(make):
    with pytest.raises(ValueError, match="Expected.*Received"):
        make()


@given(case=cases(scales=(1.0,)), c=st.sampled_from([0.1, 0.5]))
def test_cagrad_of_many_terms_is_found_by_search(case, c):
    """Over eight terms another solver is used; both reach the optimum."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("keras_losskit.weighting.cagrad.ENUMERATED", 0)
        searched = case.update(lambda gramian: cagrad(gramian, c=c))
    tried = case.update(lambda gramian: cagrad(gramian, c=c))
    rows = case.jacobian[case.norms > 0]
    slack = 3.0 * case.tolerance * case.norms.max() ** 2
    assert (rows @ searched).min() >= (rows @ tried).min() - slack
