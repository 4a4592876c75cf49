"""`GradientNoiseScale`: whether the batch is too small or too large."""

from typing import Any

import keras

from keras_losskit._support.batches import is_read_once
from keras_losskit._support.checks import checked_count
from keras_losskit._support.checks import checked_fraction
from keras_losskit._support.checks import refused
from keras_losskit._types import Structure
from keras_losskit._types import Wrt
from keras_losskit.reports.noise_scale import gradient_noise_scale
from keras_losskit.reports.noise_scale import noise_scale
from keras_losskit.weighting._variable_selection import VariableSelection


class GradientNoiseScale(keras.callbacks.Callback):
    """Log the noise scale of the gradient in `fit`, in samples.

    `gradient_noise_scale(model, x, y)` at the end of an epoch. Its two
    estimates are averaged over the epochs, each by itself, as the paper
    advises: `a <- momentum * a + (1 - momentum) * new`, from the first one on.
    Their ratio is logged as `gradient_noise_scale`: about the batch size at
    which training is half as fast as it can be, and half as dear.

    Args:
        x: Inputs of some hundred samples, arrays, or a data set of batches.
        y: Labels.
        sample_weight: Sample weights.
        batch_size: See `gradient_noise_scale`.
        every: After every N-th epoch.
        momentum: Weight of earlier epochs, from 0 to 1.
        wrt: As for `gradient_report`.

    Raises:
        TypeError: for a generator, which can be read once.
        ValueError: for less data than two batches, at the first report.

    Reference:
        McCandlish, Kaplan, Amodei, "An Empirical Model of Large-Batch
        Training", 2018.

    Example:
        >>> import numpy as np
        >>> x = np.linspace(-1.0, 1.0, 8)[:, None]
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> watch = GradientNoiseScale(x, 3 * x, batch_size=2)
        >>> logs = model.fit(x, 3 * x, verbose=0, callbacks=[watch]).history
        >>> logs["gradient_noise_scale"][0] > 0
        True
    """

    def __init__(
        self,
        x: Structure,
        y: Structure | None = None,
        sample_weight: Structure | None = None,
        *,
        batch_size: int = 32,
        every: int = 1,
        momentum: float = 0.9,
        wrt: Wrt | None = None,
    ):
        super().__init__()
        owner = "GradientNoiseScale"
        if is_read_once(x):
            raise refused(
                x,
                f"`x` of {owner} to be read again at each report",
                remedy="Give arrays, or a data set",
            )
        self.data = x, y, sample_weight
        self.batch_size = checked_count(batch_size, f"`batch_size` of {owner}")
        self.every = checked_count(every, f"`every` of {owner}")
        self.momentum = checked_fraction(momentum, f"`momentum` of {owner}")
        if wrt is not None:
            VariableSelection(wrt)  # refused if it is none
        self.wrt = wrt
        #: Pairs of an epoch and its `NoiseScale`, of all calls of `fit`.
        self.history: list[tuple[int, Any]] = []
        self._signal = self._noise = 0.0

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Estimate, if the epoch is one to report, and log it."""
        if (epoch + 1) % self.every == 0:
            # On JAX, to ask for `model` brings its variables up to date.
            found = gradient_noise_scale(
                self.model,
                *self.data,
                batch_size=self.batch_size,
                wrt=self.wrt,
            )
            new = 1.0 - self.momentum if self.history else 1.0
            self.history.append((epoch, found))
            self._signal += new * (found.signal - self._signal)
            self._noise += new * (found.noise - self._noise)
        if logs is not None and self.history:
            logs["gradient_noise_scale"] = noise_scale(
                self._signal, self._noise
            )
