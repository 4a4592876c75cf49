"""`plot_terms` and `plot_weights`: what `fit` returned, over the epochs."""

from typing import TYPE_CHECKING
from typing import Literal

from keras_losskit._support.checks import checked_choice
from keras_losskit._support.checks import checked_flag
from keras_losskit._types import History
from keras_losskit.plotting._curves import line_keys
from keras_losskit.plotting._curves import merged
from keras_losskit.plotting._curves import separate_curves
from keras_losskit.plotting._curves import stacked_keys
from keras_losskit.plotting._drawing import WIDTH
from keras_losskit.plotting._drawing import add_legend
from keras_losskit.plotting._drawing import axes_for
from keras_losskit.plotting._drawing import draw_lines
from keras_losskit.plotting._drawing import draw_stack
from keras_losskit.plotting._drawing import draw_total
from keras_losskit.plotting._drawing import finish
from keras_losskit.plotting._drawing import pyplot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_terms(
    history: History,
    *,
    stack: Literal["kinds", "terms"] = "kinds",
    log_scale: bool = False,
) -> "Figure":
    """Draw what the loss consists of, over the epochs.

    Above, contributions (`weight * value`) as areas whose sum is `loss`, which
    is drawn as a line; negative ones hang below zero. Below, values of the
    terms, unweighted, as lines; one that others lie upon is wider. Training is
    solid, validation dashed or beside it. A value that is not finite is marked
    by a cross at the upper edge, in the colour of its term. The numbers of the
    epochs are Keras', from 0.

    Args:
        history: What `fit` returned, a `callbacks.TermHistory`, or a mapping
            from key to values. A mapping does not tell in which epochs there
            was validation: if in fewer than all, it is drawn in every n-th,
            which is right where `validation_freq` divides their number. Nor
            does it tell kinds from outputs that are named like one.
        stack: Whose contributions: `"kinds"`, or `"terms"`, which needs
            `LossesContainer(..., log="all")`.
        log_scale: Whether the vertical axes are logarithmic. Contributions are
            lines then, since areas do not add up on such an axis. Around zero
            the axis is linear where there are values that are not positive.

    Returns:
        The `matplotlib.figure.Figure`.

    Raises:
        ImportError: without matplotlib.
        ValueError: for another `stack`, or a history without `loss` or, with
            `stack="terms"`, without contributions.

    Example:
        >>> figure = plot_terms({
        ...     "loss": [3.0, 2.0], "compiled_loss": [2.0, 1.5],
        ...     "regularization_loss": [1.0, 0.5]})
        >>> [axes.get_title() for axes in figure.axes]
        ['Contributions to the loss']
    """
    checked_choice(stack, ("kinds", "terms"), "`stack` of plot_terms")
    checked_flag(log_scale, "`log_scale` of plot_terms")
    plt = pyplot()
    runs = separate_curves(history)
    train = runs[""]
    if "loss" not in train.values:
        raise ValueError(
            "Expected a history of training, with the key 'loss'. Received: "
            f"keys {sorted(train.values)}"
        )
    both = "loss" in runs["val_"].values
    drawn = [train, runs["val_"]] if both else [train]
    # A loss may be added in training only, or in evaluation only.
    stacks = [stacked_keys(run, stack) for run in drawn]
    lines = [line_keys(run) for run in drawn]
    rows = [["stack", "val_stack" if both else "stack"]]
    if any(lines):
        rows.append(["values", "values"])
    figure, axes = plt.subplot_mosaic(
        rows,
        figsize=(WIDTH, 3.6 * len(rows)),
        dpi=100,
        layout="constrained",
    )
    draw = draw_lines if log_scale else draw_stack
    coloured = merged(*stacks), merged(*lines)
    if stack == "terms":  # both panels show the same terms
        coloured = (merged(*coloured),) * 2
    names = ("stack", "val_stack")
    for name, run, keys in zip(names, drawn, stacks, strict=False):
        draw(axes[name], run, keys, coloured[0])
        draw_total(axes[name], run)
    title = "Contributions to the loss"
    if both:
        axes["val_stack"].sharey(axes["stack"])
        axes["val_stack"].set_title("validation")
        title += ", training"
    axes["stack"].set_title(title)
    axes["stack"].set_ylabel("weight × value")
    add_legend(axes["stack"], axes.get("val_stack"))
    if any(lines):
        styles = ("-", "--")
        for style, run, keys in zip(styles, drawn, lines, strict=False):
            later = drawn[-1] if run is not drawn[-1] else None
            draw_lines(axes["values"], run, keys, coloured[1], style, later)
        axes["values"].set_title(
            "Values of the terms" + both * ", validation dashed"
        )
        axes["values"].set_ylabel("value, unweighted")
        add_legend(axes["values"])
    for ax in axes.values():
        finish(ax, log_scale)
    return figure


def plot_weights(
    history: History, *, ax: "Axes | None" = None, log_scale: bool = False
) -> "Axes":
    """Draw the weights that change, over the epochs.

    Args:
        history: As for `plot_terms`.
        ax: The `matplotlib.axes.Axes` to draw into, new ones by default.
        log_scale: As for `plot_terms`.

    Returns:
        The `matplotlib.axes.Axes`.

    Raises:
        ImportError: without matplotlib.
        ValueError: for a history in which no weight is logged.

    Example:
        >>> axes = plot_weights({"loss": [2.0, 1.0], "kl_weight": [0.0, 0.5]})
        >>> [line.get_label() for line in axes.lines]
        ['kl']
    """
    checked_flag(log_scale, "`log_scale` of plot_weights")
    run = separate_curves(history)[""]
    keys = [key for key in run.values if key.endswith("_weight")]
    if not keys:
        raise ValueError(
            "Expected weights that move: variables, schedules or a weighting, "
            "logged as '<term>_weight'. Received: a history with the keys "
            f"{sorted(run.values)}"
        )
    ax = axes_for(ax, height=3.6)
    draw_lines(ax, run, keys)
    ax.set_title("Weights of the terms")
    ax.set_ylabel("weight")
    add_legend(ax)
    finish(ax, log_scale)
    return ax
