"""What the loss of a model is made of, found without disturbing the model."""

import dataclasses

import keras
from keras import ops

from keras_losskit import _keras
from keras_losskit import _origin
from keras_losskit._support.batches import refuse_data_set
from keras_losskit._support.output_structure import names_of_outputs
from keras_losskit.container._built_losses import NO_LOSSES
from keras_losskit.container._built_losses import BuiltLosses
from keras_losskit.container._laying import lay_losses
from keras_losskit.container._tracker import counted_by_trainer
from keras_losskit.container.container import LossesContainer
from keras_losskit.models._gradient_weights import of_model_alone
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
        described: `{term name: DescribedTerm}`.
        total: What `evaluate` calls `loss`, a float; None without a batch.
        hidden: Whether compiled losses are missing for want of a batch.
    """

    terms: list
    described: dict
    total: float | None = None
    hidden: bool = False


def batch_breakdown(model, x, y, sample_weight):
    """What the loss of a batch is made of.

    All runs in a scope that takes up what is assigned and is then thrown away.
    """
    x, y, sample_weight = tensors_of_batch("summary", x, y, sample_weight)
    probe, losses, y_pred = probe_of(model, x, y)
    container = probe.compiled_loss
    with keras.StatelessScope(), counted_by_trainer(container):
        total = probe.compute_loss(x, y, y_pred, sample_weight, training=False)
        terms = probe._losskit_last_terms() or LossTerms()
        rest = total - terms.total
    found = [with_numbers(term) for term in terms.values()]
    if _origin.overrides(model, "compute_loss"):
        found.append(LossTerm("compute_loss", "added", as_float(rest)))
    return Breakdown(found, losses.describe(), as_float(total))


def probe_of(model, x, y):
    """A second model over the same layers, to look at the first one's loss.

    It reads the state of the first one's loss, so it runs where nothing is
    assigned.

    Args:
        model: Any `keras.Model`.
        x: Inputs of a batch, tensors.
        y: Labels.

    Returns:
        `(probe, losses, y_pred)`: a model of ours, its `BuiltLosses`, and what
        it predicts.
    """
    if not model.built:
        model(x)
    probe, container = wrap(model), container_like(model)
    # Before the forward pass, which keeps the outputs that extra terms read.
    _keras.install_loss(probe, container)
    with keras.StatelessScope():
        y_pred = probe(x, training=False)
        penalties = probe._losskit_penalty_terms()
    losses = container.build(y, y_pred, penalties, separator="/")
    return probe, losses, y_pred


def listed_breakdown(model):
    """The terms that are known without a batch, with their weights."""
    container, output = container_like(model), symbolic_output(model)
    known = output is not None
    losses = BuiltLosses(
        container,
        lay_losses(container, output, output, "/") if known else NO_LOSSES,
        [
            *variable_terms(regularized_variables(model)),
            *activity_specs(model),
            *added_specs(model, container),
        ],
    )
    described = losses.describe()
    return Breakdown(
        [
            dataclasses.replace(with_numbers(row.term), name=name)
            for name, row in described.items()
        ],
        described,
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


def container_like(model):
    """A container like that of `model`, in its state."""
    original = compiled_container(model) or LossesContainer()
    return copy_in_state(original, names_of_outputs(model))


def copy_in_state(original, output_names):
    """A copy of a container over its state, to run where none is assigned."""
    copy = original.copy(output_names)
    copy.clock = original.clock
    copy.extra_terms = {
        name: term.copy_in_state()
        for name, term in original.extra_terms.items()
    }
    if original.weighting is not None and original.weighting.built:
        copy.weighting = original.weighting
    copy.built_losses = BuiltLosses(copy)
    return copy


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


def added_specs(model, container):
    """A term without value for each loss that a layer is known to add.

    Known from the first step of a model, else from a pass in which only shapes
    are inferred, of a model whose inputs are known.

    Args:
        model: The model.
        container: Its container.
    """
    original = compiled_container(model)
    if original is not None and original.built:
        terms = original.built_losses.known_penalties
    elif symbolic_output(model) is not None and container.penalties["added"]:
        terms = terms_by_shapes(model)
    else:
        terms = []
    # One of training and of evaluation comes twice.
    found = {term.name: term for term in terms if term.kind == "added"}
    return list(found.values())


def terms_by_shapes(model):
    """What layers add, without values, found without data."""
    probe, found = wrap(model), []

    def call(x):
        outputs = probe(x, training=False)
        found[:] = probe._losskit_recorded_terms()
        return outputs

    sequential = isinstance(model, keras.Sequential)
    inputs = model.inputs[0] if sequential else model.input
    _keras.compute_output_spec(call, inputs)
    return [dataclasses.replace(term, value=None) for term in found]


def tensors_of_batch(owner, x, y, sample_weight):
    """One batch as Keras hands it to a model.

    Raises:
        TypeError: for a data set.
    """
    refuse_data_set(x, owner)
    return as_tensors((x, y, sample_weight))


def trainable_variables(probe, losses, owner):
    """The variables of a model that gradients are taken over.

    Args:
        probe: The model; see `probe_of`.
        losses: Its `BuiltLosses`.
        owner: The name of the report, for the error.

    Raises:
        ValueError: if none is trainable.
    """
    variables = of_model_alone(probe.trainable_variables, losses)
    if not variables:
        raise ValueError(
            f"Expected the model of {owner} to have trainable variables. "
            "Received: none; every layer is frozen, or has no variables."
        )
    return variables


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
