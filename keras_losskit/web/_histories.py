"""Histories in all the forms that `report` takes, files among them."""

import csv
import dataclasses
import json
import math
import os
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from keras_losskit._support.checks import checked_list
from keras_losskit._support.checks import checked_name
from keras_losskit._support.checks import refused

#: What a file of a history ends in.
SUFFIXES = (".csv", ".json")
#: What stands in a file of `CSVLogger` where an epoch lacks a key.
MISSING = ("", "NA")
#: UTF-8, also with the mark that spreadsheets put before it.
ENCODING = "utf-8-sig"


@dataclasses.dataclass
class ReadHistory:
    """A history from a file, with what `fit` notes on its own.

    Args:
        history: `{key: [value, ...]}`.
        epoch: The number of each epoch.
        epochs_by_key: `{key: [epoch, ...]}`.
    """

    history: dict[str, list[Any]]
    epoch: list[int]
    epochs_by_key: dict[str, list[int]]


def named_histories(given: Any, names: Any) -> list[tuple[str, Any]]:
    """`[(name, history), ...]` of what was given to `report`.

    Args:
        given: A history, a file, a folder, or a list of these.
        names: Names of the runs, or None.
    """
    several = list(given) if isinstance(given, list | tuple) else [given]
    if not several:
        raise refused(
            given, "`history` to be one history or more", error=ValueError
        )
    found = [run for one in several for run in histories_of(one)]
    short, files, histories = zip(*found, strict=True)
    if names is not None:
        names = checked_names(names, len(found))
    elif len(found) > 1:
        names = names_of(short, files)
    else:
        names = short
    return list(zip(names, histories, strict=True))


def checked_names(names, count):
    """The names that were given to `report`, one for each run."""
    what = "`names` of report"
    names = checked_list(names, what, "a list of a name for each run")
    if len(names) != count:
        raise ValueError(
            f"Expected {what} to be a name for each run, {count}. "
            f"Received: {names!r}"
        )
    names = [checked_name(name, f"each of {what}") for name in names]
    if len(set(names)) < count:
        raise refused(
            names,
            f"{what} to differ from one another",
            remedy="A line of a comparison is known by its name",
            error=ValueError,
        )
    return names


def names_of(short, files):
    """Names of runs that differ: the short ones, else the paths they need.

    Args:
        short: The name of each run in what was given, or "".
        files: The file of each run, or None.

    Example:
        >>> names_of(["a", ""], [Path("a.csv"), None])
        ['a', 'run 2']
        >>> names_of(["log"] * 2, [Path("a/log.csv"), Path("b/log.csv")])
        ['a/log', 'b/log']
    """
    paths = [file and Path(os.path.abspath(file)) for file in files]
    folders = [path.parent.parts for path in paths if path]
    shared = len(os.path.commonprefix(folders))
    below = [path and Path(*path.parts[shared:]) for path in paths]
    whole = [path.as_posix() if path else "" for path in below]
    ends = [path.with_suffix("").as_posix() if path else "" for path in below]
    for names in (short, ends, whole):
        names = [name or f"run {k + 1}" for k, name in enumerate(names)]
        if len(set(names)) == len(names):
            return names
    # A file that was given twice.
    return [
        f"{name} ({names[: k + 1].count(name)})"
        if names.count(name) > 1
        else name
        for k, name in enumerate(names)
    ]


def histories_of(given):
    """`[(name, file, history), ...]` of one history, file or folder."""
    if not isinstance(given, str | PathLike):
        return [("", None, given)]
    path = Path(given)
    if not path.is_dir():
        return [(path.stem, path, read_history(path))]
    files = sorted(p for p in path.rglob("*") if suffix_of(p) in SUFFIXES)
    runs = [
        (
            str(file.relative_to(path).with_suffix("")),
            file,
            read_history(file),
        )
        for file in files
        if is_history(file)
    ]
    if not runs:
        raise ValueError(
            f"Expected the folder '{path}' to hold histories, files of "
            f"CSVLogger or TermHistory that end in {SUFFIXES}, with a row for "
            "each epoch. Received: none. Log with `keras.callbacks.CSVLogger`, "
            "or with `callbacks.TermHistory(epochs_file=...)`."
        )
    return runs


def is_history(path):
    """Whether a file in a folder is one, and not some other table.

    A GAN may log `d_loss` and `g_loss` alone.
    """
    try:
        return any(k.endswith("loss") for k in read_history(path).history)
    except (ValueError, KeyError, TypeError, UnicodeDecodeError, csv.Error):
        return False


def suffix_of(path):
    """What a file ends in, which some programs write in capitals."""
    return path.suffix.lower()


def read_history(path: Path) -> ReadHistory:
    """The history in a file of `CSVLogger` or `TermHistory`.

    Raises:
        ValueError: for a file of another kind, or without epochs.
    """
    if suffix_of(path) not in SUFFIXES:
        raise ValueError(
            f"Expected a file of CSVLogger or TermHistory, which ends in one "
            f"of {SUFFIXES}. Received: '{path}'"
        )
    rows = read_json(path) if suffix_of(path) == ".json" else read_csv(path)
    if not all(isinstance(r, Mapping) and "epoch" in r for r in rows):
        raise ValueError(
            f"Expected the file '{path}' to have an epoch in each row. "
            "Received: rows without"
        )
    if any("batch" in row for row in rows):
        raise ValueError(
            f"Expected the file '{path}' to have a row for each epoch. "
            "Received: rows for each batch, which have a 'batch'. Give the "
            "file of CSVLogger or of `TermHistory(epochs_file=...)`."
        )
    epochs: list[int] = []
    history: dict[str, list[Any]] = {}
    by_key: dict[str, list[int]] = {}
    for epoch, row in one_after_the_other(rows):
        epochs.append(epoch)
        for key, value in row.items():
            if key != "epoch" and is_numeric(value):
                history.setdefault(key, []).append(value)
                by_key.setdefault(key, []).append(epoch)
    history = {key: of_one_length(own) for key, own in history.items()}
    return ReadHistory(history, epochs, by_key)


def is_numeric(value):
    """Whether a value is a number, or a list of those of a metric."""
    if isinstance(value, list):
        return bool(value) and all(isinstance(v, float | int) for v in value)
    return isinstance(value, float | int)


def of_one_length(values):
    """Values of a metric as lists of one length, NaN where one had fewer.

    Example:
        >>> of_one_length([1.0, 2.0]), of_one_length([1.0, [2.0, 3.0]])
        ([1.0, 2.0], [[1.0, nan], [2.0, 3.0]])
    """
    if not any(isinstance(value, list) for value in values):
        return values
    rows = [v if isinstance(v, list) else [v] for v in values]
    longest = max(map(len, rows))
    return [row + [math.nan] * (longest - len(row)) for row in rows]


def one_after_the_other(rows):
    """`[(epoch, row), ...]` with numbers that rise, of one training or more.

    `CSVLogger(append=True)` writes each training behind the last. Where one was
    resumed, rows of epochs that ran again give way, as with
    `TermHistory(append=True)`. One that begins at 0 anew repeats none: its
    numbers go on.

    Example:
        >>> rows = [{"epoch": epoch} for epoch in (0, 1, 2, 2, 3, 0, 1)]
        >>> [epoch for epoch, _ in one_after_the_other(rows)]
        [0, 1, 2, 3, 4, 5]
    """
    found: list[tuple[int, Any]] = []
    before = 0
    for row in rows:
        number = int(float(row["epoch"]))
        if found and number == 0:
            before = found[-1][0] + 1
        epoch = before + number
        while found and found[-1][0] >= epoch:
            found.pop()
        found.append((epoch, row))
    return found


def read_json(path):
    """The rows that `TermHistory` wrote."""
    rows = json.loads(path.read_text(ENCODING))
    return checked_list(rows, f"the file '{path}'", "a list of epochs")


def read_csv(path):
    """The rows that `CSVLogger` or `TermHistory` wrote, numbers as floats."""
    with path.open(newline="", encoding=ENCODING) as file:
        head = file.readline()
        # The column that is always there is the first; what follows separates.
        at = head.find("epoch") + len("epoch")
        separator = head[at : at + 1].strip("\r\n") or ","
        file.seek(0)
        return [
            {key: number_in(text) for key, text in row.items()}
            for row in csv.DictReader(file, delimiter=separator)
        ]


def number_in(text):
    """A number, a list of those of a metric of several, or None for none.

    Example:
        >>> number_in("0.5"), number_in("[0.5, nan]"), number_in("x")
        (0.5, [0.5, nan], None)
    """
    # Fields beyond the head are a list.
    if not isinstance(text, str) or text in MISSING:
        return None
    listed = text.strip('"')  # by which `CSVLogger` encloses a list
    try:
        if listed.startswith("[") and listed.endswith("]"):
            return [float(part) for part in listed[1:-1].split(",")]
        return float(text)
    except ValueError:
        return None
