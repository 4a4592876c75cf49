"""What a notebook shows: tables and formulas as HTML, in which names are text.

And the cell that runs in it, if one does.

Names are the user's. They are escaped, broken where they are long, and kept
apart from the text around them where they run from right to left.
"""

import html
import sys
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any

_TABLE = "border-collapse:collapse;font-variant-numeric:tabular-nums"
_CELL = "padding:.2em .8em;vertical-align:top;max-width:40em"
_TEXT = "text-align:left;white-space:pre-wrap;overflow-wrap:anywhere"
_NUMBER = "text-align:right;white-space:nowrap"


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    numbers: Sequence[int] = (),
    bold: Sequence[int] = (),
    caption: str = "",
) -> str:
    """A table as HTML.

    Args:
        head: Names of the columns.
        rows: The cells of each row, text.
        numbers: Positions of the columns that are aligned to the right.
        bold: Positions of the rows that are sums.
        caption: What stands above.

    Returns:
        One `<table>`.

    Example:
        >>> text = table(["term"], [["<b>"]])
        >>> "&lt;b&gt;" in text, "<b>" in text
        (True, False)
    """

    def cell(tag, column, content, scope=""):
        align = _NUMBER if column in numbers else _TEXT
        style = f'style="{_CELL};{align}"'
        return f"<{tag}{scope} {style}>{text(content)}</{tag}>"

    lines = [f'<table style="{_TABLE}">']
    if caption:
        lines.append(f"<caption>{text(caption)}</caption>")
    cells = [cell("th", *pair, ' scope="col"') for pair in enumerate(head)]
    lines.append(f"<thead><tr>{''.join(cells)}</tr></thead><tbody>")
    for index, row in enumerate(rows):
        style = ' style="font-weight:bold"' if index in bold else ""
        cells = [cell("td", *pair) for pair in enumerate(row)]
        lines.append(f"<tr{style}>{''.join(cells)}</tr>")
    return "\n".join([*lines, "</tbody></table>"])


def formula(content: object) -> str:
    """A formula as HTML: the repr of what it is of."""
    return f"<code>{text(repr(content))}</code>"


def text(content: str) -> str:
    """Text as HTML, in a direction of its own."""
    return f"<bdi>{html.escape(content)}</bdi>"


def number(value: float) -> str:
    """Four decimals, or three significant digits of what they would hide.

    Example:
        >>> number(0.5), number(0.00012), number(-2.0)
        ('0.5000', '1.20e-04', '-2.0000')
    """
    small = 0 < abs(value) < 1e-3
    return f"{value:.2e}" if small else f"{value:.4f}"


def running_cell() -> int | None:
    """The number of the cell that runs, or None outside a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    # A terminal of IPython has no kernel, and shows no HTML.
    if shell is None or not hasattr(shell, "kernel"):
        return None
    return shell.execution_count


def show(content: Any) -> None:
    """Show an object below the cell that runs."""
    from IPython.display import display

    display(content)


class Output:
    """HTML below a cell, replaced while the cell runs."""

    def __init__(self):
        self._cell = None
        self._handle = None

    @property
    def is_shown(self) -> bool:
        """Whether there is a cell to show something in."""
        return running_cell() is not None

    def show(self, content: str) -> None:
        """Show `content` in place of what was there."""
        from IPython.display import display

        cell = running_cell()
        # Raw: the class `HTML` warns of frames.
        bundle = {"text/html": content, "text/plain": ""}
        if cell == self._cell:
            self._handle.update(bundle, raw=True)
        else:
            self._cell = cell
            self._handle = display(bundle, raw=True, display_id=True)
