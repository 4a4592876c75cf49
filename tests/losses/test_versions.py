"""Losses whose values or arguments follow the installed Keras."""

import keras
import pytest
from support.versions import IS_KERAS_3_16

from keras_losskit import losses

# One place is found, one is missed: tp 1, fn 1, fp 0.
MISSED = ([[1.0, 1.0, 0.0]], [[1.0, 0.0, 0.0]])
# One place is found, one is too many: tp 1, fn 0, fp 1.
TOO_MANY = ([[1.0, 0.0, 0.0]], [[1.0, 1.0, 0.0]])


@pytest.mark.parametrize(
    ("data", "weighs"),
    [(MISSED, "beta"), (TOO_MANY, "alpha")],
    ids=["false negatives", "false positives"],
)
@pytest.mark.parametrize("given", ["alpha", "beta"])
def test_tversky_weighs_errors_as_the_installed_keras(data, weighs, given):
    if not IS_KERAS_3_16:
        weighs = {"alpha": "beta", "beta": "alpha"}[weighs]
    weights = {"alpha": 0.0, "beta": 0.0} | {given: 0.25}
    # 1 - 1 / (1 + 0.25), or nothing where the error weighs nothing
    expected = 0.2 if given == weighs else 0.0
    for module in (losses, keras.losses):
        value = float(module.Tversky(**weights)(*data))
        assert value == pytest.approx(expected, abs=1e-6), module.__name__


def test_focal_tversky_weighs_missed_places_by_alpha_on_every_keras():
    loss = losses.FocalTversky(alpha=0.25, beta=0.0, gamma=1.0)
    for (y_true, y_pred), expected in ((MISSED, 0.2), (TOO_MANY, 0.0)):
        # a single sample of three places and one channel
        value = float(
            loss([[[y] for y in y_true[0]]], [[[p] for p in y_pred[0]]])
        )
        # a smoothing of 1e-5 in numerator and denominator
        assert value == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize("delta", [3, 0.0, -1.0])
def test_huber_refuses_what_the_installed_keras_refuses(delta):
    for module in (losses, keras.losses):
        if IS_KERAS_3_16:
            with pytest.raises(ValueError, match="delta"):
                module.Huber(delta=delta)
        else:
            assert module.Huber(delta=delta).name == "huber_loss"


@pytest.mark.parametrize(
    "name", ["Huber", "CosineSimilarity", "SparseCategoricalCrossentropy"]
)
def test_a_config_of_keras_becomes_ours(name):
    settings = {
        "Huber": {"delta": 3.0},
        "CosineSimilarity": {"axis": 1},
        "SparseCategoricalCrossentropy": {"ignore_class": 2, "axis": 1},
    }[name]
    # Before 3.16 Keras leaves the settings out: ours then has its defaults.
    config = getattr(keras.losses, name)(**settings).get_config()
    written = getattr(losses, name).from_config(config).get_config()
    assert (settings.items() <= written.items()) == IS_KERAS_3_16


def test_a_file_with_an_int_for_delta_loads_on_every_keras():
    config = {**losses.Huber(delta=3.0).get_config(), "delta": 3}
    revived = losses.Huber.from_config(config)
    assert float(revived([[0.0]], [[10.0]])) == 25.5
