"""`report`: one page that shows where the loss went."""

import dataclasses
import datetime
import html
import importlib.resources
import json
import math
import os
from os import PathLike
from pathlib import Path
from typing import Any

import keras

from keras_losskit._support.checks import checked_instance
from keras_losskit._types import History
from keras_losskit._types import Structure
from keras_losskit.web._histories import named_histories
from keras_losskit.web._model_parts import parts_of_model
from keras_losskit.web._pictures import PALETTE
from keras_losskit.web._pictures import Run
from keras_losskit.web._pictures import comparison_table
from keras_losskit.web._pictures import comparisons
from keras_losskit.web._pictures import pictures_of
from keras_losskit.web._pictures import table_of

#: What the page is put together from: `{{name}}` in `page.html` is the file.
PARTS = (
    "page.css",
    "page.js",
    "uplot-1.6.32.min.css",
    "uplot-1.6.32.min.js",
    "uplot-LICENSE.txt",
)


@dataclasses.dataclass(frozen=True)
class Report:
    """A page, written to a file; in a notebook it shows itself.

    Args:
        path: The file.
        html: What it holds.
    """

    path: Path
    html: str = dataclasses.field(repr=False)

    def _repr_html_(self) -> str:
        return framed(self.html)


def report(
    history: History | str | PathLike[str] | list[Any],
    path: str | PathLike[str] = "report.html",
    *,
    names: list[str] | None = None,
    model: keras.Model | None = None,
    data: Structure | None = None,
) -> Report:
    """Write a page that shows where the loss went, to open in a browser.

    Contributions (`weight * value`) are stacked, and their sum is `loss`;
    shares are `contribution / loss`. Values, weights and metrics are lines,
    those of validation dashed. Beside each picture is a table of its numbers.
    A history without `loss`, as a GAN may have one, is drawn as metrics. The
    page is one file and needs no network. Several runs are compared key by
    key, and follow one after the other.

    Args:
        history: What `fit` returned, a `callbacks.TermHistory`, a mapping from
            key to values, a file of `keras.callbacks.CSVLogger` or of
            `TermHistory`, a folder with such files; or a list of these. In a
            file of several trainings, epochs that a resumed one ran again
            count once, and those of one that began anew are numbered on.
        path: The file to write. What is there is replaced as a whole.
        names: Names of the runs.
        model: A compiled model, whose terms are listed.
        data: A batch of it, `(x, y)` or `(x, y, sample_weight)`, for the
            values, gradients and conflicts of its terms.

    Returns:
        A `Report`, with the `path`; a notebook shows the page.

    Raises:
        TypeError: for something that is no history, model or path.
        ValueError: for a history without numbers, a folder without a history, a
            name too few, or a `path` that is a folder.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "report.html"
        >>> _ = report({"loss": [3.0, 2.0], "mse_loss": [2.5, 1.5]}, path)
        >>> "mse" in path.read_text("utf-8")
        True
    """
    written = checked_target(path, "`path` of report")
    found = sections(history, names, model, data)
    page = page_of(found, kept_as=written.name)
    write_whole(page, written)
    return Report(written, page)


def sections(history, names=None, model=None, data=None):
    """What stands on the page: a list of sections, each with its parts."""
    if data is not None and model is None:
        raise ValueError(
            "Expected `model` beside `data` of report, whose loss is taken of "
            "it. Received: model=None"
        )
    runs = [Run(name, one) for name, one in named_histories(history, names)]
    found = []
    if len(runs) > 1:
        parts = [*comparisons(runs), comparison_table(runs)]
        found.append({"title": "All runs", "open": True, "parts": parts})
    for run in runs:
        parts = [*pictures_of(run), table_of(run)]
        title = run.name or "Training"
        found.append({"title": title, "open": len(runs) == 1, "parts": parts})
    if model is not None:
        parts = parts_of_model(model, data)
        found.append({"title": "The model", "open": True, "parts": parts})
    return found


def page_of(found, live=None, kept_as=""):
    """The page as HTML.

    Args:
        found: What `sections` gave.
        live: Seconds after which the page looks for newer data of a run that
            goes on; None for one that is over.
        kept_as: A name under which the page, shown within a notebook, keeps its
            switches for the next page of that name.
    """
    folder = importlib.resources.files("keras_losskit.web") / "assets"
    page = (folder / "page.html").read_text("utf-8")
    for part in PARTS:
        text = (folder / part).read_text("utf-8")
        page = page.replace("{{" + part + "}}", text)
    now = datetime.datetime.now().astimezone()
    data = {
        "sections": found,
        "palette": PALETTE,
        "live": live,
        "keptAs": kept_as,
        "written": now.isoformat(timespec="milliseconds"),
    }
    return page.replace("{{data}}", as_json(data))


def as_json(data):
    r"""JSON that can stand in a `<script>`, whatever the names in it.

    Numbers that JSON has not are strings: "NaN", "Infinity", "-Infinity".

    Example:
        >>> as_json({"</script>": [1.5, float("inf")]})
        '{"\\u003c/script\\u003e":[1.5,"Infinity"]}'
    """
    settings = {"allow_nan": False, "separators": (",", ":")}
    try:
        text = json.dumps(data, **settings)
    except ValueError:  # some number is not finite, which is rare
        text = json.dumps(finite(data), **settings)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def finite(data):
    """`data` with strings for the numbers that JSON has not."""
    if isinstance(data, dict):
        return {key: finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [finite(value) for value in data]
    if isinstance(data, float) and not math.isfinite(data):
        if math.isnan(data):
            return "NaN"
        return "Infinity" if data > 0 else "-Infinity"
    return data


def checked_target(path, what):
    """The file that a page is written to; a folder of that name is refused."""
    path = Path(checked_instance(path, str | PathLike, what, "a path"))
    if path.is_dir():
        raise ValueError(
            f"Expected {what} to be a file. Received: '{path}', which is a "
            f"folder. Name a file in it, such as '{path / 'report.html'}'."
        )
    return path


def write_whole(page, path):
    """Write a page all or nothing: who reads meanwhile has the last one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(page, "utf-8")
    os.replace(part, path)


def framed(page):
    """A page inside another, such as the output of a notebook's cell."""
    return (
        '<iframe title="Where the loss goes" style="width:100%;height:40em;'
        f'border:0" srcdoc="{html.escape(page)}"></iframe>'
    )
