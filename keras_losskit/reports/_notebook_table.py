"""A table of the terminal that a notebook shows as one of its own."""

import io

from rich.console import Console
from rich.style import Style
from rich.table import Table
from rich.text import Text

from keras_losskit import _notebook


class NotebookTable(Table):
    """A table of `rich` whose HTML is a `<table>`, not a picture of text.

    Its cells and headers are in the markup of `rich`.
    """

    _cell = None

    def show(self) -> None:
        """Show it below the cell that runs, and as its last line not again."""
        _notebook.show(self)
        self._cell = _notebook.running_cell()

    def _ipython_display_(self) -> None:
        if self._cell is None or self._cell != _notebook.running_cell():
            raise NotImplementedError  # IPython then takes the mime bundle

    def contents(self) -> tuple[list[str], list[list[str]], str]:
        """`(head, rows, caption)`, text without markup."""
        head = [plain(column.header) for column in self.columns]
        columns = [[plain(c) for c in column.cells] for column in self.columns]
        rows = [list(row) for row in zip(*columns, strict=True)]
        return head, rows, plain(self.caption)

    def as_html(self) -> str:
        """The table as HTML."""
        head, rows, notes = self.contents()
        html = _notebook.table(
            head,
            rows,
            numbers=[
                index
                for index, column in enumerate(self.columns)
                if column.justify == "right"
            ],
            bold=[
                index
                for index, row in enumerate(self.rows)
                if row.style and Style.parse(str(row.style)).bold
            ],
            caption=plain(self.title),
        )
        return f"{html}<p>{_notebook.text(notes)}</p>" if notes else html

    def _repr_mimebundle_(self, include, exclude, **kwargs):
        # That of `rich` comes before a `_repr_html_`, and has its own HTML.
        bundle = super()._repr_mimebundle_(include, exclude, **kwargs)
        return {**bundle, "text/html": self.as_html()}


class ShownAsTable:
    """What prints as the table that its `__rich__` gives."""

    def __rich__(self) -> NotebookTable:
        raise NotImplementedError

    def _repr_html_(self) -> str:
        return self.__rich__().as_html()

    def __str__(self) -> str:
        file = io.StringIO()
        # In a notebook it would show itself instead of being written.
        Console(file=file, width=200, force_jupyter=False).print(self)
        return file.getvalue().rstrip("\n")

    __repr__ = __str__


def plain(content):
    """Markup as text, without its styles."""
    if content is None:
        return ""
    if isinstance(content, Text):
        return content.plain
    return Text.from_markup(content).plain
