"""What is masked or has the weight 0 adds nothing, whatever it is."""

import keras
import numpy as np
import pytest
from keras import ops
from keras.src.backend.common.masking import set_keras_mask
from support.autodiff import compiled
from support.autodiff import value_and_gradient
from support.models import MODES
from support.models import each_mode
from support.models import passing

import keras_losskit as losskit
from keras_losskit import layers
from keras_losskit import losses
from keras_losskit import reductions

RNG = np.random.default_rng(0)
BAD = np.array([np.nan, np.inf, -np.inf, 1e30, -1.0], "float32")
NUMBERS = RNG.uniform(0.1, 0.9, (4, 5, 3)).astype("float32")
TARGETS = RNG.uniform(0.1, 0.9, (4, 5, 3)).astype("float32")
CLASSES = RNG.integers(0, 3, (4, 5))
ONE_HOT = np.eye(3, dtype="float32")[CLASSES]
LABELS = np.array([0, 1, 0, 1])
#: Samples, and steps of them, that count; sample 1 does not at all.
SAMPLES = np.array([1, 0, 1, 1], "float32")
STEPS = RNG.integers(0, 2, (4, 5)).astype("float32")
STEPS[1], STEPS[0] = 0, 1


class Norm(keras.losses.Loss):
    """Has no finite gradient where both are equal."""

    def call(self, y_true, y_pred):
        return ops.sqrt(ops.sum(ops.square(y_true - y_pred), axis=-1))


def logarithm(y_true, y_pred):
    return -ops.mean(y_true * ops.log(y_pred), axis=-1)


def two(y_true, y_pred):
    error = ops.abs(y_true - y_pred)
    return {"near": ops.mean(error, axis=-1), "far": ops.mean(error**2, -1)}


MSE = losses.MeanSquaredError(name="mse")
LOGITS = {"from_logits": True}

#: Losses with a value per step: `(loss, targets)`.
PER_STEP = {
    "mse": (MSE, TARGETS),
    "huber": (losses.Huber(), TARGETS),
    "keras": (keras.losses.MeanSquaredError(), TARGETS),
    "user": (Norm(), TARGETS),
    "function": (losses.FunctionLoss(logarithm), TARGETS),
    "poisson": (losses.Poisson(), TARGETS),
    "cosine": (losses.CosineSimilarity(), TARGETS),
    "kl": (losses.KLDivergence(), TARGETS),
    "bce": (losses.BinaryCrossentropy(), ONE_HOT),
    "binary focal": (losses.BinaryFocalCrossentropy(**LOGITS), ONE_HOT),
    "ce": (losses.CategoricalCrossentropy(), ONE_HOT),
    "focal": (losses.CategoricalFocalCrossentropy(**LOGITS), ONE_HOT),
    "sparse": (losses.SparseCategoricalCrossentropy(), CLASSES),
    "sparse logits": (losses.SparseCategoricalCrossentropy(**LOGITS), CLASSES),
    "gce": (losses.CategoricalGeneralizedCrossEntropy(), CLASSES),
    "hinge": (losses.CategoricalHinge(), ONE_HOT),
    "poly1": (losses.Poly1(**LOGITS), CLASSES),
    "asymmetric": (losses.AsymmetricLoss(), ONE_HOT),
    "pinball": (losses.Pinball(), TARGETS),
    "distillation": (losses.Distillation(), TARGETS),
    "components": (losses.Components(two, ["near", "far"]), TARGETS),
    "sum": (0.5 * MSE + losses.LogCosh(), TARGETS),
    "shared": (
        losses.CategoricalCrossentropy(**LOGITS)
        + losses.CategoricalFocalCrossentropy(**LOGITS),
        ONE_HOT,
    ),
    **{
        repr(reduction): (losses.MeanSquaredError(reduction=reduction), TARGETS)
        for reduction in (
            "sum",
            "mean_with_sample_weight",
            reductions.TopK(fraction=0.5),
            reductions.TrimmedMean(fraction=0.1),
            reductions.Threshold(high=0.1),
            reductions.Quantile(q=0.7),
            reductions.CVaR(alpha=0.5),
            reductions.Tilted(t=1.0),
            reductions.MeanNonZero(),
        )
    },
    "class weighted": (
        losses.SparseCategoricalCrossentropy(
            reduction=reductions.ClassWeighted(weights=[1.0, 2.0, 3.0])
        ),
        CLASSES,
    ),
}
#: Losses that sum over the places, or the batch, of a sample.
PER_SAMPLE = {
    "dice": (losses.Dice(axis=1), ONE_HOT),
    "dice logits": (losses.Dice(axis=(1, 2), **LOGITS), ONE_HOT),
    "tversky": (losses.Tversky(axis=(1, 2)), ONE_HOT),
    "generalized dice": (losses.GeneralizedDice(**LOGITS), CLASSES),
    "focal tversky": (losses.FocalTversky(), CLASSES),
    "lovasz": (losses.LovaszSoftmax(**LOGITS), CLASSES),
    "ctc": (losses.CTC(), np.array([[1, 2], [2, 1], [1, 1], [2, 0]])),
    "axis": (losses.CategoricalCrossentropy(axis=1, **LOGITS), ONE_HOT),
    "deep": (
        losses.DeepSupervision(MSE, "same", levels=1),
        TARGETS,
    ),
}
#: Of every way that a step takes through `evaluate`.
FEW = ["mse", "keras", "user", "sparse", "bce", "components", "shared"]


def with_mask(x, mask):
    x = x * 1.0
    set_keras_mask(x, ops.convert_to_tensor(mask.astype("bool")))
    return x


def nested(loss, x):
    return [x] if isinstance(loss, losses.DeepSupervision) else x


def spoiled(array, counts):
    """`array` with something bad wherever `counts` is 0."""
    array = array.astype("float32")
    counts = counts.reshape(counts.shape + (1,) * (array.ndim - counts.ndim))
    return np.where(counts == 0, np.resize(BAD, array.shape), array)


def result(loss, y_true, y_pred, weight=None, mask=None):
    def value(x):
        if mask is not None:
            x = with_mask(x, mask)
        return losses.evaluate(loss, y_true, nested(loss, x), weight)

    return value_and_gradient(value, y_pred)


def check(loss, y_true, counts, **kwargs):
    """Labels and predictions that do not count may be anything."""
    want, want_gradient = result(loss, y_true, NUMBERS, **kwargs)
    assert np.isfinite(want)
    assert np.isfinite(want_gradient).all()
    assert np.abs(want_gradient).max() > 0
    for labels, predictions in (
        (spoiled(y_true, counts), NUMBERS),
        (y_true, spoiled(NUMBERS, counts)),
    ):
        got, gradient = result(loss, labels, predictions, **kwargs)
        assert got == pytest.approx(want, rel=1e-6)
        assert (gradient[counts == 0] == 0).all()
        np.testing.assert_allclose(gradient, want_gradient, rtol=1e-5)


@pytest.mark.parametrize("name", {**PER_STEP, **PER_SAMPLE})
def test_a_sample_of_weight_0_may_be_anything(name):
    loss, y_true = {**PER_STEP, **PER_SAMPLE}[name]
    check(loss, y_true, SAMPLES, weight=SAMPLES)


@pytest.mark.parametrize("name", FEW)
@pytest.mark.parametrize("how", ["weight", "mask"])
def test_a_step_that_does_not_count_may_be_anything(name, how):
    loss, y_true = PER_STEP[name]
    check(loss, y_true, STEPS, **{how: STEPS})


@pytest.mark.parametrize(
    "loss",
    [
        losses.Dice(axis=(1, 2)),
        losses.Tversky(axis=1),
        losses.GeneralizedDice(),
        losses.FocalTversky(**LOGITS),
        losses.LovaszSoftmax(),
        losses.LovaszSoftmax(per_image=False, **LOGITS),
        losses.CategoricalCrossentropy(**LOGITS) + losses.Dice(axis=1),
        MSE,
    ],
    ids=repr,
)
def test_a_place_that_is_left_out_may_be_anything(loss):
    """By `Masked`, from the loss of overlap to one with a value per place."""
    labels = np.where(STEPS[..., None] == 0, -7.0, ONE_HOT)
    masked = losses.Masked(loss, ignore_value=-7)
    want, want_gradient = result(masked, labels, NUMBERS)
    got, gradient = result(masked, labels, spoiled(NUMBERS, STEPS))
    assert got == pytest.approx(want, rel=1e-6)
    assert (gradient[STEPS == 0] == 0).all()
    np.testing.assert_allclose(gradient, want_gradient, rtol=1e-5)
    assert np.abs(gradient).max() > 0


def test_a_class_that_is_ignored_may_be_anything():
    loss = losses.SparseCategoricalCrossentropy(ignore_class=-1)
    labels = np.where(STEPS == 0, -1, CLASSES)
    want, want_gradient = result(loss, labels, NUMBERS)
    got, gradient = result(loss, labels, spoiled(NUMBERS, STEPS))
    assert got == pytest.approx(want, rel=1e-6)
    np.testing.assert_allclose(gradient, want_gradient, rtol=1e-5)


def test_a_slope_that_is_not_finite_may_stand_where_nothing_counts():
    # Both are 0 in sample 1: the norm has no slope there.
    y_true = np.ones((4, 3), "float32")
    y_pred = 2 * y_true
    y_true[1] = y_pred[1] = 0.0
    _, gradient = result(Norm(), y_true, y_pred, weight=[1.0, 0.0, 1.0, 1.0])
    assert np.isfinite(gradient).all()
    # 1 / 4 of a unit vector, whose entries are sqrt(1 / 3)
    np.testing.assert_allclose(gradient[0], np.sqrt(1 / 3) / 4, rtol=1e-5)


def contrastive(y_true, y_pred):
    """A value per sample that all samples are part of."""
    return ops.logsumexp(ops.matmul(y_pred, ops.transpose(y_pred)), axis=-1)


def whole(y_true, y_pred):
    return ops.mean(ops.square(y_true - y_pred))


def test_values_of_losses_that_compare_samples_stay_as_they_are():
    x, y = NUMBERS[:, 0], TARGETS[:, 0]
    values = np.log(np.exp(x @ x.T).sum(-1))
    loss = losses.FunctionLoss(contrastive)
    want = (values * SAMPLES).mean()
    assert float(loss(y, x, SAMPLES)) == pytest.approx(want, rel=1e-5)
    circle = losses.Circle(gamma=2.0)
    each = keras.losses.Circle(gamma=2.0, reduction="none")(LABELS, x)
    want = (ops.convert_to_numpy(each) * SAMPLES).sum() / 4
    assert float(circle(LABELS, x, SAMPLES)) == pytest.approx(want, rel=1e-5)


@pytest.mark.filterwarnings("ignore:Loss 'whole' returns one scalar")
def test_one_value_for_the_batch_has_all_samples_in_it():
    x, y = NUMBERS[:, 0], TARGETS[:, 0]
    value, gradient = result(losses.FunctionLoss(whole), y, x, weight=SAMPLES)
    # mean weight 3 / 4
    assert value == pytest.approx(0.75 * ((x - y) ** 2).mean(), rel=1e-5)
    np.testing.assert_allclose(gradient, 0.75 * (x - y) / 6, rtol=1e-5)


def test_an_embedding_of_weight_0_may_be_anything():
    loss = losses.Circle(gamma=2.0)
    x = spoiled(NUMBERS[:, 0], SAMPLES)
    value, gradient = result(loss, LABELS, x, weight=SAMPLES)
    assert np.isfinite(value)
    assert value > 0
    assert np.isfinite(gradient).all()
    assert (gradient[1] == 0).all()


def test_a_bad_embedding_that_counts_shows():
    # Keras leaves out values that are not over 0, and gives 0.
    x = spoiled(NUMBERS[:, 0], SAMPLES)
    assert np.isnan(float(losses.Circle(gamma=2.0)(LABELS, x)))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_in_half_precision(dtype):
    x = spoiled(NUMBERS, SAMPLES)

    def value(x):
        return losses.evaluate(MSE, TARGETS, ops.cast(x, dtype), SAMPLES)

    got, gradient = value_and_gradient(compiled(value), x)
    alive = SAMPLES > 0
    want = ((NUMBERS - TARGETS)[alive] ** 2).sum() / TARGETS.size
    assert got == pytest.approx(want, rel=2e-2)
    assert np.isfinite(gradient).all()


def trained(y, weight, mode, rate=0.1):
    """The kernel 1 of `y = kernel * x` after a step with `x` of ones."""
    model = passing()
    model.compile(
        keras.optimizers.SGD(rate),
        losses.MeanSquaredError(reduction="mean_with_sample_weight"),
        **MODES[mode],
    )
    x = np.ones((len(y), 1), "float32")
    logs = model.fit(x, y, sample_weight=weight, verbose=0).history
    return float(model.get_weights()[0][0, 0]), logs["loss"][0]


@each_mode
def test_a_step_equals_that_without_the_sample(mode):
    y, weight = np.array([[0.0], [np.nan]]), np.array([1.0, 0.0])
    # error 1, slope 2
    assert trained(y, weight, mode) == pytest.approx((0.8, 1.0))
    assert trained(y[:1], weight[:1], mode) == pytest.approx((0.8, 1.0))


def test_a_step_with_keras_reduction_counts_the_sample():
    model = passing()
    model.compile(keras.optimizers.SGD(0.1), "mse")
    y, weight = np.array([[0.0], [np.nan]]), np.array([1.0, 0.0])
    model.fit(np.ones((2, 1)), y, sample_weight=weight, verbose=0)
    # (1 * 1 + 0) / 2: slope 1
    assert float(model.get_weights()[0][0, 0]) == pytest.approx(0.9)


def root(x):
    return ops.sqrt(ops.sum(x, axis=-1))


@pytest.mark.parametrize("where", ["extra", "layer"])
def test_a_masked_step_adds_nothing_to_a_term_of_the_inside(where):
    inputs = keras.Input((3, 1))
    x = keras.layers.Masking()(inputs)
    # A kernel of 4 on steps of 1, 1 and 0.
    dense = keras.layers.Dense(
        1,
        use_bias=False,
        name="dense",
        kernel_initializer=keras.initializers.Constant(4.0),
    )
    x = dense(x)
    extra = {}
    if where == "layer":
        x = layers.AddLoss(root, name="root")(x)
    else:
        extra["extra_terms"] = {"root": losskit.extra.FromLayer("dense", root)}
    model = losskit.Model(inputs, x)
    model.compile(
        keras.optimizers.SGD(1.0),
        losskit.LossesContainer(0 * losses.get("mae"), **extra),
    )
    data = np.array([[[1.0], [1.0], [0.0]]])
    logs = model.fit(data, data, verbose=0).history
    # sqrt(4 * 1), of slope 1 / 4
    assert logs["root_loss"] == pytest.approx([2.0])
    assert dense.get_weights()[0][0, 0] == pytest.approx(3.75)


@pytest.mark.parametrize(
    "reduction",
    [
        *("sum_over_batch_size", "sum", "mean_with_sample_weight"),
        reductions.TopK(k=2),
        reductions.TrimmedMean(fraction=0.2),
        reductions.Threshold(low=0.0),
        reductions.Quantile(q=0.5),
        reductions.CVaR(alpha=0.5),
        reductions.Tilted(t=1.0),
        reductions.MeanNonZero(),
    ],
    ids=repr,
)
@pytest.mark.parametrize("how", ["sample_weight", "mask"])
def test_a_reduction_passes_nothing_on_to_what_does_not_count(reduction, how):
    values = np.array([1.0, np.nan, 3.0, np.inf, 0.5, -np.inf], "float32")
    counts = np.isfinite(values)
    reduce = reductions.get(reduction)
    value, gradient = value_and_gradient(
        lambda x: reduce(x, **{how: counts.astype("float32")}), values
    )
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    assert (gradient[~counts] == 0).all()
    assert gradient.any()


def test_a_class_of_weight_0_may_have_any_value():
    reduce = reductions.ClassWeighted(weights=[1.0, 0.0])
    value, gradient = value_and_gradient(
        lambda x: reduce(x, y_true=np.array([0, 1])), [2.0, np.nan]
    )
    assert value == 1.0
    np.testing.assert_array_equal(gradient, [0.5, 0.0])
