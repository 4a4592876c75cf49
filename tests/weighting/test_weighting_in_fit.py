"""Weightings in plain `fit`: the parts sum, the state is saved and resumed."""

import functools

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_losskit as losskit
from keras_losskit import weighting

rng = np.random.default_rng(0)
X = rng.normal(size=(40, 4)).astype("float32")
Y = {
    "a": rng.normal(size=(40, 1)).astype("float32"),
    "b": 5 * rng.normal(size=(40, 2)).astype("float32"),
}
ADAPTIVE = [
    weighting.DynamicWeightAverage,
    weighting.Equal,
    weighting.GeometricMean,
    weighting.IMTLLoss,
    weighting.RandomLossWeighting,
    weighting.ReLoBRaLo,
    weighting.SoftAdapt,
    weighting.Uncertainty,
]


def model_with(method, **compile_arguments):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4,))
    hidden = layers.Dense(
        8, kernel_regularizer="l2", activity_regularizer="l1"
    )(inputs)
    outputs = {
        "a": layers.Dense(1, name="a")(hidden),
        "b": layers.Dense(2, name="b")(hidden),
    }
    model = losskit.Model(inputs, outputs)
    weights = compile_arguments.pop("loss_weights", {"a": 1.0, "b": 0.5})
    model.compile(
        keras.optimizers.Adam(0.01),
        loss=losskit.LossesContainer(
            {"a": "mse", "b": "mae"}, loss_weights=weights, weighting=method
        ),
        **compile_arguments,
    )
    return model


def fit(model, epochs=2, validate=False):
    return model.fit(
        X,
        Y,
        batch_size=20,
        epochs=epochs,
        verbose=0,
        shuffle=False,
        validation_data=(X, Y) if validate else None,
    ).history


@pytest.mark.parametrize("method", ADAPTIVE)
def test_the_parts_sum_and_a_resumed_run_goes_on(method, tmp_path):
    model = model_with(method())
    logs = fit(model, validate=True)
    for prefix in ("", "val_"):
        kinds = ("compiled", "regularization", "activity", "weighting")
        parts = [logs.get(f"{prefix}{kind}_loss", [0, 0]) for kind in kinds]
        np.testing.assert_allclose(
            np.sum(parts, axis=0), logs[f"{prefix}loss"], rtol=1e-5
        )
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    expected, received = fit(model), fit(loaded)
    assert set(received) == set(expected)
    for key, values in expected.items():
        np.testing.assert_allclose(received[key], values, rtol=1e-5)


def test_uncertainty_learns_and_is_frozen_in_validation():
    model = model_with(weighting.Uncertainty())
    fit(model, epochs=1)
    variance = model.compiled_loss.weighting.log_variance
    learned = variance.numpy().copy()
    # both losses are above 1 or so: their variances rise from 0
    assert (learned != 0).all()
    model.evaluate(X, Y, verbose=0)
    np.testing.assert_array_equal(variance.numpy(), learned)


def test_five_compiles_leave_one_state():
    model = model_with(weighting.Uncertainty())
    model.test_on_batch(X, Y)
    count = len(model.trainable_variables)
    for _ in range(5):
        model.compile(
            "adam",
            loss=losskit.LossesContainer(
                {"a": "mse", "b": "mae"}, weighting=weighting.Uncertainty()
            ),
            run_eagerly=True,
        )
        model.test_on_batch(X, Y)
    assert len(model.trainable_variables) == count
    assert len(model.metrics) == 2


@keras.saving.register_keras_serializable("tests")
class Fixed(weighting.Weighting):
    """Weights that are known, and the Gramian they were asked for."""

    statistic = "gramian"

    def __init__(self, found, **kwargs):
        super().__init__(**kwargs)
        self.found = found

    def build(self, num_terms):
        super().build(num_terms)
        self.seen = self.add_weight(
            shape=(num_terms, num_terms), initializer="zeros", trainable=False
        )

    def weigh(self, gramian, training):
        self.seen.assign(gramian)
        return ops.convert_to_tensor(self.found, "float32")

    def get_config(self):
        return {**super().get_config(), "found": self.found}


@pytest.mark.parametrize("eager", [False, True])
def test_gradient_weights_of_one_train_as_without(eager):
    plain = model_with(None, run_eagerly=eager)
    weighed = model_with(Fixed([1.0, 1.0]), run_eagerly=eager)
    expected, logs = fit(plain, validate=True), fit(weighed, validate=True)
    for key, values in expected.items():
        np.testing.assert_allclose(logs[key], values, rtol=1e-5)
    assert logs["a_weight"] == [1.0, 1.0]
    assert "val_a_weight" not in logs
    for ours, theirs in zip(
        weighed.get_weights(), plain.get_weights(), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_gradient_weights_shape_the_update_and_not_the_loss():
    # found (0.5, 2) on top of loss_weights (1, 0.5): the update is that of
    # loss_weights (0.5, 1), the loss logged that of (1, 0.5)
    weighed = model_with(Fixed([0.5, 2.0]))
    reference = model_with(None, loss_weights={"a": 0.5, "b": 1.0})
    logs, expected = fit(weighed), fit(reference)
    for ours, theirs in zip(
        weighed.get_weights(), reference.get_weights(), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    np.testing.assert_allclose(
        logs["compiled_loss"],
        np.add(logs["a_loss"], 0.5 * np.array(logs["b_loss"])),
        rtol=1e-5,
    )
    np.testing.assert_allclose(logs["a_loss"], expected["a_loss"], rtol=1e-4)


def test_the_gramian_is_that_of_the_contributions():
    # y = x w, loss_weights 1 and 3: gradients by hand
    inputs = keras.Input((2,))
    shared = layers.Dense(1, use_bias=False, kernel_initializer="ones")
    out = shared(inputs)
    model = losskit.Model(inputs, {"a": out, "b": 2 * out})
    model.compile(
        keras.optimizers.SGD(0.0),
        loss=losskit.LossesContainer(
            {"a": "mse", "b": "mse"},
            loss_weights={"b": 3.0},
            weighting=Fixed([1.0, 1.0]),
        ),
    )
    x = np.array([[1.0, 2.0], [3.0, -1.0]], "float32")
    y = np.array([[0.5], [1.0]], "float32")
    model.fit(x, {"a": y, "b": y}, verbose=0)
    error_a = x.sum(axis=1, keepdims=True) - y
    error_b = 2 * x.sum(axis=1, keepdims=True) - y
    jacobian = np.concatenate(
        [
            2 * np.mean(error_a * x, axis=0, keepdims=True),
            3 * 2 * np.mean(error_b * 2 * x, axis=0, keepdims=True),
        ]
    )
    np.testing.assert_allclose(
        model.compiled_loss.weighting.seen.numpy(),
        jacobian @ jacobian.T,
        rtol=1e-5,
    )


def test_gradient_weights_in_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        expected = fit(model_with(None), epochs=1)
        logs = fit(model_with(Fixed([1.0, 1.0])), epochs=1)
    finally:
        keras.config.set_dtype_policy("float32")
    np.testing.assert_allclose(logs["loss"], expected["loss"], rtol=1e-3)


def test_gradient_weights_do_without_a_term_that_a_batch_lacks():
    model = model_with(Fixed([1.0, 1.0]))
    reference = model_with(None)
    for each in (model, reference):
        each.train_on_batch(X, Y)
        each.train_on_batch(X, {"a": Y["a"]})
    seen = model.compiled_loss.weighting.seen.numpy()
    assert seen[0, 0] > 0
    assert not seen[1].any()
    # The head of `b` has no gradient, which Adam takes for 0 on JAX only.
    ours, theirs = (
        [each.layers[1].kernel, each.get_layer("a").kernel]
        for each in (model, reference)
    )
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-6)


def unbuilt(method):
    """A container whose losses are 1 and 2 on what comes with it."""
    y_true = {"a": ops.zeros((4, 1)), "b": ops.zeros((4, 1))}
    y_pred = {"a": ops.ones((4, 1)), "b": 2 * ops.ones((4, 1))}
    container = losskit.LossesContainer(
        {"a": "mse", "b": "mae"}, weighting=method
    )
    return container, y_true, y_pred


def values_of(container):
    return [variable.value for variable in container.variables]


@pytest.mark.parametrize("method", ADAPTIVE)
def test_a_stateless_step_builds_the_weighting(method):
    expected, y_true, y_pred = unbuilt(method(**seed_of(method)))
    expected.build(y_true, y_pred)
    container, _, _ = unbuilt(method(**seed_of(method)))
    state, want = values_of(container), values_of(expected)
    for _ in range(2):
        terms, state = container.stateless_compute(state, y_true, y_pred)
        total, want = expected.stateless_compute(want, y_true, y_pred)
        np.testing.assert_allclose(*map(as_numpy, (terms.total, total.total)))
        for value, other in zip(state, want, strict=True):
            np.testing.assert_allclose(as_numpy(value), as_numpy(other))


def as_numpy(tensor):
    return ops.convert_to_numpy(tensor)


def seed_of(method):
    random = issubclass(method, weighting.weighting.RandomWeighting)
    return {"seed": 3} if random else {}


@pytest.mark.skipif(keras.config.backend() != "jax", reason="tracers of JAX")
@pytest.mark.parametrize("closed_over", [False, True])
@pytest.mark.parametrize("method", ADAPTIVE)
def test_a_transformation_asks_for_a_weighting_that_is_built(
    method, closed_over
):
    import jax

    container, y_true, y_pred = unbuilt(method())
    steps = [
        lambda state, y: container.compute(y_true, y).total,
        lambda state, y: container.stateless_compute(state, y_true, y)[0].total,
    ]
    for step in steps:
        transformed = jax.jit(step)
        arguments = [values_of(container), y_pred]
        if closed_over:
            transformed = jax.jit(functools.partial(step, *arguments))
        with pytest.raises(RuntimeError, match="to be built before.*`contain"):
            transformed(*([] if closed_over else arguments))
        assert not container.weighting.built
    container.build(y_true, y_pred)
    state = values_of(container)
    for step in steps:
        total = jax.jit(step)(state, y_pred)
        assert float(total) == pytest.approx(float(step(state, y_pred)))
