"""Results of long runs, written down where they are asked for."""

import datetime
import importlib.metadata
import os
import platform
from pathlib import Path

import keras


def record(name, title, facts):
    """Write `facts` to a Markdown file, if `LOSSKIT_RESULTS` names a folder.

    Args:
        name: Name of the file, to which the backend is added.
        title: Its heading.
        facts: `{what: value}`, the rows of a table.
    """
    folder = os.environ.get("LOSSKIT_RESULTS")
    if not folder:
        return
    backend = keras.config.backend()
    about = {
        "date": datetime.date.today().isoformat(),
        "python": platform.python_version(),
        "keras": keras.__version__,
        backend: importlib.metadata.version(backend),
        "machine": f"{platform.system()} {platform.machine()}, CPU",
    }
    rows = [f"| {key} | {value} |" for key, value in (about | facts).items()]
    text = "\n".join([f"# {title}", "", "| | |", "|---|---|", *rows, ""])
    path = Path(folder) / f"{name}-{backend}.md"
    path.write_text(text, encoding="utf-8")
