"""The values of the samples, for whoever asks before a loss is reduced.

A reduction makes one scalar of the values of a batch. `shares` says what each
sample has in that scalar: `s_i = sum(v_i * dR/dv_i)` over the places of a
sample. By Euler's theorem `sum(s_i) = R(v)` for every `R` with `R(c v) = c
R(v)`: means and sums, weighted or not, and those that select or rank.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

from keras import ops

from keras_losskit import _backend
from keras_losskit._scoped import Scoped
from keras_losskit._support.precision import at_least_float32


@dataclasses.dataclass(frozen=True, eq=False)
class SampleValues:
    """The values of one loss, and the scalar that they became.

    Args:
        result: The scalar.
        values: `(batch, ...)`, as the loss returned them.
        reduce: `values -> scalar`, with the weights and masks of the batch.
    """

    result: Any
    values: Any
    reduce: Callable[[Any], Any]

    def shares(self):
        """What each sample has in the scalar, `(batch,)`, float32 at least.

        The gradient is that of the scalar, sample by sample: the slope of the
        reduction is a constant.
        """
        values = at_least_float32(self.values)
        (slope,) = _backend.input_gradients(
            lambda inputs: self.reduce(inputs[0]), [ops.stop_gradient(values)]
        )
        # What does not count need not be finite.
        counts = ops.not_equal(slope, 0.0)
        shares = ops.where(counts, values, 0.0) * ops.stop_gradient(slope)
        return ops.sum(ops.reshape(shares, (ops.shape(shares)[0], -1)), axis=-1)


class SampleWatch:
    """Takes note of the values of samples while losses are computed.

    Attributes:
        found: `{name of a term: [SampleValues]}`; a term whose values are not
            of samples is not there.
    """

    def __init__(self):
        self.found: dict[str, list[SampleValues]] = {}
        self._noted: list[SampleValues] = []

    def note(self, result, values, reduce):
        """Keep the values that became the scalar `result`."""
        self._noted.append(SampleValues(result, values, reduce))

    def assign(self, names, results):
        """Say which terms the scalars are that were computed last."""
        for name, result in zip(names, results, strict=True):
            for noted in self._noted:
                if noted.result is result:
                    self.found.setdefault(name, []).append(noted)
        self._noted.clear()


#: The `SampleWatch` of this thread, or None.
WATCH = Scoped("the values of samples")
