"""The losses that Keras lacks, against their definitions and PyTorch."""

import inspect
import json

import keras
import numpy as np
import pytest
from keras import ops
from support import reference_losses as reference
from support.autodiff import compiled
from support.autodiff import value_and_gradient

from keras_losskit import losses
from keras_losskit.losses import _catalogue

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 3, (2, 4, 5))
LABELS = np.array([0, 2, 1, 2])
MANY = RNG.integers(0, 2, (4, 6)).astype("float32")
TARGETS = RNG.normal(size=(4, 3)).astype("float32")


def normal(*shape):
    return np.random.default_rng(7).normal(size=shape).astype("float32")


#: loss, targets, predictions, and the formula for the values per sample.
CASES = {
    "generalized_dice": (
        losses.GeneralizedDice(from_logits=True),
        PIXELS,
        normal(2, 4, 5, 3),
        reference.generalized_dice,
    ),
    "generalized_dice, a class absent": (
        losses.GeneralizedDice(from_logits=True),
        np.minimum(PIXELS, 1),
        normal(2, 4, 5, 3),
        reference.generalized_dice,
    ),
    "focal_tversky": (
        losses.FocalTversky(from_logits=True),
        PIXELS,
        normal(2, 4, 5, 3),
        reference.focal_tversky,
    ),
    "lovasz_softmax": (
        losses.LovaszSoftmax(from_logits=True),
        PIXELS,
        normal(2, 4, 5, 3),
        reference.lovasz,
    ),
    "poly1": (
        losses.Poly1(from_logits=True),
        LABELS,
        normal(4, 3),
        reference.poly1,
    ),
    "asymmetric_loss": (
        losses.AsymmetricLoss(from_logits=True),
        MANY,
        normal(4, 6),
        reference.asymmetric,
    ),
    "asymmetric_loss, no margin": (
        losses.AsymmetricLoss(
            from_logits=True,
            margin=0.0,
            gamma_positive=0.0,
            gamma_negative=2.0,
        ),
        MANY,
        normal(4, 6),
        lambda y, x: reference.asymmetric(y, x, 0.0, 2.0, 0.0),
    ),
    "pinball": (
        losses.Pinball(quantile=0.9),
        TARGETS,
        normal(4, 3),
        reference.pinball,
    ),
    "charbonnier": (
        losses.Charbonnier(epsilon=0.1),
        TARGETS,
        normal(4, 3),
        lambda y, x: np.sqrt((y - x) ** 2 + 0.01).mean(-1),
    ),
    "gaussian_nll": (
        losses.GaussianNLL(),
        TARGETS,
        normal(4, 6),
        reference.gaussian_nll,
    ),
    "gaussian_nll, full": (
        losses.GaussianNLL(full=True),
        TARGETS,
        normal(4, 6),
        lambda y, x: reference.gaussian_nll(y, x, True),
    ),
    "kl_to_standard_normal": (
        losses.KLToStandardNormal(),
        np.zeros((4, 1)),
        normal(4, 6),
        reference.kl,
    ),
    "distillation": (
        losses.Distillation(temperature=3.0),
        TARGETS,
        normal(4, 3),
        reference.distillation,
    ),
}
each = pytest.mark.parametrize(
    ("loss", "y_true", "y_pred", "formula"), list(CASES.values()), ids=CASES
)


def test_every_further_loss_is_checked():
    checked = {type(case[0]) for case in CASES.values()}
    assert checked == set(_catalogue.FURTHER_LOSSES.values())
    for name, cls in _catalogue.FURTHER_LOSSES.items():
        assert cls().name == name
        assert type(losses.get(name)) is cls
        assert losses.get(cls.__name__).name == name
        assert getattr(losses, name) in _catalogue.BY_FUNCTION


@each
@pytest.mark.parametrize("compiling", [False, True], ids=["eager", "compiled"])
def test_equals_its_definition(loss, y_true, y_pred, formula, compiling):
    values = formula(y_true, y_pred.astype("float64"))
    call = compiled(loss) if compiling else loss
    got = float(call(y_true, ops.convert_to_tensor(y_pred)))
    assert got == pytest.approx(values.mean(), rel=2e-5)
    weight = np.linspace(0.5, 2.0, len(y_pred))
    got = float(loss(y_true, y_pred, weight))
    assert got == pytest.approx((weight * values).mean(), rel=2e-5)


@each
def test_gradient_is_that_of_its_definition(loss, y_true, y_pred, formula):
    _, gradient = value_and_gradient(lambda x: loss(y_true, x), y_pred)
    direction = np.random.default_rng(1).normal(size=y_pred.shape)
    step = 1e-6
    up = formula(y_true, y_pred.astype("float64") + step * direction).mean()
    down = formula(y_true, y_pred.astype("float64") - step * direction).mean()
    want = (up - down) / (2 * step)
    assert (gradient * direction).sum() == pytest.approx(
        want, rel=2e-3, abs=1e-5
    )


@each
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision(loss, y_true, y_pred, formula, dtype):
    """Predictions in half precision, and a loss that computes in it."""
    low = ops.cast(ops.convert_to_tensor(y_pred), dtype)
    rounded = ops.convert_to_numpy(ops.cast(low, "float32"))
    want = formula(y_true, rounded.astype("float64")).mean()
    assert float(loss(y_true, low)) == pytest.approx(want, rel=1e-4)
    lower = type(loss).from_config({**loss.get_config(), "dtype": dtype})
    value = lower(y_true, low)
    assert keras.backend.standardize_dtype(value.dtype) == dtype
    assert float(value) == pytest.approx(want, rel=2e-2)


def extreme_losses():
    one_hot = np.eye(3, dtype="float32")[LABELS]
    for name, (loss, y_true, y_pred, _) in CASES.items():
        yield name, loss, y_true, y_pred.shape
    logits = {"from_logits": True}
    yield "ce", losses.CategoricalCrossentropy(**logits), one_hot, (4, 3)
    yield "sce", losses.SparseCategoricalCrossentropy(**logits), LABELS, (4, 3)
    yield (
        "focal",
        losses.CategoricalFocalCrossentropy(**logits),
        one_hot,
        (4, 3),
    )
    yield "bce", losses.BinaryCrossentropy(**logits), MANY, (4, 6)
    yield "dice", losses.Dice(**logits), one_hot, (4, 3)
    yield "tversky", losses.Tversky(**logits), one_hot, (4, 3)
    yield (
        "sum",
        0.5 * losses.CategoricalCrossentropy(**logits)
        + 2 * losses.CategoricalFocalCrossentropy(gamma=0.0, **logits)
        + losses.Dice(axis=1, **logits),
        one_hot,
        (4, 3),
    )


@pytest.mark.parametrize(
    ("loss", "y_true", "shape"),
    [pytest.param(*case[1:], id=case[0]) for case in extreme_losses()],
)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("size", [0.0, 1e4])
def test_extreme_predictions_stay_finite(loss, y_true, shape, dtype, size):
    signs = np.where(np.arange(np.prod(shape)).reshape(shape) % 2, 1.0, -1.0)
    for direction in (signs, -signs, np.ones(shape), -np.ones(shape)):
        value, gradient = value_and_gradient(
            lambda x: ops.cast(loss(y_true, x), "float32"),
            size * direction,
            dtype,
        )
        assert np.isfinite(value)
        if not (dtype == "float16" and isinstance(loss, FAST_GROWING)):
            assert np.isfinite(gradient.astype("float32")).all()


#: Whose gradient at 1e4 is over float16's largest number.
FAST_GROWING = (losses.GaussianNLL, losses.KLToStandardNormal)


@each
def test_config_holds_every_argument(loss, y_true, y_pred, formula):
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(loss)))
    assert set(inspect.signature(type(loss)).parameters) <= set(
        config["config"]
    )
    revived = keras.saving.deserialize_keras_object(config)
    assert revived.get_config() == loss.get_config()
    np.testing.assert_allclose(
        float(revived(y_true, y_pred)), float(loss(y_true, y_pred))
    )


@pytest.mark.parametrize(
    "cls",
    [
        losses.GeneralizedDice,
        losses.FocalTversky,
        losses.LovaszSoftmax,
        losses.Poly1,
    ],
)
def test_logits_and_probabilities_agree(cls):
    logits = normal(2, 4, 5, 3)
    want = float(cls(from_logits=True)(PIXELS, logits))
    for labels in (PIXELS, PIXELS[..., None], np.eye(3)[PIXELS]):
        got = float(cls()(labels, reference.softmax(logits)))
        assert got == pytest.approx(want, rel=1e-4)
    with pytest.raises(ValueError, match="Expected labels"):
        cls()(PIXELS[0, 0], reference.softmax(logits))


def test_probabilities_give_the_same_asymmetric_loss():
    logits = normal(4, 6)
    got = float(losses.AsymmetricLoss()(MANY, reference.sigmoid(logits)))
    want = float(losses.AsymmetricLoss(from_logits=True)(MANY, logits))
    assert got == pytest.approx(want, rel=1e-4)


def test_special_cases_are_other_losses():
    logits, one_hot = normal(4, 3), np.eye(3, dtype="float32")[LABELS]
    ce = losses.CategoricalCrossentropy(from_logits=True)
    close = [
        (losses.Poly1(epsilon=0.0, from_logits=True), ce, one_hot, logits),
        (
            losses.AsymmetricLoss(
                gamma_positive=0.0,
                gamma_negative=0.0,
                margin=0.0,
                from_logits=True,
            ),
            losses.BinaryCrossentropy(from_logits=True),
            MANY,
            normal(4, 6),
        ),
        (
            losses.Pinball(),
            losses.MeanAbsoluteError(weight=0.5),
            TARGETS,
            logits,
        ),
    ]
    for loss, same, y_true, y_pred in close:
        assert float(loss(y_true, y_pred)) == pytest.approx(
            float(same(y_true, y_pred)), rel=1e-5
        )
    same = losses.Distillation()(logits, logits)
    assert float(same) == pytest.approx(0.0, abs=1e-6)


def test_lovasz_over_the_batch_is_that_of_one_large_image():
    logits = normal(2, 4, 5, 3)
    loss = losses.LovaszSoftmax(per_image=False, from_logits=True)
    want = reference.lovasz(
        PIXELS.reshape(1, 8, 5), logits.reshape(1, 8, 5, 3)
    )[0]
    assert float(loss(PIXELS, logits)) == pytest.approx(want, rel=1e-5)


def test_perfect_predictions_cost_nothing():
    p = np.eye(3, dtype="float32")[PIXELS]
    for cls in (losses.GeneralizedDice, losses.LovaszSoftmax, losses.Poly1):
        assert float(cls()(PIXELS, p)) == pytest.approx(0.0, abs=1e-5)
    value, gradient = value_and_gradient(
        lambda x: losses.FocalTversky()(PIXELS, x), p
    )
    assert value < 1e-3
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda: losses.Pinball(quantile=1.0),
        lambda: losses.pinball([[1.0]], [[1.0]], quantile=0.0),
        lambda: losses.Charbonnier(epsilon=0.0),
        lambda: losses.GaussianNLL(min_variance=0.0),
        lambda: losses.GaussianNLL()([[1.0, 1.0]], [[1.0, 2.0]]),
        lambda: losses.GaussianNLL()([[1.0]], [[1.0]]),
        lambda: losses.KLToStandardNormal()([[1.0]], [[1.0]]),
        lambda: losses.Distillation(temperature=0.0),
        lambda: losses.FocalTversky(gamma=0.0),
        lambda: losses.AsymmetricLoss(margin=1.0),
        lambda: losses.AsymmetricLoss(gamma_negative=-1.0),
    ],
    ids=range(11),
)
def test_refuses_settings_out_of_range(make):
    with pytest.raises(ValueError, match="Expected .* Received"):
        make()


@pytest.mark.skipif(
    keras.config.backend() != "torch", reason="compares with PyTorch"
)
def test_equals_pytorch():
    import torch

    functional = torch.nn.functional
    y_true, y_pred = torch.tensor(TARGETS), torch.tensor(normal(4, 6))
    mean, log_variance = y_pred[:, :3], y_pred[:, 3:]
    want = functional.gaussian_nll_loss(
        mean, y_true, log_variance.exp(), full=True
    )
    got = losses.GaussianNLL(full=True)(y_true, y_pred)
    torch.testing.assert_close(got, want)

    student = torch.tensor(normal(4, 3))
    want = 9 * functional.kl_div(
        functional.log_softmax(student / 3, -1),
        functional.log_softmax(y_true / 3, -1),
        log_target=True,
        reduction="batchmean",
    )
    got = losses.Distillation(temperature=3.0)(y_true, student)
    torch.testing.assert_close(got, want)

    normals = torch.distributions.Normal
    want = torch.distributions.kl_divergence(
        normals(mean, (log_variance / 2).exp()), normals(0.0, 1.0)
    )
    got = losses.KLToStandardNormal()(y_true, y_pred)
    torch.testing.assert_close(got, want.sum(-1).mean())


@pytest.mark.parametrize(
    "loss",
    [
        losses.GeneralizedDice(),
        losses.FocalTversky(),
        losses.LovaszSoftmax(),
    ],
    ids=lambda loss: loss.name,
)
def test_one_channel_takes_labels_with_and_without_it(loss):
    labels = np.array([[[1, 1], [0, 0]]])
    right = np.array([[[[0.9], [0.8]], [[0.1], [0.2]]]])
    want = float(loss(labels[..., None], right))
    assert float(loss(labels, right)) == want
    assert float(loss(labels, 1.0 - right)) > 3 * want


def test_poly1_of_one_channel_is_refused():
    with pytest.raises(ValueError, match="two classes or more.*Binary"):
        losses.Poly1()([0, 1], [[0.1], [0.9]])


@pytest.mark.parametrize(
    "make",
    [
        losses.CategoricalCrossentropy,
        losses.CategoricalFocalCrossentropy,
        lambda **k: losses.CategoricalCrossentropy(normalize=False, **k),
        lambda **k: (
            losses.CategoricalCrossentropy(**k)
            + losses.CategoricalFocalCrossentropy(**k)
        ),
    ],
    ids=["ce", "focal", "textbook", "sum"],
)
@pytest.mark.parametrize("from_logits", [False, True])
@pytest.mark.parametrize("shape", [(3,), (3, 1), (3, 2), (1, 3)])
def test_labels_that_are_not_one_hot_are_refused(make, from_logits, shape):
    y_pred = np.full((3, 3), 1 / 3, "float32")
    with pytest.raises(ValueError, match=r"one-hot.*SparseCategorical"):
        make(from_logits=from_logits)(np.ones(shape, "float32"), y_pred)


def test_gaussian_nll_takes_targets_without_a_last_axis():
    y_pred = np.random.default_rng(0).normal(size=(4, 3, 2))
    targets = np.arange(12.0).reshape(4, 3)
    loss = losses.GaussianNLL()
    want = float(loss(targets[..., None], y_pred))
    assert float(loss(targets, y_pred)) == want
    assert want == pytest.approx(
        reference.gaussian_nll(targets[..., None], y_pred).mean(), rel=1e-5
    )
