"""The values of the samples, for whoever asks before a loss is reduced.

A reduction makes one scalar of the values of a batch. `shares` says what each
sample has in that scalar: `s_i = sum(v_i * dR/dv_i)` over the places of a
sample. By Euler's theorem `sum(s_i) = R(v)` for every `R` with `R(c v) = c
R(v)`: means and sums, weighted or not, and those that select or rank.
"""

import contextlib
import contextvars
import dataclasses
from collections.abc import Callable
from typing import Any

from keras import ops

from keras_losskit import _backend
from keras_losskit._support.precision import at_least_float32
from keras_losskit.reductions._alignment import align


@dataclasses.dataclass(frozen=True, eq=False)
class SampleValues:
    """The values of one loss, and the scalar that they became.

    Args:
        result: The scalar.
        values: `(batch, ...)`, as the loss returned them.
        weight: Sample weights that fit the values, or None for 1.
        mask: What counts, of the rank of the values, or None for all.
        reduction: `(values, weight, mask) -> scalar`.
    """

    result: Any
    values: Any
    weight: Any
    mask: Any
    reduction: Callable[[Any, Any, Any], Any]

    def reduced(self, values):
        """The scalar of other values in place of these."""
        return self.reduction(values, self.weight, self.mask)

    def weighted(self, weights):
        """The scalar where each sample has a weight more.

        Args:
            weights: `(batch,)`.
        """
        values = at_least_float32(self.values)
        weights = align(ops.cast(weights, values.dtype), values, "weights")
        if self.weight is not None:
            own = ops.convert_to_tensor(self.weight)
            own = align(own, values, "sample_weight")
            weights = weights * ops.cast(own, values.dtype)
        return self.reduction(self.values, weights, self.mask)

    def counts(self):
        """Whether anything of a sample counts, `(batch,)`, booleans."""
        counts = self._places()
        axes = tuple(range(1, len(counts.shape)))
        return ops.any(counts, axis=axes) if axes else counts

    def _places(self):
        """Whether a value counts, booleans of the shape of the values."""
        counts = ops.ones(ops.shape(self.values), dtype="bool")
        if self.mask is not None:
            counts = ops.logical_and(counts, self.mask)
        if self.weight is not None:
            own = ops.convert_to_tensor(self.weight)
            own = align(own, self.values, "sample_weight")
            counts = ops.logical_and(counts, ops.not_equal(own, 0))
        return counts

    def shares(self):
        """What each sample has in the scalar, `(batch,)`, float32 at least.

        The gradient is that of the scalar, sample by sample: the slope of the
        reduction is a constant.
        """
        values = at_least_float32(self.values)
        (slope,) = _backend.input_gradients(
            lambda inputs: self.reduced(inputs[0]), [ops.stop_gradient(values)]
        )
        # What does not count need not be finite.
        counts = ops.not_equal(slope, 0.0)
        shares = ops.where(counts, values, 0.0) * ops.stop_gradient(slope)
        axes = tuple(range(1, len(shares.shape)))
        return ops.sum(shares, axis=axes) if axes else shares

    def means(self):
        """The mean over the places of each sample that count, `(batch,)`.

        0 where none counts. Of the weights of samples only a 0 is part of it.
        """
        values = at_least_float32(self.values)
        axes = tuple(range(1, len(values.shape)))
        if self.mask is None and self.weight is None:
            return ops.mean(values, axis=axes) if axes else values
        counts = self._places()
        values = ops.where(counts, values, 0.0)
        counts = ops.cast(counts, values.dtype)
        if not axes:
            return values
        places = ops.maximum(ops.sum(counts, axis=axes), 1.0)
        return ops.sum(values, axis=axes) / places


class SampleWatch:
    """Takes note of the values of samples while losses are computed.

    Attributes:
        found: `{name of a term: [SampleValues]}`; a term whose values are not
            of samples is not there.
        compared: `{name of a term: (y_true, y_pred)}`, what it compares.
    """

    def __init__(self):
        self.found: dict[str, list[SampleValues]] = {}
        self.compared: dict[str, tuple[Any, Any]] = {}
        self._noted: list[SampleValues] = []
        self._all: list[SampleValues] = []

    def note(self, *values):
        """Keep the values that became a scalar; see `SampleValues`."""
        self._noted.append(SampleValues(*values))
        self._all.append(self._noted[-1])

    def of_value(self, value):
        """The `SampleValues` that became the scalar `value`, or None."""
        found = (noted for noted in self._all if noted.result is value)
        return next(found, None)

    def assign(self, names, results, y_true=None, y_pred=None):
        """Say which terms the scalars are that were computed last."""
        for name, result in zip(names, results, strict=True):
            self.compared.setdefault(name, (y_true, y_pred))
            for noted in self._noted:
                if noted.result is result:
                    self.found.setdefault(name, []).append(noted)
        self._noted.clear()


# No `Scoped`, around which TorchDynamo counts what a step notes twice.
_watch: contextvars.ContextVar[SampleWatch | None] = contextvars.ContextVar(
    "keras_losskit.samples", default=None
)


def current_watch():
    """The `SampleWatch` of what is being computed, or None."""
    return _watch.get()


@contextlib.contextmanager
def watched_by(watch):
    """Around losses whose values `watch` takes note of; None for nobody."""
    token = _watch.set(watch)
    try:
        yield watch
    finally:
        _watch.reset(token)
