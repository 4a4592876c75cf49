"""Terms of two dtypes add up: float64 beside float32, on every backend."""

import keras
import numpy as np
import pytest
from support.models import column
from support.models import ones_dense
from support.models import still
from support.weightings import OF_TERMS

import keras_losskit as losskit
from keras_losskit import losses
from keras_losskit import schedules
from keras_losskit import weighting
from keras_losskit.weighting.weighting import RandomWeighting

X = np.ones((4, 2), "float32")
Y = column(0, 0, 0, 0)


def half():
    """A schedule that begins at 0.5."""
    return schedules.Linear(0.5, 1.0, steps=4)


def half_variable(dtype="float64"):
    return keras.Variable(0.5, dtype=dtype, trainable=False)


def logs_of(loss, dtype=None, **arguments):
    """Logs of a model that says 2 where 0 is right, its kernel of two ones."""
    dense = ones_dense(
        1,
        name="out",
        dtype=dtype,
        kernel_regularizer="l2",
        activity_regularizer="l2",
    )
    model = losskit.Sequential([keras.Input((2,)), dense])
    model.compile(still(), loss, **arguments)
    history = model.fit(X, Y, batch_size=4, verbose=0).history
    return {key: values[0] for key, values in history.items()}


def mse(**kwargs):
    return losses.MeanSquaredError(name="mse", **kwargs)


CONTAINERS = {
    "alone": (lambda loss: {"losses": loss}, 4.0 + 0.02 + 0.04),
    "schedule": (
        lambda loss: {"losses": loss, "loss_weights": half()},
        2.0 + 0.02 + 0.04,
    ),
    "variable": (
        lambda loss: {"losses": loss, "loss_weights": half_variable()},
        2.0 + 0.02 + 0.04,
    ),
    "product": (
        lambda loss: {
            "losses": losses.WeightedSum([loss], weights=[half_variable()]),
            "loss_weights": losskit._weights.multiply_weights(
                half_variable("float32"), half()
            ),
        },
        0.5 + 0.02 + 0.04,
    ),
    "penalty": (
        lambda loss: {
            "losses": loss,
            "regularization": losskit.Penalty(half()),
            "activity": losskit.Penalty(half_variable()),
        },
        4.0 + 0.01 + 0.02,
    ),
}


@pytest.fixture(params=["loss", "layer", "floatx"])
def float64(request):
    """What of a model is in float64: arguments of its loss and its layer."""
    if request.param == "floatx":
        keras.config.set_floatx("float64")
        keras.config.set_dtype_policy("float64")
    yield {
        "loss": ({"dtype": "float64"}, None),
        "layer": ({}, "float64"),
        "floatx": ({}, None),
    }[request.param]
    keras.config.set_floatx("float32")


@pytest.mark.filterwarnings("ignore:Explicitly requested dtype")
@pytest.mark.parametrize("name", CONTAINERS)
def test_float64_adds_up_with_float32(name, float64):
    of_loss, of_layer = float64
    make, expected = CONTAINERS[name]
    # error 2 -> 4; l2 of two ones, 0.01 * 2; of an output of 2, 0.01 * 4
    container = losskit.LossesContainer(**make(mse(**of_loss)))
    logs = logs_of(container, dtype=of_layer)
    assert logs["loss"] == pytest.approx(expected, rel=1e-6)
    kinds = ("compiled", "regularization", "activity")
    assert sum(logs[f"{kind}_loss"] for kind in kinds) == pytest.approx(
        expected, rel=1e-6
    )


METHODS = sorted(set(OF_TERMS) - {"Weighting", "GradientWeighting"})
CASES = [("floatx", name) for name in METHODS]
CASES += [("loss", name) for name in ("PCGrad", "SoftAdapt", "Uncertainty")]


@pytest.mark.nightly("jax", "tensorflow")
@pytest.mark.filterwarnings("ignore:Explicitly requested dtype")
@pytest.mark.parametrize(("float64", "name"), CASES, indirect=["float64"])
def test_every_weighting_takes_float64(float64, name):
    of_loss, _ = float64
    cls = getattr(weighting, name)
    arguments = {"seed": 3} if issubclass(cls, RandomWeighting) else {}
    if cls.statistic == "gramian":
        arguments["every"] = 2

    def logs(**kwargs):
        # Two terms, of 4 and of 2, the first halved.
        container = losskit.LossesContainer(
            [mse(**kwargs), losses.MeanAbsoluteError(name="mae")],
            loss_weights=[half(), 1.0],
            weighting=cls(**arguments),
        )
        return logs_of(container, run_eagerly=True)

    received, floatx = logs(**of_loss), keras.config.floatx()
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    expected = logs()
    keras.config.set_floatx(floatx)
    assert received == pytest.approx(expected, rel=1e-5)
