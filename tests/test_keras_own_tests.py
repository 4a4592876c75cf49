"""Keras' own tests on our classes: of losses, models, trainers and layers.

They come in Keras' wheel. `benchmarks/keras_tests.py` runs more of them, beside
Keras' own classes; here are those that take little time.
"""

import functools
import re

import keras
import pytest
from support.keras_files import BACKEND
from support.keras_files import cases_of
from support.keras_files import loaded
from support.keras_files import outcome
from support.keras_files import skip_without_tests
from support.keras_names import LEFT_OUT
from support.keras_names import instead_in

import keras_losskit as losskit
from keras_losskit import layers
from keras_losskit import losses

skip_without_tests()

FILES = (
    "layers/attention/grouped_query_attention_test.py",
    "layers/layer_test.py",
    "layers/rnn/simple_rnn_test.py",
    "losses/loss_test.py",
    "losses/losses_test.py",
    "models/cloning_test.py",
    "models/functional_test.py",
    "models/model_test.py",
    "models/sequential_test.py",
    "trainers/compile_utils_test.py",
    "trainers/trainer_test.py",
)

#: How tests end that Keras repeats with the step compiled in another way, which
#: the backends that compile leave to the night.
OTHER_WAYS = {
    "jax": {"eager", "graph_fn", "non_jit"},
    "tensorflow": {"eager", "jit"},
    "torch": set(),
}[BACKEND]

#: The files that run on every backend with every change; the others do on
#: PyTorch, where nothing is compiled.
EVERYWHERE = (
    "losses/loss_test.py",
    "models/model_test.py",
    "trainers/compile_utils_test.py",
    "trainers/trainer_test.py",
)


def is_repeated(test):
    """Whether Keras has the same test with the step compiled in another way."""
    way = re.search(r"_(eager|graph_fn|non_jit|jit)$", test)
    return way is not None and way[1] in OTHER_WAYS


OURS = {file: cases_of(loaded(file, instead_in(file))) for file in FILES}


@functools.cache
def stock(file):
    """The tests of a file on Keras' own classes."""
    return cases_of(loaded(file))


@pytest.fixture(autouse=True)
def without_inductor(monkeypatch):
    """On PyTorch run what would be compiled: TorchInductor takes minutes."""
    if BACKEND == "torch":
        import torch

        monkeypatch.setattr(torch, "compile", lambda step, **_: step)


@pytest.mark.parametrize(
    ("file", "test"),
    [
        pytest.param(
            file,
            test,
            id=f"{file}: {test}",
            marks=[]
            if file in EVERYWHERE and not is_repeated(test)
            else [pytest.mark.nightly("jax", "tensorflow")],
        )
        for file, tests in OURS.items()
        for test in tests
    ],
)
def test_passes_as_with_the_classes_of_keras(file, test):
    found = outcome(OURS[file][test])
    if found == "skipped":
        pytest.skip("skipped by Keras")
    reason = LEFT_OUT.get(f"{file}: {test}")
    if reason is not None:
        assert found != "passed", "it passes, and is said not to"
        pytest.xfail(reason)
    if found != "passed" and outcome(stock(file)[test]) != "passed":
        pytest.skip("fails with Keras' own classes as well")
    assert found == "passed", found


def test_what_is_left_out_is_there():
    there = {f"{file}: {test}" for file in FILES for test in OURS[file]}
    assert {x for x in LEFT_OUT if x.partition(": ")[0] in FILES} <= there


def test_ours_is_what_is_tested():
    assert sum(map(len, OURS.values())) > 600
    module = loaded("models/model_test.py", instead_in("models/model_test.py"))
    assert module.Model is losskit.Model
    assert module.layers.Dense is layers.Dense
    assert module.losses.Huber is losses.Huber
    assert module.losses.huber is keras.losses.huber
    assert loaded("models/model_test.py").Model is keras.Model
