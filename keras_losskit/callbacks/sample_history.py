"""`SampleHistory`: what each sample did to the loss during training."""

import warnings
import zipfile
import zlib
from os import PathLike
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_losskit._support import replicas
from keras_losskit._support.checks import checked_count
from keras_losskit._support.data_frames import pandas_for
from keras_losskit._support.sample_ids import check_largest
from keras_losskit._types import Logs
from keras_losskit.container._sample_table import VISITS
from keras_losskit.container._sample_table import SampleTable
from keras_losskit.container._sample_table import columns_of
from keras_losskit.container._sample_table import first_statistics
from keras_losskit.models._samples import WatchesSamples

#: What NumPy raises for a file that is damaged, or none of ours.
UNREADABLE = (
    EOFError,
    KeyError,
    OSError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)


class SampleHistory(WatchesSamples, keras.callbacks.Callback):
    """Keep of each sample what it did to the loss, term by term.

    For a model of this package that is trained on `with_ids(x)`. Each training
    step writes a row per sample into a table that lives with the variables of
    the model, in the compiled step, and each epoch reads it once. A value is
    the mean of a loss over what counts of a sample, without its weight, at the
    weights of the model before the step. A sample that does not count in a term
    has none there: one of weight 0, masked or ignored. If it counts in no term
    it is not visited. What an epoch visits more than once counts once, by its
    last visit.

    A custom `train_step` has to call `compute_loss`, on JAX in a scope that
    carries variables along, or an epoch warns that nothing was noted.

    `to_dataframe()` has a row per id and, where a sample was seen `n` times,
    for each compiled term `<term>_last`, `<term>_mean`, `<term>_max`, and
    `<term>_slope`, that of the regression of the value on the number of the
    visit. Terms with one value for a batch are NaN. Of the first term that is a
    categorical crossentropy, also a focal or generalized one or `Poly1`, with
    one label per sample:

    - `forgotten`: how often the sample was right, and wrong at its next visit;
    - `aum`: mean of the margin, assigned logit less the largest other one; low
      for a label that is wrong;
    - `el2n`: mean of `||p - onehot(y)||`; high for a sample that is hard.

    They are NaN where there is no such term, as of a `LinearCrossEntropy`,
    whose logits are not there.

    Args:
        samples: Number of samples, over every id. May be left out where `fit`
            is given arrays, or a `PyDataset` or `DataLoader` of known length.
        file: A `.npz` file that is written at the end of every epoch. If it is
            there when training begins, training goes on with what it holds, as
            with `BackupAndRestore`.

    Raises:
        ValueError: for another kind of file; in `fit`, before the first step,
            for samples without ids or of an unknown number, for a file that
            holds something else, and for one in a folder that is not there.

    References:
        Toneva et al., "An Empirical Study of Example Forgetting during Deep
        Neural Network Learning", ICLR 2019.
        Pleiss et al., "Identifying Mislabeled Data using the Area Under the
        Margin Ranking", NeurIPS 2020.
        Paul, Ganguli, Dziugaite, "Deep Learning on a Data Diet", NeurIPS 2021.

    Example:
        >>> import keras_losskit as losskit
        >>> inputs = keras.Input((1,))
        >>> model = losskit.Model(inputs, keras.layers.Dense(
        ...     1, kernel_initializer="ones")(inputs))
        >>> model.compile(keras.optimizers.SGD(0.0), losskit.losses.
        ...     MeanSquaredError(name="mse"))
        >>> x = np.array([[1.0], [2.0], [3.0]])
        >>> samples = SampleHistory()
        >>> _ = model.fit(losskit.with_ids(x), 0 * x, batch_size=2, epochs=2,
        ...     verbose=0, callbacks=[samples])
        >>> samples.statistics()["mse_mean"].tolist()
        [1.0, 4.0, 9.0]
    """

    def __init__(
        self,
        samples: int | None = None,
        *,
        file: str | PathLike[str] | None = None,
    ):
        super().__init__()
        if samples is not None:
            samples = checked_count(samples, "`samples` of SampleHistory")
        self.samples = samples
        path = isinstance(file, str | PathLike)
        if file is not None and not (path and str(file).endswith(".npz")):
            raise ValueError(
                "Expected `file` of SampleHistory to be a path that ends in "
                f".npz. Received: {file!r}"
            )
        self.file = None if file is None else Path(file)
        self._table: SampleTable | None = None
        self._visits = 0

    def table_for(self, largest_id: int | None) -> SampleTable:
        """Called by `fit`: the table that the steps are to keep."""
        known = self.samples
        if known is None and self._table is not None:
            known = self._table.samples
        if known is None and largest_id is None:
            raise ValueError(
                "Expected SampleHistory to know the number of samples, which "
                "only arrays of `with_ids` tell, and data sets whose length is "
                "known. Received: samples=None. Give it, "
                "`SampleHistory(samples=60000)`."
            )
        samples = known if known is not None else int(largest_id or 0) + 1
        if largest_id is not None:
            check_largest(largest_id, samples, "SampleHistory")
        if self.file is not None and not self.file.parent.is_dir():
            raise ValueError(
                "Expected `file` of SampleHistory to be in a folder that is "
                f"there. Received: {str(self.file)!r}. Make the folder first."
            )
        # One that no step was built for may be of a `fit` that was refused.
        if self._table is None or self._table.variable is None:
            table = SampleTable(samples, self.file)
            if self.file is not None and self.file.exists():
                restore(table, self.file)
            self._table = table
        self._visits = visits_in(self._table)
        return self._table

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Take in the visits of the epoch, and write the file if there is one.

        Args:
            epoch: Number of the epoch.
            logs: Not used.
        """
        table = self._read()
        visits = visits_in(table)
        if visits == self._visits:
            warnings.warn(
                "Expected the steps of an epoch to show SampleHistory samples "
                "that count. Received: none. A custom `train_step` calls "
                "`self.compute_loss(x=x, y=y, y_pred=y_pred)`; on JAX "
                "`self.compute_loss_and_updates(...)`, and goes on with the "
                "variables that it returns.",
                stacklevel=2,
            )
        self._visits = visits
        if self.file is not None and replicas.writes():
            partial = self.file.with_suffix(".partial")
            with open(partial, "wb") as stream:
                np.savez(stream, table=table.rows(), names=table.names)
            partial.replace(self.file)

    def _read(self) -> SampleTable:
        # On JAX, to ask for `model` brings its variables up to date.
        table = None if self.model is None else self._table
        if table is not None:
            table.fold()
        if table is None or table.statistics is None:
            raise ValueError(
                "Expected SampleHistory to have been in `fit` of a "
                "keras_losskit.Model. Received: no training yet"
            )
        return table

    def statistics(self) -> dict[str, np.ndarray]:
        """All columns as arrays, `(samples,)` each, in the order of the ids."""
        table = self._read()
        return columns_of(table.rows(), table.names)

    def to_dataframe(self) -> Any:
        """A `pandas.DataFrame` with a row per id; it writes CSV and Parquet.

        Raises:
            ImportError: without pandas.
        """
        pd = pandas_for("SampleHistory.to_dataframe", "statistics()")
        frame = pd.DataFrame(self.statistics())
        frame.index.name = "id"
        return frame


def visits_in(table):
    """How many visits the statistics of a `SampleTable` tell of."""
    return int(table.rows()[:, VISITS].sum())


def restore(table, file):
    """Let a `SampleTable` go on with what a file holds.

    Raises:
        ValueError: if it is no such file, or of another number of samples.
    """
    try:
        with np.load(file) as saved:
            rows, names = saved["table"], saved["names"].tolist()
        columns = first_statistics(0, len(names)).shape[1]
        if rows.ndim != 2 or rows.shape[1] != columns:
            raise ValueError(f"a table of shape {rows.shape}")
    except UNREADABLE as error:
        raise ValueError(
            f"Expected {file} to be a file that SampleHistory wrote. Received: "
            f"{type(error).__name__}: {error}. Give another `file`, or remove "
            "this one."
        ) from error
    if len(rows) != table.samples:
        raise ValueError(
            f"Expected {file} to hold {table.samples} samples. Received: "
            f"{len(rows)}"
        )
    table.restore(names, rows)
