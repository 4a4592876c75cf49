"""Every docstring example of the package, run on the backend in use."""

import doctest
import importlib
import pkgutil

import keras
import pytest

import keras_losskit


def module_names():
    """Every module of the package but those of other backends."""
    backends = {"jax", "tensorflow", "torch"} - {keras.config.backend()}
    packages = pkgutil.walk_packages(keras_losskit.__path__, "keras_losskit.")
    names = [module.name for module in packages]
    return [
        name
        for name in names
        if name.removeprefix("keras_losskit._backend.") not in backends
    ]


@pytest.mark.nightly("jax", "tensorflow")
@pytest.mark.parametrize("name", module_names())
def test_docstring_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0


def test_docstring_examples_are_found():
    module = importlib.import_module("keras_losskit.penalties.penalty")
    assert doctest.testmod(module).attempted > 0
