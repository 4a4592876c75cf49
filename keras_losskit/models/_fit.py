"""`fit`, `evaluate` and `predict`: what they take and keep beyond Keras."""

import inspect
from typing import Any

import keras
import numpy as np

from keras_losskit import _keras
from keras_losskit._support.output_structure import like_labels
from keras_losskit._support.output_structure import names_of_outputs
from keras_losskit._types import MixesIntoModel
from keras_losskit._types import Structure
from keras_losskit.models._epochs import with_epoch_end
from keras_losskit.models._output_layers import find_output_layers
from keras_losskit.models._samples import attach_samples

#: Names of the arguments after those that ours name, in Keras' order.
FIT_ARGUMENTS, EVALUATE_ARGUMENTS, COMPILE_ARGUMENTS = (
    tuple(inspect.signature(method).parameters)[named:]
    for method, named in (
        (keras.Model.fit, 3),
        (keras.Model.evaluate, 3),
        (keras.Model.compile, 4),
    )
)


class FitArguments(MixesIntoModel):
    """Mixin for a Keras model: partial weights, epochs told, state kept."""

    def fit(
        self,
        x: Structure | None = None,
        y: Structure | None = None,
        *args,
        **kwargs,
    ) -> keras.callbacks.History:
        """As Keras; sample weights may be given by name, or in part."""
        given = named_arguments(FIT_ARGUMENTS, args, kwargs)
        refuse_class_weight_of_several(given.get("class_weight"), y)
        given["callbacks"] = with_epoch_end(given.get("callbacks"), self)
        given["sample_weight"] = self._losskit_like_labels(
            given.get("sample_weight"), y
        )
        validation_data = given.get("validation_data")
        several = isinstance(validation_data, (tuple, list))
        if several and len(validation_data) == 3:
            val_x, val_y, weight = validation_data
            weight = self._losskit_like_labels(weight, val_y)
            given["validation_data"] = (val_x, val_y, weight)
        offer_validation_data(given)
        attach_samples(self, x, given["callbacks"])
        self._losskit_state.fits = True
        try:
            with _keras.variables_kept(self):
                return super().fit(x, y, **given)
        finally:
            self._losskit_state.fits = False

    def evaluate(
        self,
        x: Structure | None = None,
        y: Structure | None = None,
        *args,
        **kwargs,
    ) -> Any:
        """As Keras; sample weights may be given by name, or in part."""
        given = named_arguments(EVALUATE_ARGUMENTS, args, kwargs)
        given["sample_weight"] = self._losskit_like_labels(
            given.get("sample_weight"), y
        )
        self._losskit_state.evaluates = True
        try:
            with _keras.variables_kept(self):
                return super().evaluate(x, y, **given)
        finally:
            self._losskit_state.evaluates = False

    def make_train_function(self, force: bool = False) -> Any:
        """As Keras; the layers that a loss names are looked for."""
        find_output_layers(self)
        return super().make_train_function(force)

    def make_test_function(self, force: bool = False) -> Any:
        """As Keras; the layers that a loss names are looked for."""
        find_output_layers(self)
        return super().make_test_function(force)

    def predict(self, *args, **kwargs) -> Structure:
        """As Keras; the model stays usable after an exception."""
        with _keras.variables_kept(self):
            return super().predict(*args, **kwargs)

    def _losskit_like_labels(self, sample_weight, y):
        names = names_of_outputs(self)
        return like_labels(sample_weight, y, names)


def refuse_class_weight_of_several(class_weight, y):
    """Refuse `class_weight` with labels of several outputs, as Keras does."""
    if class_weight is None or not isinstance(y, dict | list | tuple):
        return
    arrays = [np.shape(leaf) != () for leaf in keras.tree.flatten(y)]
    if len(arrays) > 1 and all(arrays):
        raise ValueError(
            "`class_weight` is only supported for Models with a single "
            f"output. Expected labels of one output. Received: {len(arrays)} "
            "arrays of labels. Give the loss of an output the weights of its "
            "classes: `loss(reduction=keras_losskit.reductions.ClassWeighted("
            "weights=class_weight))`."
        )


def named_arguments(names, args, kwargs):
    """Positional and keyword arguments, all by name."""
    if len(args) > len(names):
        raise TypeError(
            f"Expected no positional argument after `{names[-1]}`. Received: "
            f"{len(args) - len(names)} more"
        )
    return dict(zip(names, args, strict=False)) | kwargs


def without_defaults(given):
    """Arguments of `compile` by name, but for those that Keras defaults to."""
    parameters = inspect.signature(keras.Model.compile).parameters
    return {
        name: value
        for name, value in given.items()
        if value is not parameters[name].default
    }


class TakesValidationData:
    """Mixin for a callback that `fit` shows its validation data."""

    def take_validation_data(self, data: Any, batch_size: int) -> None:
        """Take note of it before training.

        Args:
            data: What `fit` was given; None for nothing.
            batch_size: The size of its batches.
        """
        raise NotImplementedError


def offer_validation_data(given):
    """Hand the arguments on validation to callbacks that ask for them.

    Args:
        given: The arguments of `fit`, `callbacks` a list.
    """
    callbacks = given["callbacks"]
    if isinstance(callbacks, keras.callbacks.CallbackList):
        callbacks = callbacks.callbacks
    for callback in callbacks:
        if isinstance(callback, TakesValidationData):
            callback.take_validation_data(
                given.get("validation_data"),
                given.get("validation_batch_size")
                or given.get("batch_size")
                or 32,
            )
