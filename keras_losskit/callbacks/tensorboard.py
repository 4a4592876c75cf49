"""`TermTensorBoard`: the terms in TensorBoard, a chart for each kind."""

import re
import time
from os import PathLike
from pathlib import Path
from typing import Any
from typing import Literal
from typing import Self

import keras

from keras_losskit._support import replicas
from keras_losskit._support.checks import checked_instance
from keras_losskit._support.renamed import renamed_arguments
from keras_losskit._types import Config
from keras_losskit._types import Logs
from keras_losskit.callbacks._batch_means import EveryFewBatches
from keras_losskit.callbacks._batch_means import checked_container
from keras_losskit.callbacks._batch_means import scalars

#: Subfolders, as Keras' own callback names them: TensorBoard calls them runs.
TRAIN, VALIDATION = "train", "validation"

#: What is logged of a kind: its contribution, and of its terms three things.
PARTS = ("kind", "values", "contributions", "weights")


@keras.saving.register_keras_serializable("keras_losskit")
class TermTensorBoard(keras.callbacks.Callback):
    """Write the terms for TensorBoard: grouped by kind, contributions stacked.

    Keras' `TensorBoard` writes the same logs, but a chart for each key, and
    needs TensorFlow and TensorBoard to be installed, whatever the backend. This
    one needs `tensorboardX` alone: `pip install keras_losskit[tensorboard]`.

    Tags are `<kind>/<key>`, so that the time series show one group for each
    kind. `stacked/<kind>_loss` is the sum of the contributions up to that kind,
    so the last is `loss`. The tab "Custom scalars" shows the stack in one
    chart, the values of a kind in one, and all weights that change in one. A
    metric of several values is left out.

    Args:
        log_dir: Folder, with one of training and one of validation inside. A
            resumed run continues in it.
        every: `"epoch"`, or a number of batches after which the values of
            these batches are written as well, with tags that begin with
            `batch/`, against the number of batches that the optimizer had seen,
            and at the end of an epoch those of the batches that are left.

    Raises:
        ImportError: without tensorboardX.
        ValueError: if `every` is neither; or when training begins, for a
            model whose terms are not logged.

    Example:
        >>> callback = TermTensorBoard("logs")
        >>> callback.get_config()
        {'log_dir': 'logs', 'every': 'epoch'}
    """

    @renamed_arguments(update_freq="every")
    def __init__(
        self,
        log_dir: str | PathLike[str] = "logs",
        *,
        every: Literal["epoch"] | int = "epoch",
    ):
        super().__init__()
        summary_writer_class()
        what = "`log_dir` of TermTensorBoard"
        self.log_dir = Path(
            checked_instance(log_dir, str | PathLike, what, "a path")
        )
        self._batches = EveryFewBatches(every, "TermTensorBoard")
        self._writers: dict[str, Any] = {}
        self._groups = None

    @property
    def every(self) -> Literal["epoch"] | int:
        """After how many batches values are written, or `"epoch"`."""
        return self._batches.every

    def on_train_begin(self, logs: Logs = None) -> None:
        """Check the model."""
        checked_container(self.model)
        self._groups = None

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Note where the steps of the epoch begin."""
        self._batches.start_epoch(self.model)

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Write the values of the last batches."""
        self._write_batches(self._batches.take(self, batch, logs))

    def on_test_begin(self, logs: Logs = None) -> None:
        """Write the batches that are left, before validation."""
        self._write_batches(self._batches.take_rest(self))

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Write the batches that are left, and the means of the epoch."""
        self._write_batches(self._batches.take_rest(self))
        logs = scalars(logs)
        train = {k: v for k, v in logs.items() if not k.startswith("val_")}
        validation = {
            key.removeprefix("val_"): value
            for key, value in logs.items()
            if key.startswith("val_")
        }
        self._write(TRAIN, train, epoch)
        if validation:
            self._write(VALIDATION, validation, epoch)

    def on_train_end(self, logs: Logs = None) -> None:
        """Close the files."""
        for writer in self._writers.values():
            writer.close()
        self._writers = {}

    def _write_batches(self, values):
        if values:
            self._write(TRAIN, values, self._batches.step, "batch/")

    def _write(self, run, values, step, prefix=""):
        if not replicas.writes():
            return
        if self._groups is None:
            self._groups = groups_of(self.model.compiled_loss.tracker)
        writer = self._writer(run)
        tagged = tagged_values(values, self._groups)
        for tag, value in tagged.items():
            writer.add_scalar(prefix + tag, value, step)

    def _writer(self, run):
        if run not in self._writers:
            # Two runs that begin in one second would share a file's name.
            writer = summary_writer_class()(
                str(self.log_dir / run), filename_suffix=f".{time.time_ns()}"
            )
            writer.add_custom_scalars(layout(self._groups))
            self._writers[run] = writer
        return self._writers[run]

    def get_config(self) -> Config:
        """Everything needed to build the callback again."""
        return {"log_dir": str(self.log_dir), "every": self.every}

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Build the callback from what `get_config` gave."""
        return cls(**config)


def summary_writer_class():
    """`tensorboardX.SummaryWriter`, or an error that says where it is from."""
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise ImportError(
            "Expected tensorboardX to be installed for TermTensorBoard. "
            "Received: no module of this name. Run `pip install "
            "keras_losskit[tensorboard]`."
        ) from error
    return SummaryWriter


def groups_of(tracker):
    """The logged keys of each kind, in order, the kind's own among them.

    Args:
        tracker: `TermTracker`, or None where nothing computes terms.

    Returns:
        `{kind: {"kind": [...], "values": [...], "contributions": [...],
        "weights": [...]}}` of the kinds that there are.
    """
    groups = {}
    for entry in tracker.entries if tracker else ():
        kind = entry.kind or entry.member_of
        if kind is None:
            continue
        group = groups.setdefault(kind, {name: [] for name in PARTS})
        if entry.kind:
            part = "kind"
        elif not entry.scaled:
            part = "weights"
        elif entry.contribution:
            part = "contributions"
        else:
            part = "values"
        group[part].append(entry.key)
    return groups


def tagged_values(values, groups):
    """`{tag: value}`: keys under their kinds, and the stack.

    Args:
        values: `{key: float}`.
        groups: What `groups_of` gave.

    Example:
        >>> groups = {"compiled": {"kind": ["compiled_loss"],
        ...                        "values": ["a_loss"]},
        ...           "activity": {"kind": ["activity_loss"]}}
        >>> logs = {"loss": 3.0, "compiled_loss": 2.0, "a_loss": 4.0,
        ...         "activity_loss": 1.0}
        >>> for tag, value in tagged_values(logs, groups).items():
        ...     print(tag, value)
        loss 3.0
        compiled/compiled_loss 2.0
        compiled/a_loss 4.0
        activity/activity_loss 1.0
        stacked/compiled_loss 2.0
        stacked/activity_loss 3.0
    """
    kind_of = {
        key: kind
        for kind, group in groups.items()
        for keys in group.values()
        for key in keys
    }
    tagged = {
        f"{kind_of[key]}/{key}" if key in kind_of else key: value
        for key, value in values.items()
    }
    height = 0.0
    for group in groups.values():
        for key in group["kind"]:
            if key in values:
                height += values[key]
                tagged[f"stacked/{key}"] = height
    return tagged


def layout(groups):
    """The charts of the tab "Custom scalars": `{category: {title: chart}}`."""

    def lines(tags):
        # TensorBoard takes them for patterns.
        return ["Multiline", [f"^{re.escape(tag)}$" for tag in tags]]

    stack = [f"stacked/{k}" for group in groups.values() for k in group["kind"]]
    # A kind by itself is not logged: it is the loss.
    charts = {"contributions, stacked": lines(stack)} if stack[1:] else {}
    for kind, group in groups.items():
        for part in ("values", "contributions"):
            if group[part]:
                tags = [f"{kind}/{key}" for key in group[part]]
                charts[f"{kind}: {part}"] = lines(tags)
    weights = [
        f"{kind}/{key}"
        for kind, group in groups.items()
        for key in group["weights"]
    ]
    if weights:
        charts["weights"] = lines(weights)
    return {"terms": charts}
