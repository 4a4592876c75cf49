"""`fit`, `evaluate` and `predict`: what they take and keep beyond Keras."""

import inspect
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_losskit import _backend
from keras_losskit import _keras
from keras_losskit import _origin
from keras_losskit._support.output_structure import in_order_of
from keras_losskit._support.output_structure import like_labels
from keras_losskit._support.output_structure import like_outputs
from keras_losskit._support.output_structure import names_of_outputs
from keras_losskit._types import MixesIntoModel
from keras_losskit._types import Structure
from keras_losskit._types import Tensor
from keras_losskit.container._laying import lay_losses
from keras_losskit.container._tracker import TermTracker
from keras_losskit.models._build_losses import check_names_of_metrics
from keras_losskit.models._output_layers import find_output_layers
from keras_losskit.models._samples import attach_samples
from keras_losskit.models._token_metrics import update_metrics_without_logits

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

    def compute_metrics(
        self,
        x: Structure | None,
        y: Structure | None,
        y_pred: Structure,
        sample_weight: Structure | None = None,
    ) -> dict[str, Tensor]:
        """As Keras; sample weights may be given by name, or in part.

        Args:
            x: Inputs of the batch.
            y: Labels.
            y_pred: Predictions.
            sample_weight: Sample weights.

        Returns:
            `{name: result}` of all metrics.
        """
        if isinstance(sample_weight, dict):
            names = names_of_outputs(self)
            sample_weight = like_outputs(sample_weight, y_pred, names)
        if _keras.compiled_metrics(self) is not None:
            y = labels_of_metrics(self, y, y_pred)
        if update_metrics_without_logits(self, y, y_pred, sample_weight):
            results = self.get_metrics_result()
        else:
            results = super().compute_metrics(x, y, y_pred, sample_weight)
        losses = self.compiled_loss and self.compiled_loss.built_losses
        if losses and not losses.names_are_checked:
            check_names_of_metrics(self)
        return results

    def get_metrics_result(self) -> dict[str, Tensor]:
        """As Keras; with the terms and `loss`, whoever leaves them out.

        Returns:
            `{name: result}` of all metrics.
        """
        results = super().get_metrics_result()
        container = self.compiled_loss
        if container is None or container.tracker is None:
            return results
        tracker = container.tracker
        if not self._losskit_has_steps_of_its_own():
            # Those that a `metrics` of the user's leaves out.
            keys = ["loss", *tracker.result_keys()]
            left_out = [key for key in keys if key not in results]
            means = tracker.means() if left_out else {}
            return results | {key: means[key] for key in left_out}
        mean = container.loss_tracker
        if any(metric is mean for metric in self.metrics):
            total = tracker.means()["loss"]
            results["loss"] = ops.where(mean.count > 0, mean.result(), total)
        return results

    def reset_metrics(self) -> None:
        """As Keras, with the terms."""
        super().reset_metrics()
        container = self.compiled_loss
        if container is not None and container.tracker is not None:
            container.tracker.reset_state()

    @property
    def metrics_variables(self) -> list[keras.Variable]:
        """As Keras, with those of the terms, if only Keras' steps use them."""
        variables = super().metrics_variables
        container = self.compiled_loss
        if (
            container is None
            or container.tracker is None
            or self._losskit_has_steps_of_its_own()
        ):
            return variables
        known = {id(variable) for variable in variables}
        of_terms = container.tracker.variables
        return variables + [v for v in of_terms if id(v) not in known]

    def _losskit_has_steps_of_its_own(self):
        """Whether a custom step may say what is logged."""
        return _origin.overrides(self, "train_step") or _origin.overrides(
            self, "test_step"
        )

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """As Keras, and the metric of all terms, second.

        Not last: a `train_step` in the style of Keras' guides returns what the
        last one has to say.
        """
        metrics = super().metrics
        # A model that a user's property leaves out is logged as it says.
        terms = [m for m in metrics if isinstance(m, TermTracker)]
        rest = [m for m in metrics if not isinstance(m, TermTracker)]
        return rest[:1] + terms + rest[1:]

    @property
    def metrics_names(self) -> list[str]:
        """As Keras: the names of its metrics, which are not the terms."""
        return [name for names in self._losskit_names() for name in names[:1]]

    def _losskit_names_in_list(self) -> list[str]:
        """The names of Keras' list of results, in its order.

        The terms are not there: `loss, mae = model.evaluate(x, y)` goes on
        working.
        """
        return [name for names in self._losskit_names() for name in names[1:]]

    def _losskit_names(self):
        """Of each metric that Keras has its name, then those of its results."""
        names, of_outputs, place = [], [], 1
        for metric in self.metrics:
            if isinstance(metric, TermTracker):
                plain = {e.key for e in metric.entries if e.plain}
                keys = [key for key in metric.result_keys() if key in plain]
                of_outputs = [(k, k) for k in self._losskit_as_in_list(keys)]
            elif isinstance(metric, _keras.CompileMetrics):
                results = [part.name for part in metric.metrics]
                names.append((metric.name, *results))
                place = len(names)
            else:
                names.append((metric.name, metric.name))
        # The losses of several outputs come after the compiled metrics.
        return names[:place] + of_outputs + names[place:]

    def _losskit_as_in_list(self, keys):
        """The keys of the losses of outputs in the order of Keras' list."""
        if not keys:
            return []
        container = self.compiled_loss
        outputs = container.built_losses.output_losses.outputs
        order = in_order_of(container.losses, outputs.skeleton)
        known = [f"{outputs.names[index]}_loss" for index in order]
        places = {key: place for place, key in enumerate(known)}
        return sorted(keys, key=lambda key: places.get(key, len(known)))

    def _losskit_term_names(self) -> set[str]:
        """The names of all that is logged of the terms."""
        container = self.compiled_loss
        if container is None or container.tracker is None:
            return set()
        keys = set(container.tracker.result_keys())
        own_steps = self._losskit_has_steps_of_its_own()
        return keys if own_steps else keys | {"loss"}

    def _losskit_like_labels(self, sample_weight, y):
        names = names_of_outputs(self)
        return like_labels(sample_weight, y, names)


def labels_of_metrics(model, y, y_pred):
    """Labels as Keras' metrics take them: None where a dict has no key.

    Args:
        model: The model.
        y: Labels.
        y_pred: Predictions.

    Raises:
        ValueError: for labels that are missing or fit no output, before a
            metric fails on them.
    """
    if y is None and model.compiled_loss is not None:
        lay_losses(model.compiled_loss, y, y_pred, "/")
    both = isinstance(y, dict) and isinstance(y_pred, dict)
    if not both or y_pred.keys() <= y.keys():
        return y
    names = names_of_outputs(model)
    return like_outputs(y, y_pred, names, argument="y_true")


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


class _EpochEnd(keras.callbacks.Callback):
    """Tells the container that an epoch is over, and the history which it was.

    `history.epochs_by_key`, `{key: [epoch, ...]}`, says what Keras' own
    `history.epoch` does not: which epochs had validation. Of the keys of
    `history.kinds_by_key`, `{key: kind}`, the values sum to `loss`.
    """

    def on_train_begin(self, logs=None):
        self.epochs_by_key = {}

    def on_epoch_begin(self, epoch, logs=None):
        # Not when it ends: what is evaluated until now belongs to it.
        container = self.model.compiled_loss
        if container is None:
            return
        if _backend.value_now(container.clock.epoch_over):
            container.on_epoch_end()

    def on_epoch_end(self, epoch, logs=None):
        for key in logs or ():
            self.epochs_by_key.setdefault(key, []).append(epoch)
        # A `CallbackList` may be without a history.
        history = getattr(self.model, "history", None)
        container = self.model.compiled_loss
        if history is not None:
            history.epochs_by_key = self.epochs_by_key
            if container is not None and container.built:
                history.kinds_by_key = container.tracker.kinds_by_key
        if container is not None:
            container.clock.epoch_over.assign(1)


def with_epoch_end(callbacks, model):
    """`callbacks`, preceded by the one that counts epochs of `model`.

    First, so that a callback that saves the model saves the count as well.
    """
    if isinstance(callbacks, keras.callbacks.CallbackList):
        # Keras takes a list as it is: it tells nobody the model, and one that
        # was given to `fit` before still has what was put into it.
        known = (c for c in callbacks.callbacks if isinstance(c, _EpochEnd))
        first = next(known, None)
        if first is None:
            first = _EpochEnd()
            callbacks.callbacks.insert(0, first)
        first.set_model(model)
        return callbacks
    if callbacks is None:
        callbacks = []
    elif not isinstance(callbacks, (list, tuple)):
        callbacks = [callbacks]
    return [_EpochEnd(), *callbacks]
