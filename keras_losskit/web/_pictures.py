"""From curves to what the page draws: lines and areas over epochs.

A picture is a dict of what `page.js` draws: `x`, the epochs, and `lines`, each
with its values `y` at these, `low` and `high` where it is an area. None stands
for an epoch without a value.
"""

import numpy as np

from keras_losskit.plotting._curves import Curves
from keras_losskit.plotting._curves import line_keys
from keras_losskit.plotting._curves import linear_below
from keras_losskit.plotting._curves import merged
from keras_losskit.plotting._curves import separate_curves
from keras_losskit.plotting._curves import shares_of
from keras_losskit.plotting._curves import stacked
from keras_losskit.plotting._drawing import COLOURS
from keras_losskit.plotting._drawing import index_of
from keras_losskit.plotting._drawing import label_of
from keras_losskit.terms import unique_names

#: Number of a line that has the colour of the text: the total.
TOTAL = -1

#: So many values of one metric are drawn each by itself.
MOST_VALUES = 12


class Run:
    """The curves of one run, and what of them goes into which picture.

    Args:
        name: Name of the run.
        history: In any form that `plot_terms` takes.
    """

    def __init__(self, name, history):
        self.name = name
        curves = separate_curves(history)
        self.train, self.validation = (
            value_by_value(curves[prefix]) for prefix in ("", "val_")
        )
        both = bool(self.validation.values)
        self.drawn = [self.train, self.validation][: 1 + both]
        # A custom `train_step` may log metrics alone: there is no sum of terms.
        self.with_loss = [c for c in self.drawn if "loss" in c.values]
        if not self.keys():
            raise ValueError(
                "Expected a history of numbers, such as those of the key "
                "'loss'. Received: none"
            )

    def keys(self):
        """Every key of training or validation, without `val_`."""
        keys = merged(*(run.values for run in self.drawn))
        return merged(["loss"] if "loss" in keys else [], keys)


def value_by_value(curves):
    """`curves` with keys for each value of a metric of several, and their mean.

    `f1[0]`, `f1[1]`, `f1, mean`; of many, such as one for each of 1,000
    classes, the mean alone. It is that of the values that are numbers.
    """
    found = []
    for key, values in curves.values.items():
        epochs = curves.epochs[key]
        if values.ndim == 1:
            found.append((key, values, epochs))
            continue
        rows = values.reshape(len(values), -1)
        if rows.shape[1] <= MOST_VALUES:
            for index, own in enumerate(rows.T):
                found.append((f"{key}[{index}]", own, epochs))
        counts = np.maximum(1, np.isfinite(rows).sum(1))
        means = np.where(np.isfinite(rows), rows, 0.0).sum(1) / counts
        means[~np.isfinite(rows).any(1)] = np.nan
        found.append((f"{key}, mean", means, epochs))
    names = unique_names(name for name, *_ in found)
    curves.values = dict(zip(names, (f[1] for f in found), strict=True))
    curves.epochs = dict(zip(names, (f[2] for f in found), strict=True))
    return curves


def pictures_of(run: Run) -> list:
    """The pictures of one run."""
    contributions = [contribution_keys(curves) for curves in run.with_loss]
    colours = merged(*contributions)
    titles = {
        run.train: "Contributions to the loss",
        run.validation: "Contributions, validation",
    }
    if len(run.with_loss) > 1:
        titles[run.train] += ", training"
    stacks = [
        areas(titles[curves], "weight × value", curves, keys, colours)
        for curves, keys in zip(run.with_loss, contributions, strict=True)
    ]
    pictures = list(stacks)
    if len(colours) > 1 and run.train in run.with_loss:
        shares = shares_of(run.train, contributions[0])
        pictures = [
            *stacks,
            areas(
                *("Shares of the loss", "contribution / loss"),
                *(shares, contributions[0], colours),
                total=False,
            ),
        ]
    values, weights, others = [], [], []
    drawn = set(colours) | {"loss"}
    for key in run.keys():
        if key.endswith("_weight"):
            weights.append(key)
        elif any(key in line_keys(curves) for curves in run.with_loss):
            values.append(key)
        elif key not in drawn and not is_kind_or_contribution(run, key):
            others.append(key)
    # Where the areas are of terms, a term has one colour in all pictures.
    of_terms = any(key.endswith("_contribution") for key in colours)
    names = merged(colours if of_terms else [], values, weights)
    for title, unit, keys, coloured in (
        ("Values of the terms", "value, unweighted", values, names),
        ("Weights of the terms", "weight", weights, names),
        ("Metrics", "mean of the epoch", others, others),
    ):
        if keys:
            pictures.append(lines(title, unit, run.drawn, keys, coloured))
    share_scale(stacks)
    return pictures


def contribution_keys(curves):
    """The contributions that sum to `loss`: of the terms, else of the kinds."""
    epochs = len(curves.values["loss"])
    terms = [
        key
        for key in curves.values
        if key.endswith("_contribution") and len(curves.values[key]) == epochs
    ]
    return terms or curves.kind_keys() or ["loss"]


def is_kind_or_contribution(run, key):
    """Whether a key is of the kind that is stacked, or might be."""
    kinds = merged(*(curves.kind_keys() for curves in run.with_loss))
    might_be = bool(run.with_loss) and key.endswith("_contribution")
    return key in kinds or might_be


def areas(title, unit, curves, keys, colours, total=True):
    """A picture of areas on top of one another, and their sum."""
    epochs = curves.epochs[keys[0]]
    drawn = []
    for key, _, finite, base, end in stacked(curves, keys):
        ends = np.where(finite, [np.minimum(base, end), np.maximum(base, end)],
                        np.nan)  # fmt: skip
        low, high = (rounded(row) for row in ends)
        colour = index_of(key, colours)
        values = curves.of(key)
        drawn.append(line(label_of(key), colour, values, epochs))
        drawn[-1] |= {"low": low, "high": high}
    if total:
        drawn.append(line("loss", TOTAL, curves.of("loss"), epochs))
    shown = [*keys, "loss"] if total else keys
    values = [curves.values[key] for key in shown]
    return picture(title, unit, epochs, drawn, values)


def lines(title, unit, drawn, keys, coloured):
    """A picture of a line per key, that of validation dashed."""
    return picture_of_lines(
        title,
        unit,
        [
            (label_of(key), index_of(key, coloured), curves.of(key), dashed)
            for key in keys
            for dashed, curves in enumerate(drawn)
            if key in curves.values
        ],
    )


def comparisons(runs: list) -> list:
    """A picture per key, with a line per run."""
    pictures = []
    for key in merged(*(run.keys() for run in runs)):
        found = [
            (run.name, index, curves.of(key), dashed)
            for index, run in enumerate(runs)
            for dashed, curves in enumerate(run.drawn)
            if key in curves.values
        ]
        pictures.append(picture_of_lines(key, "mean of the epoch", found))
    return pictures


def picture_of_lines(title, unit, found):
    """A picture of `(label, colour, (epochs, values), dashed)`."""
    all_epochs = [epochs for _, _, (epochs, _), _ in found]
    epochs = np.unique(np.concatenate(all_epochs))
    drawn = [
        line(label, colour, values, epochs, bool(dashed))
        for label, colour, values, dashed in found
    ]
    values = [values for _, _, (_, values), _ in found]
    return picture(title, unit, epochs, drawn, values)


def line(label, colour, curve, epochs, dashed=False):
    """A line with a value, or None, in each of these epochs."""
    if np.array_equal(curve[0], epochs):
        values = curve[1].tolist()
    else:
        known = dict(zip(curve[0].tolist(), curve[1].tolist(), strict=True))
        values = [known.get(epoch) for epoch in epochs.tolist()]
    return {
        "label": label,
        "colour": colour,
        "dashed": dashed,
        "y": values,
    }


def picture(title, unit, epochs, drawn, values):
    """What the page draws, with the part of its axis that is never a log.

    Args:
        title: What it shows.
        unit: Of its vertical axis.
        epochs: Of all lines, `(n,)`.
        drawn: What `line` gave.
        values: Those of each line, without epochs that have none.
    """
    return {
        "type": "picture",
        "title": title,
        "unit": unit,
        "x": epochs.tolist(),
        "lines": drawn,
        "linear": linear_below(np.concatenate(values)),
    }


def share_scale(stacks):
    """Give pictures beside each other one vertical axis."""
    ends = [
        value
        for stack in stacks
        for one in stack["lines"]
        for value in (*one.get("low", ()), *one.get("high", ()))
        if np.isfinite(value)
    ]
    for stack in stacks:
        stack["range"] = [min(ends, default=0.0), max(ends, default=1.0)]


def rounded(values):
    """A list of what is only drawn: a millionth is less than a screen shows."""
    size = np.max(np.abs(values[np.isfinite(values)]), initial=1e-30)
    return np.round(values, 6 - int(np.floor(np.log10(size)))).tolist()


def table_of(run: Run) -> dict:
    """First, last and least value of each key, of training and validation."""
    names = ("training", "validation")[: len(run.drawn)]
    head = ["logged as", *(f"{name}, last" for name in names)]
    head += [f"{name}, least (epoch)" for name in names]
    rows = []
    for key in run.keys():
        last = [last_of(curves, key) for curves in run.drawn]
        least = [least_of(curves, key) for curves in run.drawn]
        rows.append([key, *last, *least])
    return table("All that is logged", head, rows)


def comparison_table(runs: list) -> dict:
    """The last value of each key in each run."""
    head = ["logged as"]
    for run in runs:
        head.append(run.name)
        if len(run.drawn) > 1:
            head.append(f"{run.name}, validation")
    rows = [
        [key, *(last_of(c, key) for run in runs for c in run.drawn)]
        for key in merged(*(run.keys() for run in runs))
    ]
    return table("Last values", head, rows)


def last_of(curves: Curves, key):
    """The last value of a key; None without one."""
    values = curves.values.get(key, ())
    return float(values[-1]) if len(values) else None


def least_of(curves, key):
    """The least finite value of a key with its epoch, as text."""
    if key not in curves.values:
        return None
    epochs, values = curves.of(key)
    if not np.isfinite(values).any():
        return None
    at = int(np.argmin(np.where(np.isfinite(values), values, np.inf)))
    return f"{values[at]:.6g} ({epochs[at]})"


def table(title, head, rows, **more):
    """A table of the page; its first column holds names."""
    return {"type": "table", "title": title, "head": head, "rows": rows, **more}


#: The colours of the lines, in the order of their numbers.
PALETTE = list(COLOURS)
