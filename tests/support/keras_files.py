"""Keras' own test files: how to load one, as it is or with our classes in it.

They come in Keras' wheel; nothing of their text is copied. A file is run as a
module of its own, whose imports from Keras give ours in place of Keras' classes
where `ours` is given.
"""

import builtins
import contextlib
import importlib
import importlib.util
import io
import itertools
import os
import sys
import types
import unittest
import warnings
from pathlib import Path

import keras
import pytest

BACKEND = keras.config.backend()
#: The folder of `keras/src` with test files: some wheels of Keras hold none, so
#: that another version's are named by a variable.
SOURCE = Path(
    os.environ.get("LOSSKIT_KERAS_TESTS") or Path(keras.__file__).parent / "src"
)

#: What the trainer of a backend is called in the files of Keras 3.15.
TRAINER_NAMES = {
    "jax": "JAXTrainer",
    "tensorflow": "TensorFlowTrainer",
    "torch": "TorchTrainer",
}

#: Tests that Keras' own configuration runs on some backends only.
ON = {"test_squeezes_singleton_class_dim_on_user_axis": "torch"}


#: What stands for the `conftest` of Keras, which its wheel does not hold.
CONFTEST = types.ModuleType("conftest")
CONFTEST.skip_if_backend = lambda backend, reason: pytest.mark.skipif(
    backend == BACKEND, reason=reason
)


def skip_without_tests():
    """Skip the calling module where Keras' wheel holds no tests."""
    if not (SOURCE / "losses" / "losses_test.py").exists():
        pytest.skip(
            f"the wheel of Keras {keras.__version__} holds no tests",
            allow_module_level=True,
        )


class Renamed(types.ModuleType):
    """A module of Keras, as a file of tests sees it.

    Args:
        module: The module.
        instead: `{class or function of Keras: what stands for it}`.
    """

    def __init__(self, module, instead):
        super().__init__(module.__name__)
        vars(self).update(_module=module, _instead=instead)

    def __getattr__(self, name):
        if name == TRAINER_NAMES[BACKEND] and not hasattr(self._module, name):
            value = keras.Model.__mro__[1]
        else:
            value = getattr(self._module, name)
        return renamed(value, self._instead)

    def __setattr__(self, name, value):
        setattr(self._module, name, value)

    def __delattr__(self, name):
        delattr(self._module, name)


def renamed(value, instead):
    """What a file of tests gets for `value`, a member of a module of Keras."""
    if isinstance(value, types.ModuleType):
        top = value.__name__.partition(".")[0]
        return Renamed(value, instead) if top == "keras" else value
    if isinstance(value, (type, types.FunctionType)):
        return instead.get(value, value)
    return value


def loaded(name, instead=None):
    """The module of a test file of Keras.

    Args:
        name: Path of the file below `keras/src`.
        instead: `{class or function of Keras: what stands for it}`.
    """

    def importing(*args):
        return renamed(builtins.__import__(*args), instead or {})

    return loaded_with(SOURCE / name, "ours" if instead else "stock", importing)


def loaded_with(path, prefix, importing):
    """The module of a file whose imports are those that it is given.

    Args:
        path: The file.
        prefix: What its name as a module begins with.
        importing: What is called for `__import__`.
    """
    name = f"{prefix}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    vars(module)["__builtins__"] = vars(builtins) | {"__import__": importing}
    sys.modules[name] = module
    instead = {"conftest": CONFTEST}
    # `trainer_test` imports jax on every backend; it needs it on one.
    if BACKEND != "jax" and importlib.util.find_spec("jax") is None:
        instead["jax"] = types.ModuleType("jax")
    before = {name: sys.modules.get(name) for name in instead}
    sys.modules.update(instead)
    try:
        spec.loader.exec_module(module)
    finally:
        for name, other in before.items():
            if other is None:
                del sys.modules[name]
            else:
                sys.modules[name] = other
    return module


def arguments_of(function):
    """What pytest calls a function of tests with: a dict for each call."""
    choices = []
    for mark in getattr(function, "pytestmark", ()):
        if mark.name != "parametrize":
            continue
        names, values = mark.args[:2]
        names = names.split(",") if isinstance(names, str) else names
        names = [name.strip() for name in names]
        choices.append([])
        for value in values:
            marks = getattr(value, "marks", ())
            if any(m.name in ("xfail", "skip") for m in marks):
                continue  # what Keras expects to fail
            if marks or type(value).__name__ == "ParameterSet":
                value = value.values
            elif len(names) == 1:
                value = (value,)
            choices[-1].append(dict(zip(names, value, strict=True)))
    for each in itertools.product(*choices):
        yield {name: x for some in each for name, x in some.items()}


def methods_of(functions):
    """Methods of a test case: a call of a function of tests each."""

    def calling(function, arguments):
        return lambda self: function(**arguments)

    return {
        f"{name}_{index}": calling(function, arguments)
        for name, function in functions.items()
        for index, arguments in enumerate(arguments_of(function))
    }


def cases_of(module):
    """`{"Case.test": test}` of a file of tests, functions included."""
    functions = {
        name: value
        for name, value in vars(module).items()
        if name.startswith("test") and isinstance(value, types.FunctionType)
    }
    if functions:
        methods = methods_of(functions)
        module.Functions = type("Functions", (unittest.TestCase,), methods)
    return {
        f"{type(test).__name__}.{test._testMethodName}": test
        for suite in unittest.defaultTestLoader.loadTestsFromModule(module)
        for test in suite
        if test._testMethodName.startswith("test")
        and test._testMethodName != "test_session"
    }


def is_left_out_by_keras(test):
    """Whether Keras does not run a test on this backend."""
    name = test._testMethodName
    marks = [
        *getattr(getattr(test, name), "pytestmark", []),
        *getattr(type(test), "pytestmark", []),
    ]
    return ON.get(name, BACKEND) != BACKEND or any(
        mark.name == "skip" or (mark.name == "skipif" and any(mark.args))
        for mark in marks
    )


def outcome(test):
    """`"passed"`, `"skipped"` or the traceback of a test's failure."""
    if is_left_out_by_keras(test):
        return "skipped"
    result = unittest.TestResult()
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        test.run(result)
    problems = result.errors + result.failures
    if not problems:
        return "skipped" if result.skipped else "passed"
    text = problems[0][1].strip()
    last = text.splitlines()[-1]
    return "skipped" if last.startswith("Skipped: ") else text
