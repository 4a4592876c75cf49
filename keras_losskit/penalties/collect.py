"""From a model's layers and variables to the terms they add."""

import keras
from keras import ops

from keras_losskit import _backend
from keras_losskit import _keras
from keras_losskit import _keras_hooks
from keras_losskit import _origin
from keras_losskit import _weights as weights_lib
from keras_losskit._support.checks import checked_instance
from keras_losskit._support.precision import at_least_float32
from keras_losskit.penalties._recorded import RecordedLoss
from keras_losskit.penalties._recorder import TellsLosses
from keras_losskit.penalties._recorder import still_held
from keras_losskit.terms import LossTerm
from keras_losskit.terms import multiply
from keras_losskit.terms import unique_names

#: The kinds that a forward pass and the variables of a model produce.
PENALTY_KINDS = ("regularization", "activity", "added")


class PenaltyList(list):
    """A plain list of scalars, as `model.losses`, that knows its terms.

    The scalars are weighted by what the layer gave to `add_loss`, a schedule at
    its first step; the terms keep value and weight apart.

    Registered as a pytree whose leaves are the scalars, as those of a list: it
    may be returned from `jax.jit`, out of which the terms come with their
    weights applied.

    Args:
        terms: List of `LossTerm`.
    """

    def __init__(self, terms=()):
        self.terms = list(terms)
        super().__init__(
            multiply(term.value, weights_lib.weight_value(term.weight, 0, 0))
            for term in self.terms
        )
        self._made = tuple(self)

    def knows_its_terms(self):
        """Whether the scalars are still those of the terms."""
        return len(self) == len(self._made) and all(
            value is made for value, made in zip(self, self._made, strict=True)
        )

    def tree_flatten(self):
        """Children and static part of the pytree."""
        if not self.knows_its_terms():
            return tuple(self), None
        static = tuple(
            (t.name, t.kind, t.path, t.output, t.label) for t in self.terms
        )
        return tuple(self), static

    @classmethod
    def tree_unflatten(cls, static, children):
        """Inverse of `tree_flatten`; a plain list where no terms are known."""
        if static is None:
            return list(children)
        return cls(
            LossTerm(name, kind, value, path=path, output=output, label=label)
            for (name, kind, path, output, label), value in zip(
                static, children, strict=True
            )
        )


_backend.register_pytree(PenaltyList)
_keras.register_tree_node_class(PenaltyList)


def collect_losses(model: keras.layers.Layer) -> list[LossTerm]:
    """The terms beyond the compiled ones of any Keras model.

    Call it after a forward pass. The terms come in the order and with the
    values of `model.losses`, except that sums are taken in float32 at least.
    Inside `keras.layers.TimeDistributed` Keras never applies the inner layer's
    activity regularizer, and frozen variables carry no penalty: neither has a
    term.

    Args:
        model: A `keras.Model` or layer that was called.

    Returns:
        A list of `LossTerm` of the kinds regularization, activity and added,
        named by the path of their layer or variable.

    Raises:
        TypeError: if `model` is neither a model nor a layer.
        ValueError: for a plain Keras model with a layer that has an activity
            regularizer and adds losses of its own: which is which is known only
            to a model that is wrapped.

    Example:
        >>> dense = keras.layers.Dense(
        ...     1, kernel_regularizer="l2", kernel_initializer="ones",
        ...     name="dense")
        >>> model = keras.Sequential([keras.Input((2,)), dense], name="net")
        >>> [(term.name, round(float(term.value), 4))
        ...  for term in collect_losses(model)]
        [('net/dense/kernel', 0.02)]
    """
    what = "`model` of collect_losses"
    checked_instance(model, keras.layers.Layer, what, "a Keras model or layer")
    if isinstance(model, _keras_hooks.HasTerms):
        return model._losskit_penalty_terms()
    return layer_terms(model, recorded=None) + variable_terms(
        regularized_variables(model)
    )


def layer_terms(model, recorded):
    """Terms for what the layers added during the last forward pass.

    Args:
        model: The model.
        recorded: The `Recorder` of the pass, or None to tell losses apart by
            what the layers still hold.
    """
    if recorded is not None and not recorded.losses:
        return []
    losses_of = held_losses if recorded is None else recorded.of_layer
    found = []
    for layer in _keras.flatten_layers(model):
        found += losses_of(layer)
    names = unique_names(
        f"{layer_path(loss.layer)}/{loss.name or loss.kind}" for loss in found
    )
    return [
        LossTerm(
            name,
            loss.kind,
            as_scalar(loss.value),
            weight=loss.weight,
            path=layer_path(loss.layer),
            label=loss.name,
        )
        for name, loss in zip(names, found, strict=True)
    ]


def held_losses(layer):
    """The losses a layer holds after a pass that nobody recorded."""
    if isinstance(layer, TellsLosses):
        return [loss for _, loss in still_held(layer)]
    losses = _keras.own_losses(layer)
    if layer.activity_regularizer is None:
        return [RecordedLoss(layer, "added", value) for value in losses]
    if len(losses) > 1 and not _origin.is_keras_class(type(layer)):
        raise ValueError(
            f"Expected layer '{layer_path(layer)}' either to have an "
            "activity regularizer or to call `add_loss`: afterwards the two "
            f"cannot be told apart. Received: {len(losses)} losses. Use "
            "`keras_losskit.wrap(model)`, which records them as they come."
        )
    return [RecordedLoss(layer, "activity", value) for value in losses]


def regularizer_of(variable):
    """The regularizer of a variable; only those of layers may have one."""
    return getattr(variable, "regularizer", None)


def regularized_variables(model):
    """The variables with a regularizer, frozen ones left out, as Keras."""
    return [
        variable
        for variable in model.trainable_weights
        if regularizer_of(variable) is not None
    ]


def variable_terms(variables):
    """Terms for the weight regularizers, in the order of the variables."""
    names = unique_names(variable.path for variable in variables)
    return [
        LossTerm(
            name,
            "regularization",
            as_scalar(variable.regularizer(at_least_float32(variable.value))),
            path=variable.path,
        )
        for name, variable in zip(names, variables, strict=True)
    ]


def layer_path(layer):
    """The path of a layer; its name while it is not built."""
    return layer.path or layer.name


def layers_called(model, name):
    """The layers of a model with this path, or this name or end of a path.

    Args:
        model: The model.
        name: Name of a layer, or its path or the end of it.
    """
    paths = [(x, layer_path(x)) for x in _keras.flatten_layers(model)]
    exact = [layer for layer, path in paths if path == name]
    return exact or [
        layer
        for layer, path in paths
        if layer.name == name or path.endswith(f"/{name}")
    ]


def one_layer(model, name, owner):
    """The layer of a model that `layers_called` finds.

    Args:
        model: The model.
        name: See `layers_called`.
        owner: Who asks, for the error.

    Raises:
        ValueError: if it finds none, or several.
    """
    found = layers_called(model, name)
    if len(found) != 1:
        layers = found or _keras.flatten_layers(model)
        raise ValueError(
            f"Expected one layer with the name or path '{name}' for {owner}. "
            f"Received: {[layer_path(layer) for layer in layers]}"
        )
    return found[0]


def as_scalar(value):
    """The sum of a loss, in float32 at least, as Keras adds it up.

    0 for a loss that was recorded while shapes were inferred.
    """
    if value is None:
        return ops.zeros(())
    value = at_least_float32(value)
    return ops.sum(value) if len(value.shape) else value


def as_terms(losses, kind):
    """Losses in any form a caller may have them in, as terms.

    Args:
        losses: None, a scalar, a list of scalars or of `LossTerm`, or what
            `model.losses` returned, whose terms keep the kinds they came with.
        kind: The kind of those that do not know theirs.
    """
    if losses is None:
        return []
    if isinstance(losses, PenaltyList) and losses.knows_its_terms():
        return losses.terms
    terms = []
    for loss in keras.tree.flatten(losses):
        if not isinstance(loss, LossTerm):
            value = as_scalar(ops.convert_to_tensor(loss))
            loss = LossTerm(f"{kind}_{len(terms) + 1}", kind, value)
        terms.append(loss)
    return terms
