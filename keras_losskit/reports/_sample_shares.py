"""What each sample of a data set has in the loss of a model."""

import dataclasses
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_losskit import _backend
from keras_losskit import _origin
from keras_losskit._types import Structure
from keras_losskit.container._tracker import batch_size_of
from keras_losskit.container._tracker import counted_by_trainer
from keras_losskit.models._gradient_weights import of_model_alone
from keras_losskit.models._gradient_weights import positions
from keras_losskit.reductions._sample_values import SampleWatch
from keras_losskit.reductions._sample_values import watched_by
from keras_losskit.reports._breakdown import as_float
from keras_losskit.reports._breakdown import as_tensors
from keras_losskit.reports._breakdown import probe_of
from keras_losskit.terms import LossTerms
from keras_losskit.weighting._variable_selection import VariableSelection

#: What a sum of shares may miss the value of its term by, relative to the sum
#: of their sizes; more is no rounding error.
ROUNDING = 1e-5


@dataclasses.dataclass
class BatchShares:
    """What the samples of one batch have in its loss, in NumPy.

    Args:
        count: Number of samples.
        terms: `{name: (batch,)}`, the shares in the values of terms.
        contributions: The same, each times the weight of the term.
        beside: `{name: contribution}` of what has no samples.
        gradient_norms: `(batch,)`, or None.
    """

    count: int
    terms: dict
    contributions: dict
    beside: dict
    gradient_norms: np.ndarray | None = None


class SharesOfModel:
    """Computes `BatchShares` of one model.

    Args:
        model: Any compiled `keras.Model`.
        batch: `(x, y, sample_weight)` to find out its outputs by.
        wrt: The variables of the gradient norms, or None for no norms.
    """

    def __init__(self, model: Any, batch: Structure, wrt: Any = None):
        x, y, _ = as_tensors(batch)
        self.probe, losses, _ = probe_of(model, x, y)
        self.variables = of_model_alone(self.probe.trainable_variables, losses)
        self.columns: list[int] | None = None
        if wrt is not None:
            picked = VariableSelection(wrt).pick(self.variables)
            self.columns = positions(set(map(id, picked)), self.variables)

    def of_batch(self, batch):
        """The `BatchShares` of `(x, y, sample_weight)`."""
        batch = as_tensors(batch)
        count = int(batch_size_of(batch[0]))
        if self.columns is None:
            _, found = self.computed(batch, None)
            return as_numpy(count, *found)

        def slices(values):
            totals, found = self.computed(batch, values)
            return ops.unstack(totals, num=count), found

        pullback = _backend.Pullback(
            slices, lambda: [variable.value for variable in self.variables]
        )
        blocks = pullback.jacobian(count, self.columns)
        squares = sum(
            np.square(ops.convert_to_numpy(block).astype("float64"))
            .reshape(count, -1)
            .sum(1)
            for block in blocks
        )
        return dataclasses.replace(
            as_numpy(count, *pullback.aux), gradient_norms=np.sqrt(squares)
        )

    def computed(self, batch, values):
        """The shares in the total, `(batch,)`, and what `as_numpy` takes.

        Args:
            batch: `(x, y, sample_weight)`, tensors.
            values: Values for the variables of the model, or None.
        """
        x, y, sample_weight = batch
        probe, mapping = self.probe, []
        if values is not None:
            mapping = list(zip(self.variables, values, strict=True))
        with keras.StatelessScope(mapping):
            with watched_by(SampleWatch()) as watch:
                y_pred = probe(x, training=False)
                with counted_by_trainer(probe.compiled_loss):
                    total = probe.compute_loss(
                        x, y, y_pred, sample_weight, training=False
                    )
            terms = probe._losskit_last_terms() or LossTerms()
        rest = {}
        if _origin.overrides(probe, "compute_loss"):
            rest["compute_loss"] = total - terms.total
        shares = {
            name: sum(noted.shares() for noted in watch.found[name])
            for name in terms
            if name in watch.found
        }
        totals = ops.zeros((batch_size_of(x),))
        for name, of_term in shares.items():
            weight = ops.cast(terms[name].weight, of_term.dtype)
            totals = totals + ops.cast(weight * of_term, "float32")
        return totals, (shares, terms, rest)


def as_numpy(count, shares, terms, rest):
    """`BatchShares` of tensors.

    Args:
        count: Number of samples.
        shares: `{name: (batch,)}`.
        terms: `LossTerms` of the batch.
        rest: `{name: scalar}`, what else is in the loss.
    """
    found, contributions = {}, {}
    beside = {name: as_float(value) for name, value in rest.items()}
    for name, term in terms.items():
        value, weight = as_float(term.value), as_float(term.weight)
        if name in shares:
            found[name], value = scaled_to(
                ops.convert_to_numpy(shares[name]).astype("float64"), value
            )
            contributions[name] = weight * found[name]
        if name not in shares or value:
            beside[name] = weight * value
    return BatchShares(count, found, contributions, beside)


def scaled_to(shares, value):
    """Shares that sum to the value of the term, and what is left of it.

    The sum is right but for rounding, unless `reduction(c * values)` is
    something else than `c * reduction(values)`: then the shares keep their
    proportions.

    Args:
        shares: `(batch,)`.
        value: The value, a float.
    """
    total, size = shares.sum(), np.abs(shares).sum()
    if not np.isfinite(total - value) or abs(total - value) <= ROUNDING * size:
        return shares, 0.0
    if abs(total) <= ROUNDING * size:
        return shares, value - total
    return shares * (value / total), 0.0
