"""`TerminateOnNonFiniteTerm`: a stop that names the term."""

import math
import warnings
from typing import Any

import keras

from keras_losskit._support.checks import checked_flag
from keras_losskit._types import Config
from keras_losskit._types import Logs
from keras_losskit.callbacks._batch_means import checked_container
from keras_losskit.callbacks._batch_means import scalars


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

    def __init__(self, *, restore_weights: bool = False):
        super().__init__()
        self.restore_weights = checked_flag(
            restore_weights, "`restore_weights` of TerminateOnNonFiniteTerm"
        )
        #: `{"batch": ..., "epoch": ..., "terms": [...]}` once it has stopped.
        self.non_finite: dict[str, Any] | None = None
        self._good_weights: list | None = None
        self._epoch = 0

    def on_train_begin(self, logs: Logs = None) -> None:
        """Check the model."""
        checked_container(self.model)
        self.non_finite = None
        self._good_weights = None

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Note the epoch, and the weights that the first one begins with."""
        self._epoch = epoch
        # Not when training begins: `BackupAndRestore` may restore in between.
        if self._good_weights is None:
            self._remember()

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Look at the logs of the batch."""
        bad = [
            key
            for key, value in scalars(logs).items()
            if not math.isfinite(value)
        ]
        if not bad:
            return  # on JAX, to ask for `model` costs time
        container = self.model.compiled_loss
        known = container is not None and container.built
        entries = container.tracker.entries if known else ()
        terms = most_specific(bad, entries)
        if not {entry.key for entry in entries} & (set(logs or ()) - {"loss"}):
            # A custom step that logs its own losses, and no term.
            terms = [key for key in bad if key != "loss"] or terms
        if not terms:
            return
        self.non_finite = {"epoch": self._epoch, "batch": batch, "terms": terms}
        self.model.stop_training = True
        warnings.warn(
            f"Training stops in epoch {self._epoch + 1} at batch {batch}. Not "
            f"finite: {', '.join(terms)}.",
            RuntimeWarning,
            stacklevel=2,
        )

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Remember good weights, or put them back."""
        if self.non_finite is None:
            self._remember()
        elif self._good_weights is not None:
            self.model.set_weights(self._good_weights)

    def _remember(self):
        if self.restore_weights:
            self._good_weights = self.model.get_weights()

    def get_config(self) -> Config:
        """Everything needed to build the callback again."""
        return {"restore_weights": self.restore_weights}


def most_specific(keys, entries):
    """Of the logged `keys` those of terms that no other of them explains.

    The loss of an output is explained by that of a part of it, a contribution
    by the value or the weight of its term, the compiled kind by its terms, and
    the total by anything.

    Args:
        keys: Logged keys; those of metrics are passed over.
        entries: What the model logs of its terms, a list of `LogEntry`.

    Returns:
        A list of keys, in the order of the entries.
    """
    bad = [entry for entry in entries if entry.key in keys]
    terms = [entry for entry in bad if entry.terms]
    found = [
        entry.key
        for entry in terms
        if not any(explains(other, entry) for other in terms)
    ]
    compiled = any(entry.member_of == "compiled" for entry in terms)
    found += [
        entry.key
        for entry in bad
        if entry.kind and not (compiled and entry.kind == "compiled")
    ]
    return found or ["loss"] * ("loss" in keys)


def explains(one, other):
    """Whether the `LogEntry` `other` is not finite because `one` is not."""
    if not other.scaled:
        return False  # a weight shows in what it weighs, nothing in a weight
    whole = other.contribution and not one.contribution
    return set(one.terms) < set(other.terms) or (
        whole and one.terms == other.terms
    )
