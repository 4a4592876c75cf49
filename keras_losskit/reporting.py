"""`summary`: a table of what the loss of a model is made of."""

import dataclasses

import keras
from keras import ops
from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from keras_losskit import _keras
from keras_losskit import weights as weights_lib
from keras_losskit.compiled import CompiledLosses
from keras_losskit.compiled import is_composite
from keras_losskit.container import LossesContainer
from keras_losskit.models import LossTermsMixin
from keras_losskit.penalties import layer_path
from keras_losskit.penalties import variable_terms
from keras_losskit.terms import KINDS
from keras_losskit.terms import LossTerm
from keras_losskit.terms import LossTerms
from keras_losskit.wrapping import wrap


def summary(model, x=None, y=None, sample_weight=None, *, console=None):
    """Print where the loss of a model comes from, one row per term.

    `contribution = weight * value`, and the contributions sum to `loss`, which
    is what `model.evaluate` gives for this batch. Without a batch the terms and
    their weights are listed, but for those that only a batch brings to light:
    what `add_loss` adds and, where the outputs of a subclassed model are not
    known, the compiled ones.

    The model stays as it is: metrics, seeds, schedules and the state of a
    weighting do not move. One that is not built yet is called to build it.

    Args:
        model: Any `keras.Model`, compiled or not, before or after `fit`.
        x: Inputs of one batch: arrays, not a data set.
        y: Labels.
        sample_weight: Sample weights.
        console: The `rich.console.Console` to print to, standard output by
            default. `Console(file=file)` saves the table.

    Returns:
        The table, a `rich.table.Table`.

    Raises:
        ValueError: for data that the losses do not fit, or nothing to minimise.

    Example:
        >>> dense = keras.layers.Dense(
        ...     1, kernel_regularizer="l2", kernel_initializer="ones",
        ...     name="dense")
        >>> model = keras.Sequential([keras.Input((2,)), dense])
        >>> model.compile(loss=keras.losses.MeanSquaredError(name="mse"))
        >>> table = summary(model, ops.ones((4, 2)), ops.ones((4, 1)))
        ... # doctest: +ELLIPSIS +NORMALIZE_WHITESPACE
         Where the loss comes from...
    """
    if x is None:
        found = listed_terms(model)
    else:
        found = batch_terms(model, x, y, sample_weight)
    table = as_table(found)
    print_whole(table, console or Console())
    return table


@dataclasses.dataclass(frozen=True)
class Found:
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


# ------------------------------------------------------------------ the terms


def batch_terms(model, x, y, sample_weight):
    """What the loss of a batch is made of.

    All runs on a second model over the same layers, with a container of its
    own, in a scope that takes up what is assigned and is then thrown away.
    """
    x, y, sample_weight = (as_tensors(data) for data in (x, y, sample_weight))
    if not model.built:
        model(x)
    probe, container = wrap(model), copy_of_container(model)
    with keras.StatelessScope():
        y_pred = probe(x, training=False)
        penalties = probe.penalty_terms()
    container.build(y, y_pred, penalties, separator="/")
    bring_state(container, compiled_container(model))
    _keras.install_loss(probe, container)
    with keras.StatelessScope():
        total = probe.compute_loss(x, y, y_pred, sample_weight, training=False)
        terms = probe.pop_computed() or LossTerms()
        rest = total - terms.total
    found = [with_numbers(term) for term in terms.values()]
    compiled = compiled_losses(container, y, y_pred)
    how = reductions(container, compiled, found)
    if _keras.overrides(model, "compute_loss"):
        found.append(LossTerm("compute_loss", "added", as_float(rest)))
    return Found(
        found,
        how,
        moving(container, compiled, penalties),
        as_float(total),
    )


def listed_terms(model):
    """The terms that are known without a batch, with their weights."""
    container = copy_of_container(model)
    bring_state(container, compiled_container(model))
    output = symbolic_output(model)
    known = output is not None
    compiled = compiled_losses(container if known else None, output, output)
    penalties = [*variable_terms(model), *activity_specs(model)]
    extra = [
        LossTerm(name, "added", None, weight=term.weight)
        for name, term in container.extra_terms.items()
    ]
    clock = container.clock.now()
    found = [
        dataclasses.replace(
            term,
            weight=weights_lib.weight_value(
                compiled.weights[term.name], *clock
            ),
        )
        for term in compiled.specs()
    ]
    for kind, penalty in container.penalties.items():
        members = [t for t in (*penalties, *extra) if t.kind == kind]
        found += penalty.apply(members, clock) if penalty else []
    found = [
        with_numbers(dataclasses.replace(term, value=None)) for term in found
    ]
    return Found(
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
    # What the original adopted from losses comes last, and needs no copy.
    pairs = zip(copy.variables, original.variables if original else ())
    for variable, source in pairs:
        if variable is not source:
            variable.assign(source.value)


def compiled_losses(container, y, y_pred):
    """The compiled losses of `container`, laid over `y_pred`; or none."""
    if container is None:
        return CompiledLosses(None, None, None)
    compiled = CompiledLosses(
        container.losses, container.loss_weights, container.output_names
    )
    compiled.build(y, y_pred, separator="/")
    return compiled


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
    for entry in compiled.entries:
        parts = [entry.loss]
        if is_composite(entry.loss):
            parts = [getattr(part, "loss", None) for part in entry.loss.parts]
        for name, loss in zip(entry.names, parts, strict=True):
            reduction = getattr(loss, "reduction", None)
            found[name] = getattr(reduction, "__name__", str(reduction))
    return found


def moving(container, compiled, penalties):
    """Names of the terms whose weight is not the same at every step."""
    extra = {
        name: getattr(term, "weight", 1.0)
        for name, term in container.extra_terms.items()
    }
    weights = {**compiled.weights, **extra}
    if container.weighting is not None:
        return set(weights)
    names = {n for n, weight in weights.items() if weights_lib.moves(weight)}
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


# ------------------------------------------------------------------ the table


def as_table(found):
    """The table of what was found: the kinds, and under each its terms."""
    with_values = found.total is not None
    table = Table(
        title="Where the loss comes from",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for name in ("term", "from", "reduction"):
        table.add_column(name, overflow="fold")
    for name in ("weight", "value", "contribution", "share"):
        if with_values or name == "weight":
            table.add_column(name, justify="right", no_wrap=True)
    for kind in KINDS:
        members = [term for term in found.terms if term.kind == kind]
        if not members:
            continue
        kind_sum = [""] * 4
        if with_values:
            kind_sum += cells_of_sum(
                sum(term.contribution for term in members), found.total
            )
        table.add_row(kind, *kind_sum, style="bold")
        outputs = {term.output for term in members}
        for term in members:
            source = source_of(term, several_outputs=len(outputs) > 1)
            table.add_row(*cells_of_term(term, source, found))
        table.add_section()
    if with_values:
        cells = cells_of_sum(found.total, found.total)
        table.add_row("loss", *[""] * 4, *cells, style="bold")
    notes = []
    if found.moving:
        notes.append("* moves during training")
    if found.hidden:
        notes.append("The compiled losses are listed with a batch.")
    table.caption = "\n".join(notes) or None
    return table


def cells_of_term(term, source, found):
    """The cells of a term, below its kind."""
    cells = [
        f"  {term.name}",
        source,
        found.reductions.get(term.name, ""),
        number(term.weight) + ("*" if term.name in found.moving else ""),
    ]
    if term.value is not None:
        cells += [number(term.value)]
        cells += cells_of_sum(term.contribution, found.total)
    return cells


def cells_of_sum(value, total):
    """A contribution, and its share of the total unless that is 0."""
    return [number(value), f"{value / total:.1%}" if total else ""]


def source_of(term, several_outputs):
    """Where a term comes from; its path where its name does not tell."""
    if term.output is not None:
        return f"output {term.output}" if several_outputs else "output"
    if term.path is None:
        return ""
    what = "variable" if term.kind == "regularization" else "layer"
    told = term.name.startswith(term.path)
    return what if told else f"{what} {term.path}"


def number(value):
    """Four decimals, or three significant digits of what they would hide."""
    small = 0 < abs(value) < 1e-3
    return f"{value:.2e}" if small else f"{value:.4f}"


def print_whole(table, console):
    """Print at the width of a terminal; to a file or pipe, unfolded."""
    if console.is_terminal or console.is_jupyter:
        console.print(table)
        return
    given = console.width
    options = console.options.update(width=10_000)
    needed = Measurement.get(console, options, table).maximum
    console.width = max(given, needed)
    console.print(table)
    console.width = given
