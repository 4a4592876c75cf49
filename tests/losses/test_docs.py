"""Every public object has an example; `tests/test_docstrings.py` runs them."""

import inspect

import pytest

from keras_losskit import losses
from keras_losskit import reductions


@pytest.mark.parametrize("package", [losses, reductions])
def test_public_objects_have_examples(package):
    without = [
        name
        for name in package.__all__
        if getattr(package, name).__module__.startswith("keras_losskit")
        and ">>>" not in inspect.getdoc(getattr(package, name))
    ]
    assert not without
