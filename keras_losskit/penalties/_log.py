"""`log` for layers and models: values in the logs that are in no total."""

from collections.abc import Iterable

import keras
from keras import ops

from keras_losskit import _backend
from keras_losskit._support import replicas
from keras_losskit._support.precision import at_least_float32
from keras_losskit._types import MixesIntoLayer
from keras_losskit._types import Structure
from keras_losskit._types import Tensor
from keras_losskit._types import TensorLike
from keras_losskit.penalties._recorded import LoggedValue
from keras_losskit.penalties._recorder import Recorder


class LogsValues(MixesIntoLayer):
    """Mixin for Keras layers and models: values for the logs."""

    def log(self, name: str, value: TensorLike) -> None:
        """Log a value beside the terms, from inside `call`.

        `fit` logs the mean over the epoch as `name`, and over validation as
        `val_<name>`, weighted by the batch size, as tf.keras did for
        `add_metric`. The value is in no total, has no gradient, and may be NaN.
        If a layer is called several times in a pass, the mean of its values
        counts. In a plain `keras.Model` nothing is logged.

        Args:
            name: The key in the logs.
            value: A number or a tensor of numbers, of which the mean is taken.

        Raises:
            ValueError: if the value is not a number or tensor, or if it cannot
                leave the loop or transformation it is in; before training, if
                the name is already logged. A model raises it too outside of
                `call`, except in a custom `compute_loss` before it calls
                `super().compute_loss(...)`.

        Example:
            >>> import keras_losskit as losskit
            >>> class Watched(losskit.layers.Layer):
            ...     def call(self, x):
            ...         self.log("positive", x > 0)
            ...         return x
            >>> inputs = keras.Input((2,))
            >>> model = losskit.Model(inputs, Watched()(inputs))
            >>> model.compile(loss="mse")
            >>> x = ops.array([[1.0, -1.0], [2.0, 3.0]])
            >>> model.evaluate(x, x, verbose=0, return_dict=True)
            {'loss': 0.0, 'positive': 0.75}
        """
        checked_name(self, name)
        value = logged_scalar(self, name, value)
        self._losskit_take_log(LoggedValue(self, name, value))

    def _losskit_take_log(self, entry):
        """Have a `LoggedValue` taken down in the pass under way, if any."""
        recorder = Recorder.current()
        if recorder is not None:
            recorder.log(entry)


def checked_name(layer, name):
    """Refuse what is no name for a logged value."""
    if isinstance(name, str) and name and not name.startswith("val_"):
        return
    raise ValueError(
        f"Expected layer '{layer.name}' to log under a name that does not "
        f"begin with 'val_', which Keras puts before it. Received: {name!r}"
    )


def logged_scalar(layer, name, value):
    """The mean of a value, without gradient, in float32 at least."""
    problem = None
    if isinstance(value, keras.KerasTensor):
        problem = "a symbolic tensor, which has no value"
    else:
        try:
            tensor = ops.convert_to_tensor(value)
            dtype = keras.backend.standardize_dtype(tensor.dtype)
            if dtype != "string" and "complex" not in dtype:
                tensor = at_least_float32(ops.stop_gradient(tensor))
                return ops.mean(tensor) if len(tensor.shape) else tensor
            problem = f"a tensor of dtype {dtype}"
        except (TypeError, ValueError):
            problem = f"{value!r} (of type {type(value).__name__})"
    raise ValueError(
        f"Expected what layer '{layer.name}' logs as '{name}' to be a number "
        f"or a tensor of numbers. Received: {problem}"
    )


def logged_means(logged: Iterable[LoggedValue]) -> dict[str, Tensor]:
    """`{name: mean}` of what was logged in a pass.

    Args:
        logged: What a `Recorder` took down.

    Raises:
        ValueError: if two layers logged under one name.
    """
    by_name: dict[str, list[LoggedValue]] = {}
    for entry in logged:
        by_name.setdefault(entry.name, []).append(entry)
    for name, entries in by_name.items():
        paths = {e.layer.path or e.layer.name for e in entries}
        if len({id(entry.layer) for entry in entries}) > 1:
            raise ValueError(
                f"Expected one layer to log '{name}'. Received: several, "
                f"{sorted(paths)}. Put the name of the layer before it: "
                f"self.log(f'{{self.name}}_{name}', value)."
            )
    return {name: mean_value(entries) for name, entries in by_name.items()}


def mean_value(entries):
    """The mean of some `LoggedValue`s; 0 while shapes are inferred."""
    values = [entry.value for entry in entries if entry.value is not None]
    if not values:
        return ops.zeros(())
    return sum(values[1:], values[0]) / len(values)


def of_all_replicas(values: dict[str, Tensor], batch: Structure):
    """Means over the samples of all replicas, of those that each has.

    Args:
        values: `{name: scalar}`.
        batch: A nest of tensors `(batch, ...)` of this replica.
    """
    if replicas.num_parts() == 1 or not values:
        return values
    first = next(x for x in keras.tree.flatten(batch) if x is not None)
    size = ops.cast(ops.shape(first)[0], "float32")
    share = ops.divide_no_nan(size, replicas.total_of(size))
    parts = ops.stack([ops.cast(v, "float32") * share for v in values.values()])
    (means,) = _backend.sum_over_replicas([parts], few=True)
    return dict(zip(values, ops.unstack(means, len(values)), strict=True))
