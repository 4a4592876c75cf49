"""The conformance kit run on every public class of this package."""

import inspect

import keras
import numpy as np
import pytest
from support.layer_cases import CASES

from keras_losskit import layers
from keras_losskit import losses
from keras_losskit import reductions
from keras_losskit import schedules
from keras_losskit import testing
from keras_losskit import weighting
from keras_losskit.losses._core.composition import parts_of
from keras_losskit.losses._core.composition import values_of
from keras_losskit.reductions._sample_values import SampleWatch
from keras_losskit.reductions._sample_values import watched_by

RNG = np.random.default_rng(0)
NUMBERS = RNG.uniform(0.1, 0.9, (4, 3)).astype("float32")
OTHERS = RNG.uniform(0.1, 0.9, (4, 3)).astype("float32")
LOGITS = RNG.normal(size=(4, 3)).astype("float32")
CLASSES = np.array([0, 2, 1, 2])
ONE_HOT = np.eye(3, dtype="float32")[CLASSES]
PROBABILITIES = (NUMBERS / NUMBERS.sum(-1, keepdims=True)).astype("float32")
SIGNS = np.sign(RNG.normal(size=(4, 3))).astype("float32")
BINARY = (SIGNS > 0).astype("float32")
PIXELS = RNG.integers(0, 3, (4, 2, 2))
MAPS = RNG.normal(size=(4, 2, 2, 3)).astype("float32")

MEAN_SQUARED = losses.MeanSquaredError(name="mse")


@keras.saving.register_keras_serializable("tests")
def size_of_error(y_true, y_pred):
    return keras.ops.mean(keras.ops.abs(y_true - y_pred), axis=-1)


@keras.saving.register_keras_serializable("tests")
def two_components(y_true, y_pred):
    error = keras.ops.abs(y_true - y_pred)
    return {"near": error, "far": error**2}


#: Arguments, labels and predictions; numbers against numbers where missing.
LOSSES = {
    "AsymmetricLoss": ({"from_logits": True}, BINARY, LOGITS),
    "BinaryCrossentropy": ({}, BINARY, NUMBERS),
    "BinaryFocalCrossentropy": ({}, BINARY, NUMBERS),
    "CTC": (
        {},
        np.array([[1, 2], [2, 1], [1, 1], [2, 2]]),
        RNG.normal(size=(4, 5, 3)).astype("float32"),
    ),
    "CategoricalCrossentropy": ({}, ONE_HOT, PROBABILITIES),
    "CategoricalFocalCrossentropy": ({}, ONE_HOT, PROBABILITIES),
    "CategoricalGeneralizedCrossEntropy": ({}, CLASSES, PROBABILITIES),
    "CategoricalHinge": ({}, ONE_HOT, LOGITS),
    "Circle": ({}, np.array([0, 1, 0, 1]), LOGITS),
    "Components": ({"loss": two_components, "names": ["near", "far"]},),
    "DeepSupervision": (
        {"loss": MEAN_SQUARED, "levels": 2},
        MAPS,
        [MAPS[::-1], MAPS[:, :1, :1]],
    ),
    "Dice": ({"axis": 1}, BINARY, NUMBERS),
    "Distillation": ({"temperature": 2.0}, LOGITS, LOGITS[::-1]),
    "FocalTversky": ({"from_logits": True}, PIXELS, MAPS),
    "FunctionLoss": ({"fn": size_of_error},),
    "GaussianNLL": ({}, NUMBERS, RNG.uniform(0.5, 1, (4, 6)).astype("float32")),
    "GeneralizedDice": ({"from_logits": True}, PIXELS, MAPS),
    "Hinge": ({}, SIGNS, LOGITS),
    "KLDivergence": ({}, PROBABILITIES, PROBABILITIES[::-1]),
    "KLToStandardNormal": ({}, None, LOGITS[:, :2]),
    "LinearCrossEntropy": (
        {"layer": "head", "label_smoothing": 0.1, "z_loss": 0.3},
        CLASSES,
        LOGITS,
    ),
    "LovaszSoftmax": ({"from_logits": True}, PIXELS, MAPS),
    "Masked": ({"loss": MEAN_SQUARED, "ignore_value": -1.0},),
    "Pinball": ({"quantile": 0.9},),
    "Poly1": ({"from_logits": True}, CLASSES, LOGITS),
    "SparseCategoricalCrossentropy": ({}, CLASSES, PROBABILITIES),
    "SparseCategoricalFocalCrossentropy": ({}, CLASSES, PROBABILITIES),
    "SquaredHinge": ({}, SIGNS, LOGITS),
    "Tversky": ({"axis": 1}, BINARY, NUMBERS),
    "WeightedSum": ({"losses": [MEAN_SQUARED, losses.Huber(name="huber")]},),
}


#: What CI runs on every backend; the rest where nothing is compiled.
QUICK = {
    *("Components", "Huber", "SparseCategoricalCrossentropy", "WeightedSum"),
    *("CVaR", "ClassWeighted", "TopK"),
    *("GradNorm", "RandomLossWeighting", "Uncertainty"),
    *("Dense", "Embedding", "LayerNormalization"),
}


def each(names):
    """Parametrize by name; slow where each is compiled several times."""
    slow = pytest.mark.slow if keras.config.backend() != "torch" else ()
    marked = [
        pytest.param(name, marks=() if name in QUICK else slow)
        for name in names
    ]
    return pytest.mark.parametrize("name", marked)


#: It compares samples with each other, whatever a mask leaves out afterwards.
SKIPPED = {"Circle": ["mask", "sample_weight"]}

REDUCTIONS = {
    "CVaR": {"alpha": 0.5},
    "ClassWeighted": {"weights": [1.0, 3.0]},
    "Quantile": {"q": 0.5},
    "Threshold": {"low": 0.9},
    "Tilted": {"t": 0.7},
    "TopK": {"k": 2},
    "TrimmedMean": {"fraction": 0.2},
}

WEIGHTINGS = {
    "CAGrad": {"c": 0.4},
    "Causal": {"times": [0.0, 1.0, 3.0], "slices": 2},
    "GroupDRO": {"groups": [0, 1, 1], "adjustment": 0.1},
    "LearningRateAnnealing": {"decay": 0.8, "reference": 1},
    "PCGrad": {"seed": 3},
    "RandomLossWeighting": {"seed": 3},
    "ReLoBRaLo": {"seed": 3},
    "ResidualBasedAttention": {"samples": 5, "initial": 0.5},
    "SelfAdaptive": {"samples": 5},
    "SelfPaced": {"threshold": 0.7},
    "SmallLoss": {"fraction": 0.4, "warmup": 2},
    "Uncertainty": {"clamp": [-5.0, 5.0]},
}


def classes_of(module, *bases):
    """Names of the public classes of a module that are no bases."""
    return [
        name
        for name in module.__all__
        if inspect.isclass(getattr(module, name)) and name not in bases
    ]


@each(classes_of(losses, "Loss", "Part"))
def test_loss(name):
    arguments, *data = LOSSES.get(name, ({},))
    loss = getattr(losses, name)(**arguments)
    testing.check_loss(
        loss, *data or (OTHERS, NUMBERS), skip=SKIPPED.get(name, ())
    )


@each(classes_of(losses, "Loss", "Part"))
def test_shares_of_samples_sum_to_the_loss(name):
    arguments, *data = LOSSES.get(name, ({},))
    y_true, y_pred = data or (OTHERS, NUMBERS)
    y_true = y_pred if y_true is None else y_true
    loss = getattr(losses, name)(**arguments)
    weight = None if name in SKIPPED else np.array([1.0, 0.0, 2.0, 0.5])
    with watched_by(SampleWatch()) as watch:
        values = values_of(loss, y_true, y_pred, weight)
    names = [part.name for part in parts_of(loss)]
    watch.assign(names, values)
    found = {key: noted.shares() for key, (noted,) in watch.found.items()}
    assert list(found) == names
    for key, value in zip(names, values, strict=True):
        shares = keras.ops.convert_to_numpy(found[key])
        assert shares.shape == (4,) and (weight is None or shares[1] == 0)
        np.testing.assert_allclose(shares.sum(), float(value), rtol=1e-5)


@each(classes_of(reductions, "Reduction"))
def test_reduction(name):
    reduction = getattr(reductions, name)(**REDUCTIONS.get(name, {}))
    testing.check_reduction(reduction, y_true=[0, 1] * 4)


@pytest.mark.parametrize(
    "name", ["sum_over_batch_size", "mean", "sum", "mean_with_sample_weight"]
)
def test_named_reduction(name):
    testing.check_reduction(name)
    # several values in a sample
    testing.check_reduction(name, RNG.uniform(0.5, 2.0, (8, 2)))


@each(
    classes_of(weighting, "Weighting", "GradientWeighting", "SampleWeighting")
)
def test_weighting(name):
    method = getattr(weighting, name)(**WEIGHTINGS.get(name, {}))
    testing.check_weighting(method)


def test_loss_with_a_schedule_and_a_reduction():
    loss = losses.Huber(
        reduction=reductions.TopK(fraction=0.5),
        weight=schedules.Linear(0.5, 1.0, epochs=3),
    )
    testing.check_loss(loss)


@each(
    # the others are called with a state or a query besides
    [n for n in CASES if not n.endswith(("Cell", "Attention"))]
)
def test_layer(name):
    args, arguments, shape = CASES[name]
    regularizers = {
        argument: "l2"
        for argument in inspect.signature(
            getattr(keras.layers, name).__init__
        ).parameters
        if argument.endswith("_regularizer")
    }
    layer = getattr(layers, name)(*args, **{**regularizers, **arguments})
    x = RNG.uniform(0.5, 2.0, shape).astype("float32")
    if "Embedding" in name:
        x = x.astype("int32")
    # Keras' own GRU raises there: its carry has two dtypes.
    fails = name == "GRU" and keras.config.backend() == "jax"
    testing.check_layer(layer, x, skip=["dtype"] if fails else [])


def size(values):
    return keras.ops.mean(values**2, axis=-1)


def test_layer_that_adds_a_loss():
    registered = keras.saving.register_keras_serializable("tests")(size)
    testing.check_layer(layers.AddLoss(registered, name="size", weight=0.1))
    testing.check_layer(layers.ActivityRegularization(l2=0.1))
