"""What is kept of every sample during training.

A step writes what it observed of its samples into a table on the device, with
one scatter. At the end of an epoch these are folded into statistics over all
visits, in NumPy.
"""

import functools
from pathlib import Path

import keras
import numpy as np
from keras import ops

from keras_losskit._support.sample_ids import check_ids_of_step
from keras_losskit._support.tables import assign_rows
from keras_losskit.losses.from_keras.sparse import (
    SparseCategoricalFocalCrossentropy,
)
from keras_losskit.losses.further.classification import Poly1

#: Columns of what a step observes: whether the sample was seen, its margin and
#: its EL2N; then a value per term. NaN for what there is not.
SEEN, MARGIN, EL2N = range(3)
VALUES = 3

#: Columns of the statistics: how often the sample was seen, and how often with
#: a class; then, as sums over the visits, the margin and EL2N; whether it was
#: right when it was seen last; and how often that ceased.
VISITS, CLASSED, MARGINS, EL2NS, RIGHT, FORGOTTEN = range(6)
TERMS = 6
#: Five groups follow, with a column for each term: the number of values, the
#: last one, their sum, the largest, and the sum of number times value, numbers
#: counted from 0.
COUNT, LAST, SUM, LARGEST, MOMENT = range(5)
GROUPS = 5

#: Losses that compare classes: their margin says whether a sample is right. Of
#: one-hot labels, of integers, and of either.
ONE_HOT = (
    keras.losses.CategoricalCrossentropy,
    keras.losses.CategoricalFocalCrossentropy,
)
SPARSE = (
    keras.losses.SparseCategoricalCrossentropy,
    SparseCategoricalFocalCrossentropy,
)
EITHER = (keras.losses.CategoricalGeneralizedCrossEntropy, Poly1)
OF_CLASSES = (*ONE_HOT, *SPARSE, *EITHER)


def group(which, terms):
    """The columns of a group of the statistics, a slice."""
    start = TERMS + which * terms
    return slice(start, start + terms)


def first_statistics(samples, terms):
    """The statistics before training, `(samples, columns)`, float64."""
    table = np.zeros((samples, TERMS + GROUPS * terms))
    table[:, group(LARGEST, terms)] = -np.inf
    return table


def next_statistics(table, observed):
    """The statistics after the visits of one epoch.

    Args:
        table: `(samples, columns)`, NumPy.
        observed: What the steps of the epoch observed, NumPy; the last visit
            where a sample had several.

    Returns:
        `(samples, columns)`, a new array.
    """
    table = table.copy()
    seen = observed[:, SEEN] > 0
    rows, new = table[seen], observed[seen].astype("float64")
    rows[:, VISITS] += 1
    classed = ~np.isnan(new[:, MARGIN])
    right = new[:, MARGIN] > 0
    rows[:, CLASSED] += classed
    rows[:, MARGINS] += np.where(classed, new[:, MARGIN], 0.0)
    rows[:, EL2NS] += np.where(classed, new[:, EL2N], 0.0)
    rows[:, FORGOTTEN] += classed & (rows[:, RIGHT] > 0) & ~right
    rows[:, RIGHT] = np.where(classed, right, rows[:, RIGHT])
    values = new[:, VALUES:]
    terms = values.shape[1]
    known = ~np.isnan(values)
    count, last, total, largest, moment = (
        rows[:, group(which, terms)] for which in range(GROUPS)
    )
    moment += np.where(known, count * values, 0.0)
    total += np.where(known, values, 0.0)
    count += known
    np.copyto(last, values, where=known)
    np.fmax(largest, values, out=largest)
    table[seen] = rows
    return table


def class_statistics(loss, y_true, y_pred):
    """Margin and EL2N of a batch, `(batch,)` each.

    `margin = z_y - max_{c != y} z_c` over the logits `z`, or over log
    probabilities, which differ from them by a constant per sample; `el2n = ||p
    - onehot(y)||`.

    Args:
        loss: One of `OF_CLASSES`.
        y_true: Labels, integers or one-hot. A label beyond the classes, such as
            one that is ignored, gives NaN.
        y_pred: `(batch, classes)`, logits or probabilities.

    References:
        Pleiss et al., "Identifying Mislabeled Data using the Area Under the
        Margin Ranking", NeurIPS 2020.
        Paul, Ganguli, Dziugaite, "Deep Learning on a Data Diet", NeurIPS 2021.
    """
    y_pred = ops.cast(ops.stop_gradient(y_pred), "float32")
    # One over probabilities alone has no such argument.
    if getattr(loss, "from_logits", False):
        logits, probabilities = y_pred, ops.softmax(y_pred, axis=-1)
    else:
        tiny = float(np.finfo("float32").tiny)
        logits, probabilities = ops.log(ops.maximum(y_pred, tiny)), y_pred
    labels = ops.convert_to_tensor(y_true)
    classes = y_pred.shape[-1]
    if is_one_hot(loss, labels.shape):
        labels = ops.cast(labels, "float32")
        marked = ops.any(labels > 0, axis=-1)
        labels = ops.where(marked, ops.argmax(labels, axis=-1), -1)
    labels = ops.cast(ops.reshape(labels, (-1,)), "int32")
    known = ops.logical_and(labels >= 0, labels < classes)
    assigned = ops.one_hot(
        ops.where(known, labels, 0), classes, dtype="float32"
    )
    own = ops.sum(assigned * logits, axis=-1)
    # Below any logit that is finite, and no infinity, which times 0 is NaN.
    lowest = float(np.finfo("float32").min)
    others = ops.max(logits + lowest * assigned, axis=-1)
    distance = ops.sum(ops.square(probabilities - assigned), axis=-1)
    return (
        ops.where(known, own - others, np.nan),
        ops.where(known, ops.sqrt(distance), np.nan),
    )


def is_one_hot(loss, shape):
    """Whether labels of this shape are one-hot, to one of `OF_CLASSES`."""
    if isinstance(loss, ONE_HOT):
        return True
    either = isinstance(loss, EITHER)
    return either and len(shape) == 2 and shape[-1] != 1


def where_counted(counts, values):
    """Values as the table has them, `(batch,)`; NaN where nothing counts."""
    values = ops.cast(ops.stop_gradient(values), "float32")
    return ops.where(counts, values, np.nan)


def columns_of(table, names):
    """Columns for a report, NumPy `{name: (samples,)}`.

    NaN where a sample was not seen, or what a column tells of is not there.

    Args:
        table: The statistics, `(samples, columns)`.
        names: Names of the terms.
    """
    found = {}
    for index, name in enumerate(names):
        columns = table[:, TERMS + index :: len(names)].T
        count, last, total, largest, moment = columns
        count = np.where(count > 0, count, np.nan)
        # of a regression on the number of the visit
        centre = (count - 1.0) / 2.0
        spread = count * (count**2 - 1.0) / 12.0
        spread = np.where(spread > 0, spread, np.nan)
        found[f"{name}_last"] = np.where(np.isnan(count), np.nan, last)
        found[f"{name}_mean"] = total / count
        found[f"{name}_max"] = np.where(np.isnan(count), np.nan, largest)
        found[f"{name}_slope"] = (moment - centre * total) / spread
    classed = table[:, CLASSED]
    classed = np.where(classed > 0, classed, np.nan)
    return found | {
        "visits": table[:, VISITS].astype("int64"),
        "forgotten": np.where(np.isnan(classed), np.nan, table[:, FORGOTTEN]),
        "aum": table[:, MARGINS] / classed,
        "el2n": table[:, EL2NS] / classed,
    }


class SampleTable:
    """What steps observe of each sample, and the statistics of it.

    Args:
        samples: Number of samples; ids are below.
        file: Where the statistics are kept, a `Path`, or None.

    Attributes:
        names: Names of the terms.
        statistics: `(samples, columns)`, NumPy; None before training.
        variable: What the steps of an epoch observed.
    """

    def __init__(self, samples: int, file: Path | None = None):
        self.samples = samples
        self.file = file
        self.names: list[str] = []
        self.statistics: np.ndarray | None = None
        self.variable: keras.Variable | None = None
        self._classes: tuple[str, keras.losses.Loss] | None = None
        self._trained: list[str] | None = None

    def build(self, parts):
        """Make what is missing for the compiled terms.

        Args:
            parts: List of `LossPart`.

        Raises:
            ValueError: if the file, which would be written over, holds other
                terms.
        """
        names = self._trained = [part.name for part in parts]
        self.refuse_other_terms()
        of_classes = (p for p in parts if isinstance(p.loss, OF_CLASSES))
        chosen = next(of_classes, None)
        self._classes = chosen and (chosen.name, chosen.loss)
        if names != self.names or self.statistics is None:
            self.statistics = first_statistics(self.samples, len(names))
            self.variable = None
        self.names = names
        if self.variable is None:
            self.variable = keras.Variable(
                "zeros",
                shape=(self.samples, VALUES + len(names)),
                dtype="float32",
                trainable=False,
                name="samples",
            )

    def refuse_other_terms(self):
        """Refuse a file of other terms, which would be written over.

        Raises:
            ValueError: for one.
        """
        if self.statistics is None or self._trained in (None, self.names):
            return
        if self.file is not None and self.file.exists():
            raise ValueError(
                f"Expected {self.file} to hold the terms that are trained, "
                f"{self._trained}. Received: {self.names}. Give another `file` "
                "of SampleHistory, or remove this one."
            )

    def restore(self, names, statistics):
        """Go on with the statistics of an earlier training."""
        self.names, self.statistics = list(names), statistics

    def rows(self) -> np.ndarray:
        """The statistics so far; none before training."""
        if self.statistics is None:
            return first_statistics(self.samples, len(self.names))
        return self.statistics

    def update(self, ids, watch):
        """Note what a step observed; called in the step.

        A sample that does not count in a term has no value there: the loss was
        given zeros in its place. One that counts in none was not seen.

        Args:
            ids: `(batch,)`, integers, none twice.
            watch: `SampleWatch` of its terms.

        Raises:
            ValueError: for a file of other terms; in eager mode, for ids that
                are too large.
        """
        # Keras goes on where building raises, and then takes a step.
        self.refuse_other_terms()
        ids = ops.cast(ids, "int32")
        if ids.shape[0] == 0:
            return
        check_ids_of_step(ids, self.samples, "SampleHistory")
        unknown = ops.full(ops.shape(ids), np.nan, dtype="float32")
        noted = {n: watch.found[n][0] for n in self.names if n in watch.found}
        counts = {name: of_term.counts() for name, of_term in noted.items()}
        values = [
            where_counted(counts[name], noted[name].means())
            if name in noted
            else unknown
            for name in self.names
        ]
        margin = el2n = unknown
        if self._classes is not None:
            name, loss = self._classes
            compared = watch.compared.get(name)
            if compared is not None and len(compared[1].shape) == 2:
                margin, el2n = class_statistics(loss, *compared)
            if name in counts:
                margin = where_counted(counts[name], margin)
                el2n = where_counted(counts[name], el2n)
        rows = ops.stack(
            [ops.ones_like(unknown), margin, el2n, *values], axis=1
        )
        if counts:
            seen = functools.reduce(ops.logical_or, counts.values())
            # What an earlier step of the epoch observed, or zeros.
            before = ops.take(ops.convert_to_tensor(self.variable), ids, axis=0)
            rows = ops.where(seen[:, None], rows, before)
        assign_rows(self.variable, ids, rows)

    def fold(self):
        """Take the visits since the last time into the statistics."""
        if self.variable is None or self.statistics is None:
            return
        observed = ops.convert_to_numpy(self.variable)
        self.statistics = next_statistics(self.statistics, observed)
        self.variable.assign(ops.zeros(self.variable.shape))
