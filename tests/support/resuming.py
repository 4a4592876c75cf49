"""Models whose training is stopped, and how it goes on from a file."""

from pathlib import Path

import keras
import numpy as np
from keras import ops

import keras_losskit as losskit
from keras_losskit import extra
from keras_losskit import losses
from keras_losskit import schedules
from keras_losskit import weighting

EPOCHS = 5
X = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
Y = {"a": X[:, :1], "b": 3 * X[:, 1:2]}
WEIGHTINGS = sorted(set(weighting.__all__) - {"Weighting", "GradientWeighting"})
SEEDED = {"PCGrad", "RandomLossWeighting", "ReLoBRaLo"}
NAMES = [*WEIGHTINGS, "schedules", "extra terms"]


@keras.saving.register_keras_serializable("tests>resuming")
def size(x):
    return ops.mean(x**2, axis=-1)


def every_schedule():
    """A loss for each schedule that weighs it, by name."""
    decay = keras.optimizers.schedules.ExponentialDecay(0.5, 2, 0.5)
    weights = {
        "linear": schedules.Linear(0.0, 1.0, epochs=4),
        "cosine": schedules.Cosine(1.0, 0.0, steps=9),
        "exponential": schedules.Exponential(1.0, 0.1, epochs=4),
        "cyclical": schedules.Cyclical(0.1, 0.9, epochs=6, cycles=2),
        "piecewise": schedules.Piecewise([0.2, 0.9, 0.4], epochs=[1, 3]),
        "decayed": schedules.FromLearningRateSchedule(decay, by="step"),
    }
    return [
        losses.MeanSquaredError(name=name, weight=weight)
        for name, weight in weights.items()
    ]


def every_extra_term():
    inputs = keras.Input((3,))
    middle = keras.layers.Dense(3, "tanh", name="hidden")(inputs)
    heads = {n: keras.layers.Dense(1, name=n)(middle) for n in "ab"}
    teacher = keras.Model(inputs, heads)
    return {
        "attacked": extra.FGSM(epsilon=0.1, weight=0.5),
        "pushed": extra.PGD(epsilon=0.1, steps=2, weight=0.1),
        "flat": extra.FromLayer("hidden", size, weight=0.1),
        "near_start": extra.FromWeights("hidden/.*", "l2", from_start=True),
        "taught": extra.FromTeacher(teacher, "mse", weight=0.1),
        "mean_taught": extra.EMATeacher("mae", momentum=0.9),
        "smooth": extra.GradientPenalty(output="a", weight=0.1, seed=3),
    }


def model_of(name):
    """A compiled model of two outputs with what `name` says."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((3,))
    hidden = keras.layers.Dense(3, "tanh", name="hidden")(inputs)
    outputs = {n: keras.layers.Dense(1, name=n)(hidden) for n in "ab"}
    model = losskit.Model(inputs, outputs)
    given = {"a": ["mse", "mae"], "b": "mae"}, {}
    if name == "schedules":
        given = {"a": every_schedule(), "b": "mae"}, {}
    elif name == "extra terms":
        given = given[0], {"extra_terms": every_extra_term()}
    else:
        seed = {"seed": 3} if name in SEEDED else {}
        given = given[0], {"weighting": getattr(weighting, name)(**seed)}
    loss = losskit.LossesContainer(given[0], **given[1])
    model.compile(keras.optimizers.Adam(0.01), loss, jit_compile=False)
    return model


def train(model, first, last, callbacks=()):
    """The logs of some epochs, and all the state after them."""
    history = model.fit(
        X,
        Y,
        batch_size=4,
        initial_epoch=first,
        epochs=last,
        shuffle=False,
        verbose=0,
        callbacks=list(callbacks),
    )
    state = [*model.variables, *model.compiled_loss.variables]
    return history.history, [ops.convert_to_numpy(v) for v in state]


def train_and_save(name, folder):
    """Train without a stop, with a file from before and after each epoch.

    Returns:
        Logs and state after `EPOCHS`.
    """
    folder = Path(folder) / name
    folder.mkdir()
    model = model_of(name)
    model.save(folder / "0.keras")
    files = str(folder / "{epoch}.keras")
    return train(
        model, 0, EPOCHS, [keras.callbacks.ModelCheckpoint(files, verbose=0)]
    )


def resume(names, stops, folder):
    """Go on from files, in a process that knows nothing of the models.

    Returns:
        `{(name, stop): (logs, state)}` after `EPOCHS`.
    """
    found = {}
    for name in names:
        for stop in stops:
            path = Path(folder) / name / f"{stop}.keras"
            model = keras.saving.load_model(path)
            found[name, stop] = train(model, stop, EPOCHS)
    return found
