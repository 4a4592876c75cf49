"""Histories with hostile names, and what a page holds of them."""

import json
import re

import numpy as np

SCRIPT = "</script><img src=x onerror=alert(1)>"
HOSTILE = [SCRIPT, "long" * 2500, "\u05d0\u05d1 \u202eevil", "{{data}} <!--"]


def hostile_history(epochs=12):
    """Contributions of four terms, one negative, one not always finite."""
    t = np.arange(epochs)
    history, total = {}, np.zeros(epochs)
    for index, name in enumerate(HOSTILE):
        value = (index + 1.0) * np.exp(-t / 7.0)
        if index == 2:
            value = -0.1 * value
        total += 0.5 * value
        history[f"{name}_loss"] = value.tolist()
        history[f"{name}_contribution"] = (0.5 * value).tolist()
    history[f"{SCRIPT}_loss"][3] = float("inf")
    history[f"{SCRIPT}_loss"][5] = float("nan")
    history["loss"] = total.tolist()
    history["accuracy"] = (1.0 - np.exp(-t)).tolist()
    return history


def data_of(page):
    """What stands in the page, as Python reads JSON."""
    (found,) = re.findall(
        r'<script type="application/json" id="data">(.*?)</script>', page
    )
    return json.loads(found)


def pictures(section):
    """`{title: {(label, dashed): line}}`, with the epochs as `x`."""
    return {
        part["title"]: {
            (line["label"], line["dashed"]): {"x": part["x"], **line}
            for line in part["lines"]
        }
        for part in section["parts"]
        if part["type"] == "picture"
    }


def tables(section):
    """`{title: {first cell: row}}`."""
    return {
        part["title"]: {row[0]: row[1:] for row in part["rows"]}
        for part in section["parts"]
        if part["type"] == "table"
    }
