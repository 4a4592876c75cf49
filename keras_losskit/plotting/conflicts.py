"""`plot_gradient_conflicts`: a heat map of cosines."""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import Any
from typing import Protocol
from typing import runtime_checkable

import numpy as np

from keras_losskit._support.checks import checked_instance
from keras_losskit.plotting._drawing import axes_for

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@runtime_checkable
class Conflicts(Protocol):
    """What a `TermGradients` has."""

    @property
    def names(self) -> Sequence[str]: ...

    @property
    def cosines(self) -> Any: ...


def plot_gradient_conflicts(
    report: Conflicts, *, ax: "Axes | None" = None
) -> "Axes":
    """Draw which terms conflict: the cosines of their gradients.

    `cosine[i, j] = <g_i, g_j> / (|g_i| |g_j|)`: 1 where two terms want the same
    step, below 0, in red, where a step that lowers the one raises the other.

    Args:
        report: What `gradient_report` returned, or any object with `names`, K
            strings, and `cosines`, a `(K, K)` array.
        ax: The `matplotlib.axes.Axes` to draw into, new ones by default.

    Returns:
        The `matplotlib.axes.Axes`.

    Raises:
        ImportError: without matplotlib.
        TypeError: for something that is no report, or no axes.
        ValueError: for cosines that are not of that shape.

    Example:
        >>> import types
        >>> axes = plot_gradient_conflicts(types.SimpleNamespace(
        ...     names=["a", "b"], cosines=[[1.0, -0.5], [-0.5, 1.0]]))
        >>> [text.get_text() for text in axes.texts]
        ['1.00', '-0.50', '-0.50', '1.00']
    """
    checked_instance(
        report,
        Conflicts,
        "`report` of plot_gradient_conflicts",
        "what gradient_report returns",
    )
    names = list(report.names)
    cosines = np.asarray(report.cosines, "float64")
    count = len(names)
    if cosines.shape != (count, count):
        raise ValueError(
            f"Expected cosines of shape {(count, count)} for the terms "
            f"{names}. Received: shape {cosines.shape}"
        )
    ax = axes_for(ax, height=min(8.0, 3.0 + 0.4 * count))
    # Colour blind safe, and white where two terms have nothing in common.
    image = ax.imshow(cosines, cmap="RdBu", vmin=-1.0, vmax=1.0)
    ax.figure.colorbar(image, ax=ax, label="cosine of the gradients")
    ax.set_xticks(range(count), names, rotation=30, ha="right")
    ax.set_yticks(range(count), names)
    ax.set_title("Gradients of the terms")
    if count <= 12:
        for row, column in itertools.product(range(count), repeat=2):
            cosine = cosines[row, column]
            ax.text(
                *(column, row, f"{cosine:.2f}"),
                ha="center",
                va="center",
                color="white" if abs(cosine) > 0.6 else "black",
            )
    return ax
