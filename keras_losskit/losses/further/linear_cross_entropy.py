"""Crossentropy over a large output layer, without its logits."""

from keras import ops

from keras_losskit import _backend
from keras_losskit._support.checks import checked_count
from keras_losskit._support.checks import checked_fraction
from keras_losskit._support.checks import checked_non_negative
from keras_losskit._support.checks import checked_positive
from keras_losskit._types import Tensor
from keras_losskit._types import TensorLike
from keras_losskit.losses._core.arguments import checked_integer
from keras_losskit.losses._core.chunked_entropy import ChunkedEntropy
from keras_losskit.losses._core.chunked_entropy import Entropy
from keras_losskit.losses._core.chunked_entropy import chunk_for
from keras_losskit.losses._core.chunked_entropy import wide_dtype
from keras_losskit.losses._core.labels import check_labels

NAME = "linear_cross_entropy"


def linear_cross_entropy(
    y_true: TensorLike,
    features: TensorLike,
    kernel: TensorLike,
    bias: TensorLike | None = None,
    *,
    ignore_class: int | None = None,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    chunk_size: int | None = None,
) -> Tensor:
    """Crossentropy of integer labels and a linear layer over many classes.

    With `z = features @ kernel + bias`, or `z = c * tanh((features @ kernel +
    bias) / c)` if there is a `softcap` c,
    `loss = lse(z) - (1 - s) * z[y_true] - s * mean(z) + a * lse(z) ** 2`, where
    `lse(z) = log(sum(exp(z)))`, `s` is `label_smoothing` and `a` is `z_loss`.

    Values and gradients are those of `sparse_categorical_crossentropy` of these
    logits, but the logits are never there as a whole: they are computed chunk
    by chunk, and in training the gradients of features, kernel and bias with
    them. That saves most of the memory of a language model or a large
    catalogue. Where the samples count alike in the total, as in a mean, nothing
    is computed twice. There are no second derivatives on PyTorch.

    Args:
        y_true: Integer labels, `(batch, d0, ..., dN)`.
        features: What the layer is given, `(batch, d0, ..., dN, width)`. In
            half precision all sums are float32.
        kernel: Of the layer, `(width, classes)`.
        bias: Of the layer, `(classes,)`, or None.
        ignore_class: A label whose loss is 0.
        label_smoothing: The share of the label, in [0, 1], that is spread
            evenly over the classes.
        z_loss: Weight of `lse ** 2`, which keeps the logits near 0; 1e-4 in
            PaLM.
        softcap: What bounds the logits, positive; 30 in Gemma 2.
        chunk_size: Number of tokens whose logits are there at a time. Defaults
            to what makes 8 million logits.

    Returns:
        Per-sample losses, `(batch, d0, ..., dN)`, float32 or float64.

    Raises:
        ValueError: if an argument is out of its range, the shapes do not fit,
            or, in eager mode, a label is not among the classes.
        TypeError: for class probabilities in place of labels.

    Reference:
        Wijmans et al., "Cut Your Losses in Large-Vocabulary Language Models",
        ICLR 2025.

    Example:
        >>> features = ops.ones((2, 3))
        >>> kernel = ops.zeros((3, 4))
        >>> values = linear_cross_entropy([0, 2], features, kernel)
        >>> [round(float(value), 4) for value in values]  # log(4)
        [1.3863, 1.3863]
    """
    label_smoothing = checked_fraction(
        label_smoothing, f"`label_smoothing` of {NAME}"
    )
    z_loss = checked_non_negative(z_loss, f"`z_loss` of {NAME}")
    if ignore_class is not None:
        ignore_class = checked_integer(
            ignore_class, f"`ignore_class` of {NAME}"
        )
    if softcap is not None:
        softcap = checked_positive(softcap, f"`softcap` of {NAME}")
    if chunk_size is not None:
        chunk_size = checked_count(chunk_size, f"`chunk_size` of {NAME}")
    labels, features, kernel = map(
        ops.convert_to_tensor, (y_true, features, kernel)
    )
    check_shapes(labels, features, kernel)
    width, classes = kernel.shape
    check_labels(NAME, labels, classes, ignore_class)
    shape = ops.shape(labels)
    labels = ops.cast(ops.reshape(labels, (-1,)), "int32")
    features = ops.reshape(features, (-1, width))
    counts = ops.ones_like(labels, dtype=wide_dtype(features))
    if ignore_class is not None:
        counted = ops.not_equal(labels, ignore_class)
        counts = ops.cast(counted, counts.dtype)
        labels = ops.where(counted, labels, 0)
        # Times 0 whatever is not finite would be NaN in the kernel's gradient.
        features = ops.where(counted[:, None], features, 0.0)
    layer = [features, kernel]
    if bias is not None:
        layer.append(ops.convert_to_tensor(bias))
    entropy = ChunkedEntropy(
        Entropy(label_smoothing, z_loss, softcap),
        chunk_size or chunk_for(ops.shape(labels)[0], classes),
    )
    values = _backend.with_gradients(
        entropy.values,
        entropy.values_and_gradients,
        entropy.gradients_for,
        (*layer, labels, counts),
    )
    if ignore_class is not None:
        values = ops.where(counted, values, 0.0)
    return ops.reshape(values, shape)


def check_shapes(labels, features, kernel):
    """Refuse what is no layer over many classes, and no labels of it."""
    dtype = labels.dtype if isinstance(labels.dtype, str) else str(labels.dtype)
    if "float" in dtype:
        raise TypeError(
            f"Expected `y_true` of {NAME} to be integer labels. Received: "
            f"dtype {dtype}, shape {tuple(labels.shape)}. For class "
            "probabilities compute the logits and take "
            "`categorical_crossentropy`."
        )
    fits = len(kernel.shape) == 2 and features.shape[-1] == kernel.shape[0]
    if not fits or len(labels.shape) != len(features.shape) - 1:
        raise ValueError(
            f"Expected `y_true` of {NAME} to be `(batch, ...)`, `features` "
            "`(batch, ..., width)` and `kernel` `(width, classes)`. Received: "
            f"shapes {tuple(labels.shape)}, {tuple(features.shape)} and "
            f"{tuple(kernel.shape)}."
        )
