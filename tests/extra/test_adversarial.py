"""FGSM and PGD beside steps written by hand in each framework."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_losskit as losskit
from keras_losskit import extra

EPSILON = 0.2


def numbers(*shape, seed=0):
    values = np.random.default_rng(seed).normal(size=shape)
    return values.astype("float32")


def linear_model(kernel):
    inputs = keras.Input((3,))
    dense = keras.layers.Dense(1, use_bias=False, name="d")
    model = losskit.Model(inputs, dense(inputs))
    dense.kernel.assign(kernel)
    return model


def logs_of(model, x, y, term, learning_rate=0.0, **arguments):
    container = losskit.LossesContainer("mse", extra_terms={"adv": term})
    model.compile(keras.optimizers.SGD(learning_rate), container, **arguments)
    history = model.fit(
        x, y, batch_size=len(x), epochs=1, shuffle=False, verbose=0
    ).history
    return {key: values[0] for key, values in history.items()}


def gradient(x, y, kernel):
    # d mean((x k - y)^2) / dx = 2 (x k - y) k^T / n
    return 2 * (x @ kernel - y) @ kernel.T / len(x)


def direction(g, norm):
    if norm == "linf":
        return np.sign(g)
    return g / np.linalg.norm(g, axis=-1, keepdims=True)


def fgsm(x, y, kernel, norm, clip):
    moved = x + EPSILON * direction(gradient(x, y, kernel), norm)
    return moved if clip is None else np.clip(moved, *clip)


def pgd(x, y, kernel, norm, clip, steps=3):
    moved = x
    for _ in range(steps):
        size = 2.5 * EPSILON / steps
        moved = moved + size * direction(gradient(moved, y, kernel), norm)
        delta = moved - x
        if norm == "linf":
            delta = np.clip(delta, -EPSILON, EPSILON)
        else:
            length = np.linalg.norm(delta, axis=-1, keepdims=True)
            delta = delta * np.minimum(1.0, EPSILON / length)
        moved = x + delta
        moved = moved if clip is None else np.clip(moved, *clip)
    return moved


@pytest.mark.parametrize("eagerly", [False, True])
@pytest.mark.parametrize("clip", [None, (-0.5, 0.5)])
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("attack", ["fgsm", "pgd"])
def test_equals_the_formula_in_numpy(attack, norm, clip, eagerly):
    x, y, kernel = numbers(5, 3), numbers(5, 1, seed=1), numbers(3, 1, seed=2)
    settings = {"epsilon": EPSILON, "norm": norm, "clip": clip, "weight": 0.5}
    if attack == "fgsm":
        term, moved = extra.FGSM(**settings), fgsm(x, y, kernel, norm, clip)
    else:
        term = extra.PGD(steps=3, **settings)
        moved = pgd(x, y, kernel, norm, clip)
    model = linear_model(kernel)
    logs = logs_of(model, x, y, term, run_eagerly=eagerly)
    clean = np.mean((x @ kernel - y) ** 2)
    adversarial = np.mean((moved @ kernel - y) ** 2)
    np.testing.assert_allclose(logs["adv_loss"], adversarial, rtol=1e-5)
    np.testing.assert_allclose(logs["loss"], clean + adversarial / 2, rtol=1e-5)


def hand_written_step(model, x, y):
    """Perturbation, total and gradients of `mse + mse(x + delta)`."""
    backend = keras.config.backend()
    if backend == "jax":
        import jax
        import jax.numpy as jnp

        values = [v.value for v in model.trainable_variables]

        def loss(values, x):
            return jnp.mean((model.stateless_call(values, [], x)[0] - y) ** 2)

        delta = EPSILON * jnp.sign(jax.grad(loss, argnums=1)(values, x))
        total, gradients = jax.value_and_grad(
            lambda values: loss(values, x) + loss(values, x + delta)
        )(values)
    elif backend == "tensorflow":
        import tensorflow as tf

        x = tf.convert_to_tensor(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_mean((model(x) - y) ** 2)
        delta = EPSILON * tf.sign(tape.gradient(loss, x))
        with tf.GradientTape() as tape:
            total = tf.reduce_mean((model(x) - y) ** 2)
            total += tf.reduce_mean((model(x + delta) - y) ** 2)
        gradients = tape.gradient(
            total, [v.value for v in model.trainable_variables]
        )
    else:
        import torch

        x = torch.tensor(x, requires_grad=True)
        y = torch.tensor(y)
        loss = torch.mean((model(x) - y) ** 2)
        delta = EPSILON * torch.sign(torch.autograd.grad(loss, x)[0])
        x = x.detach()
        total = torch.mean((model(x) - y) ** 2)
        total = total + torch.mean((model(x + delta) - y) ** 2)
        gradients = torch.autograd.grad(
            total, [v.value for v in model.trainable_variables]
        )
    to_numpy = ops.convert_to_numpy
    return to_numpy(delta), to_numpy(total), [to_numpy(g) for g in gradients]


def deep_model():
    keras.utils.set_random_seed(7)
    inputs = keras.Input((3,))
    x = keras.layers.Dense(8, "tanh")(inputs)
    return losskit.Model(inputs, keras.layers.Dense(1)(x))


def test_equals_a_step_written_by_hand_in_the_framework():
    x, y = numbers(6, 3), numbers(6, 1, seed=1)
    model = deep_model()
    delta, total, gradients = hand_written_step(model, x, y)
    before = [v.numpy() for v in model.trainable_variables]
    term = extra.FGSM(epsilon=EPSILON)
    context = extra.Context(
        model=model,
        x=ops.convert_to_tensor(x),
        compiled=lambda y_pred: ops.mean((y_pred - ops.array(y)) ** 2),
    )
    moved = ops.convert_to_numpy(term.perturbed(context))
    np.testing.assert_allclose(moved, x + delta, rtol=1e-5, atol=1e-6)
    logs = logs_of(model, x, y, term, learning_rate=1.0)
    np.testing.assert_allclose(logs["loss"], total, rtol=1e-5)
    for variable, old, g in zip(
        model.trainable_variables, before, gradients, strict=True
    ):
        np.testing.assert_allclose(
            old - variable.numpy(), g, rtol=1e-4, atol=1e-6
        )


def stateful_model(dropout_seed=3):
    keras.utils.set_random_seed(7)
    inputs = keras.Input((3,))
    x = keras.layers.BatchNormalization(momentum=0.5)(inputs)
    x = keras.layers.Dense(8, "relu", activity_regularizer="l2")(x)
    x = keras.layers.Dropout(0.5, seed=dropout_seed)(x)
    return losskit.Model(inputs, keras.layers.Dense(1)(x))


@pytest.mark.parametrize("dropout_seed", [3, None])
def test_state_seeds_and_penalties_of_the_clean_pass_are_not_disturbed(
    dropout_seed,
):
    x, y = numbers(6, 3), numbers(6, 1, seed=1)
    results = []
    for terms in ({}, {"adv": extra.FGSM(epsilon=0.3, weight=0.0)}):
        model = stateful_model(dropout_seed)
        container = losskit.LossesContainer("mse", extra_terms=terms)
        model.compile(keras.optimizers.SGD(0.1), container)
        history = model.fit(
            x, y, batch_size=2, epochs=3, shuffle=False, verbose=0
        ).history
        state = [v.numpy() for v in model.variables]
        results.append((history, state))
    (plain, plain_state), (attacked, attacked_state) = results
    for key in ("loss", "activity_loss"):
        np.testing.assert_allclose(attacked[key], plain[key], rtol=1e-6)
    for one, other in zip(plain_state, attacked_state, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)


def test_validation_is_attacked_as_well():
    x, y, kernel = numbers(5, 3), numbers(5, 1, seed=1), numbers(3, 1, seed=2)
    model = linear_model(kernel)
    container = losskit.LossesContainer(
        "mse", extra_terms={"adv": extra.FGSM(epsilon=EPSILON)}
    )
    model.compile("sgd", container)
    results = model.evaluate(x, y, verbose=0, return_dict=True)
    moved = fgsm(x, y, kernel, "linf", None)
    np.testing.assert_allclose(
        results["adv_loss"], np.mean((moved @ kernel - y) ** 2), rtol=1e-5
    )


def test_integer_inputs_are_left_alone_and_alone_are_refused():
    embedded, real = keras.Input((2,), dtype="int32"), keras.Input((3,))
    x = keras.layers.Flatten()(keras.layers.Embedding(5, 2)(embedded))
    x = keras.layers.Concatenate()([x, real])
    model = losskit.Model(
        {"ids": embedded, "real": real}, keras.layers.Dense(1)(x)
    )
    ids = np.array([[1, 2], [3, 4]], "int32")
    inputs = {"ids": ids, "real": numbers(2, 3)}
    context = extra.Context(
        model=model,
        x={key: ops.convert_to_tensor(value) for key, value in inputs.items()},
        compiled=lambda y_pred: ops.mean(y_pred**2),
    )
    moved = extra.FGSM(epsilon=0.1).perturbed(context)
    np.testing.assert_array_equal(ops.convert_to_numpy(moved["ids"]), ids)
    change = ops.convert_to_numpy(moved["real"]) - inputs["real"]
    np.testing.assert_allclose(np.abs(change), 0.1, rtol=1e-4)
    with pytest.raises(ValueError, match="floating point"):
        extra.FGSM(epsilon=0.1).perturbed(
            extra.Context(model=model, x=ops.convert_to_tensor(ids))
        )


@pytest.mark.parametrize(
    "arguments",
    [
        {"epsilon": 0.0},
        {"epsilon": float("inf")},
        {"epsilon": 0.1, "norm": "l1"},
        {"epsilon": 0.1, "clip": (1, 0)},
    ],
    ids=repr,
)
def test_bad_arguments_are_refused(arguments):
    with pytest.raises(ValueError, match="Expected"):
        extra.FGSM(**arguments)
    with pytest.raises(ValueError, match="Expected"):
        extra.PGD(steps=2, **arguments)


def test_bad_number_of_steps_is_refused():
    with pytest.raises(ValueError, match="steps"):
        extra.PGD(epsilon=0.1, steps=0)
