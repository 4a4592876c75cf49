"""`EMATeacher` beside a mean teacher in NumPy."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_losskit as losskit
from keras_losskit import extra

MOMENTUM, RATE = 0.75, 0.125


def numbers(*shape, seed=0):
    values = np.random.default_rng(seed).normal(size=shape)
    return values.astype("float32")


X, Y, KERNEL = numbers(6, 3), numbers(6, 1, seed=1), numbers(3, 1, seed=2)


def linear():
    inputs = keras.Input((3,))
    dense = keras.layers.Dense(1, use_bias=False)
    model = losskit.Model(inputs, dense(inputs))
    model.set_weights([KERNEL])
    return model


def compiled(model=None, weight=0.5, loss="mse", **arguments):
    model = linear() if model is None else model
    term = extra.EMATeacher(loss, momentum=MOMENTUM, weight=weight)
    container = losskit.LossesContainer("mse", extra_terms={"mean": term})
    model.compile(keras.optimizers.SGD(RATE), container, **arguments)
    return model


def mean_teacher(steps, kernel=KERNEL, teacher=None, weight=0.5):
    """The teacher's loss in each step, its kernel and the student's."""
    losses = []
    for _ in range(steps):
        if teacher is None:
            teacher = kernel
        teacher = MOMENTUM * teacher + (1 - MOMENTUM) * kernel
        apart = X @ (kernel - teacher)
        losses.append(np.mean(apart**2))
        # d mean((x k - y)^2) / dk = 2 x^T (x k - y) / n
        gradient = 2 * X.T @ (X @ kernel - Y + weight * apart) / len(X)
        kernel = kernel - RATE * gradient
    return losses, teacher, kernel


def fit(model, epochs, **arguments):
    return model.fit(
        X, Y, batch_size=6, epochs=epochs, verbose=0, shuffle=False, **arguments
    ).history


def teacher_of(model):
    teacher = linear()
    model.compiled_loss.extra_terms["mean"].assign_to(teacher)
    return teacher.get_weights()[0]


@pytest.mark.parametrize(
    "arguments",
    [{}, {"run_eagerly": True}, {"jit_compile": True}],
    ids=["compiled", "eager", "xla"],
)
def test_follows_the_model_as_in_numpy(arguments):
    if keras.config.backend() == "torch" and "jit_compile" in arguments:
        pytest.skip("TorchInductor takes a minute")
    model = compiled(**arguments)
    history = fit(model, 3)
    more = fit(model, 2)
    losses, teacher, kernel = mean_teacher(5)
    found = history["mean_loss"] + more["mean_loss"]
    np.testing.assert_allclose(found, losses, rtol=1e-4, atol=1e-7)
    assert losses[0] == 0.0 < losses[1]
    np.testing.assert_allclose(teacher_of(model), teacher, rtol=1e-5)
    np.testing.assert_allclose(model.get_weights()[0], kernel, rtol=1e-4)


def test_is_right_beside_a_gradient_based_weighting():
    model = linear()
    container = losskit.LossesContainer(
        "mse",
        extra_terms={
            "mean": extra.EMATeacher("mse", momentum=MOMENTUM, weight=0.5)
        },
        weighting=losskit.weighting.Equal(),
    )
    model.compile(keras.optimizers.SGD(RATE), container)
    history = fit(model, 4)
    losses, teacher, _ = mean_teacher(4)
    np.testing.assert_allclose(history["mean_loss"], losses, rtol=1e-4)
    np.testing.assert_allclose(teacher_of(model), teacher, rtol=1e-5)


def test_moves_in_training_only():
    model = compiled()
    before = model.evaluate(X, Y, verbose=0, return_dict=True)
    assert before["mean_loss"] == 0.0  # its teacher is the model as yet
    fit(model, 2, validation_data=(X, Y))
    _, teacher, kernel = mean_teacher(2)
    for _ in range(2):
        logs = model.evaluate(X, Y, verbose=0, return_dict=True)
        expected = np.mean((X @ (kernel - teacher)) ** 2)
        np.testing.assert_allclose(logs["mean_loss"], expected, rtol=1e-4)
    model.predict(X, verbose=0)
    np.testing.assert_allclose(teacher_of(model), teacher, rtol=1e-5)


@pytest.mark.parametrize("ending", [".keras", ".weights.h5"])
def test_goes_on_after_loading(ending, tmp_path):
    model = compiled()
    fit(model, 2)
    path = tmp_path / f"model{ending}"
    if ending == ".keras":
        model.save(path)
        loaded = keras.saving.load_model(path)
    else:
        model.save_weights(path)
        loaded = compiled()
        fit(loaded, 1)  # so that there is a teacher to be replaced
        loaded.load_weights(path)
    history = fit(loaded, 2)
    losses, teacher, _ = mean_teacher(4)
    np.testing.assert_allclose(history["mean_loss"], losses[2:], rtol=1e-3)
    np.testing.assert_allclose(teacher_of(loaded), teacher, rtol=1e-5)


def test_weights_of_another_architecture_are_refused(tmp_path):
    model = compiled()
    fit(model, 1)
    term = model.compiled_loss.extra_terms["mean"]
    store = {}
    term.save_own_variables(store)
    store = {key: np.array(value) for key, value in store.items()}
    store["1"] = np.zeros((3, 2))
    with pytest.raises(ValueError, match=r"\(3, 1\).*\(3, 2\).*EMATeacher"):
        term.load_own_variables(store)
    unbuilt = extra.EMATeacher("mse")
    unbuilt.load_own_variables(store)
    with pytest.raises(ValueError, match=r"\(3, 1\).*\(3, 2\).*EMATeacher"):
        unbuilt.prepare(model)


def test_each_compiled_model_has_a_teacher_of_its_own():
    term = extra.EMATeacher("mse", momentum=MOMENTUM)
    container = losskit.LossesContainer("mse", extra_terms={"mean": term})
    for _ in range(2):
        model = linear()
        model.compile(keras.optimizers.SGD(RATE), container)
        fit(model, 2)
        _, teacher, _ = mean_teacher(2, weight=1.0)
        np.testing.assert_allclose(teacher_of(model), teacher, rtol=1e-5)
    with pytest.raises(ValueError, match="followed its model"):
        term.assign_to(linear())


def test_averages_statistics_and_leaves_seeds_alone():
    keras.utils.set_random_seed(3)
    inputs = keras.Input((3,))
    norm = keras.layers.BatchNormalization(momentum=0.5)
    x = keras.layers.Dropout(0.5, seed=1)(norm(inputs))
    model = losskit.Model(inputs, keras.layers.Dense(1)(x))
    before = norm.moving_mean.numpy()
    compiled(model)
    fit(model, 1)
    after = norm.moving_mean.numpy()
    fit(model, 1)
    # the forward pass of a step comes before the teacher moves
    term = model.compiled_loss.extra_terms["mean"]
    teacher = keras.models.clone_model(model)
    term.assign_to(teacher)
    (index,) = [
        i
        for i, v in enumerate(model.weights)
        if v.path == norm.moving_mean.path
    ]
    found = teacher.get_weights()[index]
    second = norm.moving_mean.numpy()
    expected = MOMENTUM * after + (1 - MOMENTUM) * second
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert not np.allclose(before, after)


def test_a_narrow_model_has_a_teacher_in_float32():
    inputs = keras.Input((3,), dtype="bfloat16")
    dense = keras.layers.Dense(1, use_bias=False, dtype="bfloat16")
    model = compiled(losskit.Model(inputs, dense(inputs)))
    fit(model, 2)
    term = model.compiled_loss.extra_terms["mean"]
    assert [v.dtype for v in term.variables] == ["int32", "float32"]
    assert np.isfinite(fit(model, 1)["mean_loss"]).all()


@pytest.mark.parametrize("momentum", [-0.1, 1.5])
def test_momentum_is_from_0_to_1(momentum):
    with pytest.raises(ValueError, match="momentum.*from 0 to 1"):
        extra.EMATeacher("mse", momentum=momentum)


def test_moves_in_a_custom_loop_that_says_so():
    model = linear()
    container = losskit.LossesContainer(
        "mse", extra_terms={"mean": extra.EMATeacher("mse", momentum=MOMENTUM)}
    )
    teacher = KERNEL
    for shift in (0.0, 1.0, 2.0):
        model.set_weights([KERNEL + shift])
        context = extra.Context(model=model, x=X, y_pred=model(X), moves=True)
        terms = container.compute(Y, context.y_pred, context=context)
        teacher = MOMENTUM * teacher + (1 - MOMENTUM) * (KERNEL + shift)
        expected = np.mean((X @ (KERNEL + shift - teacher)) ** 2)
        np.testing.assert_allclose(
            ops.convert_to_numpy(terms["mean"].value), expected, rtol=1e-4
        )
