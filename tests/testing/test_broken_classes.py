"""For each check of the conformance kit a class that is wrong, and is told."""

import re
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from keras_losskit import layers
from keras_losskit import losses
from keras_losskit import reductions
from keras_losskit import testing
from keras_losskit import weighting
from keras_losskit.testing.layers import CHECKS as LAYER_CHECKS
from keras_losskit.testing.losses import CHECKS as LOSS_CHECKS
from keras_losskit.testing.reductions import CHECKS as REDUCTION_CHECKS
from keras_losskit.testing.weightings import CHECKS as WEIGHTING_CHECKS

compiles = pytest.mark.skipif(
    keras.config.backend() == "torch", reason="compiles nothing on PyTorch"
)


def branch(values):
    """What a compiler cannot follow: a look at the numbers."""
    return 2.0 if ops.convert_to_numpy(ops.sum(values)) > 0 else 1.0


def error(y_true, y_pred):
    return ops.mean(ops.square(y_true - y_pred), axis=-1)


class Right(losses.Loss):
    def call(self, y_true, y_pred):
        return error(y_true, y_pred)


class NotANumber(Right):
    def call(self, y_true, y_pred):
        return error(y_true, y_pred) + ops.log(-ops.ones(()))


class OfTheWrongShape(Right):
    def call(self, y_true, y_pred):
        return ops.mean(ops.square(y_true - y_pred), axis=0)


class WithoutGradient(Right):
    def call(self, y_true, y_pred):
        values = error(y_true, y_pred)
        half = ops.stop_gradient(values) / 2
        return half + values / 2


class WithNaNGradient(Right):
    def call(self, y_true, y_pred):
        zero = 0.0 * y_pred
        logarithm = ops.where(y_pred < 0, ops.log(zero), zero)
        return error(y_true, y_pred) + ops.mean(logarithm, axis=-1)


class Reducing(keras.losses.Loss):
    def __call__(self, y_true, y_pred, sample_weight=None):
        return ops.mean(error(y_true, y_pred))


class OverTheBatch(Right):
    def call(self, y_true, y_pred):
        values = error(y_true, y_pred)
        return values / ops.sum(values)


class DeafToWeights(keras.losses.Loss):
    def __call__(self, y_true, y_pred, sample_weight=None):
        return ops.mean(error(y_true, y_pred))


class Narrow(Right):
    def call(self, y_true, y_pred):
        return error(y_true, y_pred) * 1e7 * 1e-7


class Forgetful(Right):
    def __init__(self, power=2.0, **kwargs):
        super().__init__(**kwargs)
        self.power = power


class Changing(Forgetful):
    def settings(self):
        return {"power": self.power + 1.0}


class Branching(Right):
    def call(self, y_true, y_pred):
        values = error(y_true, y_pred)
        return values * (
            2.0 if ops.convert_to_numpy(ops.sum(values)) > 0 else 1.0
        )


class OfStaticSize(Right):
    def call(self, y_true, y_pred):
        return error(y_true, y_pred) * (1.0 / y_pred.shape[0])


class Drawing(Right):
    count = 0.0

    def call(self, y_true, y_pred):
        Drawing.count += 1.0
        return error(y_true, y_pred) * Drawing.count


@pytest.mark.parametrize(
    ("cls", "check", "message"),
    [
        (NotANumber, "value", "value of.*Expected a finite value.*nan"),
        (
            OfTheWrongShape,
            "value",
            r"values of.*each of the 4 samples.*shape \(3,\)",
        ),
        (WithoutGradient, "gradient", "finite differences.*Received: "),
        (WithNaNGradient, "gradient", "(?s)finite gradient.*ops.where"),
        (Reducing, "mask", "`__call__` of its own.*Implement `call`"),
        (OverTheBatch, "mask", "masked sample: Expected the value without"),
        (DeafToWeights, "sample_weight", "another prediction of weight 0"),
        (Narrow, "dtype", "in float16: Expected a finite value"),
        (Forgetful, "config", r"every argument.*without \['power'\]"),
        (Changing, "config", "same config again.*'power': '3.0 -> 4.0'"),
        pytest.param(
            *(Branching, "jit", "Expected to compile"), marks=compiles
        ),
        pytest.param(
            *(Drawing, "jit", "compiled what it gives eagerly"), marks=compiles
        ),
    ],
)
def test_loss(cls, check, message):
    testing.check_loss(Right(name="right"))
    with pytest.raises(AssertionError, match=message):
        testing.check_loss(cls(name="wrong"), skip=set(LOSS_CHECKS) - {check})


@pytest.mark.skipif(
    keras.config.backend() != "tensorflow",
    reason="a graph alone leaves the batch size open",
)
def test_loss_of_a_static_size():
    with pytest.raises(AssertionError, match="no size on a static"):
        testing.check_loss(OfStaticSize(name="wrong"), skip=["mask"])


@pytest.mark.parametrize(
    ("function", "check", "message"),
    [
        (
            lambda values, weight, mask: values,
            "value",
            r"Expected a scalar.*shape \(8,\)",
        ),
        (
            lambda values, weight, mask: ops.mean(ops.stop_gradient(values)),
            "gradient",
            "agrees with finite differences|Expected a gradient",
        ),
        (
            lambda values, weight, mask: ops.mean(values),
            "mask",
            "masked values of 0: Expected the result without",
        ),
        (
            lambda values, weight, mask: ops.sum(
                values if mask is None else ops.where(mask, values, 0.0)
            ),
            "sample_weight",
            "weights of 0: Expected nothing",
        ),
        (
            lambda values, weight, mask: ops.sum(values),
            "dtype",
            "float16: Expected float32 at least.*float16",
        ),
        pytest.param(
            lambda values, weight, mask: ops.sum(values) * branch(values),
            "jit",
            "Expected to compile",
            marks=compiles,
        ),
    ],
)
def test_reduction(function, check, message):
    with pytest.raises(AssertionError, match=message):
        testing.check_reduction(function, skip=set(REDUCTION_CHECKS) - {check})


def test_reduction_without_a_config():
    class Scaled(reductions.Reduction):
        def __init__(self, *, scale):
            self.scale = scale

        def __call__(self, values, sample_weight=None, mask=None):
            mean = reductions.get("mean")
            return self.scale * mean(values, sample_weight, mask)

    with pytest.raises(AssertionError, match=r"without \['scale'\]"):
        testing.check_reduction(Scaled(scale=2.0))


class Even(weighting.Weighting):
    def weigh(self, values, training):
        return ops.ones_like(values)


class Inverse(Even):
    def weigh(self, values, training):
        return 1.0 / values


class TooFew(Even):
    def weigh(self, values, training):
        return values[1:]


class Restless(Even):
    def build(self, num_terms):
        super().build(num_terms)
        self.steps = self.add_state("steps")

    def weigh(self, values, training):
        self.steps.assign(self.steps + 1.0)
        return self.steps + 0.0 * values


class WithHiddenState(Even):
    steps = 0

    def weigh(self, values, training):
        self.steps += 1
        return values * self.steps


class BranchingWeighting(Even):
    def weigh(self, values, training):
        return values * (
            2.0 if ops.convert_to_numpy(ops.sum(values)) > 0 else 1.0
        )


class ForgettingConfig(Even):
    def __init__(self, *, temperature=1.0, name=None, dtype=None):
        super().__init__(name=name, dtype=dtype)
        self.temperature = temperature

    def get_config(self):
        return {"name": self.name, "dtype": self.dtype}


@pytest.mark.parametrize(
    ("cls", "check", "message"),
    [
        (ForgettingConfig, "config", r"without \['temperature'\]"),
        (Inverse, "value", "size 0: Expected finite weights.*Divide by no sum"),
        (TooFew, "value", r"Expected shape \(3,\). Received: \(2,\)"),
        (Restless, "training", "'steps'.*stay as it is.*training=False"),
        (WithHiddenState, "state", "loaded the state of another"),
        pytest.param(
            *(BranchingWeighting, "jit", "Expected to compile"), marks=compiles
        ),
    ],
)
def test_weighting(cls, check, message):
    testing.check_weighting(Even())
    with pytest.raises(AssertionError, match=message):
        testing.check_weighting(cls(), skip=set(WEIGHTING_CHECKS) - {check})


def test_weighting_of_an_unknown_statistic():
    class OfGradients(Even):
        statistic = "gradients"

    with pytest.raises(AssertionError, match="`statistic`.*'gradients'"):
        testing.check_weighting(OfGradients())


class Scaling(layers.Layer):
    """A layer with a weight and a loss, as it should be."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(), name="scale")

    def call(self, x):
        self.add_loss(ops.mean(ops.square(ops.cast(x, "float32"))))
        return x * self.scale


class WithTwoArguments(Scaling):
    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def get_config(self):
        return layers.Layer.get_config(self)


class Infinite(Scaling):
    def call(self, x):
        return super().call(x) / ops.zeros_like(x)


class Detached(Scaling):
    def call(self, x):
        return ops.stop_gradient(super().call(x)) + 0.5 * x * self.scale


class OverflowingLayer(keras.layers.Layer):
    def call(self, x):
        self.add_loss(ops.sum(ops.cast(x, "float16") * 30000.0))
        return x


class BranchingLayer(Scaling):
    def call(self, x):
        return super().call(x) * (
            2.0 if ops.convert_to_numpy(ops.sum(x)) > 0 else 1.0
        )


@pytest.mark.parametrize(
    ("layer", "check", "message"),
    [
        (lambda: WithTwoArguments(2), "config", r"without \['units'\]"),
        (lambda: Infinite(), "value", "output of.*Expected finite values"),
        (lambda: Detached(), "gradient", "agrees with finite differences"),
        (lambda: OverflowingLayer(), "dtype", "mixed_float16.*float16"),
        pytest.param(
            *(lambda: BranchingLayer(), "jit", "Expected to compile"),
            marks=compiles,
        ),
    ],
)
def test_layer(layer, check, message):
    testing.check_layer(Scaling())
    with pytest.raises(AssertionError, match=message):
        testing.check_layer(layer(), skip=set(LAYER_CHECKS) - {check})


def test_layer_whose_losses_are_no_terms():
    class Hiding(Scaling):
        def call(self, x):
            loss = ops.mean(x)
            self._losses.append(loss)
            self._loss_ids.add(id(loss))
            return super().call(x)

    with pytest.raises(AssertionError, match="sum of the terms of.*`losses`"):
        testing.check_layer(Hiding(), skip=["config", "value"])


def test_a_check_that_there_is_not_cannot_be_skipped():
    with pytest.raises(ValueError, match=r"Received: \['masks'\]"):
        testing.check_loss(Right(), skip=["masks"])


def test_the_kit_needs_no_test_runner():
    folder = Path(testing.__file__).parent
    for path in folder.glob("*.py"):
        assert "pytest" not in re.findall(
            r"^\s*(?:import|from) (\w+)", path.read_text(), re.M
        )


def test_data_of_ones_own():
    labels = np.array([0, 2, 1, 2])
    logits = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    loss = losses.SparseCategoricalCrossentropy(from_logits=True)
    testing.check_loss(loss, labels, logits)
    # what is wrong only for some data is found with that data
    with pytest.raises(AssertionError, match="finite"):
        testing.check_loss(losses.Poisson(), -logits, -logits)
