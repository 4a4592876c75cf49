"""What the benchmarks write: a JSON and a Markdown table."""

import importlib.metadata
import json
import os
import pathlib
import platform

RESULTS = pathlib.Path(__file__).parent / "results"


def about(backend, device="cpu", **settings):
    """Versions, hardware and settings of a run."""
    return {
        "backend": backend,
        "keras": importlib.metadata.version("keras"),
        backend: importlib.metadata.version(backend),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "device": device,
        **settings,
    }


def write(stem, title, facts, rows):
    """Write `results/stem.json` and `results/stem.md`.

    Cases that are not among the rows stay in the files as they are.

    Args:
        stem: Name of the files.
        title: Heading of the Markdown file.
        facts: What `about` returned.
        rows: List of dicts with the same keys, the columns.
    """
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / stem
    rows = [*others(path.with_suffix(".json"), rows), *rows]
    path.with_suffix(".json").write_text(
        json.dumps({"about": facts, "rows": rows}, indent=2) + "\n"
    )
    lines = [f"# {title}", ""]
    lines += [f"- {key}: {value}" for key, value in facts.items()]
    path.with_suffix(".md").write_text(
        "\n".join([*lines, "", *as_markdown(rows), ""])
    )


def others(path, rows):
    """The rows of an earlier run, of other cases with the same columns."""
    if not path.exists():
        return []
    measured = {row["case"] for row in rows}
    return [
        row
        for row in json.loads(path.read_text())["rows"]
        if list(row) == list(rows[0]) and row["case"] not in measured
    ]


def as_markdown(rows):
    """The lines of a table with the keys of the rows as its head."""
    columns = list(rows[0])
    return [
        as_line(columns),
        as_line("---" for _ in columns),
        *(as_line(row[column] for column in columns) for row in rows),
    ]


def as_line(cells):
    """One line of a Markdown table."""
    return "| " + " | ".join(str(cell) for cell in cells) + " |"
