"""`GradientReport`: what the terms do to each other's gradients, in `fit`."""

import typing
from typing import Any
from typing import Literal

import keras

from keras_losskit._support import replicas
from keras_losskit._support.batches import refuse_data_set
from keras_losskit._support.checks import checked_choice
from keras_losskit._support.checks import checked_count
from keras_losskit._support.checks import checked_flag
from keras_losskit._support.renamed import renamed_arguments
from keras_losskit._types import Logs
from keras_losskit._types import Structure
from keras_losskit._types import Wrt
from keras_losskit.models._fit import TakesValidationData
from keras_losskit.reports.gradients import TermGradients
from keras_losskit.reports.gradients import gradient_report
from keras_losskit.weighting._variable_selection import VariableSelection


class RecordedReport(typing.NamedTuple):
    """An entry of `GradientReport.history`.

    Args:
        epoch: The epoch it was taken in, counted from 0.
        step: The training steps that this `fit` had taken before.
        report: The `TermGradients`.
    """

    epoch: int
    step: int
    report: TermGradients


class GradientReport(TakesValidationData, keras.callbacks.Callback):
    """Record during `fit` what the terms do to each other's gradients.

    Every report is on the same batch: the one that is given, or else the first
    one of the validation data of `fit`, which only a `keras_losskit.Model`
    passes on.

    Args:
        x: Inputs of the batch.
        y: Labels.
        sample_weight: Sample weights.
        every: A report after every N-th epoch or step; with
            `steps_per_execution` after the execution that the step is in.
        by: `"epoch"` or `"step"`.
        wrt: As for `gradient_report`.
        verbose: Whether each report is printed.

    Raises:
        ValueError: if `by` is neither; when training begins, if there is no
            batch, or validation data that only a loop may read.

    Example:
        >>> import keras_losskit as losskit
        >>> import numpy as np
        >>> x, y = np.ones((4, 2)), np.ones((4, 1))
        >>> model = losskit.Sequential([
        ...     keras.Input((2,)), keras.layers.Dense(1)])
        >>> model.compile("sgd", loss=losskit.losses.MeanSquaredError(
        ...     name="mse") + losskit.losses.MeanAbsoluteError(name="mae"))
        >>> watch = GradientReport(x, y, every=2)
        >>> _ = model.fit(x, y, epochs=4, verbose=0, callbacks=[watch])
        >>> [(entry.epoch, entry.step) for entry in watch.history]
        [(1, 2), (3, 4)]
        >>> watch.history[0].report.names
        ['mse', 'mae']
    """

    @renamed_arguments(unit="by")
    def __init__(
        self,
        x: Structure | None = None,
        y: Structure | None = None,
        sample_weight: Structure | None = None,
        *,
        every: int = 1,
        by: Literal["epoch", "step"] = "epoch",
        wrt: Wrt | None = None,
        verbose: bool = False,
    ):
        super().__init__()
        refuse_data_set(x, "GradientReport")
        self._given = None if x is None else (x, y, sample_weight)
        self.batch = self._given
        self.every = checked_count(every, "`every` of GradientReport")
        self.by = checked_choice(
            by, ("epoch", "step"), "`by` of GradientReport"
        )
        if wrt is not None:
            VariableSelection(wrt)  # refused if it is none
        self.wrt = wrt
        self.verbose = checked_flag(verbose, "`verbose` of GradientReport")
        #: A list of `RecordedReport`, of all calls of `fit`.
        self.history: list[RecordedReport] = []
        self._validation: tuple[Any, int] | None = None
        self._epoch = self._step = 0
        self._steps_before = 0  # the epoch

    def take_validation_data(self, data: Any, batch_size: int) -> None:
        """Called by `fit`: the data of which the first batch may be used."""
        self._validation = None if data is None else (data, batch_size)

    def on_train_begin(self, logs: Logs = None) -> None:
        """Settle which batch the reports are of."""
        self._step = 0
        if self._given is None and self._validation is not None:
            self.batch = first_batch(*self._validation)
        if self.batch is None:
            raise ValueError(
                "Expected GradientReport to be given a batch, "
                "`GradientReport(x, y)`, or `fit` of a keras_losskit.Model "
                "to be given `validation_data`. Received: neither"
            )

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Note the epoch and where its steps begin."""
        self._epoch = epoch
        self._steps_before = self._step

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Count the steps, and report if one of them is one to report."""
        before = self._step
        # The last step of an execution, which may lie beyond the epoch's end.
        steps = (self.params or {}).get("steps") or batch + 1
        self._step = self._steps_before + min(batch + 1, steps)
        due = self._step // self.every > before // self.every
        if self.by == "step" and due:
            self._record()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Report if the epoch is one to report."""
        if self.by == "epoch" and (epoch + 1) % self.every == 0:
            self._record()

    def _record(self):
        # On JAX, to ask for `model` brings its variables up to date.
        report = gradient_report(self.model, *self.batch, wrt=self.wrt)
        self.history.append(RecordedReport(self._epoch, self._step, report))
        if self.verbose and replicas.writes():
            print(f"\nepoch {self._epoch + 1}, step {self._step}\n{report}")


def first_batch(data, batch_size):
    """The first batch of what `fit` takes as `validation_data`.

    Args:
        data: A tuple or list of arrays or nests of them, or a data set.
        batch_size: Number of samples to take of arrays.

    Returns:
        `(x, y, sample_weight)`.
    """
    if isinstance(data, (tuple, list)):
        cut = keras.tree.map_structure(
            lambda a: None if a is None else a[:batch_size], data
        )
        return keras.utils.unpack_x_y_sample_weight(cut)
    if isinstance(data, keras.utils.PyDataset):
        batch = data[0]
    else:
        batches = iter(data)
        if batches is data:
            raise ValueError(
                "Expected GradientReport to be given a batch, "
                "`GradientReport(x, y)`, where `validation_data` is a "
                f"generator, which can be read once. Received: {data!r}"
            )
        batch = next(batches)
    return keras.utils.unpack_x_y_sample_weight(batch)
