"""Areas, lines, legends and axes, and the colours of all of them."""

import numpy as np

#: Okabe, Ito, "Color Universal Design", 2008; black is for totals, and yellow,
#: which is faint as a line, comes last.
COLOURS = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#D55E00",
    "#56B4E9",
    "#F0E442",
)
TOTAL = "#000000"
#: What tells the series apart whose colour comes up again.
MARKERS = ("", "o", "s", "^", "v", "D")
HATCHES = ("", "//", "..", "xx", "\\\\", "oo")
#: Width of a figure in inches, at 100 dots per inch.
WIDTH = 8.0


def draw_stack(ax, run, keys, among=None):
    """Areas of contributions: the positive upwards, the negative downwards.

    Args:
        ax: Axes.
        run: The `Curves` to draw.
        keys: Whose contributions.
        among: The keys of all runs, which share their colours; `keys` if None.
    """
    above = below = 0.0
    for key in keys:
        index = (among or keys).index(key)
        epochs, values = run.of(key)
        values = np.nan_to_num(values, posinf=0.0, neginf=0.0)
        if len(epochs) == 1:  # an area needs a width
            epochs = epochs + np.array([-0.5, 0.5])
            values = np.repeat(values, 2)
        bottom = np.where(values >= 0.0, above, below)
        top = bottom + values
        ax.fill_between(
            epochs,
            bottom,
            top,
            color=COLOURS[index % len(COLOURS)],
            hatch=HATCHES[index // len(COLOURS) % len(HATCHES)],
            alpha=0.8,
            linewidth=0.0,
            label=label_of(key),
        )
        above = above + np.maximum(values, 0.0)
        below = below + np.minimum(values, 0.0)


def draw_total(ax, run):
    """The loss, on top of what it is made of."""
    epochs, values = run.of("loss")
    marker = "o" if len(epochs) == 1 else ""
    ax.plot(epochs, values, color=TOTAL, marker=marker, label="loss")


def draw_lines(ax, run, keys, among=None, style="-"):
    """A line per key, of which the first one drawn is named in the legend.

    Args:
        ax: Axes.
        run: The `Curves` to draw.
        keys: The keys.
        among: As for `draw_stack`.
        style: Of the lines.
    """
    _, named = ax.get_legend_handles_labels()
    for key in keys:
        index = (among or keys).index(key)
        epochs, values = run.of(key)
        marker = MARKERS[index // len(COLOURS) % len(MARKERS)]
        label = label_of(key)
        ax.plot(
            epochs,
            values,
            style,
            color=COLOURS[index % len(COLOURS)],
            marker=marker or ("o" if len(epochs) == 1 else ""),
            markersize=4,
            label=f"_{label}" if label in named else label,
        )


def label_of(key):
    """A logged key without what all keys of its axes end in."""
    for suffix in ("_loss", "_contribution", "_weight"):
        if key.endswith(suffix):
            return key.removesuffix(suffix)
    return key


def add_legend(ax, beside=None):
    """The legend below the axes, or below those and the ones beside them."""
    named = {}
    for axes in (ax, beside) if beside else (ax,):
        for handle, label in zip(
            *axes.get_legend_handles_labels(), strict=True
        ):
            named.setdefault((type(handle), label), handle)
    labels = [label for _, label in named]
    columns = max(1, min(5, int(84 / (max(map(len, labels)) + 6))))
    ax.legend(
        list(named.values()),
        labels,
        loc="upper left",
        bbox_to_anchor=(0.0, -0.16),
        ncols=max(1, columns // 2) if beside else columns,
        frameon=False,
        fontsize="small",
    )


def finish(ax, log_scale):
    """Scale, name of the horizontal axis, and a faint grid."""
    if log_scale:
        drawn = np.concatenate([line.get_ydata() for line in ax.lines])
        drawn = drawn[np.isfinite(drawn)]
        if np.all(drawn > 0.0):
            ax.set_yscale("log")
        else:
            largest = np.max(np.abs(drawn), initial=1e-6)
            ax.set_yscale("symlog", linthresh=1e-2 * largest)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set_xlabel("epoch")
    ax.grid(alpha=0.3)


def new_axes(height):
    """Axes in a new figure."""
    figure, ax = pyplot().subplots(
        figsize=(WIDTH, height), dpi=100, layout="constrained"
    )
    return ax


def pyplot():
    """`matplotlib.pyplot`, or an error that says where it is from."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            "Expected matplotlib to be installed for pictures. Received: no "
            "module of this name. Run `pip install keras_losskit[plot]`."
        ) from error
    return plt
