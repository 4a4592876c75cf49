"""What the page says of a model and a batch: terms, gradients, samples."""

from typing import Any

import keras

from keras_losskit._support.checks import checked_instance
from keras_losskit._support.checks import refused
from keras_losskit.reports.gradients import gradient_report
from keras_losskit.reports.samples import sample_report
from keras_losskit.reports.summary_table import table_of_model
from keras_losskit.web._pictures import table


def parts_of_model(model: Any, data: Any) -> list:
    """The terms of a model and, with a batch, their gradients and its samples.

    Args:
        model: Any compiled `keras.Model`.
        data: `(x, y)` or `(x, y, sample_weight)` of a batch, or None.
    """
    checked_instance(model, keras.Model, "`model` of report", "a Keras model")
    batch = () if data is None else checked_batch(data)
    parts = [table_of_terms(model, batch)]
    if batch:
        parts += tables_of_gradients(gradient_report(model, *batch))
        parts.append(table_of_samples(sample_report(model, *batch)))
    return parts


def checked_batch(data):
    """`data` as a tuple of one to three."""
    if not isinstance(data, tuple | list) or not 1 <= len(data) <= 3:
        raise refused(
            data,
            "`data` of report to be a batch, (x, y) or (x, y, sample_weight)",
            error=ValueError,
        )
    return tuple(data)


def table_of_terms(model, batch):
    """The table of `summary`."""
    head, rows, caption = table_of_model(model, *batch).contents()
    note = {"note": caption} if caption else {}
    return table("Where the loss comes from", head, rows, **note)


def table_of_samples(found):
    """The samples of the largest shares in the loss, term by term."""
    terms = found.terms
    rows = [
        [str(name), float(total), *(float(terms[term][i]) for term in terms)]
        for i, (name, total) in enumerate(
            zip(found.ids.tolist(), found.total.tolist(), strict=True)
        )
    ]
    return table(
        "Samples with the largest shares of the loss",
        ["sample", "share of the loss", *terms],
        rows,
        note=f"{len(found)} of {found.count}. The columns of terms are "
        "unweighted.",
        bars=1,
    )


def tables_of_gradients(found):
    """Norms and shares, and the cosines of each pair."""
    norms = table(
        "Gradients of the terms",
        ["term", "norm", "weight in the update", "share of the update"],
        [
            [name, float(norm), float(weight), float(share)]
            for name, norm, weight, share in zip(
                *(found.names, found.norms, found.weights, found.shares),
                strict=True,
            )
        ],
        bars=1,
    )
    cosines = table(
        "Conflicts: cosines of the gradients",
        ["term", *found.names],
        [
            [name, *row]
            for name, row in zip(
                found.names, found.cosines.tolist(), strict=True
            )
        ],
        note=f"Conflict rate {found.conflict_rate:.0%}. 1: both terms want the "
        "same step; below 0: a step that lowers one raises the other.",
        diverging=True,
    )
    return [norms, cosines]
