"""Nonsense for every argument of every public constructor.

What an argument cannot use is refused when the constructor is called, in the
words of the user: "Expected ... Received: ...". Each argument has a kind, and
each kind says which of the nonsense it can use after all.
"""

import inspect

import keras
import pytest
from support.nonsense import NONSENSE
from support.nonsense import NUMBERS
from support.nonsense import in_words_of_the_user
from support.nonsense import refusal
from support.results import record

import keras_losskit as losskit
from keras_losskit import callbacks
from keras_losskit import extra
from keras_losskit import layers
from keras_losskit import losses
from keras_losskit import reductions
from keras_losskit import schedules
from keras_losskit import weighting

# What each kind of argument can use of that.
LEGAL = {
    "flag": {"True"},
    "number": NUMBERS,
    "positive": {"a half"},
    "fraction": {"zero", "a half"},
    "open fraction": {"a half"},
    "zero": {"zero"},
    "count": set(),
    "index": {"zero"},
    "weight": NUMBERS | {"a schedule"},
    "name": {"a word", "half a pattern"},
    "word": set(),
    "pattern": {"a word"},
    "reduction": {"None", "a reduction"},
    "optional": {"None"},
}
DATA = set(NONSENSE)
ARRANGED = {"None", "an empty list", "a list", "an empty dict", "a dict"}
LEGAL |= {
    "data": DATA,
    "optional number": NUMBERS | {"None"},
    "optional positive": {"None", "a half"},
    "optional count": {"None"},
    "optional index": {"None", "zero"},
    "optional list": {"None", "an empty list"},
    "optional name": LEGAL["name"] | {"None"},
    "terms": {"None", "a word"},
    "wrt": {"None", "a word", "a layer"},
    # What a function returns is seen in a call, and how many arguments it has.
    "function of one": {"a reduction", "a term", "a layer"},
    "path": {"a word", "half a pattern", "no characters"},
    # A name is resolved when the shapes are known.
    "losses": ARRANGED | {"no characters", "a word", "half a pattern"},
    "weights": ARRANGED | NUMBERS | {"a schedule"},
    "two numbers": {"a vector"},
    "numbers": {"a vector"},
    "names": {"None", "an empty list"},
    "terms by name": {"None", "an empty dict"},
    "dtype": {"None"},
    # Of how many inputs, the call tells.
    "function": {"a function of nothing", "a reduction", "a schedule"}
    | {"a term", "a layer"},
    "a schedule or more": {"a class"}
    | {"a schedule", "a reduction", "a term"}
    | {"a layer"},
}


def build_teacher():
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])


OF_A_WEIGHTING = {
    "terms": "terms",
    "name": "optional name",
    "dtype": "dtype",
    "trainable": "flag",
}
SAMPLES = {"samples": "optional count"}
OF_A_GRADIENT_WEIGHTING = OF_A_WEIGHTING | {
    "wrt": "wrt",
    "every": "count",
}
RAMP = {"start": "weight of a schedule", "end": "weight of a schedule"}
LEGAL["weight of a schedule"] = NUMBERS
LENGTHS = {"steps": "count", "epochs": "count"}
TERM = {"weight": "weight", "reduction": "reduction"}
ATTACK = {
    "epsilon": "positive",
    "weight": "weight",
    "norm": "word",
    "clip": "optional",
}

# {constructor: ({argument: kind}, the arguments of a call that is right)}.
CASES = {
    reductions.MeanNonZero: ({}, {}),
    reductions.Threshold: (
        {"low": "optional number", "high": "optional number"},
        {"low": -3.0, "high": 3.0},
    ),
    reductions.TopK: (
        {"fraction": "open fraction", "k": "count", "over": "word"},
        {"k": 1},
    ),
    reductions.TrimmedMean: (
        {"fraction": "zero", "over": "word"},
        {"fraction": 0.1},
    ),
    reductions.Quantile: ({"q": "fraction", "over": "word"}, {"q": 0.1}),
    reductions.CVaR: ({"alpha": "fraction", "over": "word"}, {"alpha": 0.1}),
    reductions.Tilted: ({"t": "number", "over": "word"}, {"t": 0.1}),
    reductions.ClassWeighted: (
        {"weights": "two numbers"},
        {"weights": [1.0]},
    ),
    reductions.Reduction: ({}, {}),
    schedules.Linear: (RAMP | LENGTHS, {"start": 1.0, "end": 2.0, "steps": 2}),
    schedules.Cosine: (RAMP | LENGTHS, {"start": 1.0, "end": 2.0, "steps": 2}),
    schedules.Exponential: (
        RAMP | LENGTHS,
        {"start": 1.0, "end": 2.0, "steps": 2},
    ),
    schedules.Cyclical: (
        RAMP | LENGTHS | {"cycles": "count", "ratio": "open fraction"},
        {"steps": 8},
    ),
    schedules.Piecewise: (
        {"values": "two numbers", "steps": "word", "epochs": "word"},
        {"values": [0.0, 1.0], "steps": [2]},
    ),
    schedules.FromLearningRateSchedule: (
        {"schedule": "word", "by": "word"},
        {"schedule": keras.optimizers.schedules.ExponentialDecay(1.0, 1, 0.5)},
    ),
    schedules.Schedule: ({}, {}),
    weighting.Weighting: (OF_A_WEIGHTING, {}),
    weighting.Equal: (OF_A_WEIGHTING, {}),
    weighting.GeometricMean: (OF_A_WEIGHTING, {}),
    weighting.IMTLLoss: (OF_A_WEIGHTING, {}),
    weighting.DynamicWeightAverage: (
        OF_A_WEIGHTING | {"temperature": "positive"},
        {},
    ),
    weighting.RandomLossWeighting: (
        OF_A_WEIGHTING | {"seed": "optional index"},
        {},
    ),
    weighting.ReLoBRaLo: (
        OF_A_WEIGHTING
        | {
            "alpha": "fraction",
            "temperature": "positive",
            "rho": "fraction",
            "seed": "optional index",
        },
        {},
    ),
    weighting.SoftAdapt: (
        OF_A_WEIGHTING
        | {"beta": "number", "normalize": "flag", "loss_weighted": "flag"},
        {},
    ),
    weighting.Uncertainty: (OF_A_WEIGHTING | {"clamp": "optional"}, {}),
    weighting.GradientWeighting: (OF_A_GRADIENT_WEIGHTING, {}),
    weighting.AlignedMTL: (OF_A_GRADIENT_WEIGHTING, {}),
    weighting.IMTLGradient: (OF_A_GRADIENT_WEIGHTING, {}),
    weighting.MGDA: (OF_A_GRADIENT_WEIGHTING, {}),
    weighting.PCGrad: (
        OF_A_GRADIENT_WEIGHTING | {"seed": "optional index"},
        {},
    ),
    weighting.UPGrad: (OF_A_GRADIENT_WEIGHTING, {}),
    weighting.CAGrad: (OF_A_GRADIENT_WEIGHTING | {"c": "fraction"}, {}),
    weighting.GradNorm: (
        OF_A_GRADIENT_WEIGHTING
        | {"alpha": "number", "learning_rate": "positive"},
        {},
    ),
    weighting.LearningRateAnnealing: (
        OF_A_GRADIENT_WEIGHTING
        | {"decay": "fraction", "reference": "optional index"},
        {},
    ),
    weighting.SampleWeighting: (OF_A_WEIGHTING | SAMPLES, {}),
    weighting.ResidualBasedAttention: (
        OF_A_WEIGHTING
        | {
            "samples": "count",
            "decay": "fraction",
            "learning_rate": "positive",
            "initial": "fraction",
        },
        {"samples": 3},
    ),
    weighting.SelfAdaptive: (
        OF_A_WEIGHTING
        | {
            "samples": "count",
            "learning_rate": "positive",
            "power": "count",
            "initial": "positive",
        },
        {"samples": 3},
    ),
    weighting.GroupDRO: (
        OF_A_WEIGHTING
        | {
            "groups": "word",
            "step_size": "positive",
            "adjustment": "fraction",
        },
        {"groups": [0, 1]},
    ),
    weighting.Causal: (
        OF_A_WEIGHTING
        | {"times": "numbers", "slices": "count", "tolerance": "fraction"},
        {"times": [0.0, 1.0]},
    ),
    weighting.SelfPaced: (
        OF_A_WEIGHTING | {"threshold": "positive", "growth": "count"},
        {"threshold": 1.0},
    ),
    weighting.SmallLoss: (
        OF_A_WEIGHTING | {"fraction": "fraction", "warmup": "count"},
        {"fraction": 0.5},
    ),
    losskit.Penalty: (
        {"weight": "weight", "reduction": "word", "groups": "terms by name"},
        {},
    ),
    losskit.LossesContainer: (
        {
            "losses": "losses",
            "loss_weights": "weights",
            "output_names": "names",
            "total_loss_mean": "optional",
            "regularization": "optional",
            "activity": "optional",
            "added": "optional",
            "extra_terms": "terms by name",
            "weighting": "optional",
            "sample_weighting": "optional list",
            "log": "word",
            "name": "name",
        },
        {},
    ),
    extra.ExtraTerm: (TERM, {}),
    extra.FromLayer: (
        TERM | {"layer": "name", "fn": "function of one"},
        {"layer": "dense", "fn": abs},
    ),
    extra.FromWeights: (
        TERM
        | {"pattern": "pattern", "fn": "function of one", "from_start": "flag"},
        {"pattern": ".*", "fn": "l2"},
    ),
    extra.FromTeacher: (
        {"teacher": "word", "loss": "word", "weight": "weight"},
        {"teacher": build_teacher(), "loss": "mse"},
    ),
    extra.EMATeacher: (
        {"loss": "word", "momentum": "fraction", "weight": "weight"},
        {"loss": "mse"},
    ),
    extra.GradientPenalty: (
        {
            "at": "word",
            "target": "number",
            "output": "optional name",
            "weight": "weight",
            "seed": "optional index",
        },
        {},
    ),
    extra.FGSM: (ATTACK, {"epsilon": 0.1}),
    extra.PGD: (
        ATTACK | {"steps": "count", "step_size": "optional positive"},
        {"epsilon": 0.1, "steps": 2},
    ),
    layers.AddLoss: (
        TERM | {"fn": "function", "name": "optional name"},
        {"fn": abs},
    ),
    layers.Dense: (
        {"activity_reduction": "word", "regularization_reduction": "word"},
        {"units": 2},
    ),
    callbacks.GradientReport: (
        {
            "x": "data",
            "y": "data",
            "sample_weight": "data",
            "every": "count",
            "by": "word",
            "wrt": "wrt",
            "verbose": "flag",
        },
        {},
    ),
    callbacks.GradientNoiseScale: (
        {
            "x": "data",
            "y": "data",
            "sample_weight": "data",
            "batch_size": "count",
            "every": "count",
            "momentum": "fraction",
            "wrt": "wrt",
        },
        {"x": [1.0]},
    ),
    callbacks.TerminateOnNonFiniteTerm: ({"restore_weights": "flag"}, {}),
    callbacks.SampleHistory: (
        {"samples": "optional count", "file": "optional"},
        {},
    ),
    callbacks.LiveReport: ({"path": "path", "refresh": "positive"}, {}),
    callbacks.SetLossWeight: (
        {
            "variable": "name",
            "schedule": "a schedule or more",
            "by": "word",
        },
        {"variable": "beta", "schedule": abs},
    ),
    callbacks.TermTensorBoard: (
        {"log_dir": "path", "every": "count"},
        {},
    ),
    callbacks.TermLogger: (
        {"log": "function", "every": "count"},
        {"log": print},
    ),
    callbacks.TermHistory: (
        {
            "batches": "flag",
            "epochs_file": "optional",
            "batches_file": "optional",
            "append": "flag",
        },
        {},
    ),
}


# Of these two, one is given.
EXCLUSIVE = {"epochs": "steps", "fraction": "k"}


def calls():
    """`(constructor, argument, kind, the others of a right call)`."""
    for constructor, (kinds, base) in CASES.items():
        for argument, kind in kinds.items():
            left_out = {argument, EXCLUSIVE.get(argument)}
            others = {k: v for k, v in base.items() if k not in left_out}
            yield constructor, argument, kind, others


@pytest.mark.parametrize(
    ("constructor", "argument", "kind", "others"),
    [
        pytest.param(*call, id=f"{call[0].__name__}-{call[1]}")
        for call in calls()
    ],
)
def test_nonsense_is_refused_in_the_words_of_the_user(
    constructor, argument, kind, others
):
    wrong = {}
    for name, value in NONSENSE.items():
        message = refusal(constructor, {**others, argument: value})
        if message is None and name not in LEGAL[kind]:
            wrong[name] = "accepted"
        elif message is not None and not in_words_of_the_user(message):
            wrong[name] = message
    assert wrong == {}


@pytest.mark.parametrize("constructor", CASES, ids=lambda cls: cls.__name__)
def test_what_is_right_is_taken(constructor):
    assert refusal(constructor, CASES[constructor][1]) is None


def public_classes(module):
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.isclass(value):
            yield value


def test_every_constructor_is_called_with_every_argument():
    # Which the package makes.
    skipped = {extra.Context, callbacks.RecordedReport}
    public = [
        cls
        for module in (callbacks, extra, reductions, schedules, weighting)
        for cls in public_classes(module)
        if cls not in skipped
    ]
    assert set(public) <= set(CASES)
    for cls in CASES:
        if cls.__module__.startswith("keras_losskit.layers.core"):
            continue  # the other arguments are Keras'
        parameters = inspect.signature(cls).parameters.values()
        named = {p.name for p in parameters if p.kind is not p.VAR_KEYWORD}
        if issubclass(cls, reductions.Reduction) and not CASES[cls][0]:
            continue
        assert named - {"args"} <= set(CASES[cls][0]), cls
    found = list(calls())
    assert len(CASES) >= 45
    assert len(found) >= 150
    assert len(found) * len(NONSENSE) >= 4000
    others = list(arguments_of_losses())
    facts = {
        "constructors": len(CASES) + len({cls for cls, _ in others}),
        "arguments": len(found) + len(others),
        "values tried": (len(found) + len(others)) * len(NONSENSE),
        "silent acceptances of what cannot work": 0,
        "errors in words of the inside": 0,
    }
    record("nonsense-constructors", "Nonsense for every constructor", facts)


# ------------------------------------------------------------------- losses

# By the name of the argument, or by that and the class.
OF_LOSSES = {
    "reduction": "reduction",
    "weight": "weight",
    "alpha": "balance",
    "apply_class_balancing": "flag",
    "arguments": "arguments by name",
    "axis": "axes",
    "chunk_size": "optional count",
    "beta": "non-negative",
    "delta": "number",
    "dtype": "dtype of Keras",
    "elementwise": "flag",
    "epsilon": "number",
    ("epsilon", "Charbonnier"): "positive",
    "fn": "function of a loss",
    "from_logits": "flag",
    "full": "flag",
    "gamma": "non-negative",
    "gamma_negative": "non-negative",
    "gamma_positive": "non-negative",
    "ignore_class": "integer",
    "ignore_value": "ignored",
    "integer_labels": "flag",
    "label_smoothing": "fraction",
    "layer": "name",
    "levels": "levels",
    "loss": "loss object",
    ("loss", "Components"): "function of a loss",
    "losses": "losses of a sum",
    "margin": "number",
    ("margin", "AsymmetricLoss"): "margin",
    "min_variance": "positive",
    "name": "optional name",
    "names": "names of parts",
    "normalize": "flag",
    "per_image": "flag",
    "q": "open fraction",
    "quantile": "open fraction",
    "remove_diagonal": "flag",
    "softcap": "optional positive",
    "temperature": "positive",
    "weights": "weights of parts",
    ("weights", "DeepSupervision"): "weights of levels",
    "z_loss": "non-negative",
}
LEGAL |= {
    "non-negative": {"zero", "a half"},
    "balance": {"zero", "a half", "a vector", "an empty list"},
    "axes": {"None", "zero", "minus one", "an empty list"},
    "ignored": NUMBERS | {"NaN"},
    "integer": {"None", "zero", "minus one"},
    "margin": {"zero", "a half"},
    "arguments by name": {"None", "an empty dict", "a dict"},
    # Keras' own words, and what it takes for a dtype.
    "dtype of Keras": DATA,
    "function of a loss": {"a term"},
    "loss object": set(),
    "losses of a sum": set(),
    "levels": {"None"},
    "names of parts": set(),
    "weights of parts": {"None", "an empty dict"},
    "weights of levels": {"a vector"},
}


def half(y_true, y_pred):
    return 0.5 * keras.ops.abs(y_true - y_pred)


NEEDED = {
    losses.Components: {"loss": half, "names": ["a", "b"]},
    losses.DeepSupervision: {"loss": losses.MeanSquaredError()},
    losses.FunctionLoss: {"fn": half},
    losses.LinearCrossEntropy: {"layer": "head"},
    losses.Masked: {"loss": losses.MeanSquaredError(), "ignore_value": 0.0},
    losses.WeightedSum: {"losses": [losses.MeanSquaredError()]},
}


def arguments_of_losses():
    """`(class, argument)` of all losses that one makes."""
    for cls in public_classes(losses):
        if cls is losses.Part:
            continue
        for p in inspect.signature(cls).parameters.values():
            if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL):
                yield cls, p.name


def test_losses_refuse_nonsense_in_the_words_of_the_user():
    wrong, checked = {}, 0
    for cls, argument in arguments_of_losses():
        checked += 1
        kind = OF_LOSSES.get((argument, cls.__name__)) or OF_LOSSES[argument]
        for name, value in NONSENSE.items():
            given = {**NEEDED.get(cls, {}), argument: value}
            message = refusal(cls, given)
            if message is None and name in LEGAL[kind]:
                continue
            if kind == "dtype of Keras":
                continue
            if message is None or not in_words_of_the_user(message):
                wrong[cls.__name__, argument, name] = message or "accepted"
    assert wrong == {}
    assert checked >= 200
