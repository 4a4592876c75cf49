"""What the loss of a model is made of, found without disturbing the model."""

import dataclasses

import keras
from keras import ops

from keras_losskit import _keras
from keras_losskit import _origin
from keras_losskit import _weights as weights_lib
from keras_losskit.container._output_losses import OutputLosses
from keras_losskit.container._output_losses import lay_losses
from keras_losskit.container.container import LossesContainer
from keras_losskit.models.mixin import LossTermsMixin
from keras_losskit.models.wrapping import wrap
from keras_losskit.penalties.collect import layer_path
from keras_losskit.penalties.collect import regularized_variables
from keras_losskit.penalties.collect import variable_terms
from keras_losskit.terms import LossTerm
from keras_losskit.terms import LossTerms


@dataclasses.dataclass(frozen=True)
class Breakdown:
    """The terms of a model and what there is to say of them.

    Args:
        terms: List of `LossTerm`, values and weights as floats; the values
            None without a batch.
        reductions: `{term name: how its values became a scalar}`.
        moving: Names of the terms whose weight moves during training.
        total: What `evaluate` calls `loss`, a float; None without a batch.
        hidden: Whether compiled losses are missing for want of a batch.
    """

    terms: list
    reductions: dict
    moving: set
    total: float | None = None
    hidden: bool = False


def batch_breakdown(model, x, y, sample_weight):
    """What the loss of a batch is made of.

    All runs in a scope that takes up what is assigned and is then thrown away.
    """
    x, y, sample_weight = map(as_tensors, (x, y, sample_weight))
    probe, container, y_pred, penalties = probe_of(model, x, y)
    with keras.StatelessScope():
        total = probe.compute_loss(x, y, y_pred, sample_weight, training=False)
        terms = probe.last_terms() or LossTerms()
        rest = total - terms.total
    found = [with_numbers(term) for term in terms.values()]
    compiled = compiled_losses(container, y, y_pred)
    how = reductions(container, compiled, found)
    if _origin.overrides(model, "compute_loss"):
        found.append(LossTerm("compute_loss", "added", as_float(rest)))
    return Breakdown(
        found,
        how,
        moving(container, compiled, penalties),
        as_float(total),
    )


def probe_of(model, x, y):
    """A second model over the same layers, to look at the first one's loss.

    Args:
        model: Any `keras.Model`.
        x: Inputs of a batch, tensors.
        y: Labels.

    Returns:
        `(probe, container, y_pred, penalties)`: a model of ours, its container
        in the state of the model's, and what a forward pass gave.
    """
    if not model.built:
        model(x)
    probe, container = wrap(model), copy_of_container(model)
    # Before the forward pass, which keeps the outputs that extra terms read.
    _keras.install_loss(probe, container)
    with keras.StatelessScope():
        y_pred = probe(x, training=False)
        penalties = probe.penalty_terms()
    container.build(y, y_pred, penalties, separator="/")
    bring_state(container, compiled_container(model))
    return probe, container, y_pred, penalties


def listed_breakdown(model):
    """The terms that are known without a batch, with their weights."""
    container = copy_of_container(model)
    bring_state(container, compiled_container(model))
    output = symbolic_output(model)
    known = output is not None
    compiled = compiled_losses(container if known else None, output, output)
    penalties = [
        *variable_terms(regularized_variables(model)),
        *activity_specs(model),
    ]
    extra = [
        LossTerm(name, "added", None, weight=term.weight)
        for name, term in container.extra_terms.items()
    ]
    clock = container.clock.now()
    found = [part.term(None, clock) for part in compiled.parts]
    for kind, penalty in container.penalties.items():
        members = [t for t in (*penalties, *extra) if t.kind == kind]
        found += penalty.apply(members, clock) if penalty else []
    found = [
        with_numbers(dataclasses.replace(term, value=None)) for term in found
    ]
    return Breakdown(
        found,
        reductions(container, compiled, found),
        moving(container, compiled, penalties),
        hidden=not known and container.losses is not None,
    )


def compiled_container(model):
    """The container of a model, also of a plain one; None if not compiled."""
    if isinstance(model, LossTermsMixin):
        return model.compiled_loss
    if not model.compiled:
        return None
    config = _keras.compile_config(model)
    loss, weights = config.get("loss"), config.get("loss_weights")
    if isinstance(loss, LossesContainer):
        return loss
    return LossesContainer(loss, weights)


def copy_of_container(model):
    """A container like that of `model`, to build and to run."""
    original = compiled_container(model) or LossesContainer()
    return original.copy(getattr(model, "output_names", None))


def bring_state(copy, original):
    """Set clock and weighting of a copied container to the original's state."""
    if original is None:
        return
    layers = [(copy.clock, original.clock)]
    if original.weighting is not None and original.weighting.built:
        layers.append((copy.weighting, original.weighting))
    for ours, theirs in layers:
        for variable, source in zip(
            ours.variables, theirs.variables, strict=True
        ):
            variable.assign(source.value)


def compiled_losses(container, y, y_pred):
    """The compiled losses of `container`, laid over `y_pred`; or none."""
    if container is None:
        return OutputLosses()
    return lay_losses(container, y, y_pred, separator="/")


def symbolic_output(model):
    """The outputs that a model has before it is called, or None."""
    if isinstance(model, keras.Sequential):
        return model.outputs[0] if model.built else None
    return model.output if isinstance(model, _keras.Functional) else None


def activity_specs(model):
    """A term without value per layer with an activity regularizer."""
    layers = _keras.flatten_layers(model)
    # Keras calls these in a way that passes their regularizer by.
    inner = {
        id(layer.layer)
        for layer in layers
        if isinstance(layer, keras.layers.TimeDistributed)
    }
    return [
        LossTerm(f"{path}/activity", "activity", None, path=path)
        for layer in layers
        if layer.activity_regularizer is not None and id(layer) not in inner
        for path in [layer_path(layer)]
    ]


def reductions(container, compiled, terms):
    """`{term name: name of its reduction}`."""
    found = {
        term.name: container.penalties[term.kind].reduction
        for term in terms
        if term.kind in container.penalties
        and container.penalties[term.kind] is not None
    }
    for part in compiled.parts:
        reduction = getattr(part.loss, "reduction", None)
        found[part.name] = getattr(reduction, "__name__", str(reduction))
    return found


def moving(container, compiled, penalties):
    """Names of the terms whose weight is not the same at every step."""
    extra = {
        name: getattr(term, "weight", 1.0)
        for name, term in container.extra_terms.items()
    }
    weights = {part.name: part.product for part in compiled.parts} | extra
    names = {n for n, weight in weights.items() if weights_lib.moves(weight)}
    if container.weighting is not None and not container.weighs_gradients:
        # Without a batch the terms of a subclassed model are not known.
        names |= set(container.weighting.members(weights) if weights else ())
    for kind, penalty in container.penalties.items():
        members = [term for term in penalties if term.kind == kind]
        groups = penalty.members(members) if penalty else {}
        for term in members if penalty else []:
            group = penalty.groups.get(groups.get(term.name))
            weight = group[1] if group else penalty.weight
            if weights_lib.moves(weight) or weights_lib.moves(term.weight):
                names.add(term.name)
    return names


def as_tensors(data):
    """`data` as Keras hands it to a model: floats in `floatx`."""

    def convert(array):
        if array is None:
            return None
        tensor = ops.convert_to_tensor(array)
        if keras.backend.is_float_dtype(tensor.dtype):
            tensor = ops.cast(tensor, keras.config.floatx())
        return tensor

    return keras.tree.map_structure(convert, data)


def with_numbers(term):
    """`term` with Python floats for tensors."""
    return dataclasses.replace(
        term,
        value=None if term.value is None else as_float(term.value),
        weight=as_float(term.weight),
    )


def as_float(scalar):
    """A scalar tensor of any backend and device as a Python float."""
    return float(ops.convert_to_numpy(scalar))
