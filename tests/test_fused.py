"""Fused weight penalties against one operation per variable."""

import keras
import numpy as np
import pytest
from support.versions import IS_KERAS_3_14

import keras_losskit as losskit
from keras_losskit.penalties._fused import FusedPenalties
from keras_losskit.penalties.collect import regularized_variables
from keras_losskit.penalties.collect import variable_terms


class Quartic(keras.regularizers.Regularizer):
    """Of no family of Keras'."""

    def __call__(self, x):
        return 0.1 * keras.ops.sum(x**4)


REGULARIZERS = {
    "l1": lambda: keras.regularizers.L1(0.03),
    "l2": lambda: keras.regularizers.L2(0.02),
    "l1l2": lambda: keras.regularizers.L1L2(0.03, 0.02),
    # A function where Keras takes one: the variables of 3.14 refuse it.
    "custom": lambda: Quartic() if IS_KERAS_3_14 else Quartic().__call__,
}


def mixed_model(model_class=losskit.Model):
    inputs = keras.Input((3,))
    x = inputs
    for index, (name, make) in enumerate(REGULARIZERS.items()):
        x = keras.layers.Dense(
            4,
            kernel_regularizer=make(),
            bias_regularizer="l2",
            bias_initializer="ones",
            name=f"{name}_{index}",
        )(x)
    return model_class(inputs, keras.layers.Dense(1, name="out")(x))


def by_numpy(model):
    total = 0.0
    for layer in model.layers[1:-1]:
        kernel, bias = layer.get_weights()
        total += 0.01 * np.sum(bias**2)  # "l2" is L2(0.01)
        family = layer.name.split("_")[0]
        if "l1" in family:
            total += 0.03 * np.sum(np.abs(kernel))
        if "l2" in family:
            total += 0.02 * np.sum(kernel**2)
        if family == "custom":
            total += 0.1 * np.sum(kernel**4)
    return total


def test_sums_every_family_once():
    model = mixed_model()
    terms = FusedPenalties(
        regularized_variables(model), losskit.Penalty()
    ).terms()
    total = sum(float(term.value) for term in terms)
    assert total == pytest.approx(by_numpy(model), rel=1e-6)
    assert {term.kind for term in terms} == {"regularization"}
    # eight of one group together, the custom one by itself
    assert len(terms) == 2


def test_equals_one_operation_per_variable():
    variables = regularized_variables(mixed_model())
    terms = FusedPenalties(variables, losskit.Penalty()).terms()
    fused = sum(float(term.value) for term in terms)
    single = sum(float(t.value) for t in variable_terms(variables))
    assert fused == pytest.approx(single, rel=1e-6)


# TorchInductor takes minutes to compile what it takes seconds to run.
JIT = pytest.param(
    True,
    marks=[pytest.mark.slow] if keras.config.backend() == "torch" else [],
)


@pytest.mark.parametrize("jit_compile", [False, JIT])
def test_trains_as_keras_does(jit_compile):
    x = np.random.default_rng(0).normal(size=(24, 3)).astype("float32")
    y = x[:, :1]
    ends = []
    for model_class in (keras.Model, losskit.Model):
        keras.utils.set_random_seed(1)
        model = mixed_model(model_class)
        model.compile(
            keras.optimizers.SGD(0.005), loss="mse", jit_compile=jit_compile
        )
        history = model.fit(x, y, epochs=3, batch_size=8, verbose=0)
        ends.append((history.history["loss"], model.get_weights()))
    (plain_loss, plain), (our_loss, ours) = ends
    assert np.isfinite(plain_loss).all()
    np.testing.assert_allclose(our_loss, plain_loss, rtol=1e-6)
    for expected, weights in zip(plain, ours, strict=True):
        np.testing.assert_allclose(weights, expected, atol=1e-6)


def test_keeps_groups_apart():
    model = mixed_model()
    model.compile(
        keras.optimizers.SGD(0.0),
        loss=losskit.LossesContainer(
            "mse",
            regularization=losskit.Penalty(
                groups={"first": ("l1_0/.*", 0.0), "second": ("l2_1/.*", 3.0)}
            ),
        ),
    )
    x = np.ones((4, 3), "float32")
    logs = model.fit(x, x[:, :1], verbose=0).history
    kernel, bias = model.get_layer("l2_1").get_weights()
    second = 0.02 * np.sum(kernel**2) + 0.01 * np.sum(bias**2)
    kernel, bias = model.get_layer("l1_0").get_weights()
    first = 0.03 * np.sum(np.abs(kernel)) + 0.01 * np.sum(bias**2)
    assert logs["second_loss"][0] == pytest.approx(second, rel=1e-5)
    assert logs["first_loss"][0] == pytest.approx(first, rel=1e-5)
    # first counts 0 times, second 3 times, the rest once
    expected = by_numpy(model) - first + 2 * second
    assert logs["regularization_loss"][0] == pytest.approx(expected, rel=1e-5)


def test_forgets_the_variables_of_an_earlier_compile():
    model = mixed_model()
    x = np.ones((4, 3), "float32")
    model.compile(keras.optimizers.SGD(0.0), "mse")
    model.fit(x, x[:, :1], verbose=0)
    model.get_layer("l2_1").trainable = False  # Keras: no penalty from it
    model.compile(keras.optimizers.SGD(0.0), "mse")
    logs = model.fit(x, x[:, :1], verbose=0).history
    kernel, bias = model.get_layer("l2_1").get_weights()
    frozen = 0.02 * np.sum(kernel**2) + 0.01 * np.sum(bias**2)
    assert logs["regularization_loss"][0] == pytest.approx(
        by_numpy(model) - frozen, rel=1e-5
    )


@pytest.mark.parametrize("log", ["terms", "all"])
def test_follows_what_is_frozen_and_the_factors_as_keras_does(log):
    x = np.ones((4, 3), "float32")
    plain, ours = (mixed_model(cls) for cls in (keras.Model, losskit.Model))
    ours.set_weights(plain.get_weights())
    eager = {"optimizer": keras.optimizers.SGD(0.0), "run_eagerly": True}
    plain.compile(**eager, loss="mse")
    groups = {"last": ("l1l2_2/.*", 1.0)}
    ours.compile(
        **eager,
        loss=losskit.LossesContainer(
            "mse", regularization=losskit.Penalty(groups=groups), log=log
        ),
    )

    def changes(model):
        yield
        model.get_layer("l2_1").trainable = False
        yield
        model.get_layer("l1_0").kernel.regularizer.l1 = 0.5
        yield
        model.get_layer("l1l2_2").kernel.regularizer = keras.regularizers.L1(1)
        yield
        model.get_layer("l2_1").trainable = True
        yield
        model.trainable = False
        yield

    losses = []
    for _ in zip(changes(plain), changes(ours), strict=True):
        loss = plain.evaluate(x, x[:, :1], verbose=0)
        logs = ours.evaluate(x, x[:, :1], verbose=0, return_dict=True)
        assert logs["loss"] == pytest.approx(loss, rel=1e-6)
        losses.append(loss)
    assert len(set(losses)) == len(losses)
