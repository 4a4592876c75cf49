"""Predictions, and what several losses derive from them."""

from typing import TypeAlias

import keras
from keras import ops

from keras_losskit._support.precision import at_least_float32


class Logits:
    """Logits with their softmax and log-softmax, each computed once.

    A composite makes one for each of its calls and hands it to its losses.

    Args:
        tensor: Logits, `(batch, ...)`.
    """

    def __init__(self, tensor):
        self.tensor = ops.convert_to_tensor(tensor)
        self._derived = {}

    def astype(self, dtype):
        """The logits in another dtype, made once for each."""
        if keras.backend.standardize_dtype(self.tensor.dtype) == dtype:
            return self
        return self._once(dtype, lambda: Logits(ops.cast(self.tensor, dtype)))

    def counted(self, flags):
        """The logits that a loss sees under `Flags`, made once for each axis.

        A composite has the same weights and masks for all of its losses.
        """
        if not flags:
            return self
        key = ("counted", *(self._axis(axis) for axis in flags.axes))
        return self._once(key, lambda: Logits(flags.apply(self.tensor)))

    def log_probabilities(self, axis=-1):
        """`log_softmax` along `axis`, of the logits' shape."""
        return self._once(
            ("log", self._axis(axis)),
            lambda: ops.log_softmax(self.tensor, axis=axis),
        )

    def probabilities(self, axis=-1):
        """`softmax` along `axis`, of the logits' shape."""
        return self._once(
            ("softmax", self._axis(axis)),
            lambda: ops.exp(self.log_probabilities(axis)),
        )

    def _axis(self, axis):
        return axis % len(self.tensor.shape)

    def _once(self, key, compute):
        if key not in self._derived:
            self._derived[key] = compute()
        return self._derived[key]


class Probabilities:
    """Class probabilities, with the interface of `Logits`.

    Args:
        tensor: Probabilities, `(batch, ...)`, clipped for the logarithm.
    """

    def __init__(self, tensor):
        self.tensor = ops.convert_to_tensor(tensor)

    def counted(self, flags):
        """The probabilities that a loss sees under `Flags`."""
        return Probabilities(flags.apply(self.tensor)) if flags else self

    def log_probabilities(self, axis=-1):
        """The logarithm of the probabilities, whatever `axis`."""
        return ops.log(ops.clip(self.tensor, keras.config.epsilon(), 1.0))

    def probabilities(self, axis=-1):
        """The probabilities, whatever `axis`."""
        return self.tensor


#: What a loss over classes is computed from.
Predicted: TypeAlias = Logits | Probabilities


def predicted(y_pred, from_logits):
    """`y_pred` as `Logits` or `Probabilities`, of float32 at least."""
    y_pred = at_least_float32(y_pred)
    return Logits(y_pred) if from_logits else Probabilities(y_pred)


def not_all_zero(probabilities, axis):
    """`probabilities`, even ones in place of those that are all 0.

    Keras divides by their sum, which is 0 / 0.

    Args:
        probabilities: Of classes, `(batch, ...)`.
        axis: The axis of the classes.
    """
    total = ops.sum(probabilities, axis=axis, keepdims=True)
    return probabilities + ops.cast(ops.equal(total, 0.0), total.dtype)


def nonnegative(values):
    """`values` of a loss that is never below 0, without rounding below it.

    The gradient stays, unlike that of a maximum.
    """
    rounding = ops.stop_gradient(ops.minimum(values, 0.0))
    return values - rounding


def resolution(dtype):
    """The distance from 1 to the next number below it, in a float dtype."""
    bits = {"bfloat16": 8, "float16": 11, "float32": 24, "float64": 53}
    return 2.0 ** -bits[keras.backend.standardize_dtype(dtype)]
