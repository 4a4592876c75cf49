"""Areas, lines, legends and axes, and the colours of all of them."""

import numpy as np

from keras_losskit._support.checks import checked_instance
from keras_losskit.plotting._curves import linear_below
from keras_losskit.plotting._curves import stacked

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
#: Of a line, and of what a line under others is wider by, each; in points.
LINE, BAND = 1.5, 2.5
#: What marks the epochs in which a value is not finite.
NOT_FINITE = "not finite"


def draw_stack(ax, run, keys, names=None):
    """Areas of contributions: the positive upwards, the negative downwards.

    Where one is not finite it has no area, and a mark above the others.

    Args:
        ax: Axes.
        run: The `Curves` to draw.
        keys: Whose contributions.
        names: Keys of all that is coloured, of which those of one term share a
            colour; `keys` if None.
    """
    for key, epochs, finite, base, end in stacked(run, keys):
        index = index_of(key, names or keys)
        mark_not_finite(ax, epochs, run.values[key], key, index)
        if len(epochs) == 1:  # an area needs a width
            epochs = epochs + np.array([-0.5, 0.5])
            finite, base, end = (np.repeat(a, 2) for a in (finite, base, end))
        ax.fill_between(
            epochs,
            base,
            end,
            where=finite,
            color=COLOURS[index % len(COLOURS)],
            hatch=HATCHES[index // len(COLOURS) % len(HATCHES)],
            alpha=0.8,
            linewidth=0.0,
            label=label_of(key),
        )


def draw_total(ax, run):
    """The loss, on top of what it is made of."""
    epochs, values = run.of("loss")
    marker = "o" if len(epochs) == 1 else ""
    ax.plot(epochs, values, color=TOTAL, marker=marker, label="loss")


def draw_lines(ax, run, keys, names=None, style="-", later=None):
    """A line per key, of which the first one drawn is named in the legend.

    One that others lie upon is wider, so that it shows on both sides of them.

    Args:
        ax: Axes.
        run: The `Curves` to draw.
        keys: The keys.
        names: As for `draw_stack`.
        style: Of the lines.
        later: `Curves` whose lines of these keys are drawn later.
    """
    _, named = ax.get_legend_handles_labels()
    for place, key in enumerate(keys):
        index = index_of(key, names or keys)
        epochs, values = run.of(key)
        mark_not_finite(ax, epochs, values, key, index)
        marker = MARKERS[index // len(COLOURS) % len(MARKERS)]
        label = label_of(key)
        above = [run.of(other) for other in keys[place + 1 :]]
        if later is not None and key in later.values:
            above.append(later.of(key))
        hidden = sum(coincide((epochs, values), curve) for curve in above)
        ax.plot(
            epochs,
            values,
            style,
            color=COLOURS[index % len(COLOURS)],
            marker=marker or ("o" if len(epochs) == 1 else ""),
            markersize=4,
            linewidth=LINE + BAND * hidden,
            alpha=0.5 if hidden else 1.0,
            label=f"_{label}" if label in named else label,
        )


def coincide(one, other):
    """Whether two curves, `(epochs, values)`, cannot be told apart."""
    _, mine, yours = np.intersect1d(one[0], other[0], return_indices=True)
    first, second = one[1][mine], other[1][yours]
    shown = np.isfinite(first) & np.isfinite(second)
    return bool(shown.any()) and np.allclose(
        first[shown], second[shown], rtol=1e-3, atol=0.0
    )


def mark_not_finite(ax, epochs, values, key, index):
    """A cross at the upper edge for each epoch in which a value is not finite.

    Args:
        ax: Axes.
        epochs: `(n,)`.
        values: `(n,)`.
        key: What they are logged under.
        index: Number of its colour.
    """
    bad = epochs[~np.isfinite(values)]
    if not len(bad):
        return
    ax.plot(
        bad,
        np.full(len(bad), 0.98 - 0.05 * (index % 10)),
        "X",
        transform=ax.get_xaxis_transform(),
        color=COLOURS[index % len(COLOURS)],
        label=f"{label_of(key)} {NOT_FINITE}",
        gid=NOT_FINITE,
    )


def index_of(key, names):
    """Number of the colour of a key, by its name among those that have one."""
    labels = list(dict.fromkeys(label_of(name) for name in names))
    return labels.index(label_of(key))


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
            named.setdefault(label, handle)
    labels = list(named)
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
        drawn = np.concatenate(
            [
                line.get_ydata()
                for line in ax.lines
                if line.get_gid() != NOT_FINITE
            ]
        )
        linear = linear_below(drawn)
        if linear is None:
            ax.set_yscale("log")
        else:
            ax.set_yscale("symlog", linthresh=linear)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set_xlabel("epoch")
    ax.grid(alpha=0.3)


def axes_for(ax, height):
    """The axes that a user gave, or new ones where he gave none."""
    if ax is None:
        return new_axes(height)
    pyplot()
    from matplotlib.axes import Axes

    return checked_instance(ax, Axes, "`ax`", "the Axes of matplotlib")


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
