"""Keras' own tests of losses, trainers and models, on our classes.

They come in Keras' wheel. Each file is run as a module of its own in which the
names of Keras' classes stand for ours; nothing of its text is copied.
"""

import contextlib
import importlib.util
import types

import keras
import pytest
from support.keras_files import BACKEND
from support.keras_files import SOURCE
from support.keras_files import loaded
from support.keras_files import skip_without_tests

import keras_losskit as losskit

skip_without_tests()

ANY = ("jax", "tensorflow", "torch")

#: `{test: (backends, reason)}`. A test that passes after all is reported.
LEFT_OUT = {
    "test_single_output_case": (
        ANY,
        "a metric is not a loss: it returns a running mean",
    ),
    "test_struct_loss_valid_weights": (
        ANY,
        "a weight is one number; Keras multiplies by an array of them",
    ),
    "test_functional_dict_outputs_dict_losses_invalid_keys": (
        ANY,
        "the error names path and outputs, not whether labels have the path",
    ),
    "test_functional_list_outputs_invalid_nested_list_losses": (
        ANY,
        "both losses of one output are logged; Keras gives them one name",
    ),
    "test_functional_list_outputs_with_custom_compute_loss": (
        ANY,
        "outputs without a name are output_1, output_2, as in tf.keras",
    ),
    **dict.fromkeys(
        ("test_metric_tracking", "test_symbolic_build"),
        (ANY, "counts metrics: one of ours stands for one of Keras' per loss"),
    ),
}

#: `{test: (backends, reason)}`: run nightly.
SLOW = {}

#: `{part of a test's name: what it imports}`: skipped where that is missing.
NEEDS = {
    "_grain_": "grain",
    "_tf_dataset": "tensorflow",
    "_sparse_tf_": "tensorflow",
    "_sparse_jax_": "jax",
    "_torch_dataloader": "torch",
    "_predict_preserve_order_": "tensorflow",
    "_unknown_dataset_size_": "tensorflow",
    "_unknown_data_size_": "tensorflow",
}


class Renamed(types.ModuleType):
    """A module of Keras in which some names stand for something of ours."""

    def __init__(self, module, **names):
        super().__init__(module.__name__)
        self.__dict__.update(names)
        self._module = module

    def __getattr__(self, name):
        return getattr(self._module, name)


@contextlib.contextmanager
def trainer_replaced(ours):
    """`ours` in the place of the backend's trainer, by its old and new name."""
    trainers = importlib.import_module(f"keras.src.backend.{BACKEND}.trainer")
    package = {"jax": "JAXTrainer", "torch": "TorchTrainer"}
    name = package.get(BACKEND, "TensorFlowTrainer")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainers, name, ours, raising=False)
        yield


def container(loss, loss_weights=None, output_names=None):
    """What stands for `CompileLoss`."""
    return losskit.LossesContainer(loss, loss_weights, output_names)


def with_our_trainer(path):
    """`trainer_test` with a trainer that separates terms."""
    plain = keras.Model.__mro__[1]
    ours = type("Trainer", (losskit.LossTermsMixin, plain), {})
    with trainer_replaced(ours):
        module = loaded(path)
    ours_in_keras = {"Model": losskit.Model, "Sequential": losskit.Sequential}
    module.keras = Renamed(keras, **ours_in_keras)
    module.models = Renamed(module.models, **ours_in_keras)
    return module


def collected(cls):
    """The test case with its marks: what is left out, what is slow."""
    for listed, mark in (
        (LEFT_OUT, lambda why: pytest.mark.xfail(strict=True, reason=why)),
        (SLOW, lambda why: pytest.mark.slow),
    ):
        for test, (backends, reason) in listed.items():
            method = getattr(cls, test, None)
            if method is not None and BACKEND in backends:
                setattr(cls, test, mark(reason)(method))
    for part, needed in NEEDS.items():
        if importlib.util.find_spec(needed) is None:
            for test in [name for name in dir(cls) if part in name]:
                skip = pytest.mark.skip(reason=f"needs {needed}")
                setattr(cls, test, skip(getattr(cls, test)))
    return cls


@pytest.fixture(autouse=True)
def without_inductor(monkeypatch):
    """On PyTorch run what would be compiled: TorchInductor takes minutes."""
    if BACKEND == "torch":
        import torch

        monkeypatch.setattr(torch, "compile", lambda step, **_: step)


compile_utils = loaded(SOURCE / "trainers" / "compile_utils_test.py")
compile_utils.CompileLoss = container
model = loaded(SOURCE / "models" / "model_test.py")
model.Model = losskit.Model
trainer = with_our_trainer(SOURCE / "trainers" / "trainer_test.py")

TestCompileLoss = collected(compile_utils.TestCompileLoss)
TestModel = collected(model.ModelTest)
TestTrainer = collected(trainer.TestTrainer)


def test_what_is_left_out_exists():
    cases = (TestCompileLoss, TestModel, TestTrainer)
    names = {name for case in cases for name in dir(case)}
    assert set(LEFT_OUT) | set(SLOW) <= names
