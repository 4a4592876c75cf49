"""Callbacks over the terms of a loss."""

import typing
import warnings

import keras
import numpy as np

from keras_losskit._checks import checked_count
from keras_losskit.gradients import TermGradients
from keras_losskit.gradients import gradient_report


@keras.saving.register_keras_serializable("keras_losskit")
class TerminateOnNonFiniteTerm(keras.callbacks.Callback):
    """Stop training when a term is not finite, and say which.

    Keras' `TerminateOnNaN` sees that `loss` is NaN; this one names the terms,
    in the order in which they enter the total, and the batch. Until the first
    such batch the logs of every term are finite, so it is the first one found.

    Args:
        restore_weights: Whether to put back the weights that the last epoch
            without such a term ended with.

    Raises:
        ValueError: when training begins, for a model whose terms are not
            logged: use `keras_losskit.Model` or `wrap`.

    Example:
        >>> callback = TerminateOnNonFiniteTerm(restore_weights=True)
        >>> callback.non_finite is None
        True
    """

    def __init__(self, *, restore_weights=False):
        super().__init__()
        self.restore_weights = restore_weights
        #: `{"batch": ..., "epoch": ..., "terms": [...]}` once it has stopped.
        self.non_finite = None
        self._good_weights = None
        self._epoch = 0

    def on_train_begin(self, logs=None):
        """Check the model and remember the weights to begin with."""
        if getattr(self.model, "penalty_terms", None) is None:
            raise ValueError(
                "Expected a model that logs its terms: a keras_losskit.Model, "
                f"or keras_losskit.wrap(model). Received: {self.model!r}"
            )
        self.non_finite = None
        self._remember()

    def on_epoch_begin(self, epoch, logs=None):
        """Note the epoch."""
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        """Look at the logs of the batch."""
        bad = [
            key
            for key, value in (logs or {}).items()
            if not np.isfinite(float(value))
        ]
        if not bad:
            return
        terms = most_specific(bad, self.model.compiled_loss.tracker)
        self.non_finite = {"epoch": self._epoch, "batch": batch, "terms": terms}
        self.model.stop_training = True
        warnings.warn(
            f"Training stops in epoch {self._epoch + 1} at batch {batch}. Not "
            f"finite: {', '.join(terms)}.",
            RuntimeWarning,
            stacklevel=2,
        )

    def on_epoch_end(self, epoch, logs=None):
        """Remember good weights, or put them back."""
        if self.non_finite is None:
            self._remember()
        elif self._good_weights is not None:
            self.model.set_weights(self._good_weights)

    def _remember(self):
        if self.restore_weights:
            self._good_weights = self.model.get_weights()

    def get_config(self):
        """Everything needed to build the callback again."""
        return {"restore_weights": self.restore_weights}


def most_specific(keys, tracker):
    """Of the logged `keys` those that no other of them explains.

    A term explains its output and its kind, and both explain the total.

    Args:
        keys: Logged keys, in order.
        tracker: The `TermTracker` they come from.
    """
    kinds = {entry.key for entry in tracker.entries if entry.kind}
    terms = [key for key in keys if key not in kinds and key != "loss"]
    terms = [
        key
        for key in terms
        if not any(
            other != key and other.startswith(key.removesuffix("loss"))
            for other in terms
        )
    ]
    explained = {"compiled_loss", "total_compiled_loss"} if terms else set()
    further = [k for k in keys if k in kinds and k not in explained]
    return terms + further or list(keys)


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


class GradientReport(keras.callbacks.Callback):
    """Record during `fit` what the terms do to each other's gradients.

    Each time on the same batch: the one given, or else the first of the
    validation data of `fit`, which only a `keras_losskit.Model` hands on.

    Args:
        x: Inputs of the batch.
        y: Labels.
        sample_weight: Sample weights.
        every: A report after every N-th epoch or step.
        unit: `"epoch"` or `"step"`.
        wrt: As for `gradient_report`.
        verbose: Whether each report is printed.

    Raises:
        ValueError: for another unit; when training begins, if there is no
            batch, or validation data that only a loop may read.

    Example:
        >>> import keras_losskit as losskit
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

    def __init__(
        self,
        x=None,
        y=None,
        sample_weight=None,
        *,
        every=1,
        unit="epoch",
        wrt=None,
        verbose=False,
    ):
        super().__init__()
        if unit not in ("epoch", "step"):
            raise ValueError(
                'Expected `unit` of GradientReport to be "epoch" or "step". '
                f"Received: unit={unit!r}"
            )
        self.batch = None if x is None else (x, y, sample_weight)
        self.every = checked_count(every, "`every` of GradientReport")
        self.unit = unit
        self.wrt = wrt
        self.verbose = verbose
        #: A list of `RecordedReport`, of all calls of `fit`.
        self.history = []
        self._validation = None
        self._epoch = self._step = 0

    def take_validation_data(self, data, batch_size):
        """Called by `fit`: the data of which the first batch may be used."""
        self._validation = None if data is None else (data, batch_size)

    def on_train_begin(self, logs=None):
        """Settle which batch the reports are of."""
        self._step = 0
        if self.batch is None:
            if self._validation is None:
                raise ValueError(
                    "Expected GradientReport to be given a batch, "
                    "`GradientReport(x, y)`, or `fit` of a keras_losskit.Model "
                    "to be given `validation_data`. Received: neither"
                )
            self.batch = first_batch(*self._validation)

    def on_epoch_begin(self, epoch, logs=None):
        """Note the epoch."""
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        """Count a step, and report if it is one to report."""
        self._step += 1
        if self.unit == "step" and self._step % self.every == 0:
            self._record()

    def on_epoch_end(self, epoch, logs=None):
        """Report if the epoch is one to report."""
        if self.unit == "epoch" and (epoch + 1) % self.every == 0:
            self._record()

    def _record(self):
        # On JAX, to ask for `model` brings its variables up to date.
        report = gradient_report(self.model, *self.batch, wrt=self.wrt)
        self.history.append(RecordedReport(self._epoch, self._step, report))
        if self.verbose:
            print(f"\nepoch {self._epoch + 1}, step {self._step}\n{report}")


def first_batch(data, batch_size):
    """The first batch of what `fit` takes as `validation_data`.

    Args:
        data: A tuple of arrays or nests of them, or a data set.
        batch_size: Number of samples to take of arrays.

    Returns:
        `(x, y, sample_weight)`.
    """
    if isinstance(data, tuple):
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
