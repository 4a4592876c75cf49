"""Hyperparameters come first, as in Keras, and nonsense is refused at once."""

import inspect

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
