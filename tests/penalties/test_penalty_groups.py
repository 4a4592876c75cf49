"""Penalties by path: groups with a weight and a log of their own."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_losskit as losskit
from keras_losskit import extra
from keras_losskit import layers
from keras_losskit import schedules


def numbers(*shape, seed=0):
    values = np.random.default_rng(seed).normal(size=shape)
    return values.astype("float32")


def dense(units, name):
    return layers.Dense(
        units,
        name=name,
        kernel_regularizer=keras.regularizers.L2(0.1),
        activity_regularizer=keras.regularizers.L1(0.01),
    )


def model_of(units=4):
    inputs = keras.Input((3,))
    encoder = keras.Sequential(
        [keras.Input((3,)), dense(units, "first"), dense(units, "second")],
        name="encoder",
    )
    head = dense(1, "head")
    return losskit.Model(inputs, head(encoder(inputs)))


def kernels(model):
    return {
        v.path: 0.1 * np.sum(v.numpy() ** 2)
        for v in model.trainable_weights
        if v.path.endswith("kernel")
    }


def one_epoch(model, x=None, batch_size=4, **penalties):
    x = numbers(4, 3) if x is None else x
    container = losskit.LossesContainer("mse", **penalties)
    model.compile(keras.optimizers.SGD(0.0), container)
    history = model.fit(
        x, np.zeros((len(x), 1)), batch_size=batch_size, verbose=0
    ).history
    return {key: values[0] for key, values in history.items()}


def by_hand(model):
    values = kernels(model)
    encoder = [v for path, v in values.items() if "encoder/" in path]
    (head,) = [v for path, v in values.items() if "encoder/" not in path]
    assert len(encoder) == 2
    return encoder, head


def test_group_has_its_weight_and_its_log():
    model = model_of()
    groups = {"encoder": ("encoder/.*", 0.1), "head": ("head/.*", 0.0)}
    logs = one_epoch(model, regularization=losskit.Penalty(groups=groups))
    encoder, head = by_hand(model)
    np.testing.assert_allclose(logs["encoder_loss"], sum(encoder), rtol=1e-5)
    np.testing.assert_allclose(logs["head_loss"], head, rtol=1e-5)
    np.testing.assert_allclose(
        logs["regularization_loss"], 0.1 * sum(encoder), rtol=1e-5
    )


def test_what_matches_no_group_keeps_the_weight_of_the_kind():
    model = model_of()
    penalty = losskit.Penalty(weight=2.0, groups={"h": ("head/.*", 0.5)})
    logs = one_epoch(model, regularization=penalty)
    encoder, head = by_hand(model)
    np.testing.assert_allclose(
        logs["regularization_loss"], 2 * sum(encoder) + 0.5 * head, rtol=1e-5
    )


def test_mean_is_taken_inside_each_group():
    model = model_of()
    penalty = losskit.Penalty(
        reduction="mean", groups={"e": ("encoder/.*", 1.0)}
    )
    logs = one_epoch(model, regularization=penalty)
    encoder, head = by_hand(model)
    np.testing.assert_allclose(
        logs["regularization_loss"], np.mean(encoder) + head, rtol=1e-5
    )


def test_groups_of_activity_and_added_losses():
    inputs = keras.Input((3,))
    x = layers.AddLoss(ops.sum, name="noise")(inputs)
    x = layers.ActivityRegularization(l1=1.0, name="sparse")(x)
    model = losskit.Model(inputs, keras.layers.Dense(1)(x))
    data = np.abs(numbers(4, 3))
    logs = one_epoch(
        model,
        data,
        activity=losskit.Penalty(groups={"act": ("sparse.*", 0.5)}),
        added=losskit.Penalty(groups={"add": ("noise.*", 0.25)}),
    )
    total = data.sum()
    np.testing.assert_allclose(logs["act_loss"], total / 4, rtol=1e-5)
    np.testing.assert_allclose(logs["activity_loss"], total / 8, rtol=1e-5)
    np.testing.assert_allclose(logs["add_loss"], total, rtol=1e-5)
    np.testing.assert_allclose(logs["noise_loss"], total, rtol=1e-5)
    np.testing.assert_allclose(logs["added_loss"], total / 4, rtol=1e-5)


def test_weight_of_a_group_may_be_a_schedule():
    model = model_of()
    ramp = schedules.Linear(0.0, 1.0, steps=2)
    penalty = losskit.Penalty(groups={"h": ("head/.*", ramp)})
    logs = one_epoch(model, numbers(8, 3), batch_size=4, regularization=penalty)
    encoder, head = by_hand(model)
    # weights 0 and 1/2 at the two steps
    np.testing.assert_allclose(
        logs["regularization_loss"], sum(encoder) + 0.25 * head, rtol=1e-5
    )


@pytest.mark.parametrize(
    "groups",
    [
        {"dead": ("decoder/.*", 1.0)},
        {"dead": ("head", 1.0)},  # not to the end of the path
        {"alive": ("head/.*", 1.0), "dead": ("coder/.*", 1.0)},
    ],
    ids=str,
)
def test_dead_pattern_is_refused_before_training(groups):
    model = model_of()
    with pytest.raises(ValueError, match="'dead'.*match none of"):
        one_epoch(model, regularization=losskit.Penalty(groups=groups))


def test_overlapping_patterns_are_refused_before_training():
    groups = {"one": ("encoder/.*", 1.0), "two": (".*first/.*", 1.0)}
    with pytest.raises(ValueError, match=r"first/kernel.*'one', 'two'"):
        one_epoch(model_of(), regularization=losskit.Penalty(groups=groups))


def test_a_group_named_as_an_extra_term_clashes():
    container = {
        "regularization": losskit.Penalty(groups={"t": ("head/.*", 1.0)}),
        "extra_terms": {"t": extra.FromWeights("head/kernel", "l2")},
    }
    with pytest.raises(ValueError, match=r"names of their own.*'t'"):
        one_epoch(model_of(), **container)


def test_groups_are_saved(tmp_path):
    model = model_of()
    penalty = losskit.Penalty(groups={"h": ("head/.*", 0.5)})
    logs = one_epoch(model, regularization=penalty)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    results = loaded.evaluate(
        numbers(4, 3), np.zeros((4, 1)), verbose=0, return_dict=True
    )
    np.testing.assert_allclose(results["h_loss"], logs["h_loss"], rtol=1e-5)
    np.testing.assert_allclose(results["loss"], logs["loss"], rtol=1e-5)


# ------------------------------------------------------- models as they are


def test_a_network_of_keras_applications_as_it_is():
    keras.utils.set_random_seed(0)
    network = keras.applications.MobileNetV2(
        (32, 32, 3), alpha=0.35, weights=None, classes=5
    )
    model = losskit.wrap(network)
    model.compile(
        keras.optimizers.SGD(0.0),
        losskit.LossesContainer(
            "sparse_categorical_crossentropy",
            extra_terms={
                "flat": extra.FromLayer("block_2_add", ops.mean, weight=0.1),
                "decay": extra.FromWeights("block_1_.*kernel", "l2"),
            },
        ),
    )
    x, y = numbers(4, 32, 32, 3), np.arange(4) % 5
    results = model.evaluate(x, y, verbose=0, return_dict=True)
    matching = [
        v
        for v in network.trainable_weights
        if "block_1_" in v.path and v.path.endswith("kernel")
    ]
    assert matching
    expected = sum(0.01 * np.sum(v.numpy() ** 2) for v in matching)
    np.testing.assert_allclose(results["decay_loss"], expected, rtol=1e-4)
    name = model.compiled_loss.extra_terms["flat"].layer
    part = keras.Model(network.input, network.get_layer(name).output)
    np.testing.assert_allclose(
        results["flat_loss"],
        part.predict(x, verbose=0).mean(),
        rtol=1e-4,
        atol=1e-6,
    )
    assert type(network) is not type(model)
