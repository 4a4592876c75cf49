"""The private names that are imported from Keras, and the error without."""

import importlib
from typing import Any

import keras

#: The versions of Keras that every name here was tried with.
SUPPORTED = "Keras 3.14, 3.15 or the pre-release of 3.16 of October 2026"


def unsupported(name):
    """The error for a Keras that lacks the private `name`."""
    return ImportError(
        f"Expected {SUPPORTED}. Received: Keras {keras.__version__}, which has "
        f"no `{name}`. Install one that this keras_losskit supports, "
        '`pip install "keras>=3.14,<3.16"`, or a newer keras_losskit.'
    )


def private(module, name) -> Any:
    """The object that `keras.src.<module>` has by this name.

    Raises:
        ImportError: if the installed Keras has none, saying which have it.
    """
    try:
        return getattr(importlib.import_module(f"keras.src.{module}"), name)
    except (ImportError, AttributeError) as error:
        raise unsupported(f"keras.src.{module}.{name}") from error


def check_methods(cls, *names):
    """Refuse a Keras whose `cls` lacks a private method that is called here."""
    for name in names:
        if not hasattr(cls, name):
            raise unsupported(f"{cls.__name__}.{name}")


#: Runs a function of tensors on specs of them, to infer shapes.
compute_output_spec = private("backend", "compute_output_spec")

get_global_attribute = private(
    "backend.common.global_state", "get_global_attribute"
)

get_keras_mask = private("backend.common.masking", "get_keras_mask")

set_keras_mask = private("backend.common.masking", "set_keras_mask")

in_stateless_scope = private(
    "backend.common.stateless_scope", "in_stateless_scope"
)

get_stateless_scope = private(
    "backend.common.stateless_scope", "get_stateless_scope"
)

in_symbolic_scope = private(
    "backend.common.symbolic_scope", "in_symbolic_scope"
)

Functional = private("models.functional", "Functional")

KerasSaveable: Any = private("saving.keras_saveable", "KerasSaveable")

GLOBAL_CUSTOM_NAMES: Any = private(
    "saving.object_registration", "GLOBAL_CUSTOM_NAMES"
)

CompileMetrics = private("trainers.compile_utils", "CompileMetrics")

MetricsList: Any = private("trainers.compile_utils", "MetricsList")

default = private("utils.python_utils", "default")

check_methods(
    keras.Model,
    "_compute_loss",
    "_flatten_layers",
    "_flatten_metrics_in_order",
    "_get_own_losses",
    "_post_build",
    "_symbolic_build",
    "_unpickle_model",
)

if keras.config.backend() == "jax":
    check_methods(keras.Model, "_get_jax_state", "jax_state_sync")

if keras.config.backend() == "tensorflow":
    check_methods(keras.Model, "_maybe_symbolic_build")
