"""Every public object has an example, and all examples run."""

import doctest
import importlib
import inspect
import pkgutil

import numpy as np
import pytest

from keras_losskit import losses
from keras_losskit import reductions


def modules():
    for package in (losses, reductions):
        yield package.__name__
        for info in pkgutil.iter_modules(package.__path__):
            yield f"{package.__name__}.{info.name}"


@pytest.mark.parametrize("name", list(modules()))
def test_examples_run(name):
    module = importlib.import_module(name)
    # Some backends print float32 numbers as np.float32(...).
    with np.printoptions(legacy="1.25"):
        results = doctest.testmod(module)
    assert results.failed == 0


@pytest.mark.parametrize("package", [losses, reductions])
def test_public_objects_have_examples(package):
    without = [
        name
        for name in package.__all__
        if getattr(package, name).__module__.startswith("keras_losskit")
        and ">>>" not in inspect.getdoc(getattr(package, name))
    ]
    assert not without
