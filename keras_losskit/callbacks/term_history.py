"""`TermHistory`: every term over training, in memory and in files."""

import csv
import json
from os import PathLike
from pathlib import Path
from typing import Any
from typing import Literal
from typing import Self

import keras

from keras_losskit._support import replicas
from keras_losskit._support.checks import checked_flag
from keras_losskit._support.checks import checked_instance
from keras_losskit._support.data_frames import pandas_for
from keras_losskit._support.renamed import renamed_arguments
from keras_losskit._types import Config
from keras_losskit._types import Logs
from keras_losskit.callbacks._batch_means import BatchMeans
from keras_losskit.callbacks._batch_means import as_floats
from keras_losskit.callbacks._batch_means import checked_container
from keras_losskit.callbacks._batch_means import scalars

#: What counts the rows.
INDICES = ("epoch", "batch")


@keras.saving.register_keras_serializable("keras_losskit")
class TermHistory(keras.callbacks.Callback):
    """Keep what is logged of every term, per epoch and per batch.

    `epochs` is a list of rows `{"epoch": 0, "loss": ..., "val_loss": ...}`,
    means over the epoch, as in the logs. `batches` is a list of rows `{"epoch":
    0, "batch": 0, "loss": ...}` with the values of that batch itself, where
    Keras' own `on_train_batch_end` is given means over the epoch so far; with
    `steps_per_execution` the mean over the steps of one execution. They are
    read off the running sums in float32, which is exact to about 1e-7 of the
    epoch's sum.

    In the rows `<kind>_loss` is a contribution, weight times value, and the
    kinds add up to `loss`; `<term>_loss` is a value, and `<term>_weight` its
    weight, if that changes. A metric of several values is a list.

    Args:
        batches: Whether to keep the batches as well.
        epochs_file: Where to write `epochs` at the end of every epoch: a path
            that ends in `.csv` or `.json`. Numbers that are not finite are
            written as Python writes them.
        batches_file: Where to write `batches`; implies `batches=True`.
        append: Whether rows that the files already hold are read when training
            begins. Those of epochs that are run again give way, so that a run
            resumed by `BackupAndRestore` or `initial_epoch` has one history.

    Raises:
        ValueError: for a file of another kind; or when training begins, for a
            model whose terms are not logged.

    Example:
        >>> from keras_losskit import Model
        >>> inputs = keras.Input((2,))
        >>> dense = keras.layers.Dense(
        ...     1, kernel_initializer="ones", kernel_regularizer="l2")
        >>> model = Model(inputs, dense(inputs))
        >>> model.compile(keras.optimizers.SGD(0.0), loss="mse")
        >>> terms = TermHistory(batches=True)
        >>> x, y = keras.ops.ones((4, 2)), keras.ops.ones((4, 1))
        >>> _ = model.fit(x, y, batch_size=2, verbose=0, callbacks=[terms])
        >>> for row in terms.batches:
        ...     print({key: round(value, 4) for key, value in row.items()
        ...            if key != "regularization_loss"})
        {'epoch': 0, 'batch': 0, 'loss': 1.02, 'compiled_loss': 1.0}
        {'epoch': 0, 'batch': 1, 'loss': 1.02, 'compiled_loss': 1.0}
    """

    def __init__(
        self,
        *,
        batches: bool = False,
        epochs_file: str | PathLike[str] | None = None,
        batches_file: str | PathLike[str] | None = None,
        append: bool = False,
    ):
        super().__init__()
        batches = checked_flag(batches, "`batches` of TermHistory")
        self.keeps_batches = batches or batches_file is not None
        self.epochs_file = checked_file(epochs_file, "epochs_file")
        self.batches_file = checked_file(batches_file, "batches_file")
        self.append = checked_flag(append, "`append` of TermHistory")
        self.epochs: list[dict[str, Any]] = []
        self.batches: list[dict[str, Any]] = []
        #: `{key: kind}` of the kinds' contributions, once an epoch is over.
        self.kinds_by_key: dict[str, str] | None = None
        self._epoch: int | None = None
        self._means = BatchMeans()

    @property
    def history(self) -> dict[str, list[Any]]:
        """The epochs as `{key: [value, ...]}`, as Keras' `History` has them.

        None where an epoch lacks a key, such as one without validation.
        """
        rows = self.epochs
        keys = [key for key in columns(rows) if key not in INDICES]
        return {key: [row.get(key) for row in rows] for key in keys}

    # --------------------------------------------------------------- training

    def on_train_begin(self, logs: Logs = None) -> None:
        """Start empty, or with what the files hold."""
        checked_container(self.model)
        self.epochs, self.batches = [], []
        self._epoch = None
        if self.append:
            self.epochs = read_rows(self.epochs_file)
            self.batches = read_rows(self.batches_file)

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Note the epoch; rows of an earlier run that reach into it go."""
        if self._epoch is None:
            self.epochs = [r for r in self.epochs if r["epoch"] < epoch]
            self.batches = [r for r in self.batches if r["epoch"] < epoch]
        self._epoch = epoch
        self._means.start_epoch()

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Keep the values of the batch."""
        if not self.keeps_batches:
            return
        # On JAX `self.model` brings the variables up to date.
        tracker = self.model.compiled_loss.tracker
        values = self._means.read(tracker, logs or {})
        # Where the model logs none of the terms, what it does log.
        values = values or scalars(logs)
        row = {"epoch": self._epoch, "batch": batch, **values}
        self.batches.append(row)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Keep the means of the epoch and write the files."""
        self.epochs.append({"epoch": epoch, **as_floats(logs)})
        tracker = self.model.compiled_loss.tracker
        if tracker is not None:
            self.kinds_by_key = tracker.kinds_by_key
        if replicas.writes():
            write_rows(self.epochs, self.epochs_file)
            write_rows(self.batches, self.batches_file)

    # ----------------------------------------------------------------- output

    @renamed_arguments(per="by")
    def rows(
        self, by: Literal["epoch", "batch"] = "epoch"
    ) -> list[dict[str, Any]]:
        """The rows by `"epoch"` or by `"batch"`.

        Raises:
            ValueError: for another word.
        """
        if by not in INDICES:
            raise ValueError(
                f"Expected `by` to be one of {INDICES}. Received: by={by!r}"
            )
        return self.epochs if by == "epoch" else self.batches

    @renamed_arguments(per="by")
    def to_frame(self, by: Literal["epoch", "batch"] = "epoch") -> Any:
        """A `pandas.DataFrame`, one column per key.

        Args:
            by: `"epoch"` or `"batch"`.

        Returns:
            A frame indexed by `epoch`, or by `epoch` and `batch`; NaN where a
            row lacks a key.

        Raises:
            ImportError: without pandas.
        """
        pd = pandas_for("TermHistory.to_frame", "TermHistory.rows()")
        rows = self.rows(by)
        index = list(INDICES[: 1 + (by == "batch")])
        frame = pd.DataFrame(rows, columns=columns(rows) or index)
        return frame.set_index(index)

    @renamed_arguments(per="by")
    def save(
        self,
        path: str | PathLike[str],
        by: Literal["epoch", "batch"] = "epoch",
    ) -> None:
        """Write the rows to a `.csv` or `.json` file.

        Args:
            path: The file.
            by: `"epoch"` or `"batch"`.

        Raises:
            ValueError: for a file of another kind.
        """
        write_rows(self.rows(by), checked_file(path, "path"))

    def get_config(self) -> Config:
        """Everything needed to build the callback again."""
        return {
            "batches": self.keeps_batches,
            "epochs_file": self.epochs_file and str(self.epochs_file),
            "batches_file": self.batches_file and str(self.batches_file),
            "append": self.append,
        }

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Build the callback from what `get_config` gave."""
        return cls(**config)


def checked_file(path, argument):
    """`path` as a `Path`, refused if it ends in neither .csv nor .json."""
    if path is None:
        return None
    checked_instance(
        path, str | PathLike, f"`{argument}` of TermHistory", "a path"
    )
    path = Path(path)
    if path.suffix not in (".csv", ".json"):
        raise ValueError(
            f"Expected `{argument}` to end in '.csv' or '.json'. "
            f"Received: {argument}={str(path)!r}"
        )
    return path


def columns(rows):
    """The keys of all rows, in the order in which they come up."""
    return list(dict.fromkeys(key for row in rows for key in row))


def write_rows(rows, path):
    """Write rows to a .csv or .json file, all or nothing."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    # A run that is killed while it writes leaves the file of the last epoch.
    part = path.with_name(path.name + ".part")
    with part.open("w", newline="") as file:
        if path.suffix == ".json":
            json.dump(rows, file, indent=0)
        else:
            writer = csv.DictWriter(file, columns(rows))
            writer.writeheader()
            writer.writerows(
                {
                    key: json.dumps(value) if isinstance(value, list) else value
                    for key, value in row.items()
                }
                for row in rows
            )
    part.replace(path)


def read_rows(path):
    """The rows of a file that `write_rows` wrote; `[]` if there is no file."""
    if path is None or not path.exists():
        return []
    with path.open(newline="") as file:
        if path.suffix == ".json":
            return json.load(file)
        return [
            {
                key: int(value) if key in INDICES else read_value(value)
                for key, value in row.items()
                if value != ""
            }
            for row in csv.DictReader(file)
        ]


def read_value(text):
    """A number in a .csv file, or the list of a metric of several values."""
    return json.loads(text) if text.startswith("[") else float(text)
