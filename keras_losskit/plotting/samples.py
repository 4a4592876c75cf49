"""`plot_samples`: a bar per sample, made of its terms."""

from collections.abc import Mapping
from typing import TYPE_CHECKING
from typing import Any
from typing import Protocol
from typing import runtime_checkable

import numpy as np

from keras_losskit._support.checks import checked_instance
from keras_losskit.plotting._curves import Pile
from keras_losskit.plotting._drawing import COLOURS
from keras_losskit.plotting._drawing import HATCHES
from keras_losskit.plotting._drawing import axes_for

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Samples that are drawn, the first ones.
DRAWN = 50


@runtime_checkable
class Samples(Protocol):
    """What a `SampleReport` has."""

    @property
    def ids(self) -> Any: ...

    @property
    def contributions(self) -> Mapping[str, Any]: ...


def plot_samples(report: Samples, *, ax: "Axes | None" = None) -> "Axes":
    """Draw which samples the loss comes from: a bar per sample.

    Its parts are the contributions of the terms, the positive to the right of
    0, the negative to the left. The first 50 samples are drawn, the largest on
    top.

    Args:
        report: What `sample_report` returned, or any object with `ids` and
            `contributions`, `{name: (n,)}`.
        ax: The `matplotlib.axes.Axes` to draw into, new ones by default.

    Returns:
        The `matplotlib.axes.Axes`.

    Raises:
        ImportError: without matplotlib.
        TypeError: for something that is no report, or no axes.

    Example:
        >>> import types
        >>> axes = plot_samples(types.SimpleNamespace(
        ...     ids=["cat", "dog"], contributions={"mse": [3.0, 1.0]}))
        >>> [float(bar.get_width()) for bar in axes.patches]
        [3.0, 1.0]
    """
    checked_instance(
        report,
        Samples,
        "`report` of plot_samples",
        "what sample_report returns",
    )
    names = [str(name) for name in report.ids][:DRAWN]
    places = np.arange(len(names))
    ax = axes_for(ax, height=min(12.0, 2.0 + 0.25 * len(names)))
    pile = Pile()
    for index, (term, values) in enumerate(report.contributions.items()):
        widths = np.asarray(values, "float64")[: len(names)]
        ax.barh(
            places,
            widths,
            left=pile.add(widths)[0],
            color=COLOURS[index % len(COLOURS)],
            hatch=HATCHES[index // len(COLOURS) % len(HATCHES)],
            label=term,
        )
    ax.set_yticks(places, names)
    ax.invert_yaxis()
    ax.set_xlabel("share in the loss")
    ax.set_ylabel("sample")
    ax.set_title("Which samples the loss comes from")
    if len(report.contributions) > 1:
        ax.legend(frameon=False, fontsize="small")
    return ax
