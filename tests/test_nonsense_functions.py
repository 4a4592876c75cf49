"""Nonsense for the arguments of every public function, as for constructors.

Not for data: of inputs, labels, weights of samples and of layers Keras says
what it cannot use.
"""

import inspect
import itertools
import os
import types

import keras
import numpy as np
import pytest
from support.nonsense import NONSENSE
from support.nonsense import in_words_of_the_user
from support.nonsense import refusal
from support.results import record

import keras_losskit as losskit
from keras_losskit import extra
from keras_losskit import layers
from keras_losskit import losses
from keras_losskit import reductions
from keras_losskit import testing
from keras_losskit import weighting

DATA = {"x", "y", "y_true", "y_pred", "sample_weight", "weight"}
DATA |= {"features", "kernel", "bias"}
NUMBERS = {"zero", "minus one", "minus a half", "a half"}
NON_NEGATIVE = {"zero", "a half"}
POSITIVE = {"a half"}
FLAG = {"True"}
OPTIONAL = {"None"}
NO = set()
NAME = {"a word", "half a pattern", "no characters"}
NAMES = {"an empty list"}


def dense_model():
    inputs = keras.Input((2,))
    model = losskit.Model(inputs, keras.layers.Dense(1)(inputs))
    model.compile("sgd", "mse")
    return model


MODEL = dense_model()
X, Y = np.ones((4, 2), "float32"), np.ones((4, 1), "float32")
HISTORY = {"loss": [2.0, 1.0], "kl_weight": [0.0, 1.0]}
REPORT = types.SimpleNamespace(names=["a", "b"], cosines=np.eye(2))
SAMPLES = types.SimpleNamespace(ids=[0, 1], contributions={"mse": [2.0, 1.0]})
CLASSES = {
    "y_true": np.eye(3, dtype="float32"),
    "y_pred": np.full((3, 3), 0.3, "float32"),
}
SPARSE = CLASSES | {"y_true": np.array([0, 1, 2])}
NORMAL = {"y_true": Y, "y_pred": np.ones((4, 2), "float32")}
LOSS = losses.MeanSquaredError()

# {function: (the arguments of a call that is right, {argument: what it can use
# of the nonsense})}; the others are data.
CASES = {
    losskit.collect_losses: ({"model": MODEL}, {"model": {"a layer"}}),
    losskit.gradient_report: (
        {"model": MODEL, "x": X, "y": Y},
        {"model": NO, "wrt": OPTIONAL},
    ),
    losskit.gradient_noise_scale: (
        {"model": MODEL, "x": X, "y": Y, "batch_size": 1},
        {"model": NO, "wrt": OPTIONAL, "batch_size": NO},
    ),
    losskit.sample_report: (
        {"model": MODEL, "x": X, "y": Y},
        {
            "model": NO,
            "ids": OPTIONAL,
            "top": OPTIONAL,
            "batch_size": NO,
            "wrt": OPTIONAL,
        },
    ),
    losskit.summary: (
        {"model": MODEL},
        {"model": NO, "console": OPTIONAL},
    ),
    losskit.report: (
        {"history": HISTORY, "path": os.devnull},
        {
            "history": NO,
            "path": NAME,
            "names": OPTIONAL | NAMES,
            "model": OPTIONAL,
            "data": OPTIONAL,
        },
    ),
    losskit.plot_terms: (
        {"history": HISTORY},
        {"history": NO, "stack": NO, "log_scale": FLAG},
    ),
    losskit.plot_weights: (
        {"history": HISTORY},
        {"history": NO, "ax": OPTIONAL, "log_scale": FLAG},
    ),
    losskit.with_ids: ({"x": X}, {"ids": OPTIONAL}),
    losskit.plot_samples: (
        {"report": SAMPLES},
        {"report": NO, "ax": OPTIONAL},
    ),
    losskit.plot_gradient_conflicts: (
        {"report": REPORT},
        {"report": NO, "ax": OPTIONAL},
    ),
    losskit.wrap: ({"model": dense_model()}, {"model": NO}),
    losskit.unwrap: ({"model": MODEL}, {"model": NO}),
    losskit.LossTerm: (
        {"name": "a", "kind": "compiled", "value": 1.0},
        {
            "name": NAME,
            "kind": NO,
            "path": NAME | OPTIONAL,
            "output": NAME | OPTIONAL,
            "label": NAME | OPTIONAL,
        },
    ),
    losskit.LossTerms: (
        {"terms": []},
        {"terms": {"an empty list", "an empty dict", "no characters"}},
    ),
    extra.input_gradient: (
        {"fn": abs, "x": X},
        {"fn": {"a layer", "a reduction", "a term"}},
    ),
    extra.group_lasso: ({"weight": X}, {}),
    extra.orthogonality: ({"weight": X}, {}),
    extra.spectral_norm: ({"weight": X}, {}),
    losses.asymmetric_loss: (
        CLASSES,
        {
            "gamma_positive": NON_NEGATIVE,
            "gamma_negative": NON_NEGATIVE,
            "margin": NON_NEGATIVE,
            "from_logits": FLAG,
        },
    ),
    losses.charbonnier: (CLASSES, {"epsilon": POSITIVE}),
    losses.distillation: (CLASSES, {"temperature": POSITIVE}),
    losses.focal_tversky: (
        CLASSES,
        {
            "alpha": NON_NEGATIVE,
            "beta": NON_NEGATIVE,
            "gamma": POSITIVE,
            "from_logits": FLAG,
        },
    ),
    losses.gaussian_nll: (NORMAL, {"full": FLAG, "min_variance": POSITIVE}),
    losses.generalized_dice: (CLASSES, {"from_logits": FLAG}),
    losses.kl_to_standard_normal: (NORMAL, {}),
    losses.linear_cross_entropy: (
        {"y_true": np.array([0, 1, 1, 0]), "features": X, "kernel": X[:2]},
        {
            "ignore_class": {"zero", "minus one"} | OPTIONAL,
            "label_smoothing": NON_NEGATIVE,
            "z_loss": NON_NEGATIVE,
            "softcap": POSITIVE | OPTIONAL,
            "chunk_size": OPTIONAL,
        },
    ),
    losses.lovasz_softmax: (CLASSES, {"per_image": FLAG, "from_logits": FLAG}),
    losses.pinball: (CLASSES, {"quantile": POSITIVE}),
    losses.poly1: (CLASSES, {"epsilon": NUMBERS, "from_logits": FLAG}),
    losses.sparse_categorical_focal_crossentropy: (
        SPARSE,
        {
            "alpha": NON_NEGATIVE,
            "gamma": NON_NEGATIVE,
            "from_logits": FLAG,
            "ignore_class": OPTIONAL | {"zero", "minus one"},
            "axis": {"minus one", "zero"},
        },
    ),
    losses.evaluate: ({"loss": LOSS, **CLASSES}, {"loss": NO}),
    losses.has_default_name: ({"loss": LOSS}, {"loss": NO}),
    reductions.get: (
        {"identifier": "sum"},
        {"identifier": OPTIONAL | {"a reduction"}},
    ),
    reductions.is_unreduced: (
        {"identifier": "sum"},
        {"identifier": OPTIONAL | {"a reduction"}},
    ),
    reductions.serialize: (
        {"identifier": "sum"},
        {"identifier": OPTIONAL | {"a reduction"}},
    ),
    testing.check_layer: (
        {"layer": layers.Dense(1), "x": X},
        {"layer": {"a layer"}, "rtol": POSITIVE, "skip": NAMES},
    ),
    testing.check_loss: (
        {"loss": LOSS},
        {"loss": NO, "rtol": POSITIVE, "skip": NAMES},
    ),
    testing.check_reduction: (
        {"reduction": "sum"},
        {
            "reduction": {"a reduction", "None"},
            "values": OPTIONAL,
            "rtol": POSITIVE,
            "skip": NAMES,
        },
    ),
    testing.check_weighting: (
        {"weighting": weighting.Equal()},
        {"weighting": NO, "terms": NO, "skip": NAMES},
    ),
}
# A newer Keras has some of them, and then they are Keras'.
CASES = {
    function: case
    for function, case in CASES.items()
    if function.__module__.startswith("keras_losskit")
}
# What of nonsense is no error of the package: a name that Keras looks up, an
# object that goes to the processes of the other backends unread.
LOOKED_UP_ELSEWHERE = {
    losses.get,
    losses.serialize,
    losses.deserialize,
    losskit.data_parallel,
}


def calls():
    """`(function, argument, what it can use, the others of a right call)`."""
    for function, (base, legal) in CASES.items():
        for argument, usable in legal.items():
            others = {k: v for k, v in base.items() if k != argument}
            yield function, argument, usable, others


@pytest.fixture(autouse=True)
def no_pictures():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("Agg")
    yield
    pyplot.close("all")


@pytest.mark.parametrize(
    ("function", "argument", "usable", "others"),
    [
        pytest.param(*call, id=f"{call[0].__name__}-{call[1]}")
        for call in calls()
    ],
)
def test_nonsense_is_refused_in_the_words_of_the_user(
    function, argument, usable, others
):
    wrong = {}
    for name, value in NONSENSE.items():
        if name in usable:
            continue
        message = refusal(function, {**others, argument: value})
        if message is None:
            wrong[name] = "accepted"
        elif not in_words_of_the_user(message):
            wrong[name] = message
    assert wrong == {}


@pytest.mark.parametrize("function", CASES, ids=lambda one: one.__name__)
def test_what_is_right_is_taken(function):
    assert refusal(function, CASES[function][0]) is None


def test_every_function_is_called_with_every_argument():
    modules = (losskit, extra, layers, losses, reductions, testing, weighting)
    public = {
        value
        for module in modules
        for value in (getattr(module, name) for name in module.__all__)
        if inspect.isfunction(value)
        and value.__module__.startswith("keras_losskit")
    }
    assert public - LOOKED_UP_ELSEWHERE <= set(CASES)
    for function, (_, legal) in CASES.items():
        if inspect.isfunction(function):
            parameters = set(inspect.signature(function).parameters)
            assert parameters - DATA <= set(legal), function
    arguments = list(itertools.chain(*(legal for _, legal in CASES.values())))
    assert len(arguments) >= 50
    facts = {
        "functions": len(CASES),
        "arguments": len(arguments),
        "values tried": len(arguments) * len(NONSENSE),
        "silent acceptances of what cannot work": 0,
        "errors in words of the inside": 0,
    }
    record("nonsense-functions", "Nonsense for every function", facts)
