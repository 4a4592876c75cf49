"""`TermLogger`: the terms in a tracker of experiments."""

from collections.abc import Callable
from typing import Any
from typing import Literal

import keras

from keras_losskit._support import replicas
from keras_losskit._support.checks import checked_function
from keras_losskit._types import Logs
from keras_losskit.callbacks._batch_means import EveryFewBatches
from keras_losskit.callbacks._batch_means import checked_container
from keras_losskit.callbacks._batch_means import scalars


class TermLogger(keras.callbacks.Callback):
    """Hand the logs to a tracker of experiments: `wandb.log` and its like.

    Trackers that have a callback for Keras often ask for TensorFlow, whatever
    the backend. All have a function of a dict of numbers and a step, which is
    all that this needs: `wandb.log`, `mlflow.log_metrics`, `trackio.log`, or a
    custom function.

    The values are those of `History`, under the same names. Metrics of several
    values are left out. Of several processes the first one logs.

    Args:
        log: Called as `log({key: float}, step=number)`.
        every: `"epoch"`, or a number of batches after which the values of
            these batches are logged as well, with keys that begin with
            `batch/`, and at the end of an epoch those of the batches that are
            left. The step is the number of the epoch; with a number of batches,
            that of the batch since the optimizer began, for the epochs too, so
            that steps never go back.

    Raises:
        TypeError: if `log` is no function.
        ValueError: if `every` is neither; or when training begins, for a
            model whose terms are not logged.

    Example:
        >>> from keras_losskit import Model
        >>> inputs = keras.Input((1,))
        >>> model = Model(inputs, keras.layers.Dense(1, "relu")(inputs))
        >>> model.compile("sgd", ["mse", "mae"])
        >>> def log(values, step):
        ...     print(step, sorted(values))
        >>> ones = keras.ops.ones((2, 1))
        >>> history = model.fit(
        ...     ones, 0.0 * ones, epochs=2, verbose=0,
        ...     callbacks=[TermLogger(log)])
        0 ['loss', 'mae_loss', 'mse_loss']
        1 ['loss', 'mae_loss', 'mse_loss']
    """

    def __init__(
        self,
        log: Callable[..., Any],
        *,
        every: Literal["epoch"] | int = "epoch",
    ):
        super().__init__()
        self.log = checked_function(log, "`log` of TermLogger")
        self._batches = EveryFewBatches(every, "TermLogger")

    def on_train_begin(self, logs: Logs = None) -> None:
        """Check the model."""
        checked_container(self.model)

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Note where the steps of the epoch begin."""
        self._batches.start_epoch(self.model)

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Log the values of the last batches."""
        self._log_batches(self._batches.take(self, batch, logs))

    def on_test_begin(self, logs: Logs = None) -> None:
        """Log the batches that are left, before validation."""
        self._log_batches(self._batches.take_rest(self))

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Log the batches that are left, and the means of the epoch."""
        self._log_batches(self._batches.take_rest(self))
        by_epoch = self._batches.every == "epoch"
        self._log(scalars(logs), epoch if by_epoch else self._batches.step)

    def _log_batches(self, values):
        values = {f"batch/{key}": value for key, value in values.items()}
        self._log(values, self._batches.step)

    def _log(self, values, step):
        if values and replicas.writes():
            self.log(values, step=step)
