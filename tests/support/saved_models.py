"""Small trained models that between them hold every public class.

`MODELS` maps a name to a function that returns a compiled model, its inputs and
its labels. Weights and data come from formulas, so that the numbers are about
the same on every backend.
"""

import functools
import inspect

import keras
import numpy as np
from keras import optimizers

import keras_losskit as losskit
from keras_losskit import extra
from keras_losskit import layers
from keras_losskit import losses
from keras_losskit import reductions
from keras_losskit import schedules
from keras_losskit import weighting
from support import own_classes as own

SAMPLES = 10
BATCH = 4  # which leaves a last batch of two

#: Models whose training draws random numbers: every backend draws others.
RANDOM = {"RandomLossWeighting", "sequential"}


def waves(*shape, phase=0.0):
    """Numbers between -1 and 1 without a pattern, by a formula."""
    places = np.arange(np.prod(shape, dtype=int))
    return np.sin(phase + 2.3 * places**1.3).reshape(shape).astype("float32")


def parts(*shape, phase=0.0):
    """Numbers between 0.1 and 0.9."""
    return 0.5 + 0.4 * waves(*shape, phase=phase)


def classes(*shape, phase=0.0):
    """Integers 0, 1 and 2."""
    return np.floor(1.5 + 1.49 * waves(*shape, phase=phase)).astype("int32")


def made_of_formulas(layer):
    """The layer, or model, with trainable weights that are not random."""
    for index, variable in enumerate(layer.trainable_variables):
        variable.assign(0.5 * waves(*variable.shape, phase=float(index)))
    return layer


def compiled(model, loss, **kwargs):
    made_of_formulas(model).compile(optimizers.Adam(0.01), loss, **kwargs)
    return model


X = waves(SAMPLES, 4, phase=0.5)
Y = waves(SAMPLES, 2, phase=1.0)


# ----------------------------------------------------------------------- losses

MSE = losses.MeanSquaredError(name="mse")

REDUCTIONS = {
    "mean": "mean",
    "sum": "sum",
    "mean_with_sample_weight": "mean_with_sample_weight",
    "cvar": reductions.CVaR(alpha=0.4),
    "mean_non_zero": reductions.MeanNonZero(),
    "quantile": reductions.Quantile(q=0.6),
    "threshold": reductions.Threshold(low=0.01),
    "tilted": reductions.Tilted(t=0.7),
    "top_k": reductions.TopK(fraction=0.5),
    "top_two": reductions.TopK(k=2),
    "trimmed_mean": reductions.TrimmedMean(fraction=0.25),
    "own": own.MeanOfSquares(),
}

SCHEDULES = {
    "cosine": schedules.Cosine(0.2, 1.0, steps=15),
    "cyclical": schedules.Cyclical(0.1, 0.9, steps=20, cycles=2, ratio=0.8),
    "exponential": schedules.Exponential(0.1, 1.0, epochs=4),
    "learning_rate": schedules.FromLearningRateSchedule(
        optimizers.schedules.InverseTimeDecay(0.5, 3, 0.5), by="step"
    ),
    "linear": schedules.Linear(0.1, 1.0, epochs=5),
    "piecewise": schedules.Piecewise([0.1, 0.5, 0.3], steps=[4, 7]),
    "own_schedule": own.Inverse(),
}

#: For every output: its shape and activation, its labels and its losses.
OUTPUTS = {
    "numbers": (
        (3,),
        "sigmoid",
        parts(SAMPLES, 3),
        [
            losses.Charbonnier(epsilon=0.1),
            losses.Components(own.near_and_far, ["near", "far"], {"far": 0.5}),
            losses.CosineSimilarity(),
            losses.FunctionLoss(own.absolute),
            losses.Huber(delta=0.2),
            losses.LogCosh(),
            losses.Masked(
                losses.MeanAbsoluteError(name="masked"), ignore_value=-1.0
            ),
            0.01 * losses.MeanAbsolutePercentageError(),
            losses.MeanSquaredLogarithmicError(),
            losses.Pinball(quantile=0.9),
            losses.Poisson(),
            0.5 * losses.KLDivergence() + MSE * schedules.Linear(0, 1, steps=9),
            *(
                losses.MeanAbsoluteError(reduction=reduction, name=name)
                for name, reduction in REDUCTIONS.items()
            ),
            *(
                losses.MeanSquaredError(weight=schedule, name=name)
                for name, schedule in SCHEDULES.items()
            ),
        ],
    ),
    "binary": (
        (3,),
        "sigmoid",
        classes(SAMPLES, 3) % 2,
        [
            losses.BinaryCrossentropy(label_smoothing=0.1),
            losses.BinaryFocalCrossentropy(apply_class_balancing=True),
            losses.Dice(axis=1),
            losses.Tversky(axis=1, alpha=0.3, beta=0.7),
        ],
    ),
    "signs": (
        (3,),
        "linear",
        classes(SAMPLES, 3, phase=1.0) % 2,
        [
            losses.AsymmetricLoss(from_logits=True),
            losses.Hinge(),
            losses.SquaredHinge(),
        ],
    ),
    "one_hot": (
        (3,),
        "softmax",
        np.eye(3, dtype="float32")[classes(SAMPLES)],
        [
            losses.CategoricalCrossentropy(),
            losses.CategoricalFocalCrossentropy(gamma=1.5),
            losses.CategoricalHinge(),
        ],
    ),
    "labels": (
        (3,),
        "softmax",
        classes(SAMPLES, phase=2.0),
        [
            losses.CategoricalGeneralizedCrossEntropy(q=0.7),
            losses.Circle(gamma=2.0),
            losses.Poly1(epsilon=0.5),
            losses.SparseCategoricalCrossentropy(
                reduction=reductions.ClassWeighted(weights=[1.0, 2.0, 3.0])
            ),
        ],
    ),
    "pixels": (
        (2, 2, 3),
        "linear",
        classes(SAMPLES, 2, 2),
        [
            losses.FocalTversky(from_logits=True),
            losses.GeneralizedDice(from_logits=True),
            losses.LovaszSoftmax(from_logits=True),
        ],
    ),
    "maps": (
        (2, 2, 3),
        "linear",
        waves(SAMPLES, 2, 2, 3),
        [own.Levels(losses.DeepSupervision(MSE, "exp", levels=2))],
    ),
    # Two classes and a blank, over five steps.
    "steps": ((5, 3), "linear", 1 + classes(SAMPLES, 2) % 2, losses.CTC()),
    "normal": ((6,), "linear", waves(SAMPLES, 3), losses.GaussianNLL()),
    "latent": (
        (4,),
        "linear",
        np.zeros((SAMPLES, 2), "float32"),
        losses.KLToStandardNormal(),
    ),
    "student": (
        (3,),
        "linear",
        waves(SAMPLES, 3, phase=3.0),
        losses.Distillation(temperature=1.5),
    ),
}


def every_loss():
    inputs = keras.Input((4,))
    outputs = {}
    for name, (shape, activation, *_) in OUTPUTS.items():
        x = keras.layers.Dense(
            int(np.prod(shape)), activation, name=f"{name}_values"
        )(inputs)
        outputs[name] = keras.layers.Reshape(shape, name=name)(x)
    model = losskit.Model(inputs, outputs, name="losses")
    loss = {name: output[3] for name, output in OUTPUTS.items()}
    labels = {name: output[2] for name, output in OUTPUTS.items()}
    return compiled(model, loss), X, labels


# ------------------------------------------------------------------ extra terms


def every_extra_term():
    def small(name):
        inputs = keras.Input((4,))
        x = keras.layers.Dense(3, "tanh", name="middle")(inputs)
        outputs = keras.layers.Dense(2, name="head")(x)
        return losskit.Model(inputs, outputs, name=name)

    teacher = made_of_formulas(small("teacher"))
    ramp = schedules.Linear(0.1, 0.5, steps=10)
    terms = {
        "attacked": extra.FGSM(epsilon=0.1, weight=0.5),
        "flat": extra.FromLayer("middle", own.mean_square, weight=ramp),
        "taught": extra.FromTeacher(teacher, 0.5 * MSE, weight=0.5),
        "near_start": extra.FromWeights("middle/.*", "l2", from_start=True),
        "orthogonal": extra.FromWeights(
            ".*kernel", extra.orthogonality, weight=0.1
        ),
        "lipschitz": extra.FromWeights(
            "head/kernel", extra.spectral_norm, weight=0.1
        ),
        "pruned": extra.FromWeights(
            "middle/kernel", extra.group_lasso, weight=0.01
        ),
        "own": own.Confidence(weight=0.1),
        "pushed": extra.PGD(epsilon=0.2, steps=2, norm="l2", weight=0.5),
    }
    loss = losskit.LossesContainer("mse", extra_terms=terms)
    return compiled(small("student"), loss), X, Y


# ------------------------------------------------------------ models, penalties


def penalties():
    def dense(units, name):
        return keras.layers.Dense(
            units,
            "tanh",
            kernel_regularizer=keras.regularizers.L1L2(0.01, 0.02),
            bias_regularizer="l2",
            activity_regularizer="l1",
            name=name,
        )

    inputs = keras.Input((4,))
    x = dense(3, "encoder")(inputs)
    x = layers.AddLoss(
        own.mean_square,
        name="size",
        weight=schedules.Linear(0.0, 0.5, steps=10),
    )(x)
    outputs = {"a": dense(2, "a")(x), "b": dense(2, "b")(x)}
    model = losskit.Model(inputs, outputs, name="penalties")
    loss = losskit.LossesContainer(
        {"a": ["mse", keras.losses.Huber(delta=0.5)], "b": own.absolute},
        loss_weights={"a": [1.0, keras.Variable(0.5)], "b": 0.7},
        regularization=losskit.Penalty(
            weight=0.5, groups={"early": ("encoder/.*", 0.1)}
        ),
        activity=losskit.Penalty(
            weight=schedules.Cosine(0.0, 1.0, epochs=5), reduction="mean"
        ),
        added=losskit.Penalty(weight=2.0),
        log="all",
    )
    return compiled(model, loss, metrics={"a": ["mae"]}), X, {"a": Y, "b": -Y}


def sequential():
    model = losskit.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(3, "tanh", kernel_regularizer="l2", name="in"),
            keras.layers.Dropout(0.4, seed=3, name="drop"),
            keras.layers.Dense(2, name="out"),
        ],
        name="sequential",
    )
    return compiled(model, ["mse", "mae"], loss_weights=[1.0, 0.5]), X, Y


def wrapped():
    plain = own.Subclassed(name="wrapped")
    plain(X)
    return compiled(losskit.wrap(plain), 0.5 * MSE + losses.Huber()), X, Y


def mixed():
    model = own.Mixed(name="mixed")
    model(X)
    return compiled(model, "mse"), X, Y


# ------------------------------------------------------------------- weightings

WEIGHTINGS = [
    weighting.AlignedMTL(),
    weighting.CAGrad(c=0.4),
    weighting.DynamicWeightAverage(temperature=1.5),
    weighting.Equal(terms=["a"]),
    weighting.GeometricMean(),
    weighting.GradNorm(wrt="trunk/.*", every=2),
    weighting.IMTLGradient(),
    weighting.IMTLLoss(),
    weighting.LearningRateAnnealing(decay=0.8),
    weighting.MGDA(),
    weighting.PCGrad(seed=3),
    weighting.RandomLossWeighting(seed=3),
    # With this rho its draws make no difference.
    weighting.ReLoBRaLo(alpha=0.9, rho=1.0, seed=3),
    weighting.SoftAdapt(normalize=True, loss_weighted=True),
    weighting.UPGrad(),
    weighting.Uncertainty(clamp=[-5.0, 5.0]),
    own.RunningInverse(),
    own.ByNorm(),
]


def weighted(method):
    inputs = keras.Input((4,))
    x = keras.layers.Dense(3, "tanh", name="trunk")(inputs)
    outputs = {name: keras.layers.Dense(2, name=name)(x) for name in ("a", "b")}
    model = losskit.Model(inputs, outputs, name="weighted")
    loss = losskit.LossesContainer({"a": "mse", "b": "huber"}, weighting=method)
    return compiled(model, loss), X, {"a": Y, "b": -Y}


# ----------------------------------------------------------------------- layers

#: Layers by the shape that the input of width 4 takes for them.
CORE = {
    "Dense": ((4,), (2,), {}),
    "EinsumDense": ((2, 2), ("abc,cd->abd",), {"output_shape": (2, 2)}),
    "PReLU": ((4,), (), {}),
    "ActivityRegularization": ((4,), (), {"l1": 0.01, "l2": 0.02}),
    "AddLoss": ((4,), (own.mean_square,), {"weight": 0.1}),
    "BatchNormalization": ((4,), (), {}),
    "GroupNormalization": ((4,), (), {"groups": 2}),
    "LayerNormalization": ((4,), (), {}),
    "MultiHeadAttention": ((2, 2), (2, 2), {}),
    "GroupQueryAttention": ((2, 2), (2, 2, 1), {}),
}
CONVOLUTIONAL = {
    "Conv1D": ((4, 1), (2, 2), {}),
    "Conv1DTranspose": ((4, 1), (2, 2), {}),
    "Conv2D": ((2, 2, 1), (2, 2), {}),
    "Conv2DTranspose": ((2, 2, 1), (2, 2), {}),
    "Conv3D": ((1, 2, 2, 1), (2, 1), {}),
    "Conv3DTranspose": ((1, 2, 2, 1), (2, 1), {}),
    "DepthwiseConv1D": ((2, 2), (2,), {}),
    "DepthwiseConv2D": ((2, 2, 1), (2,), {}),
    "SeparableConv1D": ((2, 2), (2, 2), {}),
    "SeparableConv2D": ((2, 2, 1), (2, 2), {}),
}
RECURRENT = {
    "SimpleRNN": ((2, 2), (2,), {}),
    "GRU": ((2, 2), (2,), {}),
    "LSTM": ((2, 2), (2,), {}),
    "ConvLSTM1D": ((2, 2, 1), (1, 2), {}),
    "ConvLSTM2D": ((2, 1, 2, 1), (1, 1), {}),
    "ConvLSTM3D": ((2, 1, 1, 2, 1), (1, 1), {}),
}


def penalized(name, *args, **kwargs):
    """A layer with every penalty that it takes."""
    parameters = inspect.signature(
        getattr(keras.layers, name, keras.layers.Layer).__init__
    ).parameters
    penalties = {
        argument: keras.regularizers.L2(0.02)
        for argument in parameters
        if argument.endswith("_regularizer")
    }
    if name == "SimpleRNN":  # of which 0.1.0 forgot it, as Keras does
        del penalties["activity_regularizer"]
    if "activity_regularizer" in penalties:
        kwargs["activity_reduction"] = "mean_over_elements"
    if penalties:
        kwargs["regularization_reduction"] = "mean_over_parameters"
    kwargs = {"name": name.lower(), **penalties, **kwargs}
    return getattr(layers, name)(*args, **kwargs)


def branches(inputs, cases):
    """The outputs of layers, each over the input in the shape it takes."""
    for name, (shape, args, kwargs) in cases.items():
        layer = penalized(name, *args, **kwargs)
        x = keras.layers.Reshape(shape, name=f"for_{name.lower()}")(inputs)
        yield layer(x, x) if name.endswith("Attention") else layer(x)


def model_of(inputs, outputs, name, log="all"):
    x = [
        keras.layers.Flatten(name=f"flat_{index}")(output)
        for index, output in enumerate(outputs)
    ]
    x = keras.layers.Concatenate(name="all")(x)
    model = losskit.Model(
        inputs, keras.layers.Dense(2, name="head")(x), name=name
    )
    return compiled(model, losskit.LossesContainer("mse", log=log))


def core_layers():
    inputs = {
        "x": keras.Input((4,), name="x"),
        "ids": keras.Input((2,), dtype="int32", name="ids"),
    }
    sparse = own.Sparse(keras.layers.Dense(2, name="inner"), name="sparse")
    outputs = [
        *branches(inputs["x"], CORE),
        own.Energy(name="energy")(inputs["x"]),
        sparse(inputs["x"]),
        penalized("Embedding", 3, 2)(inputs["ids"]),
        penalized("ReversibleEmbedding", 3, 2)(inputs["ids"]),
    ]
    x = {"x": X, "ids": classes(SAMPLES, 2)}
    return model_of(inputs, outputs, "core"), x, Y


def convolutional_layers():
    inputs = keras.Input((4,))
    outputs = list(branches(inputs, CONVOLUTIONAL))
    return model_of(inputs, outputs, "convolutional"), X, Y


def recurrent_layers():
    inputs = keras.Input((4,))
    cells = [
        own.ThriftyCell(2, name="thrifty"),
        *(
            penalized(name, 2)
            for name in ("SimpleRNNCell", "GRUCell", "LSTMCell")
        ),
    ]
    steps = keras.layers.Reshape((2, 2), name="for_rnn")(inputs)
    outputs = [
        *branches(inputs, RECURRENT),
        layers.RNN(
            keras.layers.StackedRNNCells(cells, name="cells"),
            activity_regularizer="l2",
            name="rnn",
        )(steps),
    ]
    # Not all: a penalty is named by its variable's path, which Keras shortens
    # for a cell in a cell when the model is loaded.
    return model_of(inputs, outputs, "recurrent", log="terms"), X, Y


# -------------------------------------------------------------------------- all


MODELS = {
    "losses": every_loss,
    "extra": every_extra_term,
    "penalties": penalties,
    "sequential": sequential,
    "wrapped": wrapped,
    "mixed": mixed,
    "core_layers": core_layers,
    "convolutional_layers": convolutional_layers,
    "recurrent_layers": recurrent_layers,
    **{
        type(method).__name__: functools.partial(weighted, method)
        for method in WEIGHTINGS
    },
}


def train(model, x, y, epochs=1, **kwargs):
    """The logs of some epochs, `{key: [a value for each]}`."""
    return model.fit(
        x,
        y,
        batch_size=BATCH,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        **kwargs,
    ).history


def logs_of(model, x, y):
    """How a model goes on: its state, an epoch more, and the state after it."""
    evaluated = model.evaluate(
        x, y, batch_size=BATCH, verbose=0, return_dict=True
    )
    trained = train(
        model, x, y, validation_data=(x, y), validation_batch_size=BATCH
    )
    return {
        "evaluate": {key: float(value) for key, value in evaluated.items()},
        "fit": {key: float(values[0]) for key, values in trained.items()},
    }
