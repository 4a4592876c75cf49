"""The losses that Keras lacks, against formulas in NumPy and PyTorch."""

import inspect
import json

import keras
import numpy as np
import pytest
from autodiff import compiled
from autodiff import value_and_gradient
from keras import ops

from keras_losskit import losses
from keras_losskit.losses import catalogue

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 3, (2, 4, 5))
LABELS = np.array([0, 2, 1, 2])
MANY = RNG.integers(0, 2, (4, 6)).astype("float32")
TARGETS = RNG.normal(size=(4, 3)).astype("float32")


def softmax(x, axis=-1):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def class_sums(labels, p):
    y = np.eye(p.shape[-1])[labels]
    places = tuple(range(1, p.ndim - 1))
    return (y * p).sum(places), y.sum(places), p.sum(places)


def generalized_dice(labels, logits):
    hit, y, p = class_sums(labels, softmax(logits))
    values = []
    for i in range(len(hit)):
        present = y[i] > 0
        w = np.zeros(len(y[i]))
        w[present] = 1 / y[i][present] ** 2
        w[~present] = w.max()
        values.append(1 - 2 * (w * hit[i]).sum() / (w * (y[i] + p[i])).sum())
    return np.array(values)


def focal_tversky(labels, logits, alpha=0.7, beta=0.3, gamma=4 / 3):
    hit, y, p = class_sums(labels, softmax(logits))
    index = hit / (hit + alpha * (y - hit) + beta * (p - hit))
    return ((1 - index) ** (1 / gamma)).mean(-1)


def jaccard_loss(missed, truth):
    """1 - |A and B| / |A or B| when the places `missed` are wrong."""
    wrong = missed & truth, missed & ~truth
    return 1 - (truth.sum() - wrong[0].sum()) / (truth.sum() + wrong[1].sum())


def lovasz(labels, logits):
    """The Lovasz extension by its definition, one error after the other."""
    p = softmax(logits)
    values = []
    for image, probabilities in zip(labels, p, strict=True):
        image = image.reshape(-1)
        probabilities = probabilities.reshape(-1, p.shape[-1])
        per_class = []
        for c in np.unique(image):
            truth = image == c
            errors = np.abs(truth - probabilities[:, c])
            total, before = 0.0, 0.0
            missed = np.zeros(len(image), "bool")
            for place in np.argsort(-errors):
                missed[place] = True
                after = jaccard_loss(missed, truth)
                total += errors[place] * (after - before)
                before = after
            per_class.append(total)
        values.append(np.mean(per_class))
    return np.array(values)


def poly1(labels, logits, epsilon=1.0):
    p = softmax(logits)[np.arange(len(labels)), labels]
    return -np.log(p) + epsilon * (1 - p)


def asymmetric(y, logits, positive=1.0, negative=4.0, margin=0.05):
    p = sigmoid(logits)
    shifted = np.maximum(p - margin, 0)
    holds = y * (1 - p) ** positive * np.log(p)
    does_not = (1 - y) * shifted**negative * np.log(1 - shifted)
    return -(holds + does_not).mean(-1)


def pinball(y, prediction, q=0.9):
    error = y - prediction
    return np.where(error > 0, q * error, (q - 1) * error).mean(-1)


def gaussian_nll(y, prediction, full=False):
    m, s = np.split(prediction, 2, -1)
    density = -0.5 * (np.log(2 * np.pi) * full + s + (y - m) ** 2 / np.exp(s))
    return -density.mean(-1)


def kl(y, prediction):
    m, s = np.split(prediction, 2, -1)
    return 0.5 * (np.exp(s) + m**2 - 1 - s).sum(-1)


def distillation(teacher, student, temperature=3.0):
    p, q = softmax(teacher / temperature), softmax(student / temperature)
    return temperature**2 * (p * np.log(p / q)).sum(-1)


def normal(*shape):
    return np.random.default_rng(7).normal(size=shape).astype("float32")


#: loss, targets, predictions, and the formula for the values per sample.
CASES = {
    "generalized_dice": (
        losses.GeneralizedDice(from_logits=True),
        PIXELS,
        normal(2, 4, 5, 3),
        generalized_dice,
    ),
    "generalized_dice, a class absent": (
        losses.GeneralizedDice(from_logits=True),
        np.minimum(PIXELS, 1),
        normal(2, 4, 5, 3),
        generalized_dice,
    ),
    "focal_tversky": (
        losses.FocalTversky(from_logits=True),
        PIXELS,
        normal(2, 4, 5, 3),
        focal_tversky,
    ),
    "lovasz_softmax": (
        losses.LovaszSoftmax(from_logits=True),
        PIXELS,
        normal(2, 4, 5, 3),
        lovasz,
    ),
    "poly1": (
        losses.Poly1(from_logits=True),
        LABELS,
        normal(4, 3),
        poly1,
    ),
    "asymmetric_loss": (
        losses.AsymmetricLoss(from_logits=True),
        MANY,
        normal(4, 6),
        asymmetric,
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
        lambda y, x: asymmetric(y, x, 0.0, 2.0, 0.0),
    ),
    "pinball": (
        losses.Pinball(quantile=0.9),
        TARGETS,
        normal(4, 3),
        pinball,
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
        gaussian_nll,
    ),
    "gaussian_nll, full": (
        losses.GaussianNLL(full=True),
        TARGETS,
        normal(4, 6),
        lambda y, x: gaussian_nll(y, x, True),
    ),
    "kl_to_standard_normal": (
        losses.KLToStandardNormal(),
        np.zeros((4, 1)),
        normal(4, 6),
        kl,
    ),
    "distillation": (
        losses.Distillation(temperature=3.0),
        TARGETS,
        normal(4, 3),
        distillation,
    ),
}
each = pytest.mark.parametrize(
    ("loss", "y_true", "y_pred", "formula"), list(CASES.values()), ids=CASES
)


def test_every_further_loss_is_checked():
    checked = {type(case[0]) for case in CASES.values()}
    assert checked == set(catalogue.FURTHER_LOSSES.values())
    for name, cls in catalogue.FURTHER_LOSSES.items():
        assert cls().name == name
        assert type(losses.get(name)) is cls
        assert losses.get(cls.__name__).name == name
        assert getattr(losses, name) in catalogue.BY_FUNCTION


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
        got = float(cls()(labels, softmax(logits)))
        assert got == pytest.approx(want, rel=1e-4)
    with pytest.raises(ValueError, match="Expected labels"):
        cls()(PIXELS[0, 0], softmax(logits))


def test_probabilities_give_the_same_asymmetric_loss():
    logits = normal(4, 6)
    got = float(losses.AsymmetricLoss()(MANY, sigmoid(logits)))
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
    want = lovasz(PIXELS.reshape(1, 8, 5), logits.reshape(1, 8, 5, 3))[0]
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
