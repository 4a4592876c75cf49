"""Layers that only add a loss, and lead to no output of the model."""

import weakref
from typing import Any

import keras

from keras_losskit import _keras
from keras_losskit._types import MixesIntoLayer
from keras_losskit._types import Structure

#: Those that were called on symbolic tensors and are in no model as yet.
_called: weakref.WeakSet[Any] = weakref.WeakSet()


class OnlyAddsLoss(MixesIntoLayer):
    """Mixin for a layer of which nothing is left if its result is not used."""

    def __call__(self, *args, **kwargs) -> Structure:
        """As Keras; a symbolic call is to become part of a model."""
        outputs = super().__call__(*args, **kwargs)
        if is_symbolic(outputs):
            _called.add(self)
        return outputs


def is_symbolic(tensors):
    """Whether all of a nest of tensors are symbolic."""
    return all(
        isinstance(leaf, keras.KerasTensor)
        for leaf in keras.tree.flatten(tensors)
    )


def forget_layers_of(model):
    """Note that the layers of a functional model have a model now."""
    if isinstance(model, _keras.Functional) and _called:
        for layer in _keras.flatten_layers(model):
            _called.discard(layer)


def refuse_side_branches(model):
    """Refuse a loss that was added to the tensors of a model, and is not in it.

    Raises:
        ValueError: if there is one.
    """
    forget_layers_of(model)
    if not isinstance(model, _keras.Functional):
        return
    lost = [layer.name for layer in _called if is_beside(layer, model)]
    if lost:
        raise ValueError(
            f"Expected what {sorted(lost)} returns to lead to an output of "
            f"model '{model.name}', on whose tensors it was called. Received: "
            "a result that nothing uses, so that the loss is not part of the "
            "model. Go on with what it returns: `x = AddLoss(fn)(x)`. If it "
            "is left from an earlier try, make the model anew from its "
            "`keras.Input` on."
        )


def is_beside(layer, model):
    """Whether the result of `layer` follows from the inputs of `model` alone.

    And goes nowhere.
    """
    if _keras.is_consumed(layer):
        return False
    try:
        keras.Model(model.inputs, layer.output, name="side_branch")
    except ValueError:
        return False  # of other inputs, or called several times
    return True
