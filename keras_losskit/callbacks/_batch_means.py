"""What the callbacks share: the model's container, and means over batches."""

import keras
import numpy as np
from keras import ops

from keras_losskit._keras_hooks import HasTerms
from keras_losskit._support.checks import checked_count


def checked_container(model):
    """The `LossesContainer` of a model that logs its terms.

    Raises:
        ValueError: for a model whose terms are not logged.
    """
    if not isinstance(model, HasTerms):
        raise ValueError(
            "Expected a model that logs its terms: a keras_losskit.Model, "
            f"or keras_losskit.wrap(model). Received: {model!r}"
        )
    return model.compiled_loss


def steps_taken(model):
    """The batches the optimizer has seen, where a restored run resumes.

    To be asked when an epoch begins, not when training does: `BackupAndRestore`
    may restore the number in between. 0 without an optimizer.
    """
    optimizer = model.optimizer
    if optimizer is None:
        return 0
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        optimizer = optimizer.inner_optimizer  # which has the count
    # Where gradients are accumulated `optimizer.iterations` counts updates.
    count = next(v for v in optimizer.variables if v.name == "iteration")
    return int(ops.convert_to_numpy(count.value))


class BatchMeans:
    """Values of the batches since the last look, from the running sums.

    What Keras hands to `on_train_batch_end` are means over the epoch so far.
    `mean = (sum - earlier sum) / (count - earlier count)`, so exact to about
    1e-7 of the epoch's sum.
    """

    def __init__(self):
        self.start_epoch()

    def start_epoch(self):
        """Keras starts the sums anew."""
        self._before = 0.0

    def read(self, tracker, keys):
        """Means over the batches since the last call.

        Args:
            tracker: The `TermTracker`, or None where nothing computes terms;
                on JAX the state must be in sync.
            keys: The keys that are logged.

        Returns:
            `{key: float}`, without keys that had no value since.
        """
        if tracker is None:
            return {}
        now = tracker.sums_and_counts().astype("float64")
        sums, counts = now - self._before
        self._before = now
        return {
            entry.key: float(total / count)
            for entry, total, count in zip(
                tracker.entries, sums, counts, strict=True
            )
            if entry.key in keys and count
        }


class EveryFewBatches:
    """Means over every few batches, against the batches the optimizer saw.

    Args:
        every: A number of batches, or `"epoch"`: none by batches.
        owner: The callback, for the error.

    Raises:
        ValueError: if `every` is neither.
    """

    def __init__(self, every, owner):
        if not isinstance(every, str) or every != "epoch":
            every = checked_count(every, f"`every` of {owner}, unless 'epoch',")
        self.every = every
        self.step = 0
        self._of = None
        self._next = 0
        self._first = 0
        self._pending = 0
        self._logs = None
        self._means = BatchMeans()

    def start_epoch(self, model):
        """Note where the steps of the epoch begin."""
        if self.every == "epoch":
            return
        if model is not self._of:
            self._of, self._next = model, 0
        # A custom `train_step` may leave the optimizer of `compile` alone.
        self._first = self.step = max(steps_taken(model), self._next)
        self._means.start_epoch()
        self._pending = 0

    def take(self, callback, batch, logs):
        """The values of the last batches if it is their turn.

        Args:
            callback: Whose `model` is asked, in its turn alone: on JAX that
                brings the variables up to date.
            batch: Its number in the epoch.
            logs: The logs, of which the keys count.

        Returns:
            `{key: float}`, empty if it is not or if there are none.
        """
        if self.every == "epoch":
            return {}
        self.step = self._first + batch
        self._next = self.step + 1
        self._pending += 1
        self._logs = logs
        return self.take_rest(callback) if self._pending >= self.every else {}

    def take_rest(self, callback):
        """The values of the batches that are left when an epoch ends.

        To be asked before validation, which starts the sums anew.

        Args:
            callback: As for `take`.

        Returns:
            `{key: float}`, empty if there are none.
        """
        if not self._pending:
            return {}
        self._pending = 0
        logs, self._logs = self._logs, None
        tracker = callback.model.compiled_loss.tracker
        # Where the model logs none of the terms, what it does log.
        return self._means.read(tracker, logs or {}) or scalars(logs)


def as_floats(logs):
    """Logs as Python floats, a metric of several values as a list of them."""
    return {
        key: np.asarray(value, "float64").tolist()
        if np.ndim(value)
        else float(value)
        for key, value in (logs or {}).items()
    }


def scalars(logs):
    """Logs as Python floats, without metrics of several values."""
    return {
        key: float(value)
        for key, value in (logs or {}).items()
        if np.ndim(value) == 0
    }
