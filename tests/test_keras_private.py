"""Each private name of Keras that `_keras.py` relies on is still there.

When a new Keras breaks one, the name of the test says which.
"""

import importlib
import inspect

import keras
import numpy as np
import pytest

ATTRIBUTES = [
    ("keras.src.backend.common.masking", "get_keras_mask"),
    ("keras.src.backend.common.stateless_scope", "in_stateless_scope"),
    ("keras.src.backend.common.symbolic_scope", "in_symbolic_scope"),
    ("keras.src.models.functional", "Functional"),
    ("keras.src.trainers.compile_utils", "CompileMetrics"),
    ("keras.src.trainers.trainer", "Trainer"),
    ("keras.src.tree", "register_tree_node_class"),
    ("keras.src.utils.tracking", "DotNotTrackScope"),
]
LAYER = [
    "_flatten_layers",
    "_get_own_losses",
    "_losses",
    "_loss_ids",
    "_losses_override",
    "_seed_generators",
    "_call_has_training_arg",
]
TRAINER = ["_compute_loss", "_flatten_metrics_in_order"]


@pytest.mark.parametrize(("module", "name"), ATTRIBUTES)
def test_module_has(module, name):
    assert hasattr(importlib.import_module(module), name)


@pytest.mark.parametrize("name", LAYER)
def test_layer_has(name):
    assert hasattr(keras.layers.Dense(1), name)


@pytest.mark.parametrize("name", TRAINER)
def test_trainer_has(name):
    assert hasattr(keras.Model, name)


def test_trainer_keeps_its_loss_and_tracker_in_place():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    assert model._compile_loss is None
    model.compile("sgd", "mse")
    assert model._compile_loss.built is False
    assert model._compile_loss.metrics == []
    assert model._loss_tracker.name == "loss"
    assert "loss" in model._compile_config.config


def test_model_inherits_the_backends_trainer_first():
    trainer = keras.Model.__mro__[1]
    assert issubclass(trainer, keras.src.trainers.trainer.Trainer)
    assert "train_step" in vars(trainer)


@pytest.mark.skipif(
    keras.config.backend() != "jax", reason="a method of the JAX trainer"
)
def test_jax_trainer_updates_metrics_by_the_same_call():
    parameters = inspect.signature(
        keras.Model._update_metrics_variables
    ).parameters
    assert list(parameters) == [
        "self",
        "metrics_variables",
        "unscaled_loss",
        "x",
        "y",
        "y_pred",
        "sample_weight",
    ]


@pytest.mark.skipif(
    keras.config.backend() != "tensorflow", reason="of the TensorFlow trainer"
)
def test_tensorflow_trainer_hands_over_an_iterator_of_a_dataset():
    parameters = inspect.signature(keras.Model._maybe_symbolic_build).parameters
    assert list(parameters) == ["self", "iterator", "data_batch"]
    module = importlib.import_module("keras.src.backend.tensorflow.trainer")
    x = np.zeros((5, 2), "float32")
    model = keras.Sequential([keras.layers.Dense(1)])
    iterator = module.TFEpochIterator(
        x=x, y=x, batch_size=4, distribute_strategy=model.distribute_strategy
    )
    spec, _ = iterator._distributed_dataset.element_spec
    assert tuple(spec.shape) == (None, 2)
    assert iterator.data_adapter.batch_size == 4
