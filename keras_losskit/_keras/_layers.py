"""Private names of Keras' layers, losses and savables, and of its state."""

import keras

from keras_losskit._keras._names import GLOBAL_CUSTOM_NAMES
from keras_losskit._keras._names import KerasSaveable
from keras_losskit._keras._names import default
from keras_losskit._keras._names import get_global_attribute
from keras_losskit._keras._names import in_stateless_scope
from keras_losskit._keras._names import private


def register_tree_node_class(cls):
    """Let `keras.tree` look into `cls`. `keras.src.tree`."""
    private("tree", "register_tree_node_class")(cls)


def flatten_layers(model):
    """`model` and all layers below it, each once, in the order of `losses`.

    `Layer._flatten_layers`.
    """
    return model._flatten_layers()


def own_losses(layer):
    """What the layer itself added in the last pass, sublayers left out.

    `Layer._get_own_losses`.
    """
    return list(layer._get_own_losses())


def clear_losses_override(model):
    """Drop the losses that the JAX trainer lends to `compute_loss`.

    `Layer._losses_override`: after an exception Keras leaves dead
    tracers there, which every later step would add.
    """
    model._losses_override.clear()


def is_consumed(layer):
    """Whether any layer was called on what `layer` returned.

    `Operation._outbound_nodes`.
    """
    return bool(layer._outbound_nodes)


def set_untracked(layer, name, value):
    """Set an attribute that neither Keras nor PyTorch looks into."""
    object.__setattr__(layer, name, value)


def become(layer, cls):
    """Give a layer another class, a subclass that quantizes as its own does.

    `Layer.quantize`, which Keras binds to the class that a layer was made of,
    and which then refuses any other.
    """
    layer.__class__ = cls
    of_keras = layer.quantize

    def quantize(mode=None, type_check=True, config=None):
        del type_check
        of_keras(mode=mode, config=config, type_check=False)

    set_untracked(layer, "quantize", quantize)


def seed_generators(model):
    """All seed generators of a model, in the order of its layers.

    `Layer._seed_generators`.
    """
    return [
        g for layer in flatten_layers(model) for g in layer._seed_generators
    ]


def function_arguments(loss):
    """The arguments that a Keras loss hands to its function, by name.

    `LossFunctionWrapper._fn_kwargs`: the only place that keeps
    `delta` of `Huber` and `axis` of `CosineSimilarity`.
    """
    return dict(getattr(loss, "_fn_kwargs", {}))


def rnn(*args, **kwargs):
    """The backend's loop over time.

    `keras.src.backend.rnn`, a function in 3.14 and 3.15, in 3.16 a module that
    has it.
    """
    loop = private("backend", "rnn")
    return getattr(loop, "rnn", loop)(*args, **kwargs)


def in_call():
    """Whether a layer is being called, or a model in a stateless scope.

    The global attribute `current_call_ctx`.
    """
    return in_stateless_scope() or (
        get_global_attribute("current_call_ctx") is not None
    )


def keep_registered_name(cls, origin):
    """Save `cls` by the name that `origin` is registered by.

    `keras.src.saving.object_registration.GLOBAL_CUSTOM_NAMES`.
    """
    GLOBAL_CUSTOM_NAMES[cls] = keras.saving.get_registered_name(origin)


def forget_registered_name(cls):
    """Undo `keep_registered_name`, so that the class may be freed."""
    GLOBAL_CUSTOM_NAMES.pop(cls, None)


def derived_config(get_config):
    """Mark a `get_config` as one that Keras derives from the constructor.

    `keras.src.utils.python_utils.default`: a subclass that does
    not write its own gets its constructor's arguments saved.
    """
    return default(get_config)


class Saveable(KerasSaveable):
    """Base of what `model.save` looks into for weights, as it does for losses.

    `KerasSaveable` of `keras.src.saving.keras_saveable` and `_obj_type`.
    """

    def _obj_type(self):
        return "Loss"


class LayerHooks:
    """A private step of `Layer.build` that calls a public one here.

    `Layer._post_build`.
    """

    def _post_build(self):
        super()._post_build()
        self._losskit_after_build()
