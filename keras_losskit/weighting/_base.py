"""What weightings of terms and of samples share: their terms, and files."""

import warnings
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_losskit._support.checks import checked_count
from keras_losskit._support.checks import checked_flag
from keras_losskit._support.checks import checked_name
from keras_losskit._support.checks import naming_the_class
from keras_losskit._support.checks import refused
from keras_losskit._types import Config
from keras_losskit._types import DType
from keras_losskit.weighting._own_arguments import own_arguments
from keras_losskit.weighting._variable_selection import VariableSelection
from keras_losskit.weighting._variable_selection import checked_names
from keras_losskit.weighting._variable_selection import named


class WeightingOfTerms(keras.layers.Layer):
    """A layer that weighs some of the terms of a loss, and is saved.

    Args:
        terms: The terms that take part; None for all.
        name: Name of the layer.
        dtype: Dtype of the variables; None for float32.
        trainable: Whether what the method learns is learned.
    """

    #: What a `GradientWeighting` can be given.
    wrt: VariableSelection | None = None
    every = 1

    @naming_the_class
    def __init__(
        self,
        *,
        terms: str | Sequence[str] | None = None,
        name: str | None = None,
        dtype: DType | None = None,
        trainable: bool = True,
    ):
        owner = type(self).__name__
        if name is not None:
            checked_name(name, f"`name` of {owner}")
        super().__init__(
            name=name,
            dtype=checked_dtype(
                "float32" if dtype is None else dtype, f"`dtype` of {owner}"
            ),
            trainable=checked_flag(trainable, f"`trainable` of {owner}"),
        )
        self.terms = None if terms is None else checked_names(terms, "`terms`")
        self.num_terms: Any = None  # until it is built

    def members(self, names: Sequence[str]) -> list[str]:
        """Those of the names of all terms that take part, in their order."""
        if self.terms is None:
            return list(names)
        return named(self.terms, names, f"`terms` of {type(self).__name__}")

    def build(self, num_terms: int) -> None:
        """Make the variables for `num_terms` terms."""
        if num_terms == 0:
            raise ValueError(
                f"Expected {self!r} to have a term to weigh: a compiled loss "
                "or an extra term. Received: `num_terms` of 0. Give `compile` "
                "a loss, or leave `weighting` out: penalties keep the weights "
                "that you gave."
            )
        self.num_terms = checked_count(num_terms, f"`num_terms` of {self.name}")

    def get_build_config(self) -> Config | None:
        return {"num_terms": self.num_terms} if self.built else None

    def build_from_config(self, config: Config | None) -> None:
        """Build as the layer was that was saved."""
        if config:
            self.build(config["num_terms"])

    def save_own_variables(self, store: Any) -> None:
        super().save_own_variables(store)
        if self.num_terms is not None:
            store["num_terms"] = np.array(self.num_terms)
            # Not every backend hands Keras' writer a string.
            name = keras.saving.get_registered_name(type(self))
            store["class"] = np.frombuffer(name.encode(), "uint8")

    def load_own_variables(self, store: Any) -> None:
        """Read the state, and build for it; without one all stays as it is.

        Raises:
            ValueError: for the state of another weighting.
        """
        rest = {key: store[key] for key in store.keys()}
        if not rest:
            return
        try:
            self._check_class(rest.pop("class", None))
            num_terms = rest.pop("num_terms", self.num_terms)
            if not self.built and num_terms is not None:
                self.build(int(np.asarray(num_terms)))
            super().load_own_variables(rest)
        except ValueError as error:
            # Keras forgets an error if it finds the object by another name too,
            # as the loss of a model and all below it.
            warnings.warn(str(error), stacklevel=2)
            raise

    def _check_class(self, stored):
        """Refuse the state of another class; 0.1.0 wrote no name: None."""
        expected = keras.saving.get_registered_name(type(self))
        if stored is None:
            return
        received = np.asarray(stored, "uint8").tobytes().decode()
        if received != expected:
            raise ValueError(
                f"Expected the state of {short(expected)} for {self!r}. "
                f"Received: a file with that of {short(received)}. Compile "
                "the model with that weighting, or without one."
            )

    def on_epoch_end(self) -> None:
        """Take note that an epoch of training is over."""

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            **own_arguments(self),
            "terms": None if self.terms is None else list(self.terms),
        }

    def __repr__(self) -> str:
        try:
            config = self.get_config()
        except NotImplementedError:  # none can be derived
            return f"{type(self).__name__}(...)"
        arguments = [
            f"{name}={shortened(value)}"
            for name, value in config.items()
            if name not in ("name", "trainable", "dtype")
            and value is not None
            and (name, value) != ("every", 1)
        ]
        return f"{type(self).__name__}({', '.join(arguments)})"


def checked_dtype(dtype, what):
    """Return `dtype` if it is a dtype of floats, or a policy."""
    if isinstance(dtype, keras.DTypePolicy):
        return dtype
    try:
        floats = keras.backend.is_float_dtype(dtype)
    except (TypeError, ValueError, AttributeError):
        floats = False
    if not floats:
        raise refused(
            dtype, f"{what} to be a dtype of floats", error=ValueError
        )
    return dtype


def short(registered_name):
    """The name of a class without the package it is registered for."""
    return registered_name.rpartition(">")[2]


def shortened(value):
    """The `repr` of an argument; of a long list, its beginning."""
    if isinstance(value, list) and len(value) > 8:
        first = ", ".join(map(repr, value[:6]))
        return f"[{first}, ...]"
    return repr(value)
