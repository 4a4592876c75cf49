"""Schedules that layers gave to `add_loss`, which only our models move."""

import weakref
from typing import Any

from keras_losskit import _keras
from keras_losskit import _keras_hooks
from keras_losskit import _weights as weights_lib

_scheduled: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


def note_schedule(layer, weight):
    """Note that `layer` gave this weight to `add_loss`, if it is a schedule."""
    if weights_lib.is_schedule(weight):
        _scheduled[layer] = weight


def refuse_schedules(model):
    """Refuse a model of Keras' whose trainer would not move a schedule.

    Raises:
        ValueError: if a layer gave one to `add_loss`.
    """
    if not _scheduled:
        return
    for layer in _keras.flatten_layers(model):
        if layer in _scheduled:
            raise ValueError(
                f"Expected layer '{layer.name}' to be trained by a "
                "keras_losskit.Model: it adds a loss with the weight "
                f"{_scheduled[layer]!r}, which would stand at its first step "
                f"for ever. Received: {type(model).__name__} '{model.name}' "
                "of Keras. Use `keras_losskit.wrap(model)`."
            )


_keras_hooks.checks.append(refuse_schedules)
