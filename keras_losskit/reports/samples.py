"""`sample_report`: which samples the loss comes from."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING
from typing import Any

import keras
import numpy as np
from keras import ops
from rich import box
from rich.markup import escape

from keras_losskit._support.batches import batches_of
from keras_losskit._support.checks import checked_count
from keras_losskit._support.checks import checked_instance
from keras_losskit._support.data_frames import pandas_for
from keras_losskit._support.sample_ids import split_ids
from keras_losskit._types import Structure
from keras_losskit._types import Wrt
from keras_losskit.container._tracker import batch_size_of
from keras_losskit.plotting.samples import plot_samples
from keras_losskit.reports._notebook_table import NotebookTable
from keras_losskit.reports._notebook_table import ShownAsTable
from keras_losskit.reports._sample_shares import BatchShares
from keras_losskit.reports._sample_shares import SharesOfModel

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Rows of a printed table.
PRINTED = 50


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class SampleReport(ShownAsTable):
    """What each sample has in the loss, the largest share first.

    `loss = sum(total) + others + sum(beside)`, which is what `evaluate` gives.
    Printed, it is a table; in a notebook or with `rich` as well.

    Args:
        ids: Ids of the samples, `(n,)`; their positions where they have none.
        total: Share of each in the loss, `(n,)`, NumPy float64, as below.
        terms: `{name: (n,)}`, shares in the unweighted value of a term, as it
            is logged.
        contributions: `{name: (n,)}`, the same times the weight of the term:
            `total = sum(contributions)`.
        beside: `{name: contribution}` of what has no samples: penalties, added
            losses, and losses with one value for a batch.
        others: Share in the loss of all samples that are left out.
        count: Number of all samples.
        gradient_norms: Norm of the gradient of `total`, `(n,)`; None unless
            asked for.
    """

    ids: np.ndarray
    total: np.ndarray
    terms: dict[str, np.ndarray]
    contributions: dict[str, np.ndarray]
    beside: dict[str, float]
    others: float
    count: int
    gradient_norms: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def loss(self) -> float:
        """The loss of all samples, what `evaluate` calls `loss`."""
        beside = sum(self.beside.values())
        return float(self.total.sum() + self.others + beside)

    def to_dataframe(self) -> Any:
        """A `pandas.DataFrame`: a row per sample, named by its id.

        Raises:
            ImportError: without pandas.
        """
        pd = pandas_for("SampleReport.to_dataframe")
        columns = {"total": self.total, **self.terms}
        if self.gradient_norms is not None:
            columns["gradient_norm"] = self.gradient_norms
        return pd.DataFrame(columns, index=pd.Index(self.ids, name="id"))

    def plot(self, *, ax: "Axes | None" = None) -> "Axes":
        """Draw it; see `plot_samples`."""
        return plot_samples(self, ax=ax)

    def __rich__(self) -> NotebookTable:
        """A table with a row per sample."""
        table = NotebookTable(
            title="Which samples the loss comes from",
            box=box.SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
            pad_edge=False,
        )
        table.add_column("sample", overflow="fold")
        norms = self.gradient_norms
        names = [*self.terms, *([] if norms is None else ["gradient"])]
        for name in ("total", "share", *names):
            table.add_column(escape(name), justify="right")
        loss = self.loss
        for i in range(min(len(self), PRINTED)):
            cells = [share_in(self.total[i], loss)]
            cells += [f"{shares[i]:.3g}" for shares in self.terms.values()]
            cells += [] if norms is None else [f"{norms[i]:.3g}"]
            name = escape(str(self.ids[i]))
            table.add_row(name, f"{self.total[i]:.3g}", *cells)
        table.add_section()
        hidden = self.count - min(len(self), PRINTED)
        rest = float(self.total[PRINTED:].sum()) + self.others
        further = {f"{hidden} others": rest} if hidden else {}
        for name, value in {**further, **self.beside, "loss": loss}.items():
            style = "bold" if name == "loss" else None
            cells = [escape(name), f"{value:.3g}", share_in(value, loss)]
            table.add_row(*cells, style=style)
        return table


def share_in(value, loss):
    """A share in percent; none where the loss is not above 0."""
    return f"{value / loss:.1%}" if loss > 0 else ""


def sample_report(
    model: keras.Model,
    x: Structure,
    y: Structure | None = None,
    sample_weight: Structure | None = None,
    *,
    ids: Sequence[Any] | None = None,
    top: int | None = 20,
    batch_size: int = 32,
    wrt: Wrt | None = None,
) -> SampleReport:
    """Which samples the loss of a model comes from, and by which terms.

    The share of a sample in a term is `s_i = sum(v_i * dR / dv_i)` over its
    values `v_i`, where `R` makes a scalar of those of the batch: with a mean
    over `n` samples `v_i / n`, with a sample weight `w_i v_i / n`; a sample
    that is masked, or that `TopK` does not select, has a share of 0. The shares
    of all samples sum to the terms that `model.evaluate` gives with the same
    batches. Where `R(c v)` is not `c R(v)`, as for `Tilted`, they are scaled to
    do so. The model stays as it is: metrics, seeds, schedules and the state of
    a weighting do not move.

    Args:
        model: Any compiled `keras.Model`.
        x: Inputs, arrays; or a `tf.data.Dataset`, `PyDataset` or `DataLoader`,
            which is read once.
        y: Labels.
        sample_weight: Sample weights.
        ids: What the samples are called, one for each. Defaults to the ids
            that `with_ids` gave them, or else their positions.
        top: Number of samples to keep, those with the largest shares in the
            loss, before which come those that are not finite; None for all.
        batch_size: Number of samples in a batch of arrays.
        wrt: The variables of `gradient_norms`, as for `gradient_report`: a
            layer, a pattern of paths such as `".*"`, or a list of them. None
            for no norms, for which the gradients of a batch, sample by sample,
            are in memory at once.

    Returns:
        `SampleReport`: `ids`, `total`, `terms`, `beside`, `to_dataframe()`,
        `plot()`.

    Raises:
        TypeError: if `model` is no model.
        ValueError: for data that the losses do not fit, or ids that the samples
            do not.

    Example:
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(
        ...     1, kernel_initializer="ones", kernel_regularizer="l2")])
        >>> model.compile(loss="mse")
        >>> x = np.array([[0.0], [1.0], [2.0], [3.0]])
        >>> report = sample_report(model, x, 0 * x, top=2)
        >>> report.ids.tolist(), report.total.tolist()
        ([3, 2], [2.25, 1.0])
        >>> report.others, round(report.loss, 4)  # the penalty is 0.01
        (0.25, 3.51)
    """
    checked_instance(
        model, keras.Model, "`model` of sample_report", "a Keras model"
    )
    top = None if top is None else checked_count(top, "`top` of sample_report")
    size = checked_count(batch_size, "`batch_size` of sample_report")
    shares, found, borne = None, [], []
    for batch in batches_of(x, y, sample_weight, size):
        if batch_size_of(batch[0]) == 0:
            continue
        if shares is None:
            shares = SharesOfModel(model, batch, wrt)
        found.append(shares.of_batch(batch))
        _, own = split_ids(batch[0])
        borne += [] if own is None else [ops.convert_to_numpy(own)]
    if not found:
        raise ValueError(
            "Expected data of a batch or more. Received: none from "
            f"{type(x).__name__}"
        )
    names = np.concatenate(borne) if ids is None and borne else ids
    return report_of(found, names, top)


def report_of(batches: list[BatchShares], ids, top) -> SampleReport:
    """The `SampleReport` of batches, each of which counts as in `evaluate`.

    Args:
        batches: `BatchShares` of each.
        ids: Ids of the samples, or None.
        top: Number of samples to keep, or None.
    """
    count = sum(batch.count for batch in batches)
    parts = [batch.count / count for batch in batches]
    names = list(dict.fromkeys(n for batch in batches for n in batch.terms))
    terms = {
        name: joined(batches, parts, lambda b, n=name: b.terms.get(n))
        for name in names
    }
    contributions = {
        name: joined(batches, parts, lambda b, n=name: b.contributions.get(n))
        for name in names
    }
    total = sum(contributions.values(), np.zeros(count))
    beside: dict[str, float] = {}
    for batch, part in zip(batches, parts, strict=True):
        for name, value in batch.beside.items():
            beside[name] = beside.get(name, 0.0) + part * value
    norms = None
    if batches[0].gradient_norms is not None:
        norms = joined(batches, parts, lambda batch: batch.gradient_norms)
    # A NaN would be sorted behind all others, and it spoils the loss.
    size = np.where(np.isfinite(total), total, np.inf)
    order = np.argsort(-size, kind="stable")
    order, others = order[:top], order[count if top is None else top :]
    return SampleReport(
        ids=checked_ids(ids, count)[order],
        total=total[order],
        terms={name: shares[order] for name, shares in terms.items()},
        contributions={n: c[order] for n, c in contributions.items()},
        beside=beside,
        others=float(total[others].sum()),
        count=count,
        gradient_norms=None if norms is None else norms[order],
    )


def joined(batches, parts, read):
    """What is read off the batches, each times its part, one after another."""
    return np.concatenate(
        [
            part * (np.zeros(b.count) if read(b) is None else read(b))
            for b, part in zip(batches, parts, strict=True)
        ]
    )


def checked_ids(ids, count):
    """Ids as an array, one for each sample."""
    if ids is None:
        return np.arange(count)
    found = np.asarray(ids)
    if found.shape != (count,):
        raise ValueError(
            f"Expected `ids` of sample_report to be {count}, one per sample. "
            f"Received: shape {found.shape}"
        )
    return found
