"""`gradient_report`: what the terms of a loss do to each other's gradients."""

import dataclasses
from typing import Any

import keras
import numpy as np
from keras import ops
from rich import box
from rich.markup import escape

from keras_losskit import _backend
from keras_losskit import _origin
from keras_losskit._support.checks import checked_instance
from keras_losskit._types import Structure
from keras_losskit._types import Wrt
from keras_losskit.container._tracker import counted_by_trainer
from keras_losskit.container._weighting_step import contribution_of
from keras_losskit.container._weighting_step import member_name
from keras_losskit.models._gradient_weights import gramian
from keras_losskit.models._gradient_weights import positions
from keras_losskit.reports._breakdown import probe_of
from keras_losskit.reports._breakdown import tensors_of_batch
from keras_losskit.reports._breakdown import trainable_variables
from keras_losskit.reports._notebook_table import NotebookTable
from keras_losskit.reports._notebook_table import ShownAsTable
from keras_losskit.terms import LossTerms
from keras_losskit.terms import unique_names
from keras_losskit.weighting._variable_selection import VariableSelection

#: Kinds that are one row each, whatever the number of their penalties.
ONE_ROW = ("regularization", "activity")
#: A cosine above this, in size, is no rounding error.
ROUNDING = 1e-6


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class TermGradients(ShownAsTable):
    """The gradients of the K terms of a loss, in numbers.

    `g_k` is the gradient of the k-th contribution, the weights that the user
    gave included. Printed, it is a table; in a notebook or with `rich` as well.

    Args:
        names: Names of the terms.
        gramian: `G[i, j] = g_i . g_j`, `(K, K)`, NumPy float64, as all below.
        weights: What a gradient-based weighting multiplies each term with in
            the update, `(K,)`; 1 without one.
    """

    names: list[str]
    gramian: np.ndarray
    weights: np.ndarray

    @property
    def norms(self) -> np.ndarray:
        """`||g_k||`, `(K,)`."""
        return np.sqrt(np.diag(self.gramian))

    @property
    def cosines(self) -> np.ndarray:
        """`g_i . g_j / (||g_i|| ||g_j||)`, `(K, K)`; 0 for a zero gradient."""
        norms = np.where(self.norms > 0, self.norms, 1.0)
        return np.clip(self.gramian / np.outer(norms, norms), -1.0, 1.0)

    @property
    def shares(self) -> np.ndarray:
        """Share of each term in the update `u = sum(w_k g_k)`, `(K,)`.

        `w_k g_k . u / ||u||^2`; they sum to 1, and one under 0 is a term that
        the update goes against. NaN where there is no update.
        """
        along = self.weights * (self.gramian @ self.weights)
        total = along.sum()
        return along / total if total > 0 else np.full_like(along, np.nan)

    @property
    def conflict_rate(self) -> float:
        """Fraction of the pairs of terms whose cosine is negative; 0 for one.

        Pairs with a zero gradient do not count.
        """
        first, second = np.triu_indices(len(self.names), k=1)
        present = (self.norms[first] > 0) & (self.norms[second] > 0)
        cosines = self.cosines[first, second][present]
        return float(np.mean(cosines < -ROUNDING)) if len(cosines) else 0.0

    def to_dict(self) -> dict[str, Any]:
        """All of it in lists and floats, for JSON."""
        return {
            "names": list(self.names),
            "norms": self.norms.tolist(),
            "weights": self.weights.tolist(),
            "shares": self.shares.tolist(),
            "cosines": self.cosines.tolist(),
            "conflict_rate": self.conflict_rate,
        }

    def __rich__(self) -> NotebookTable:
        """A table with a row per term."""
        table = NotebookTable(
            title="The gradients of the terms",
            box=box.SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
            pad_edge=False,
            caption=f"conflict rate {self.conflict_rate:.0%}",
        )
        table.add_column("term", overflow="fold")
        shows_weights = not (self.weights == 1.0).all()
        columns = ["norm", *(["weight"] if shows_weights else []), "share"]
        cosines = (escape(f"cos {name}") for name in self.names)
        for name in (*columns, *cosines):
            table.add_column(name, justify="right")
        for index, name in enumerate(self.names):
            cells = [f"{self.norms[index]:.3g}"]
            if shows_weights:
                cells.append(f"{self.weights[index]:.3g}")
            cells.append(f"{self.shares[index]:.1%}")
            for cosine in self.cosines[index]:
                style = "red" if cosine < -ROUNDING else ""
                cells.append(
                    f"[{style}]{cosine:+.2f}[/]" if style else f"{cosine:+.2f}"
                )
            table.add_row(escape(name), *cells)
        return table


def gradient_report(
    model: keras.Model,
    x: Structure,
    y: Structure | None = None,
    sample_weight: Structure | None = None,
    *,
    wrt: Wrt | None = None,
) -> TermGradients:
    """The gradients of the terms of a model's loss on one batch.

    Which terms pull, how hard, and which pull against each other. Compiled
    losses, extra terms and what `add_loss` added are a term each; all weight
    penalties together are one, `regularization`, and so are all activity
    penalties. The model runs as in inference, so that nothing is left to
    chance, and stays as it is: metrics, seeds, schedules and the state of a
    weighting do not move.

    Args:
        model: Any compiled `keras.Model`.
        x: Inputs of one batch: arrays, not a data set.
        y: Labels.
        sample_weight: Sample weights.
        wrt: The variables that the gradients are taken over, as for
            `weighting.GradientWeighting`: a layer, a pattern of paths, or a
            list of them. Defaults to all trainable ones of the model.

    Returns:
        `TermGradients`: `names`, `norms`, `cosines`, `shares`, `weights`,
        `conflict_rate`.

    Raises:
        TypeError: if `model` is no model, or `x` a data set.
        ValueError: for data that the losses do not fit, a `wrt` that finds
            nothing, or a model without trainable variables.

    Example:
        >>> inputs = keras.Input((1,))
        >>> dense = keras.layers.Dense(
        ...     1, use_bias=False, kernel_initializer="ones")
        >>> out = dense(inputs)
        >>> model = keras.Model(inputs, {"up": out, "down": out})
        >>> model.compile(loss="mse", loss_weights={"up": 1.0, "down": 3.0})
        >>> x = ops.ones((4, 1))
        >>> report = gradient_report(model, x, {"up": 3 * x, "down": 0 * x})
        >>> dict(zip(report.names, report.norms.tolist(), strict=True))
        {'down': 6.0, 'up': 4.0}
        >>> report.cosines.tolist()
        [[1.0, -1.0], [-1.0, 1.0]]
        >>> report.shares.tolist(), report.conflict_rate
        ([3.0, -2.0], 1.0)
    """
    checked_instance(
        model, keras.Model, "`model` of gradient_report", "a Keras model"
    )
    owner = "gradient_report"
    x, y, sample_weight = tensors_of_batch(owner, x, y, sample_weight)
    probe, losses, _ = probe_of(model, x, y)
    variables = trainable_variables(probe, losses, owner)
    names: list[str] = []
    members = losses.weighted_names() if losses.weighs_gradients else []

    def contributions(values):
        mapping = []
        if values is not None:
            mapping = list(zip(variables, values, strict=True))
        with keras.StatelessScope(mapping):
            y_pred = probe(x, training=False)
            with counted_by_trainer(probe.compiled_loss):
                total = probe.compute_loss(
                    x, y, y_pred, sample_weight, training=False
                )
            rows = rows_of(probe, total, members)
        names[:] = unique_names(name for name, _ in rows)
        return [ops.cast(value, "float32") for _, value in rows], None

    pullback = _backend.Pullback(
        contributions, lambda: [variable.value for variable in variables]
    )

    def jacobian(selection):
        """Of the variables that a `VariableSelection` picks; None picks all."""
        chosen = None
        if selection is not None:
            picked = {id(variable) for variable in selection.pick(variables)}
            chosen = positions(picked, variables)
        return pullback.jacobian(len(names), chosen, keep=True)

    matrix = gramian(jacobian(None if wrt is None else VariableSelection(wrt)))
    weights = np.ones(len(names))
    if losses.weighs_gradients:
        found = found_weights(losses.weighting, jacobian, names, members)
        for name, weight in zip(members, found, strict=True):
            if name in names:
                weights[names.index(name)] = weight
    return TermGradients(names, as_float64(matrix), weights)


def rows_of(probe, total, members):
    """`(name, contribution)` of what is a row of the report.

    Args:
        probe: The model, after its `compute_loss`.
        total: What that returned.
        members: Names of what gets weights, a row each.
    """
    terms = probe._losskit_last_terms() or LossTerms()
    by_name = {}
    for term in terms.values():
        if term.kind not in (*ONE_ROW, "weighting"):
            name = member_name(term, members) or term.name
            by_name.setdefault(name, []).append(term)
    rows = [(name, contribution_of(found)) for name, found in by_name.items()]
    kinds = terms.by_kind()
    rows += [(kind, kinds[kind]) for kind in ONE_ROW if kind in kinds]
    if _origin.overrides(probe, "compute_loss"):
        rows.append(("compute_loss", total - terms.total))
    return rows


def found_weights(weighting, jacobian, names, members):
    """The weights that a gradient-based weighting gives the terms.

    Args:
        weighting: The weighting.
        jacobian: `VariableSelection or None -> blocks` of the gradients of all
            terms.
        names: Names of all terms.
        members: Names of the terms that get weights; one that the batch does
            not have has a gradient of zero, as in training.
    """
    of_all = as_float64(gramian(jacobian(weighting.wrt)))
    present = [k for k, name in enumerate(members) if name in names]
    at = [names.index(members[k]) for k in present]
    matrix = np.zeros((len(members), len(members)))
    matrix[np.ix_(present, present)] = of_all[np.ix_(at, at)]
    matrix = ops.convert_to_tensor(matrix, dtype="float32")
    with keras.StatelessScope():  # it may draw random numbers
        weights = weighting(matrix)
    return as_float64(weights)


def as_float64(tensor):
    """A tensor as NumPy float64."""
    return ops.convert_to_numpy(tensor).astype("float64")
