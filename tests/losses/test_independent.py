"""Our losses against packages that others wrote: optax, MONAI, PyTorch.

Random inputs, values and gradients. `optax` is on the JAX leg, `monai` on the
PyTorch leg.
"""

import importlib.util

import keras
import numpy as np
import pytest
from support.autodiff import value_and_gradient

from keras_losskit import losses

BACKEND = keras.config.backend()
SAMPLES, PLACES, CLASSES = 5, 30, 4

rng = np.random.default_rng(7)
LOGITS = rng.normal(size=(SAMPLES, CLASSES)).astype("float32") * 2
LABELS = rng.integers(0, CLASSES, SAMPLES)
ONE_HOT = np.eye(CLASSES, dtype="float32")[LABELS]
SEVERAL = rng.integers(0, 2, (SAMPLES, CLASSES)).astype("float32")
TARGETS = rng.normal(size=(SAMPLES, CLASSES)).astype("float32")
# Every class is present in every map: packages differ in what absence costs.
MAPS = np.eye(CLASSES, dtype="float32")[
    rng.permuted(np.tile(np.arange(PLACES) % CLASSES, (SAMPLES, 1)), axis=1)
]
MAP_LOGITS = rng.normal(size=MAPS.shape).astype("float32")


def needs(package, backend):
    return pytest.mark.skipif(
        BACKEND != backend or importlib.util.find_spec(package) is None,
        reason=f"{package} is on the {backend} leg",
    )


def same(ours, theirs, y_true, y_pred, rtol=1e-5):
    """Values and gradients agree."""
    got = value_and_gradient(lambda x: ours(y_true, x), y_pred)
    want = value_and_gradient(lambda x: theirs(y_true, x), y_pred)
    for one, other in zip(got, want, strict=True):
        np.testing.assert_allclose(one, other, rtol=rtol, atol=1e-6)


OPTAX = {
    "poly1": (
        losses.Poly1(epsilon=1.5, from_logits=True),
        lambda o, y, x: o.poly_loss_cross_entropy(x, y, epsilon=1.5).mean(),
        ONE_HOT,
        LOGITS,
    ),
    "cross-entropy of labels": (
        losses.SparseCategoricalCrossentropy(from_logits=True),
        lambda o, y, x: o.softmax_cross_entropy_with_integer_labels(
            x, y
        ).mean(),
        LABELS,
        LOGITS,
    ),
    "cross-entropy, textbook": (
        losses.CategoricalCrossentropy(from_logits=True, normalize=False),
        lambda o, y, x: o.softmax_cross_entropy(x, y).mean(),
        0.5 * ONE_HOT,
        LOGITS,
    ),
    "label smoothing": (
        losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.2),
        lambda o, y, x: o.softmax_cross_entropy(
            x, o.smooth_labels(y, 0.2)
        ).mean(),
        ONE_HOT,
        LOGITS,
    ),
    "binary focal": (
        losses.BinaryFocalCrossentropy(
            from_logits=True, gamma=1.5, alpha=0.3, apply_class_balancing=True
        ),
        lambda o, y, x: o.sigmoid_focal_loss(x, y, alpha=0.3, gamma=1.5).mean(),
        SEVERAL,
        LOGITS,
    ),
    "huber": (
        losses.Huber(delta=0.7),
        lambda o, y, x: o.huber_loss(x, y, delta=0.7).mean(),
        TARGETS,
        LOGITS,
    ),
    "log-cosh": (
        losses.LogCosh(),
        lambda o, y, x: o.log_cosh(x, y).mean(),
        TARGETS,
        LOGITS,
    ),
    "distillation": (
        losses.Distillation(temperature=2.0),
        lambda o, y, x: (
            4.0
            * o.kl_divergence_with_log_targets(
                log_softmax(x / 2), log_softmax(y / 2)
            ).mean()
        ),
        TARGETS,
        LOGITS,
    ),
}


def log_softmax(x):
    return keras.ops.log_softmax(x)


@needs("optax", "jax")
@pytest.mark.parametrize("case", OPTAX)
def test_equals_optax(case):
    import optax

    ours, theirs, y_true, y_pred = OPTAX[case]
    same(ours, lambda y, x: theirs(optax.losses, y, x), y_true, y_pred)


MONAI = {
    "generalized dice": (
        losses.GeneralizedDice(from_logits=True),
        "GeneralizedDiceLoss",
        {"softmax": True, "smooth_nr": 0.0, "smooth_dr": 0.0},
    ),
    "dice": (
        losses.Dice(axis=(1,), from_logits=True),
        "DiceLoss",
        {"softmax": True},
    ),
    "tversky": (
        losses.FocalTversky(alpha=0.6, beta=0.4, gamma=1.0, from_logits=True),
        "TverskyLoss",
        # Theirs weighs false positives with alpha.
        {"softmax": True, "alpha": 0.4, "beta": 0.6},
    ),
    "focal": (
        losses.CategoricalFocalCrossentropy(
            from_logits=True, alpha=1.0, gamma=2.5
        ),
        "FocalLoss",
        {"use_softmax": True, "gamma": 2.5},
    ),
}


@needs("monai", "torch")
@pytest.mark.parametrize("case", MONAI)
def test_equals_monai(case):
    import torch
    from monai import losses as monai

    ours, name, settings = MONAI[case]
    theirs = getattr(monai, name)(**settings)

    def channels_first(y, x):
        total = theirs(x.movedim(-1, 1), torch.as_tensor(y).movedim(-1, 1))
        # Theirs takes the mean over the classes, Keras the sum.
        return total * CLASSES if name == "FocalLoss" else total

    same(ours, channels_first, MAPS, MAP_LOGITS, rtol=1e-4)
