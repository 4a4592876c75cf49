"""Keras' own tests of its losses, run on ours."""

import inspect
import unittest

import keras
import pytest
from support.keras_files import SOURCE
from support.keras_files import loaded
from support.keras_files import skip_without_tests

from keras_losskit import losses
from keras_losskit.losses import _catalogue

skip_without_tests()

SUITES = [
    loaded(SOURCE / "losses" / name)
    for name in ("losses_test.py", "loss_test.py")
]

#: Tests of Keras that cannot hold for our classes, and why.
LEFT_OUT = {
    f"{case}.test_config": "our config holds every argument, theirs two"
    for case in ("HuberLossTest", "LogCoshTest", "CosineSimilarityTest")
} | {
    f"LossTest.{test}": "our `get` gives an object, theirs a function"
    for test in ("test_get_method", "test_pickle")
}
if keras.config.backend() != "torch":
    LEFT_OUT[
        "SparseCategoricalCrossentropyTest."
        "test_squeezes_singleton_class_dim_on_user_axis"
    ] = "Keras' conftest skips it: only PyTorch takes any class axis"


class OurLosses:
    """Keras' module of losses, but with our classes in it."""

    def __init__(self, module):
        self.module = module

    def __getattr__(self, name):
        if name in _catalogue.BY_NAME and inspect.isclass(
            getattr(self.module, name)
        ):
            return getattr(losses, name)
        return getattr(self.module, name)


def keras_tests():
    for module in SUITES:
        for case in unittest.defaultTestLoader.loadTestsFromModule(module):
            for test in case:
                yield pytest.param(
                    module,
                    type(test),
                    test._testMethodName,
                    id=f"{type(test).__name__}.{test._testMethodName}",
                )


def replace_losses(module, set_attribute):
    """Put our losses in the place of those that a file of tests names."""
    if hasattr(module, "losses"):
        set_attribute(module, "losses", OurLosses(module.losses))
    if hasattr(module, "losses_module"):
        set_attribute(module, "losses_module", losses)
    if hasattr(module, "ExampleLoss"):
        call = {"call": module.ExampleLoss.call}
        ours = type("ExampleLoss", (losses.Loss,), call)
        set_attribute(module, "ExampleLoss", ours)


@pytest.mark.parametrize(("module", "case", "method"), list(keras_tests()))
def test_passes_keras_own(module, case, method, monkeypatch):
    key = f"{case.__name__}.{method}"
    if key in LEFT_OUT:
        pytest.skip(LEFT_OUT[key])
    replace_losses(module, monkeypatch.setattr)
    result = unittest.TestResult()
    case(method).run(result)
    for test, reason in result.skipped:
        pytest.skip(f"skipped by Keras, {test}: {reason}")
    problems = result.errors + result.failures
    assert not problems, problems[0][1]
    assert result.testsRun == 1


def test_the_suite_is_there_and_ours_is_what_it_tests():
    assert len(list(keras_tests())) > 170
    ours = OurLosses(SUITES[0].losses)
    assert ours.Huber is losses.Huber
    assert ours.huber is keras.losses.huber


def test_names_left_out_exist():
    names = {param.id for param in keras_tests()}
    assert set(LEFT_OUT) <= names
