"""What of a history is drawn."""

import itertools

import numpy as np

from keras_losskit.terms import KINDS


class Curves:
    """What is known of training, or of validation.

    `values` and `epochs` are `{key: (n,) array}`.
    """

    def __init__(self):
        self.values = {}
        self.epochs = {}

    def of(self, key):
        """Epochs and values of a key."""
        return self.epochs[key], self.values[key]


def separate_curves(history):
    """`{"": Curves, "val_": Curves}` of a history in any of its forms.

    The `History` of our `fit` and a `TermHistory` know the epochs of each key.
    In others a key with fewer values than the rest is taken for one of every
    n-th epoch, which is right where n divides the number of epochs.
    """
    if hasattr(history, "rows"):  # a TermHistory
        epochs = [row["epoch"] for row in history.rows()]
    else:
        epochs = getattr(history, "epoch", None)
    noted = getattr(history, "epochs_by_key", {})
    columns = getattr(history, "history", history)
    longest = max((len(columns[key]) for key in columns.keys()), default=0)
    if epochs is None or len(epochs) != longest:
        epochs = range(longest)
    runs = {"": Curves(), "val_": Curves()}
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
        run, name = runs[prefix], key.removeprefix(prefix)
        run.epochs[name] = np.array([epoch for epoch, _ in known])
        run.values[name] = np.array([value for _, value in known], "float64")
    return runs


def kind_keys(values):
    """The keys of the kinds' contributions, which sum to `loss`.

    An output may bear the name of a kind, whose key is `total_<kind>_loss`
    then, if it is logged at all; so the sum decides.
    """
    candidates = [
        key
        for kind in KINDS
        for key in (f"{kind}_loss", f"total_{kind}_loss")
        if key in values and len(values[key]) == len(values["loss"])
    ]
    for count in range(len(candidates), 1, -1):
        for keys in itertools.combinations(candidates, count):
            total = sum(values[key] for key in keys)
            if np.allclose(
                total, values["loss"], rtol=1e-3, atol=1e-6, equal_nan=True
            ):
                return list(keys)
    return []


def stacked_keys(values, stack):
    """The keys whose contributions are drawn."""
    if stack == "kinds":
        return kind_keys(values) or ["loss"]
    if stack != "terms":
        raise ValueError(
            "Expected `stack` to be 'kinds' or 'terms'. Received: "
            f"stack={stack!r}"
        )
    keys = [key for key in values if key.endswith("_contribution")]
    if not keys:
        raise ValueError(
            "Expected contributions of terms in the history, which "
            'LossesContainer(..., log="all") logs. Received: keys '
            f"{sorted(values)}"
        )
    return keys


def line_keys(values):
    """The keys of the values that are drawn as lines."""
    kinds = kind_keys(values)
    return [k for k in values if k.endswith("_loss") and k not in kinds]


def merged(*several):
    """The keys of several lists, each once."""
    return list(dict.fromkeys(key for keys in several for key in keys))
