"""`summary`: a table of what the loss of a model is made of."""

import keras
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from keras_losskit import _notebook
from keras_losskit._notebook import number
from keras_losskit._support.checks import checked_instance
from keras_losskit._types import Structure
from keras_losskit.reports._breakdown import batch_breakdown
from keras_losskit.reports._breakdown import listed_breakdown
from keras_losskit.reports._notebook_table import NotebookTable
from keras_losskit.terms import KINDS


def summary(
    model: keras.Model,
    x: Structure | None = None,
    y: Structure | None = None,
    sample_weight: Structure | None = None,
    *,
    console: Console | None = None,
) -> Table:
    """Print where the loss of a model comes from, one row per term.

    `contribution = weight * value`, and the contributions sum to `loss`, which
    is what `model.evaluate` gives for this batch; a plain `keras.Model` counts
    one loss only where an output has several. A total that is not above 0 has
    no shares. Without a batch the terms and their weights are listed, but for
    those that only a batch brings to light: of a subclassed model before its
    first step, what `add_loss` adds and the compiled losses.

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
        TypeError: if `model` is no model, `x` a data set, or `console` no
            console.
        ValueError: for data that the losses do not fit, or nothing to minimise.

    Example:
        >>> import io
        >>> import keras
        >>> dense = keras.layers.Dense(
        ...     1, kernel_regularizer="l2", kernel_initializer="ones",
        ...     name="dense")
        >>> model = keras.Sequential([keras.Input((2,)), dense], name="net")
        >>> model.compile(loss=keras.losses.MeanSquaredError(name="mse"))
        >>> x, y = keras.ops.ones((4, 2)), keras.ops.ones((4, 1))
        >>> table = summary(model, x, y, console=Console(file=io.StringIO()))
        >>> terms, *_, contributions, shares = table.columns
        >>> for row in zip(terms.cells, contributions.cells, strict=True):
        ...     print(*row)
        compiled 1.0000
          mse 1.0000
        regularization 0.0200
          net/dense/kernel 0.0200
        loss 1.0200
    """
    checked_instance(model, keras.Model, "`model` of summary", "a Keras model")
    if console is not None:
        what = "a `rich.console.Console`"
        checked_instance(console, Console, "`console`", what)
    table = table_of_model(model, x, y, sample_weight)
    if console is None and _notebook.running_cell() is not None:
        table.show()
    else:
        print_whole(table, console or Console())
    return table


def table_of_model(model, x=None, y=None, sample_weight=None):
    """The table of `summary`, not printed."""
    if x is None:
        return as_table(listed_breakdown(model))
    return as_table(batch_breakdown(model, x, y, sample_weight))


def as_table(found):
    """The table of what was found: the kinds, and under each its terms."""
    with_values = found.total is not None
    table = NotebookTable(
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
        value = sum(term.contribution for term in members if with_values)
        table.add_row(kind, *cells_of_sum(value, found.total), style="bold")
        outputs = {term.output for term in members}
        for term in members:
            source = source_of(term, several_outputs=len(outputs) > 1)
            table.add_row(*cells_of_term(term, source, found))
        table.add_section()
    if with_values:
        cells = cells_of_sum(found.total, found.total)
        table.add_row("loss", *cells, style="bold")
    notes = []
    if any(row.moves for row in found.described.values()):
        notes.append("* moves during training")
    if found.hidden:
        notes.append("The compiled losses are listed with a batch.")
    table.caption = "\n".join(notes) or None
    return table


def cells_of_term(term, source, found):
    """The cells of a term, below its kind."""
    row = found.described.get(term.name)
    cells = [
        escape(f"  {term.name}"),
        escape(source),
        row.reduction if row else "",
        number(term.weight) + ("*" if row and row.moves else ""),
    ]
    if term.value is not None:
        cells += [number(term.value), number(term.contribution)]
        cells += [share_of(term.contribution, found.total)]
    return cells


def cells_of_sum(value, total):
    """The cells of a sum of contributions, after its name."""
    if total is None:
        return []
    return [""] * 4 + [number(value), share_of(value, total)]


def share_of(value, total):
    """The share of the total in percent; none where that is not above 0."""
    return f"{value / total:.1%}" if total > 0 else ""


def source_of(term, several_outputs):
    """Where a term comes from; its path where its name does not tell."""
    if term.output is not None:
        return f"output {term.output}" if several_outputs else "output"
    if term.path is None:
        return ""
    what = "variable" if term.kind == "regularization" else "layer"
    told = term.name.startswith(term.path)
    return what if told else f"{what} {term.path}"


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
