"""Scopes that watch or hold back what happens in them."""

import contextlib
import random

import keras
import numpy as np

from keras_losskit import _backend
from keras_losskit import _keras


@contextlib.contextmanager
def random_state_kept():
    """Leave the random numbers that Keras shuffles with as they were."""
    of_python, of_numpy = random.getstate(), np.random.get_state()
    try:
        with _backend.random_state_kept():
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)


class VariableReads(keras.StatelessScope):
    """Scope that notes which variables are read in it.

    It leaves everything else to the scope around it; losses of layers, which
    are of no use, end with it.
    """

    def __init__(self):
        super().__init__(collect_losses=True)
        self._read = {}
        #: `{id: reader}` of those that were read first in the name of somebody.
        self.readers = {}
        self.reader = None

    @staticmethod
    def current():
        """The scope of this kind that is innermost, or None."""
        scope = _keras.get_stateless_scope()
        return scope if isinstance(scope, VariableReads) else None

    @property
    def variables(self):
        """The variables that were read, each once, in order."""
        return list(self._read.values())

    def get_current_value(self, variable):
        """The value in the outer scope, after a note."""
        self._read[id(variable)] = variable
        if self.reader is not None:
            self.readers.setdefault(id(variable), self.reader)
        value = super().get_current_value(variable)
        if value is None and self.original_scope is not None:
            value = self.original_scope.get_current_value(variable)
        return value

    def add_update(self, update):
        """Hand an assignment to the outer scope."""
        self.original_scope.add_update(update)


class Aside(keras.StatelessScope):
    """Scope whose assignments end with it.

    Unlike Keras' it reads what the scope around it holds: there the variables
    of a model in training have their values.
    """

    def get_current_value(self, variable):
        """The value here, else in the outer scope."""
        value = super().get_current_value(variable)
        if value is None and self.original_scope is not None:
            value = self.original_scope.get_current_value(variable)
        return value
