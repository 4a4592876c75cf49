"""Steps and losses of the user's own beside a weighting over gradients."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_losskit as losskit
from keras_losskit import weighting

BACKEND = keras.config.backend()
rng = np.random.default_rng(0)
X = rng.normal(size=(16, 3)).astype("float32")
Y = {
    "a": rng.normal(size=(16, 1)).astype("float32"),
    "b": rng.normal(size=(16, 2)).astype("float32"),
}


def annealing(**options):
    """A method that compiles fast."""
    return weighting.LearningRateAnnealing(decay=0.5, **options)


def made(model_class, method):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((3,))
    hidden = layers.Dense(4, "tanh", name="trunk")(inputs)
    outputs = {
        "a": layers.Dense(1, name="a")(hidden),
        "b": layers.Dense(2, name="b")(hidden),
    }
    return compiled(model_class(inputs, outputs), method)


def compiled(model, method):
    model.compile(
        keras.optimizers.SGD(0.05),
        loss=losskit.LossesContainer(
            {"a": "mse", "b": "mse"}, weighting=method
        ),
        run_eagerly=BACKEND != "jax",
    )
    return model


def fit(model):
    return model.fit(X, Y, batch_size=16, verbose=0).history


class CallsSuper(losskit.Model):
    """A step that changes the data and then does as it would have done."""

    def train_step(self, *args):
        *state, (x, y) = args
        args = (*state, (2.0 * x, y))
        return super().train_step(*args)


def scope(model, state):
    """Where JAX has the variables of a step; elsewhere in their place."""
    references = [
        *model.trainable_variables,
        *model.non_trainable_variables,
        *model.optimizer.variables,
        *model.metrics_variables,
    ]
    values = [value for part in state for values in part for value in values]
    return keras.StatelessScope(list(zip(references, values, strict=False)))


class StepByStep(losskit.Model):
    """A step of its own, over `compute_loss`."""

    def train_step(self, *args):
        *state, (x, y) = args
        with scope(self, state):
            self.compute_loss(x, y, self(x, training=True))
        raise AssertionError("not refused")


class AsInTfKeras(losskit.Model):
    """A step of its own, over the container."""

    def train_step(self, *args):
        *state, (x, y) = args
        with scope(self, state):
            self.compiled_loss(y, self(x, training=True))
        raise AssertionError("not refused")


def test_a_step_that_calls_super_is_served():
    model = made(CallsSuper, annealing())
    reference = made(losskit.Model, annealing())
    logs = fit(model)
    expected = reference.fit(2.0 * X, Y, batch_size=16, verbose=0).history
    for key, values in expected.items():
        np.testing.assert_allclose(logs[key], values, rtol=1e-5)
    assert "a_weight" in logs
    for ours, theirs in zip(
        model.get_weights(), reference.get_weights(), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "model_class, named",
    [
        (StepByStep, "train_step` of StepByStep"),
        (AsInTfKeras, "own call `super"),
    ],
)
def test_a_step_that_passes_the_weighting_by_is_refused(model_class, named):
    model = made(model_class, weighting.PCGrad())
    with pytest.raises(ValueError, match=f"PCGrad.*{named}|{named}.*PCGrad"):
        fit(model)
    # Without it, or with one over values, the step is the user's business.
    for method in (None, weighting.Uncertainty()):
        with pytest.raises(AssertionError, match="not refused"):
            fit(made(model_class, method))


class PlainStep(keras.Model):
    def __init__(self):
        super().__init__()
        self.a, self.b = layers.Dense(1), layers.Dense(2)

    def call(self, x):
        return {"a": self.a(x), "b": self.b(x)}

    def train_step(self, *args):
        raise AssertionError("not refused")


class Mixed(losskit.LossTermsMixin, PlainStep):
    pass


@pytest.mark.parametrize(
    "make", [lambda: losskit.wrap(PlainStep()), Mixed], ids=["wrap", "mixin"]
)
def test_a_hidden_step_is_refused(make):
    with pytest.raises(ValueError, match="PlainStep.*PCGrad"):
        fit(compiled(make(), weighting.PCGrad()))


def test_a_plain_model_is_refused():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(1)])
    one = losskit.losses.MeanSquaredError(name="one")
    two = losskit.losses.MeanAbsoluteError(name="two")
    model.compile(
        loss=losskit.LossesContainer(one + two, weighting=weighting.PCGrad())
    )
    with pytest.raises(ValueError, match="PCGrad.*keras_losskit.Model"):
        model.fit(X, Y["a"], verbose=0)
    container = losskit.LossesContainer("mse", weighting=weighting.PCGrad())
    with pytest.raises(ValueError, match="PCGrad.*Received"):
        container(Y["a"], Y["a"])
    # Without training there is nothing to weigh.
    assert float(container(Y["a"], Y["a"], training=False)) == 0.0


class AddsAPart(losskit.Model):
    """A `compute_loss` that adds a part to that of the terms."""

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        total = super().compute_loss(x, y, y_pred, sample_weight, training)
        return total + ops.sum(self.get_layer("trunk").kernel ** 2)


class AloneWithTheLoss(losskit.Model):
    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        return ops.mean((y["a"] - y_pred["a"]) ** 2)


@pytest.mark.parametrize("options", [{}, {"every": 2}])
def test_what_a_compute_loss_adds_is_part_of_the_update(options):
    # The weighting finds the weights of "a" and "b"; the part added keeps 1.
    model = made(AddsAPart, annealing(**options))
    bare = made(losskit.Model, annealing(**options))
    kernel = model.get_layer("trunk").get_weights()[0]
    logs, expected = fit(model), fit(bare)
    for name in ("a", "b"):
        weight = f"{name}_weight"
        np.testing.assert_allclose(logs[weight], expected[weight], rtol=1e-5)
    np.testing.assert_allclose(
        model.get_layer("trunk").get_weights()[0],
        bare.get_layer("trunk").get_weights()[0] - 0.05 * 2 * kernel,
        rtol=1e-4,
        atol=1e-6,
    )
    np.testing.assert_allclose(logs["added_loss"], np.sum(kernel**2), rtol=1e-5)
    np.testing.assert_allclose(
        logs["loss"],
        np.add(logs["added_loss"], logs["compiled_loss"]),
        rtol=1e-5,
    )


def test_a_compute_loss_without_terms_is_refused():
    model = made(AloneWithTheLoss, weighting.PCGrad())
    with pytest.raises(
        ValueError, match="`compute_loss` of AloneWithTheLoss.*PCGrad"
    ):
        fit(model)
