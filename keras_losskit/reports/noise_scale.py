"""`gradient_noise_scale`: how large a batch is worth its price."""

import dataclasses
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_losskit import _backend
from keras_losskit._support.batches import batches_of
from keras_losskit._support.checks import checked_count
from keras_losskit._support.checks import checked_instance
from keras_losskit._types import Structure
from keras_losskit._types import Wrt
from keras_losskit.container._tracker import batch_size_of
from keras_losskit.models._gradient_weights import positions
from keras_losskit.reports._breakdown import as_tensors
from keras_losskit.reports._breakdown import probe_of
from keras_losskit.reports._breakdown import trainable_variables
from keras_losskit.weighting._variable_selection import VariableSelection


@dataclasses.dataclass(frozen=True)
class NoiseScale:
    """What `gradient_noise_scale` finds.

    Args:
        signal: Estimate of `|G|^2`, the square of the norm of the true
            gradient.
        noise: Estimate of `tr(S)`, the sum of the variances of a sample's
            gradient.
        batch_size: Number of samples of the small batches.
        batches: Number of small batches, which are one large one together.
    """

    signal: float
    noise: float
    batch_size: int
    batches: int

    @property
    def scale(self) -> float:
        """`tr(S) / |G|^2`, in samples; infinite where no signal is found."""
        return noise_scale(self.signal, self.noise)


def noise_scale(signal, noise):
    """`noise / signal`, infinite where the signal is not above 0."""
    return noise / signal if signal > 0 else float("inf")


def gradient_noise_scale(
    model: keras.Model,
    x: Structure,
    y: Structure | None = None,
    sample_weight: Structure | None = None,
    *,
    batch_size: int = 32,
    wrt: Wrt | None = None,
) -> NoiseScale:
    """The simple noise scale of a model's gradient, from two batch sizes.

    `B = tr(S) / |G|^2`: with batches much smaller than `B` a step gains from
    twice the batch nearly what two steps would; with much larger ones it gains
    nearly nothing. The data are cut into small batches of `b` samples. With
    the mean `m` of the squares of their gradients' norms, and that of their
    mean gradient over all `n` samples, `M`, unbiased estimates are `|G|^2 =
    (n M - b m) / (n - b)` and `tr(S) = (m - M) / (1 / b - 1 / n)`.

    The losses have to be means over samples. The model runs as in inference and
    stays as it is.

    Args:
        model: Any compiled `keras.Model`.
        x: Inputs, arrays, or a data set of batches.
        y: Labels.
        sample_weight: Sample weights.
        batch_size: Number of samples of a small batch; samples beyond the last
            whole one are left out.
        wrt: The variables that the gradient is taken over, as for
            `gradient_report`. Defaults to all trainable ones of the model.

    Returns:
        `NoiseScale`: `scale`, `signal`, `noise`.

    Raises:
        TypeError: if `model` is no model.
        ValueError: for less data than two small batches, or a model without
            trainable variables.

    References:
        McCandlish, Kaplan, Amodei, "An Empirical Model of Large-Batch
        Training", 2018, appendix A.1.

    Example:
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(
        ...     1, use_bias=False, kernel_initializer="ones")])
        >>> model.compile(loss="mse")
        >>> x = np.ones((4, 1))
        >>> y = np.array([[0.0], [1.0], [0.0], [1.0]])  # gradients 2, 0, 2, 0
        >>> found = gradient_noise_scale(model, x, y, batch_size=1)
        >>> round(found.signal, 4), round(found.noise, 4)
        (0.6667, 1.3333)
        >>> round(found.scale, 4)
        2.0
    """
    owner = "gradient_noise_scale"
    checked_instance(model, keras.Model, f"`model` of {owner}", "a Keras model")
    size = checked_count(batch_size, f"`batch_size` of {owner}")
    gradient_of, total, squares, count = None, None, 0.0, 0
    for batch in batches_of(x, y, sample_weight, size):
        batch = as_tensors(batch)
        if int(batch_size_of(batch[0])) != size:
            continue
        if gradient_of is None:
            gradient_of = gradient_function(model, batch, wrt)
        gradient = gradient_of(batch)
        squares += float(gradient @ gradient)
        total = gradient if total is None else total + gradient
        count += 1
    if total is None or count < 2:
        raise ValueError(
            f"Expected data of {owner} to hold two whole batches of {size} "
            f"samples or more. Received: {count}. Give a smaller `batch_size`, "
            "or more data."
        )
    small, large = squares / count, float(total @ total) / count**2
    return NoiseScale(
        signal=(count * large - small) / (count - 1),
        noise=(small - large) * size * count / (count - 1),
        batch_size=size,
        batches=count,
    )


def gradient_function(model: Any, batch: Structure, wrt: Any) -> Any:
    """`batch -> gradient` of the loss of a model, one flat float64 array.

    Args:
        model: A compiled model.
        batch: `(x, y, sample_weight)`, tensors, to find out its outputs by.
        wrt: The variables, or None for all.
    """
    probe, losses, _ = probe_of(model, *batch[:2])
    variables = trainable_variables(probe, losses, "gradient_noise_scale")
    chosen = None
    if wrt is not None:
        picked = VariableSelection(wrt).pick(variables)
        chosen = positions(set(map(id, picked)), variables)

    def gradient(batch):
        x, y, sample_weight = batch

        def total(values):
            mapping = []
            if values is not None:
                mapping = list(zip(variables, values, strict=True))
            with keras.StatelessScope(mapping):
                y_pred = probe(x, training=False)
                value = probe.compute_loss(
                    x, y, y_pred, sample_weight, training=False
                )
            return [ops.cast(value, "float32")], None

        pullback = _backend.Pullback(
            total, lambda: [variable.value for variable in variables]
        )
        blocks = pullback.jacobian(1, chosen)
        return np.concatenate(
            [
                ops.convert_to_numpy(block).astype("float64").ravel()
                for block in blocks
            ]
        )

    return gradient
