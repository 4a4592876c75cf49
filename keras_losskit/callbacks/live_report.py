"""`LiveReport`: the page of `report`, rewritten while `fit` runs."""

import time
from os import PathLike
from typing import Self

import keras

from keras_losskit import _notebook
from keras_losskit._support import replicas
from keras_losskit._support.checks import checked_positive
from keras_losskit._types import Config
from keras_losskit._types import Logs
from keras_losskit.callbacks._batch_means import as_floats
from keras_losskit.callbacks._batch_means import checked_container
from keras_losskit.web.page import checked_target
from keras_losskit.web.page import framed
from keras_losskit.web.page import page_of
from keras_losskit.web.page import sections
from keras_losskit.web.page import write_whole

#: What writing may take of the time of training; the last page comes on top.
SHARE = 0.005


@keras.saving.register_keras_serializable("keras_losskit")
class LiveReport(keras.callbacks.Callback):
    """Keep the page of `report` up to date while `fit` runs.

    Open the file in a browser: the page looks for newer numbers by itself, and
    keeps its switches. It is replaced as a whole, so that a run that is killed
    leaves the last one. In a notebook the page is shown below the cell as well,
    and replaced there.

    A model whose `train_step` logs no `loss`, as that of a GAN, has a page of
    what it logs.

    It is written after the first epoch, after the last one, and in between as
    often as takes 0.5 % of the time of training.

    Args:
        path: The file to write. What is there is replaced.
        refresh: Seconds after which the page looks for newer numbers, or a
            notebook is given a newer page.

    Raises:
        TypeError: if `path` is no path.
        ValueError: if `path` is a folder or `refresh` not positive; or when
            training begins, for a model whose terms are not logged.

    Example:
        >>> callback = LiveReport("report.html", refresh=5.0)
        >>> callback.get_config()
        {'path': 'report.html', 'refresh': 5.0}
    """

    def __init__(
        self,
        path: str | PathLike[str] = "report.html",
        *,
        refresh: float = 2.0,
    ):
        super().__init__()
        self.path = checked_target(path, "`path` of LiveReport")
        self.refresh = checked_positive(refresh, "`refresh` of LiveReport")
        self._run = LiveRun()
        self._next = 0.0
        self._output = _notebook.Output()

    def on_train_begin(self, logs: Logs = None) -> None:
        """Start a new run."""
        checked_container(self.model)
        self._run = LiveRun()
        self._next = 0.0

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Note the epoch, and write the page if it is time."""
        self._run.note(epoch, as_floats(logs))
        start = time.perf_counter()
        if start < self._next:
            return
        self._write(live=self.refresh)
        end = time.perf_counter()
        self._next = end + (end - start) / SHARE
        if self._output.is_shown:
            self._next = max(self._next, start + self.refresh)

    def on_train_end(self, logs: Logs = None) -> None:
        """Write the page of the whole run."""
        if self._run.epoch:
            self._write(live=None)

    def _write(self, live):
        # A custom `train_step` may log nothing, of which there is no page.
        if not replicas.writes() or not self._run.history:
            return
        # Not at every epoch: on JAX, to ask for the model costs time.
        self._run.take_kinds(self.model.compiled_loss.tracker)
        page = page_of(sections(self._run), live, kept_as=self.path.name)
        write_whole(page, self.path)
        if self._output.is_shown:
            self._output.show(framed(page))

    def get_config(self) -> Config:
        """Everything needed to build the callback again."""
        return {"path": str(self.path), "refresh": self.refresh}

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Build the callback from what `get_config` gave."""
        return cls(**config)


class LiveRun:
    """A history that grows, with what the one of `fit` has."""

    def __init__(self):
        self.history = {}
        self.epoch = []
        self.epochs_by_key = {}
        self.kinds_by_key = None

    def note(self, epoch, logs):
        """Take on the logs of an epoch.

        Args:
            epoch: Its number.
            logs: `{key: float}`, a list of those of a metric of several.
        """
        self.epoch.append(epoch)
        for key, value in logs.items():
            self.history.setdefault(key, []).append(value)
            self.epochs_by_key.setdefault(key, []).append(epoch)

    def take_kinds(self, tracker):
        """Note which keys are those of kinds, where that is known."""
        if tracker is not None:
            self.kinds_by_key = tracker.kinds_by_key
