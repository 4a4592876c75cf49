"""`add_loss` with a name, a weight and a reduction, for layers and models."""

import math
import numbers

import keras
import numpy as np
from keras import ops

from keras_losskit import _keras
from keras_losskit import _weights as weights_lib
from keras_losskit import reductions
from keras_losskit._origin import overriding_class
from keras_losskit._support import replicas
from keras_losskit._support.counting import Flags
from keras_losskit._support.precision import at_least_float32
from keras_losskit._types import ReductionLike
from keras_losskit._types import Structure
from keras_losskit._types import Tensor
from keras_losskit._types import Weight
from keras_losskit.penalties._log import LogsValues
from keras_losskit.penalties._recorder import Recorder
from keras_losskit.penalties._recorder import TellsLosses
from keras_losskit.penalties._recorder import named_as
from keras_losskit.penalties._recorder import note
from keras_losskit.penalties.collect import PenaltyList
from keras_losskit.penalties.collect import collect_losses
from keras_losskit.reductions._sample_values import current_watch
from keras_losskit.terms import checked_term_name


class AddsLosses(TellsLosses, LogsValues):
    """Mixin for Keras layers and models: losses that know name and kind."""

    def add_loss(
        self,
        loss: Structure,
        name: str | None = None,
        weight: Weight = 1.0,
        reduction: ReductionLike | None = None,
    ) -> None:
        """Add a term to the loss, from inside `call`.

        `total += weight * reduction(loss)`. In a plain `keras.Model` the
        product is added, as Keras does, and `fit` rejects a schedule, which
        would stand at its first step;
        in a `keras_losskit.Model` value and weight are kept apart and a named
        loss is logged as `<name>_loss`, unweighted. Losses of one name are one
        log: their sum.

        Args:
            loss: A scalar or per-sample values `(batch, ...)`, a tensor or a
                number; or a nest of them.
            name: The name to log it under.
            weight: A number, a `keras.Variable` or a schedule.
            reduction: How per-sample values become a scalar: a name or an
                object of `keras_losskit.reductions`. Defaults to their mean;
                to their sum, as in Keras, where neither `name` nor `weight` is
                given.

        Raises:
            ValueError: for a value that is no finite number or tensor, or a
                loss that could not leave the loop or transformation it is in.
        """
        if name is not None:
            what = f"the name of a loss of layer '{self.name}'"
            checked_term_name(name, what)
        if name is not None and "/" in name:
            raise ValueError(
                f"Expected the name of a loss of layer '{self.name}' to be a "
                f"string without '/'. Received: name={name!r}"
            )
        if reduction is None:
            as_keras = (
                name is None and isinstance(weight, float) and weight == 1.0
            )
            reduction = "sum" if as_keras else "sum_over_batch_size"
        label = f"{self.name}/{name or 'added'}"
        weight = weights_lib.check_weight(weight, name=label)
        for value in keras.tree.flatten(loss):
            value = checked_value(self, value)
            recorder = Recorder.current()
            if recorder is not None and not recorder.forward:
                value = shares(value, reduction, label)
            else:
                value = reduced(value, reduction, label)
            if overriding_class(self, "add_loss", after=AddsLosses):
                named_as.run((name, weight), super().add_loss, value)
            else:
                self._losskit_take_loss(value, name, weight)

    def _losskit_take_loss(self, value, name, weight):
        """Have a checked loss taken down, by Keras too."""
        note(self, "added", value, name, weight)

    @property
    def regularization_losses(self) -> list[Tensor]:
        """Penalties of the weight regularizers here and below."""
        return self._losskit_losses_of_kind("regularization")

    @property
    def activity_losses(self) -> list[Tensor]:
        """Penalties of the activity regularizers in the last pass."""
        return self._losskit_losses_of_kind("activity")

    @property
    def added_losses(self) -> list[Tensor]:
        """What `add_loss` added in the last pass, weights applied."""
        return self._losskit_losses_of_kind("added")

    def _losskit_losses_of_kind(self, kind):
        terms = collect_losses(self)
        return list(PenaltyList(term for term in terms if term.kind == kind))


def checked_value(layer, value):
    """`value` as a tensor of float32 at least, refused if it is no number."""
    problem = None
    if isinstance(value, keras.KerasTensor):
        problem = (
            "a symbolic tensor, which has no value. In a functional model use "
            "`keras_losskit.layers.AddLoss(fn)(inputs)`"
        )
    elif isinstance(value, numbers.Real) and not isinstance(value, bool):
        if math.isfinite(value):
            return ops.convert_to_tensor(float(value), dtype="float32")
        problem = repr(value)
    else:
        try:
            tensor = ops.convert_to_tensor(value)
            dtype = keras.backend.standardize_dtype(tensor.dtype)
            if dtype not in ("bool", "string") and "complex" not in dtype:
                return at_least_float32(tensor)
            problem = f"a tensor of dtype {dtype}"
        except (TypeError, ValueError):
            problem = f"{value!r} (of type {type(value).__name__})"
    raise ValueError(
        f"Expected a loss that layer '{layer.name}' adds to be a finite number "
        f"or a tensor of numbers. Received: {problem}"
    )


def of_what_counts(fn, x, mask):
    """`fn(x)`, to whose gradient nothing that is masked adds.

    Args:
        fn: A function of `x` that returns a scalar or values `(batch, ...)`.
        x: A tensor, `(batch, ...)`, or a nest where there is no mask.
        mask: Its mask, `(batch, ...)`, or None. Values of fewer dimensions are
            of all of `x`.
    """
    if mask is None:
        return fn(x)
    values = fn(Flags(masks=(mask,)).apply(x))
    if len(np.shape(values)) < len(mask.shape):
        return fn(x)
    return values


def reduced(value, reduction, label, mask=None):
    """The scalar of a checked loss.

    Args:
        value: A scalar, which stays as it is, or values `(batch, ...)`; a mask
            that Keras left on them is honoured.
        reduction: A name or an object of `keras_losskit.reductions`.
        label: What the loss is called in an error.
        mask: Optional mask, in place of that one; of no effect on values that
            have fewer dimensions.

    Raises:
        ValueError: if the reduction gives no scalar.
    """
    reduce = reductions.get(reduction)
    if not len(value.shape):
        return value
    if mask is None:
        mask = _keras.get_keras_mask(value)
    if mask is not None and len(value.shape) < len(mask.shape):
        mask = None

    def scalar(value, weight, mask):
        with replicas.local_only():
            result = reduce(value, weight, mask)
        # The container takes the mean over replicas.
        return result * replicas.num_parts() if reduction == "sum" else result

    result = scalar(value, None, mask)
    if len(result.shape):
        raise ValueError(
            f"Expected the reduction of loss '{label}' to give a scalar. "
            f"Received: reduction={reduction!r}, shape {tuple(result.shape)}"
        )
    recorder = Recorder.current()
    watch = current_watch() if recorder is None else recorder.watch
    if watch is not None:
        watch.note(result, value, None, mask, scalar)
    return result


def shares(value, reduction, label):
    """What each sample adds to the reduced value, `(batch, 1)`, if known.

    A step of an RNN that is masked for some samples leaves out their share.

    Returns:
        The shares where the reduction is a sum or a mean over all elements;
        else the scalar.
    """
    if not len(value.shape) or _keras.get_keras_mask(value) is not None:
        return reduced(value, reduction, label)
    if reduction not in ("sum", "sum_over_batch_size", "mean"):
        return reduced(value, reduction, label)
    shape = ops.shape(value)
    sums = ops.sum(ops.reshape(value, (shape[0], -1)), axis=1, keepdims=True)
    if reduction == "sum":
        return sums * replicas.num_parts()
    return sums / ops.cast(ops.size(value), sums.dtype)
