"""Every layer shows its use; `tests/test_docstrings.py` runs the examples."""

import doctest

import pytest

from keras_losskit import layers


@pytest.mark.parametrize("name", layers.__all__)
def test_layer_has_an_example(name):
    documentation = getattr(layers, name).__doc__
    assert doctest.DocTestParser().get_examples(documentation)
