"""Hyperparameters come first, as in Keras, and nonsense is refused at once."""

import gc
import inspect
import weakref

import keras
import pytest

from keras_losskit import losses
from keras_losskit.losses import _catalogue


@pytest.mark.parametrize("cls", _catalogue.FURTHER_LOSSES.values())
def test_hyperparameters_come_before_what_every_loss_has(cls):
    parameters = list(inspect.signature(cls).parameters)
    assert parameters[-4:] == ["reduction", "name", "dtype", "weight"]


def test_hyperparameters_by_position():
    assert losses.Pinball(0.9).quantile == 0.9
    assert losses.Distillation(3.0, "sum").reduction == "sum"
    assert losses.FocalTversky(0.6, 0.4, 2.0, True).from_logits
    # max(0.9 * 2, -0.1 * 2)
    assert float(losses.Pinball(0.9)([[3.0]], [[1.0]])) == pytest.approx(1.8)


NAN, INFINITY = float("nan"), float("inf")
#: Arguments that no loss can use.
NONSENSE = {
    "Pinball": {"quantile": ["sum", NAN, 0.0, 1.0, None]},
    "Charbonnier": {"epsilon": ["sum", NAN, 0.0, INFINITY, True]},
    "Distillation": {"temperature": ["sum", NAN, -1.0, INFINITY]},
    "Poly1": {"epsilon": ["sum", NAN, INFINITY, None]},
    "AsymmetricLoss": {
        "gamma_positive": [NAN, -1.0, "sum"],
        "gamma_negative": [NAN, -1.0, INFINITY],
        "margin": [NAN, 1.0, -0.1, None],
    },
    "FocalTversky": {
        "alpha": [-1.0, NAN, "sum"],
        "beta": [-1.0, INFINITY],
        "gamma": [0.0, NAN, None],
    },
    "GaussianNLL": {"min_variance": [0.0, NAN, INFINITY, "sum"]},
}


@pytest.mark.parametrize("name", NONSENSE)
def test_numbers_that_are_nonsense_are_refused(name):
    for argument, values in NONSENSE[name].items():
        for value in values:
            with pytest.raises(
                (TypeError, ValueError),
                match=f"Expected `{argument}` of {name}.*Received: ",
            ):
                getattr(losses, name)(**{argument: value})


@pytest.mark.parametrize(
    ("cls", "settings"),
    [
        (losses.FocalTversky, {"gamma": 0.0}),
        (losses.AsymmetricLoss, {"margin": 1.0}),
        (losses.Huber, {"delta": "sum"}),
        (losses.SparseCategoricalCrossentropy, {"label_smoothing": 2.0}),
        (losses.FunctionLoss, {"fn": 5}),
        (losses.MeanSquaredError, {"name": 5}),
    ],
)
def test_what_a_custom_class_passes_on_is_checked(cls, settings):
    class Mine(cls):
        def __init__(self):
            super().__init__(**settings)

    (argument,) = settings
    with pytest.raises(
        (TypeError, ValueError),
        match=f"Expected `{argument}` of {cls.__name__} .*Received: ",
    ):
        Mine()


def test_a_custom_class_keeps_the_settings_of_its_base():
    class Steep(losses.Huber):
        def __init__(self, slope, **kwargs):
            super().__init__(delta=3.0, **kwargs)
            self.slope = slope

    # Which of its own belong into the config, the class says in `settings`.
    assert Steep(2.0).settings() == {"delta": 3.0}
    # 3 * 10 - 3 ** 2 / 2
    assert float(Steep(2.0)([[0.0]], [[10.0]])) == pytest.approx(25.5)


def test_numbers_are_floats_in_a_config_but_those_of_keras_are_as_given():
    assert repr(losses.Poly1(epsilon=1)) == "Poly1(name='poly1')"
    assert type(losses.Poly1(epsilon=1).get_config()["epsilon"]) is float
    focal = losses.BinaryFocalCrossentropy(gamma=3)
    assert type(focal.get_config()["gamma"]) is int


def test_a_class_made_in_a_loop_is_freed_with_its_last_loss():
    class Made(losses.Pinball):
        pass

    made = weakref.ref(Made)
    assert Made(0.9).get_config()["quantile"] == 0.9
    del Made
    gc.collect()
    assert made() is None


def test_a_weight_of_a_custom_keras_loss_is_its_own():
    class Mine(keras.losses.Loss):
        weight = 3.0

        def call(self, y_true, y_pred):
            return self.weight * (y_pred - y_true)

    # 3 * 2, once
    assert float(losses.evaluate(Mine(), [[0.0]], [[2.0]])) == 6.0
