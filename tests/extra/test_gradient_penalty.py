"""`GradientPenalty` and `input_gradient` beside gradients derived by hand."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_losskit as losskit
from keras_losskit import extra


def numbers(*shape, seed=0):
    values = np.random.default_rng(seed).normal(size=shape)
    return values.astype("float32")


WEIGHTS = (numbers(3, 4, seed=1), numbers(4, seed=2), numbers(4, 1, seed=3))


def critic():
    """`D(x) = tanh(x W + b) v`."""
    inputs = keras.Input((3,))
    hidden = keras.layers.Dense(4, "tanh")(inputs)
    outputs = keras.layers.Dense(1, use_bias=False)(hidden)
    model = losskit.Model(inputs, outputs)
    model.set_weights(WEIGHTS)
    return model


def slope(x, kernel, bias, head):
    # dD/dx = W (v * (1 - tanh(x W + b) ** 2))
    tanh = np.tanh(x @ kernel + bias)
    return (head[:, 0] * (1.0 - tanh**2)) @ kernel.T


def penalty(x, weights, target=1.0, counts=None):
    norms = np.linalg.norm(slope(x, *weights), axis=-1)
    return np.average((norms - target) ** 2, weights=counts)


def by_finite_differences(function, weights, step=1e-5):
    """The gradient of `function(weights)`, element by element."""
    weights = [weight.astype("float64") for weight in weights]
    gradients = []
    for weight in weights:
        gradient = np.zeros_like(weight)
        for index in np.ndindex(weight.shape):
            middle = weight[index]
            weight[index] = middle + step
            above = function(weights)
            weight[index] = middle - step
            gradient[index] = (above - function(weights)) / (2 * step)
            weight[index] = middle
        gradients.append(gradient)
    return gradients


def compiled(term, learning_rate=0.0, model=None, **arguments):
    model = critic() if model is None else model
    container = losskit.LossesContainer(extra_terms={"gp": term})
    model.compile(keras.optimizers.SGD(learning_rate), container, **arguments)
    return model


X = numbers(6, 3)
REAL = np.array([[1.0], [0.0], [0.0], [1.0], [0.9], [0.1]], "float32")


def test_input_gradient_is_that_of_each_sample():
    model = critic()
    found = extra.input_gradient(model, X)
    np.testing.assert_allclose(
        ops.convert_to_numpy(found), slope(X, *WEIGHTS), rtol=1e-5, atol=1e-6
    )


def test_input_gradient_can_be_taken_of_an_input_gradient():
    x = ops.convert_to_tensor(X)

    def first(x):
        return extra.input_gradient(
            lambda x: ops.sin(x) * ops.flip(x, axis=-1), x
        )

    # sum_ij sin(x_ij) x_ij', j' = 2 - j: d/dx_j = cos(x_j) x_j' + sin(x_j')
    mirrored = X[:, ::-1]
    expected = np.cos(X) * mirrored + np.sin(mirrored)
    np.testing.assert_allclose(
        ops.convert_to_numpy(first(x)), expected, rtol=1e-5, atol=1e-6
    )
    # d/dx_j of the sum of these: -sin(x_j) x_j' + cos(x_j') + cos(x_j)
    second = ops.convert_to_numpy(extra.input_gradient(first, x))
    expected = -np.sin(X) * mirrored + np.cos(mirrored) + np.cos(X)
    np.testing.assert_allclose(second, expected, rtol=1e-4, atol=1e-5)


def test_input_gradient_of_a_nest_is_a_nest():
    x = {"a": X, "ids": np.ones((6, 2), "int32"), "unused": X}
    found = extra.input_gradient(lambda x: {"o": x["a"] ** 2, "p": 1.0}, x)
    np.testing.assert_allclose(
        ops.convert_to_numpy(found["a"]), 2 * X, rtol=1e-6
    )
    for key in ("ids", "unused"):
        assert found[key].shape == x[key].shape
        assert not ops.convert_to_numpy(found[key]).any()
    with pytest.raises(ValueError, match="floating point.*int32"):
        extra.input_gradient(lambda x: x, x["ids"])


@pytest.mark.parametrize("eagerly", [False, True])
@pytest.mark.parametrize(
    ("at", "target", "counts"),
    [
        ("inputs", 1.0, np.ones(6)),
        ("real", 0.0, REAL[:, 0] > 0.5),
        ("fake", 0.5, REAL[:, 0] < 0.5),
    ],
)
def test_value_and_gradient_by_the_weights(at, target, counts, eagerly):
    term = extra.GradientPenalty(at=at, target=target, weight=0.5)
    model = compiled(term, learning_rate=1.0, run_eagerly=eagerly)
    logs = model.fit(X, REAL, batch_size=6, verbose=0).history

    def value(weights):
        return penalty(X, weights, target, counts)

    expected = value(WEIGHTS)
    np.testing.assert_allclose(logs["gp_loss"], expected, rtol=1e-5)
    np.testing.assert_allclose(logs["loss"], expected / 2, rtol=1e-5)
    moved = [a - b for a, b in zip(WEIGHTS, model.get_weights(), strict=True)]
    for found, gradient in zip(
        moved, by_finite_differences(value, WEIGHTS), strict=True
    ):
        np.testing.assert_allclose(found, gradient / 2, rtol=1e-3, atol=1e-5)


def test_compiled_by_xla_where_the_backend_can():
    model = compiled(
        extra.GradientPenalty(),
        jit_compile=keras.config.backend() != "torch",
    )
    logs = model.train_on_batch(X, REAL, return_dict=True)
    assert np.isfinite(logs["gp_loss"]) and logs["gp_loss"] > 0.0


def line():
    """`D(x) = sum(x ** 3)`, whose slope tells the point."""
    inputs = keras.Input((1,))
    return losskit.Model(inputs, inputs**3)


def test_interpolates_lie_between_a_fake_and_a_real_sample():
    # pairs in order: 1 with 10, 2 with 20; the slope 3 x^2 is the norm
    x = np.array([[10.0], [1.0], [2.0], [20.0]], "float32")
    labels = np.array([1, 0, 0, 1], "float32")
    term = extra.GradientPenalty(target=0.0, seed=5)
    context = extra.Context(
        model=line(), x=x, y_true=labels, y_pred=x, moves=True
    )
    shares = keras.random.uniform((2,), seed=keras.random.SeedGenerator(5))
    shares = ops.convert_to_numpy(shares)
    points = np.array([1.0, 2.0]) + shares * np.array([9.0, 18.0])
    np.testing.assert_allclose(
        ops.convert_to_numpy(term(context)),
        np.mean((3 * points**2) ** 2),
        rtol=1e-5,
    )
    assert 0.0 < shares.min() < shares.max() < 1.0


@pytest.mark.parametrize("reals", [0, 1, 2, 3, 4, 5])
def test_as_many_interpolates_as_there_are_pairs(reals):
    # a pair of two fakes, or two reals, would show in the value
    labels = np.arange(5) >= 5 - reals
    x = np.where(labels, 1.0, 1e4).astype("float32")[:, None]
    term = extra.GradientPenalty(target=0.0)
    context = extra.Context(
        model=line(), x=x, y_true=labels.astype("float32"), y_pred=x
    )
    pairs = min(reals, 5 - reals)
    shares = keras.random.uniform((2,), seed=0)  # where no state moves
    shares = ops.convert_to_numpy(shares)
    points = shares * 1.0 + (1 - shares) * 1e4
    slopes = (3 * points**2) ** 2
    # of two places, the pairs of one each stand where fakes meet reals
    taken = {0: [], 1: [1], 2: [0, 1], 3: [0, 1], 4: [0], 5: []}[reals]
    assert len(taken) == pairs
    expected = slopes[taken].mean() if taken else 0.0
    np.testing.assert_allclose(
        ops.convert_to_numpy(term(context)), expected, rtol=1e-4
    )


def test_interpolates_differ_from_step_to_step_and_not_in_evaluation():
    model = compiled(extra.GradientPenalty(seed=1))
    history = model.fit(
        X,
        REAL,
        batch_size=6,
        epochs=3,
        validation_data=(X, REAL),
        verbose=0,
        shuffle=False,
    ).history
    assert len(set(history["gp_loss"])) == 3
    assert len(set(history["val_gp_loss"])) == 1
    again = compiled(extra.GradientPenalty(seed=1))
    repeated = again.fit(
        X, REAL, batch_size=6, epochs=3, verbose=0, shuffle=False
    ).history
    np.testing.assert_allclose(repeated["gp_loss"], history["gp_loss"])


def test_random_points_go_on_after_loading(tmp_path):
    model = compiled(extra.GradientPenalty(seed=1))
    fit = {"batch_size": 6, "verbose": 0, "shuffle": False}
    model.fit(X, REAL, epochs=2, **fit)
    path = tmp_path / "model.keras"
    model.save(path)
    third = model.fit(X, REAL, **fit).history["gp_loss"]
    loaded = keras.saving.load_model(path)
    np.testing.assert_allclose(
        loaded.fit(X, REAL, **fit).history["gp_loss"], third, rtol=1e-5
    )


def test_a_slope_of_zero_has_a_gradient_of_zero():
    model = critic()
    model.set_weights([0.0 * weight for weight in WEIGHTS])
    model = compiled(extra.GradientPenalty(at="inputs"), 1.0, model)
    logs = model.fit(X, REAL, verbose=0).history
    assert logs["gp_loss"] == [1.0]
    assert not any(weight.any() for weight in model.get_weights())


def test_mixed_precision_gives_float32_near_the_value():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        # With 1 for the target, bfloat16 would leave few digits of (|g| - 1)².
        term = extra.GradientPenalty(at="inputs", target=0.0)
        model = compiled(term)
    finally:
        keras.config.set_dtype_policy(policy)
    logs = model.fit(X, REAL, batch_size=6, verbose=0).history
    np.testing.assert_allclose(
        logs["gp_loss"], penalty(X, WEIGHTS, target=0.0), rtol=0.05
    )
    context = extra.Context(model=model, x=X, y_true=REAL, y_pred=REAL)
    value = extra.GradientPenalty(at="inputs")(context)
    assert keras.backend.standardize_dtype(value.dtype) == "float32"


def test_one_of_several_outputs_and_inputs_of_integers():
    ids = keras.Input((1,), dtype="int32", name="ids")
    inputs = keras.Input((1,), name="x")
    inputs_of = {"ids": ids, "x": inputs}
    scale = keras.layers.Embedding(2, 1, embeddings_initializer="ones")
    outputs = {
        "critic": keras.layers.Flatten()(scale(ids)) * inputs**2,
        "other": inputs * 100.0,
    }
    model = losskit.Model(inputs_of, outputs)
    x = {"ids": np.array([[0], [1]]), "x": np.array([[1.0], [2.0]], "float32")}
    y = {"critic": np.array([0.0, 1.0]), "other": np.zeros((2, 1))}
    container = losskit.LossesContainer(
        {"other": "mse"},
        loss_weights={"other": 0.0},
        extra_terms={
            "gp": extra.GradientPenalty(at="real", target=0.0, output="critic")
        },
    )
    model.compile("sgd", container)
    logs = model.evaluate(x, y, verbose=0, return_dict=True)
    assert logs["gp_loss"] == 16.0  # (2 * 2) ** 2
    container = losskit.LossesContainer(
        {"other": "mse"}, extra_terms={"gp": extra.GradientPenalty()}
    )
    model.compile("sgd", container)
    with pytest.raises(ValueError, match=r"`output`.*critic.*other.*None"):
        model.fit(x, y, verbose=0)


def test_errors_come_before_training():
    with pytest.raises(ValueError, match="interpolates.*'both'"):
        extra.GradientPenalty(at="both")
    with pytest.raises(ValueError, match="finite number"):
        extra.GradientPenalty(target=float("nan"))
    model = compiled(extra.GradientPenalty())
    with pytest.raises(ValueError, match="labels that tell real.*GradientPen"):
        model.fit(X, verbose=0)
