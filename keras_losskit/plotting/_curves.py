"""What of a history is drawn."""

import inspect

import numpy as np

from keras_losskit._support.checks import checked_list
from keras_losskit._support.checks import refused
from keras_losskit.terms import KINDS


class Curves:
    """What is known of training, or of validation.

    `values` and `epochs` are `{key: (n,) array}`.

    Args:
        kinds: Keys that may be those of a kind's contribution; None where only
            their names tell.
    """

    def __init__(self, kinds=None):
        self.values = {}
        self.epochs = {}
        self._kinds = kinds

    def of(self, key):
        """Epochs and values of a key."""
        return self.epochs[key], self.values[key]

    def kind_keys(self):
        """The keys of the kinds' contributions, which sum to `loss`."""
        if "loss" not in self.values:
            return []
        kinds = self._kinds
        if kinds is None:
            # An output may bear the name of a kind, whose key is longer then.
            longer = {kind: f"total_{kind}_loss" for kind in KINDS}
            kinds = [
                key if key in self.values else f"{kind}_loss"
                for kind, key in longer.items()
            ]
        epochs = len(self.values["loss"])
        keys = [k for k in kinds if len(self.values.get(k, ())) == epochs]
        # A kind by itself is the loss, and not logged.
        return keys if len(keys) > 1 else []


def separate_curves(history):
    """`{"": Curves, "val_": Curves}` of a history in any of its forms.

    The `History` of our `fit` and a `TermHistory` know the epochs of each key,
    and which keys are those of a kind. In others a key with fewer values than
    the rest is taken for one of every n-th epoch, which is right where n
    divides the number of epochs.
    """
    if hasattr(history, "rows"):  # a TermHistory
        epochs = [row["epoch"] for row in history.rows()]
    else:
        epochs = getattr(history, "epoch", None)
    noted = getattr(history, "epochs_by_key", {})
    kinds = getattr(history, "kinds_by_key", None)
    columns = getattr(history, "history", history)
    if not callable(getattr(columns, "keys", None)) or inspect.isclass(columns):
        raise refused(
            history,
            "`history` to be what `fit` returned, a TermHistory, or a mapping "
            "from key to values",
        )
    for key in columns.keys():
        what = f"the values of {key!r} in `history`"
        checked_list(columns[key], what, "one number an epoch")
    longest = max((len(columns[key]) for key in columns.keys()), default=0)
    if not longest:
        raise ValueError(
            "Expected `history` to have an epoch or more. Received: none, with "
            f"the keys {sorted(columns.keys())}. Was `fit` called?"
        )
    if epochs is None or len(epochs) != longest:
        epochs = range(longest)
    runs = {"": Curves(kinds), "val_": Curves(kinds)}
    for key in columns.keys():
        prefix = "val_" if key.startswith("val_") else ""
        values = list(columns[key])
        own = noted.get(key, ())
        if len(own) != len(values):
            every = max(1, len(epochs) // max(1, len(values)))
            own = epochs[every - 1 :: every]
        # Where an epoch lacks a key, Keras' history is shorter, ours has None.
        known = [
            pair
            for pair in zip(own, values, strict=False)
            if pair[1] is not None
        ]
        if not known:
            continue
        run, name = runs[prefix], key.removeprefix(prefix)
        run.epochs[name] = np.array([epoch for epoch, _ in known])
        run.values[name] = np.array([value for _, value in known], "float64")
    return runs


def stacked_keys(curves, stack):
    """The keys whose contributions are drawn."""
    values = curves.values
    if stack == "kinds":
        return curves.kind_keys() or ["loss"]
    keys = [key for key in values if key.endswith("_contribution")]
    if not keys:
        raise ValueError(
            "Expected contributions of terms in the history, which "
            'LossesContainer(..., log="all") logs. Received: keys '
            f"{sorted(values)}"
        )
    return keys


def line_keys(curves):
    """The keys of the values that are drawn as lines."""
    kinds = curves.kind_keys()
    return [k for k in curves.values if k.endswith("_loss") and k not in kinds]


def stacked(curves, keys):
    """Contributions on top of one another, the negative below zero.

    Args:
        curves: Of training or of validation, `Curves`.
        keys: Whose contributions, each in the epochs of the first.

    Yields:
        `(key, epochs, finite, base, end)`, `(n,)` arrays but for the key: each
        lies between `base` and `end`; one that is not finite has no height.
    """
    pile = Pile()
    for key in keys:
        epochs, values = curves.of(key)
        finite = np.isfinite(values)
        base, end = pile.add(np.where(finite, values, 0.0))
        yield key, epochs, finite, base, end


class Pile:
    """Values on top of one another, the negative below zero."""

    def __init__(self):
        self._above = self._below = 0.0

    def add(self, values):
        """Where values begin and end on those that are there.

        Args:
            values: `(n,)`, finite.

        Returns:
            `(base, end)`, `(n,)`.
        """
        base = np.where(values >= 0.0, self._above, self._below)
        self._above = self._above + np.maximum(values, 0.0)
        self._below = self._below + np.minimum(values, 0.0)
        return base, base + values


def shares_of(curves, keys):
    """`Curves` of the shares of the loss, `contribution / loss`.

    An epoch whose loss is not above 0 has none.

    Args:
        curves: Of training or of validation, `Curves`.
        keys: Of contributions in every epoch of the loss.
    """
    epochs, loss = curves.of("loss")
    some = np.isfinite(loss) & (loss > 0.0)
    shares = Curves()
    for key in keys:
        with np.errstate(invalid="ignore"):  # NaN stays NaN
            share = curves.values[key][some] / loss[some]
        shares.epochs[key], shares.values[key] = epochs[some], share
    return shares


def linear_below(values):
    """How far from 0 a logarithmic axis of these values has to be linear.

    Args:
        values: All values that are drawn on it, `(n,)`.

    Returns:
        A number; None where all are positive, so that it need not be.
    """
    finite = values[np.isfinite(values)]
    if np.all(finite > 0.0):
        return None
    return 1e-2 * float(np.max(np.abs(finite), initial=1e-6))


def merged(*several):
    """The keys of several lists, each once."""
    return list(dict.fromkeys(key for keys in several for key in keys))
