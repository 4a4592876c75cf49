"""Terms over the inside of the model: values, logs, configs, errors."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_losskit as losskit
from keras_losskit import extra
from keras_losskit import losses
from keras_losskit import schedules


def numbers(*shape, seed=0):
    values = np.random.default_rng(seed).normal(size=shape)
    return values.astype("float32")


@keras.saving.register_keras_serializable("tests")
def mean_square(x):
    return ops.mean(x**2, axis=-1)


@keras.saving.register_keras_serializable("tests")
def l1(x):
    return ops.sum(ops.abs(x))


def small_model(model_class=losskit.Model, **dense):
    keras.utils.set_random_seed(4)
    inputs = keras.Input((3,))
    x = keras.layers.Dense(4, "tanh", name="middle", **dense)(inputs)
    return model_class(inputs, keras.layers.Dense(1, name="head")(x))


def middle(model, x):
    kernel, bias = (v.numpy() for v in model.get_layer("middle").weights)
    return np.tanh(x @ kernel + bias)


def one_epoch(model, x, terms, batch_size=4, loss="mse", y=None, **arguments):
    container = losskit.LossesContainer(loss, extra_terms=terms)
    model.compile(keras.optimizers.SGD(0.0), container, **arguments)
    y = np.zeros((len(x), 1), "float32") if y is None else y
    history = model.fit(
        x, y, batch_size=batch_size, shuffle=False, verbose=0
    ).history
    return {key: values[0] for key, values in history.items()}


def mse(model, x, y=0.0):
    return np.mean((model.predict(x, verbose=0) - y) ** 2)


# ------------------------------------------------------------------ FromLayer


@pytest.mark.parametrize("eagerly", [False, True])
def test_from_layer_value_and_weight(eagerly):
    model, x = small_model(), numbers(6, 3)
    term = extra.FromLayer("middle", mean_square, weight=0.5)
    logs = one_epoch(model, x, {"flat": term}, run_eagerly=eagerly)
    expected = np.mean(middle(model, x) ** 2)
    np.testing.assert_allclose(logs["flat_loss"], expected, rtol=1e-5)
    np.testing.assert_allclose(logs["added_loss"], expected / 2, rtol=1e-5)
    np.testing.assert_allclose(
        logs["loss"], mse(model, x) + expected / 2, rtol=1e-5
    )
    assert not any("call" in layer.__dict__ for layer in model.layers)


def test_from_layer_reads_each_step_of_a_time_distributed_layer():
    inputs = keras.Input((3, 2))
    dense = keras.layers.Dense(1, kernel_initializer="ones", name="dense")
    model = losskit.Model(inputs, keras.layers.TimeDistributed(dense)(inputs))
    x = numbers(4, 3, 2)
    logs = one_epoch(model, x, {"flat": extra.FromLayer("dense", mean_square)})
    # a mean per step, and their sum
    expected = np.sum(np.mean(np.sum(x, axis=-1) ** 2, axis=0))
    np.testing.assert_allclose(logs["flat_loss"], expected, rtol=1e-5)


def test_from_layer_runs_the_model_once_per_batch():
    calls = []

    class Counting(keras.layers.Dense):
        def call(self, x, training=None):
            calls.append(x)
            return super().call(x)

    inputs = keras.Input((3,))
    x = Counting(4, name="middle")(inputs)
    model = losskit.Model(inputs, keras.layers.Dense(1)(x))
    one_epoch(model, numbers(4, 3), {})
    plain = len(calls)
    calls.clear()
    keras.backend.clear_session()
    inputs = keras.Input((3,))
    x = Counting(4, name="middle")(inputs)
    model = losskit.Model(inputs, keras.layers.Dense(1)(x))
    term = extra.FromLayer("middle", mean_square)
    one_epoch(model, numbers(4, 3), {"flat": term})
    assert len(calls) == plain


def test_from_layer_gradient_reaches_the_weights_below():
    model, x = small_model(), numbers(8, 3)
    kernel, bias = (v.numpy() for v in model.get_layer("middle").weights)
    container = losskit.LossesContainer(
        extra_terms={"flat": extra.FromLayer("middle", mean_square)}
    )
    model.compile(keras.optimizers.SGD(1.0), container)
    model.fit(x, np.zeros((8, 1)), batch_size=8, verbose=0)
    # d mean(tanh(z)^2) / dz = 2 tanh (1 - tanh^2) / n
    h = np.tanh(x @ kernel + bias)
    gradient = x.T @ (2 * h * (1 - h**2) / h.size)
    moved = kernel - model.get_layer("middle").kernel.numpy()
    np.testing.assert_allclose(moved, gradient, rtol=1e-4, atol=1e-6)


def test_from_layer_sums_over_the_calls_of_a_shared_layer():
    shared = keras.layers.Dense(3, name="middle")
    inputs = keras.Input((3,))
    once = shared(inputs)
    model = losskit.Model(inputs, keras.layers.Dense(1)(shared(once)))
    x = numbers(4, 3)
    logs = one_epoch(model, x, {"t": extra.FromLayer("middle", mean_square)})
    kernel, bias = (v.numpy() for v in shared.weights)
    first = x @ kernel + bias
    expected = np.mean(first**2) + np.mean((first @ kernel + bias) ** 2)
    np.testing.assert_allclose(logs["t_loss"], expected, rtol=1e-5)


def test_from_layer_by_path_in_nested_and_subclassed_models():
    inner = small_model(keras.Model)
    inner.get_layer("middle")

    class Outer(losskit.Model):
        def __init__(self):
            super().__init__()
            self.inner = inner

        def call(self, x):
            return 2.0 * self.inner(x)

    x = numbers(4, 3)
    inputs = keras.Input((3,))
    nested = losskit.Model(inputs, inner(inputs))
    for model in (Outer(), nested, losskit.wrap(inner)):
        path = inner.get_layer("middle").path
        for name in ("middle", path):
            logs = one_epoch(
                model, x, {"t": extra.FromLayer(name, mean_square)}
            )
            np.testing.assert_allclose(
                logs["t_loss"], np.mean(middle(inner, x) ** 2), rtol=1e-5
            )


@pytest.mark.parametrize(
    "middle",
    [
        lambda: keras.layers.Dense(2, name="middle"),
        lambda: keras.layers.SimpleRNN(2, return_sequences=True, name="middle"),
    ],
    ids=["dense", "recurrent"],
)
def test_from_layer_leaves_out_masked_steps(middle):
    middle = middle()
    if not middle.supports_masking:
        pytest.skip("the recurrent layers of Keras 3.16 drop a mask")
    inputs = keras.Input((5, 3))
    x = middle(keras.layers.Masking()(inputs))
    model = losskit.Model(inputs, keras.layers.Dense(1)(x))
    x = numbers(2, 5, 3)
    x[0, 3:], x[1, 1:] = 0.0, 0.0
    y = np.zeros((2, 5, 1), "float32")
    logs = one_epoch(
        model, x, {"t": extra.FromLayer("middle", mean_square)}, y=y
    )
    part = keras.Model(model.input, model.get_layer("middle").output)
    values = np.mean(part.predict(x, verbose=0) ** 2, axis=-1)
    valid = np.array([[1, 1, 1, 0, 0], [1, 0, 0, 0, 0]], bool)
    np.testing.assert_allclose(logs["t_loss"], values[valid].mean(), rtol=1e-5)


def test_from_layer_is_computed_in_float32_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    model = small_model(kernel_initializer="zeros", bias_initializer="ones")

    def large(x):
        assert keras.backend.standardize_dtype(x.dtype) == "float32"
        return 60000.0 * ops.sum(ops.ones_like(x))

    logs = one_epoch(
        model, numbers(4, 3), {"t": extra.FromLayer("middle", large)}
    )
    np.testing.assert_allclose(logs["t_loss"], 60000.0 * 16, rtol=1e-5)


@pytest.mark.parametrize("name", ["muddle", "added"])
def test_unknown_or_ambiguous_layer_is_refused_before_training(name):
    inputs = keras.Input((3,))
    x = inputs
    for _ in range(2):
        dense = keras.layers.Dense(3, name="added")
        x = keras.Sequential([keras.Input((3,)), dense])(x)
    model = losskit.Model(inputs, keras.layers.Dense(1)(x))
    before = model.get_weights()
    with pytest.raises(ValueError, match=f"one layer.*'{name}'"):
        one_epoch(model, numbers(4, 3), {"t": extra.FromLayer(name, l1)})
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_moving_weight_of_an_extra_term_is_logged():
    term = extra.FromLayer(
        "middle", mean_square, weight=schedules.Linear(0.0, 1.0, steps=2)
    )
    model, x = small_model(), numbers(8, 3)
    logs = one_epoch(model, x, {"t": term})
    # weights 0 and 1/2 at the two steps
    np.testing.assert_allclose(logs["t_weight"], 0.25)
    expected = 0.25 * np.mean(middle(model, x[4:]) ** 2)
    np.testing.assert_allclose(logs["added_loss"], expected, rtol=1e-5)


# ---------------------------------------------------------------- FromWeights


def kernel_of(model, name="middle"):
    return model.get_layer(name).kernel.numpy()


WEIGHT_FUNCTIONS = {
    "l1": (l1, lambda w: np.abs(w).sum()),
    "l2": ("l2", lambda w: 0.01 * (w**2).sum()),
    "orthogonality": (
        extra.orthogonality,
        # 3 inputs, 4 units: the rows are made orthonormal
        lambda w: ((w @ w.T - np.eye(3)) ** 2).sum(),
    ),
    "spectral": (extra.spectral_norm, lambda w: np.linalg.norm(w, 2)),
    "group lasso": (
        extra.group_lasso,
        lambda w: np.sqrt(3) * np.linalg.norm(w, axis=0).sum(),
    ),
}


@pytest.mark.parametrize("name", WEIGHT_FUNCTIONS)
def test_from_weights_value(name):
    fn, by_hand = WEIGHT_FUNCTIONS[name]
    model, x = small_model(), numbers(4, 3)
    term = extra.FromWeights("middle/kernel", fn, weight=0.5)
    logs = one_epoch(model, x, {"w": term})
    expected = by_hand(kernel_of(model))
    np.testing.assert_allclose(logs["w_loss"], expected, rtol=1e-4)
    np.testing.assert_allclose(logs["added_loss"], expected / 2, rtol=1e-4)


def test_from_weights_sums_over_all_that_match():
    model, x = small_model(), numbers(4, 3)
    logs = one_epoch(model, x, {"w": extra.FromWeights(".*kernel", l1)})
    expected = sum(
        np.abs(kernel_of(model, name)).sum() for name in ("middle", "head")
    )
    np.testing.assert_allclose(logs["w_loss"], expected, rtol=1e-5)


def test_from_weights_changes_the_matching_weights_only():
    model, x = small_model(), numbers(4, 3)
    before = [v.numpy() for v in model.trainable_weights]
    container = losskit.LossesContainer(
        extra_terms={"w": extra.FromWeights("head/kernel", "l2")}
    )
    model.compile(keras.optimizers.SGD(1.0), container)
    model.fit(x, np.zeros((4, 1)), verbose=0)
    for variable, old in zip(model.trainable_weights, before, strict=True):
        # d 0.01 * sum(w^2) = 0.02 w
        factor = 0.98 if variable.path.endswith("head/kernel") else 1.0
        np.testing.assert_allclose(variable.numpy(), factor * old, rtol=1e-5)


def test_distance_to_the_starting_weights_is_saved(tmp_path):
    model, x = small_model(), numbers(4, 3)
    start = kernel_of(model).copy()
    term = extra.FromWeights("middle/kernel", "l2", from_start=True)
    container = losskit.LossesContainer("mse", extra_terms={"w": term})
    model.compile(keras.optimizers.SGD(0.3), container)
    y = np.ones((4, 1), "float32")
    history = model.fit(x, y, epochs=3, verbose=0).history
    assert history["w_loss"][0] == 0.0 < history["w_loss"][2]
    expected = 0.01 * ((kernel_of(model) - start) ** 2).sum()
    results = model.evaluate(x, y, verbose=0, return_dict=True)
    np.testing.assert_allclose(results["w_loss"], expected, rtol=1e-4)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    results = loaded.evaluate(x, y, verbose=0, return_dict=True)
    np.testing.assert_allclose(results["w_loss"], expected, rtol=1e-4)


@keras.saving.register_keras_serializable("tests")
class TwoLayers(losskit.Model):
    """Its weights have other paths after loading."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.hidden = keras.layers.Dense(2, name="hidden")
        self.out = keras.layers.Dense(1, name="out")

    def call(self, x):
        return self.out(self.hidden(x))


def test_starting_weights_of_a_subclassed_model_are_saved(tmp_path):
    x, y = numbers(4, 3), np.ones((4, 1), "float32")
    model = TwoLayers()
    term = extra.FromWeights(".*kernel", "l2", from_start=True)
    container = losskit.LossesContainer("mse", extra_terms={"w": term})
    model.compile(keras.optimizers.SGD(0.3), container)
    model.fit(x, y, epochs=3, verbose=0)
    # What is frozen later has a start as well.
    model.hidden.trainable = False
    want = model.evaluate(x, y, verbose=0, return_dict=True)["w_loss"]
    model.hidden.trainable = True
    model.save(tmp_path / "m.keras")
    keras.utils.clear_session()
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    loaded.hidden.trainable = False
    got = loaded.evaluate(x, y, verbose=0, return_dict=True)["w_loss"]
    assert got == pytest.approx(want, rel=1e-5)
    assert want > 0.0


def test_starting_weights_of_another_model_are_refused():
    term = extra.FromWeights("middle/.*", "l2", from_start=True)
    term.prepare(small_model())
    other = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(7, name="middle")]
    )
    with pytest.raises(ValueError, match=r"training began with.*\(3, 7\)"):
        term.prepare(other)


def test_pattern_that_matches_nothing_is_refused():
    with pytest.raises(ValueError, match="'encoder/.*'.*trainable weight"):
        one_epoch(
            small_model(),
            numbers(4, 3),
            {"w": extra.FromWeights("encoder/.*", l1)},
        )


def test_group_lasso_of_a_dead_unit_has_a_finite_gradient():
    model, x = small_model(kernel_initializer="zeros"), numbers(4, 3)
    term = extra.FromWeights("middle/kernel", extra.group_lasso)
    container = losskit.LossesContainer(extra_terms={"w": term})
    model.compile(keras.optimizers.SGD(0.1), container)
    model.fit(x, np.zeros((4, 1)), verbose=0)
    np.testing.assert_array_equal(kernel_of(model), 0.0)


# ---------------------------------------------------------------- FromTeacher


def test_from_teacher_value_and_frozen_teacher():
    x = numbers(6, 3)
    teacher = small_model(keras.Model)
    inputs = keras.Input((3,))
    h = keras.layers.Dropout(0.5)(keras.layers.Dense(4)(inputs))
    student = losskit.Model(inputs, keras.layers.Dense(1)(h))
    before = teacher.get_weights()
    term = extra.FromTeacher(teacher, "mae", weight=0.5)
    container = losskit.LossesContainer("mse", extra_terms={"kd": term})
    student.compile("sgd", container)
    y = np.zeros((6, 1), "float32")
    student.fit(x, y, epochs=2, verbose=0)
    for old, new in zip(before, teacher.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    results = student.evaluate(x, y, verbose=0, return_dict=True)
    expected = np.mean(
        np.abs(teacher.predict(x, verbose=0) - student.predict(x, verbose=0))
    )
    np.testing.assert_allclose(results["kd_loss"], expected, rtol=1e-5)
    np.testing.assert_allclose(
        results["loss"], mse(student, x) + expected / 2, rtol=1e-5
    )


def test_from_teacher_counts_samples_by_their_weights():
    x, y = numbers(6, 3), np.zeros((6, 1), "float32")
    x[3:] = 100.0
    weights = np.array([1.0, 2.0, 0.5, 0.0, 0.0, 0.0], "float32")
    teacher = small_model(keras.Model, bias_initializer="ones")
    student = small_model()
    both = losskit.Model(student.inputs, [student.output, student.output])
    loss = losses.MeanAbsoluteError(reduction="mean_with_sample_weight")
    term = extra.FromTeacher(teacher, loss)
    container = losskit.LossesContainer("mse", extra_terms={"kd": term})
    student.compile("sgd", container)
    error = np.abs(
        teacher.predict(x, verbose=0) - student.predict(x, verbose=0)
    )[:, 0]
    expected = np.sum(weights * error) / np.sum(weights)
    assert expected > 0.0
    logs = student.evaluate(
        x, y, sample_weight=weights, verbose=0, return_dict=True
    )
    np.testing.assert_allclose(logs["kd_loss"], expected, rtol=1e-5)
    # Weights of one output of two, by its name.
    twin = keras.Model(teacher.inputs, [teacher.output, teacher.output])
    term = extra.FromTeacher(twin, loss)
    both.compile(
        "sgd", losskit.LossesContainer(["mse", "mse"], extra_terms={"kd": term})
    )
    logs = both.evaluate(
        x, [y, y], sample_weight=[weights, None], verbose=0, return_dict=True
    )
    np.testing.assert_allclose(
        logs["kd_loss"], expected + error.mean(), rtol=1e-5
    )


def test_teacher_runs_in_inference_mode_and_keeps_its_state():
    inputs = keras.Input((3,))
    h = keras.layers.BatchNormalization()(inputs)
    h = keras.layers.Dropout(0.9, seed=1)(h)
    teacher = losskit.Model(inputs, keras.layers.Dense(1)(h))
    state = [v.numpy() for v in teacher.variables]
    student, x = small_model(), numbers(6, 3)
    term = extra.FromTeacher(teacher, "mse")
    logs = one_epoch(student, x, {"kd": term}, batch_size=6)
    expected = np.mean(
        (teacher.predict(x, verbose=0) - student.predict(x, verbose=0)) ** 2
    )
    np.testing.assert_allclose(logs["kd_loss"], expected, rtol=1e-5)
    for old, new in zip(state, teacher.variables, strict=True):
        np.testing.assert_array_equal(old, new.numpy())


def test_unbuilt_teacher_is_refused():
    teacher = keras.Sequential([keras.layers.Dense(1)])
    with pytest.raises(ValueError, match="teacher.*built"):
        extra.FromTeacher(teacher, "mse")


# -------------------------------------------------------------------- all


def all_terms():
    return {
        "layer": extra.FromLayer("middle", mean_square, weight=0.5),
        "weights": extra.FromWeights("middle/.*", l1, from_start=True),
        "teacher": extra.FromTeacher(
            small_model(keras.Model, bias_initializer="ones"), "mae"
        ),
        "fgsm": extra.FGSM(epsilon=0.1, norm="l2", clip=(-3, 3), weight=0.3),
        "pgd": extra.PGD(epsilon=0.1, steps=2),
    }


@pytest.mark.parametrize("name", list(all_terms()))
def test_config_round_trip(name):
    term = all_terms()[name]
    config = keras.saving.serialize_keras_object(term)
    assert config["registered_name"].startswith("keras_losskit>")
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is type(term)
    assert repr(again) == repr(term)
    assert again.weight == term.weight
    if name == "teacher":
        assert [type(x) for x in again.teacher.layers] == [
            type(x) for x in term.teacher.layers
        ]
        assert again.loss.get_config() == term.loss.get_config()
    else:
        assert keras.saving.serialize_keras_object(again) == config


def test_every_compile_has_terms_of_its_own_and_one_teacher():
    term = all_terms()["teacher"]
    recipe = losskit.LossesContainer("mse", extra_terms={"t": term})
    models = [small_model(), small_model()]
    for model in models:
        model.compile("sgd", recipe)
    terms = [model.compiled_loss.extra_terms["t"] for model in models]
    assert terms[0] is not terms[1]
    assert terms[0].teacher is terms[1].teacher is term.teacher


def test_model_with_every_term_saves_and_loads(tmp_path):
    model, x = small_model(), numbers(6, 3)
    container = losskit.LossesContainer("mse", extra_terms=all_terms())
    model.compile(keras.optimizers.SGD(0.1), container)
    y = np.ones((6, 1), "float32")
    model.fit(x, y, epochs=2, verbose=0)
    expected = model.evaluate(x, y, verbose=0, return_dict=True)
    assert {f"{name}_loss" for name in all_terms()} <= set(expected)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    results = loaded.evaluate(x, y, verbose=0, return_dict=True)
    assert set(results) == set(expected)
    for key, value in expected.items():
        np.testing.assert_allclose(results[key], value, rtol=1e-5, err_msg=key)


def test_without_a_model_the_error_says_what_to_do():
    container = losskit.LossesContainer(
        "mse", extra_terms={"t": extra.FromWeights(".*", l1)}
    )
    with pytest.raises(ValueError, match="model whose inside"):
        container(np.zeros((2, 1)), np.zeros((2, 1)))


def test_a_context_without_losses_says_what_to_give():
    model, x = small_model(), ops.ones((2, 3))
    with pytest.raises(ValueError, match="compiled=lambda"):
        extra.Context(model, x).loss_at(x)
    context = extra.Context(model, x, compiled=lambda y: ops.sum(y) + 1.0)
    np.testing.assert_allclose(
        ops.convert_to_numpy(context.loss_at(x)),
        ops.convert_to_numpy(model(x)).sum() + 1.0,
        rtol=1e-6,
    )
