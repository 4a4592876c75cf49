"""Keras' own test files, and how to load one."""

import importlib.util
import os
import sys
import types
from pathlib import Path

import keras
import pytest

BACKEND = keras.config.backend()
#: The folder of `keras/src` with test files: some wheels of Keras hold none, so
#: that another version's are named by a variable.
SOURCE = Path(
    os.environ.get("LOSSKIT_KERAS_TESTS") or Path(keras.__file__).parent / "src"
)


def skip_without_tests():
    """Skip the calling module where Keras' wheel holds no tests."""
    if not (SOURCE / "losses" / "losses_test.py").exists():
        pytest.skip(
            f"the wheel of Keras {keras.__version__} holds no tests",
            allow_module_level=True,
        )


def loaded(path, name="keras_own"):
    """The module of a test file of Keras, run under another name."""
    name = f"{name}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    # `trainer_test` imports jax on every backend; it needs it on one.
    absent = BACKEND != "jax" and importlib.util.find_spec("jax") is None
    if absent:
        sys.modules["jax"] = types.ModuleType("jax")
    try:
        spec.loader.exec_module(module)
    finally:
        if absent:
            del sys.modules["jax"]
    return module
