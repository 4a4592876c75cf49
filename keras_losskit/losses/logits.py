"""`Logits`: a prediction, and what several losses derive from it."""

import keras
from keras import ops


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
