"""The parts sum to the whole, and each is what NumPy says it is.

Random models, losses, weights, masks and batch sizes, with a short last batch.
"""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from keras import layers
from keras import ops

import keras_losskit as losskit

KINDS = ("compiled", "regularization", "activity", "added")
STEPS, FEATURES = 3, 2


def huber(error):
    size = np.abs(error)
    return np.where(size <= 1, 0.5 * size**2, size - 0.5)


# name in `compile` -> (loss, NumPy values per step over the last axis)
LOSSES = {
    "mse": ("mse", lambda error: np.mean(error**2, axis=-1)),
    "mae": ("mae", lambda error: np.mean(np.abs(error), axis=-1)),
    "huber": ("huber", lambda error: np.mean(huber(error), axis=-1)),
}


class Adding(layers.Layer):
    """Adds the mean square of its input to the loss."""

    def call(self, x):
        self.add_loss(0.1 * ops.mean(x**2))
        return x

    def compute_output_shape(self, input_shape):
        return input_shape


@st.composite
def recipes(draw):
    """A random model, loss and data set, as plain values."""
    outputs = draw(st.integers(1, 3))
    losses = [
        draw(st.lists(st.sampled_from(sorted(LOSSES)), unique=True, min_size=1))
        for _ in range(outputs)
    ]
    return {
        "as_dict": draw(st.booleans()),
        "losses": losses,
        "weights": [draw(st.floats(0.0, 3.0)) for _ in range(outputs)],
        "l2": draw(st.sampled_from([0.0, 0.05])),
        "activity": draw(st.sampled_from([0.0, 0.02])),
        "adds": draw(st.booleans()),
        "masked": draw(st.booleans()),
        "weighted": draw(st.booleans()),
        "samples": draw(st.integers(3, 11)),
        "batch_size": draw(st.integers(2, 5)),
        "seed": draw(st.integers(0, 99)),
    }


def build(recipe):
    """The model and its data; weights stay as they are (learning rate 0)."""
    keras.utils.set_random_seed(recipe["seed"])
    rng = np.random.default_rng(recipe["seed"])
    inputs = keras.Input((STEPS, FEATURES))
    x = layers.Masking()(inputs) if recipe["masked"] else inputs
    x = layers.Dense(
        2,
        name="hidden",
        kernel_regularizer=keras.regularizers.L2(recipe["l2"])
        if recipe["l2"]
        else None,
        activity_regularizer=keras.regularizers.L2(recipe["activity"])
        if recipe["activity"]
        else None,
    )(x)
    if recipe["adds"]:
        adding = Adding(name="adding")
        adding.supports_masking = True
        x = adding(x)
    names = [f"out{i}" for i in range(len(recipe["losses"]))]
    heads = [layers.Dense(2, name=name)(x) for name in names]
    outputs = dict(zip(names, heads, strict=True))
    if not recipe["as_dict"]:
        outputs = heads if len(heads) > 1 else heads[0]
    model = losskit.Model(inputs, outputs)
    losses = dict(zip(names, recipe["losses"], strict=True))
    model.compile(
        keras.optimizers.SGD(0.0),
        loss={name: [LOSSES[x][0] for x in losses[name]] for name in names},
        loss_weights=dict(zip(names, recipe["weights"], strict=True)),
        run_eagerly=True,
    )
    n = recipe["samples"]
    x = rng.normal(size=(n, STEPS, FEATURES)).astype("float32")
    if recipe["masked"]:
        lengths = rng.integers(1, STEPS + 1, n)
        x[np.arange(STEPS)[None, :] >= lengths[:, None]] = 0.0
    y = [rng.normal(size=(n, STEPS, 2)).astype("float32") for _ in names]
    weight = rng.uniform(0.1, 2.0, n).astype("float32")
    return model, names, x, y, weight if recipe["weighted"] else None


def oracle(model, recipe, names, x, y, weight):
    """The logs of an epoch, by NumPy alone, from the layers' weights."""
    kernel, bias = model.get_layer("hidden").get_weights()
    sums, n = {}, len(x)

    def add(key, value, size):
        sums[key] = sums.get(key, 0.0) + value * size

    for start in range(0, n, recipe["batch_size"]):
        rows = slice(start, start + recipe["batch_size"])
        size = len(x[rows])
        hidden = x[rows] @ kernel + bias
        valid = np.ones(hidden.shape[:2], bool)
        if recipe["masked"]:
            valid = np.any(x[rows] != 0.0, axis=-1)
        parts = dict.fromkeys(KINDS, 0.0)
        parts["regularization"] = recipe["l2"] * np.sum(kernel**2)
        parts["activity"] = recipe["activity"] * np.sum(hidden**2) / size
        parts["added"] = 0.1 * np.mean(hidden**2) if recipe["adds"] else 0.0
        for i, name in enumerate(names):
            k, b = model.get_layer(name).get_weights()
            error = y[i][rows] - (hidden @ k + b)
            output = 0.0
            for loss in recipe["losses"][i]:
                values = LOSSES[loss][1](error) * valid
                if weight is not None:
                    values = values * weight[rows][:, None]
                # sum over the valid steps, divided by their number
                value = np.sum(values) / np.sum(valid)
                output += value
                key = f"{name}_{loss}" if len(names) > 1 else loss
                add(f"{key}_loss", value, size)
            add(f"{name}_loss", output, size)
            parts["compiled"] += recipe["weights"][i] * output
        for kind, value in parts.items():
            add(f"{kind}_loss", value, size)
        add("loss", sum(parts.values()), size)
    return {key: value / n for key, value in sums.items()}


def check(recipe):
    model, names, x, y, weight = build(recipe)
    labels = dict(zip(names, y, strict=True))
    if not recipe["as_dict"]:
        labels = y if len(y) > 1 else y[0]
    if weight is not None:
        weights = dict.fromkeys(names, weight)
        if not recipe["as_dict"]:
            weights = [weight] * len(y) if len(y) > 1 else weight
    else:
        weights = None
    logs = model.fit(
        x,
        labels,
        sample_weight=weights,
        validation_data=(x, labels, weights),
        batch_size=recipe["batch_size"],
        epochs=2,
        verbose=0,
    ).history
    # Of shuffled batches the oracle knows nothing; validation keeps the order.
    expected = oracle(model, recipe, names, x, y, weight)
    for prefix in ("", "val_"):
        loss = np.array(logs[f"{prefix}loss"])
        kinds = [
            np.array(logs[f"{prefix}{kind}_loss"])
            for kind in KINDS
            if f"{prefix}{kind}_loss" in logs
        ]
        if kinds:
            np.testing.assert_allclose(np.sum(kinds, axis=0), loss, rtol=1e-5)
    logged = {
        key.removeprefix("val_"): values
        for key, values in logs.items()
        if key.startswith("val_")
    }
    for key, values in logged.items():
        np.testing.assert_allclose(
            values, [expected[key]] * 2, rtol=2e-5, atol=1e-6, err_msg=key
        )
    penalties = sum(map(bool, (recipe["l2"], recipe["activity"])))
    present = 1 + penalties + recipe["adds"]
    # nothing that was named is missing from the logs
    assert len([k for k in logged if k.removesuffix("_loss") in KINDS]) == (
        present if present > 1 else 0
    )
    for i, name in enumerate(names):
        if len(names) > 1:
            assert f"{name}_loss" in logged
        if len(recipe["losses"][i]) > 1:
            for loss in recipe["losses"][i]:
                key = f"{name}_{loss}" if len(names) > 1 else loss
                assert f"{key}_loss" in logged


@settings(max_examples=12, deadline=None)
@given(recipes())
def test_parts_sum_to_the_whole_and_equal_numpy(recipe):
    check(recipe)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(recipes())
def test_parts_sum_to_the_whole_for_many_models(recipe):
    check(recipe)
