"""Crossentropy over a large output layer, without its logits."""

import dataclasses
from typing import Self

import keras
from keras import ops

from keras_losskit import reductions
from keras_losskit._support.shapes import may_be_equal
from keras_losskit._types import Config
from keras_losskit._types import DType
from keras_losskit._types import ReductionLike
from keras_losskit._types import Tensor
from keras_losskit._types import TensorLike
from keras_losskit.losses._core.arguments import check_settings
from keras_losskit.losses._core.arguments import stored_settings
from keras_losskit.losses._core.chunked_entropy import Entropy
from keras_losskit.losses._core.chunked_entropy import entropies
from keras_losskit.losses._core.composition import Composite
from keras_losskit.losses._core.composition import Part
from keras_losskit.losses._core.evaluation import own_value
from keras_losskit.losses._core.labels import check_labels
from keras_losskit.losses._core.labels import counted_labels
from keras_losskit.losses._core.labels import integer_labels
from keras_losskit.losses._core.labels import without_ignored
from keras_losskit.losses._core.loss import Loss
from keras_losskit.losses._core.unprojected import Projection
from keras_losskit.losses._core.unprojected import Unprojected
from keras_losskit.reductions.reduction import without_version

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
    is computed twice. On PyTorch a second derivative is refused.

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
            to what makes 8 million logits, 4 million on JAX.

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
    check_settings(
        NAME,
        label_smoothing=label_smoothing,
        z_loss=z_loss,
        ignore_class=ignore_class,
        softcap=softcap,
        chunk_size=chunk_size,
    )
    labels, features, kernel = map(
        ops.convert_to_tensor, (y_true, features, kernel)
    )
    if bias is not None:
        bias = ops.convert_to_tensor(bias)
    check_shapes(labels, features, kernel, bias)
    check_labels(NAME, labels, kernel.shape[1], ignore_class)
    values = entropies(
        labels,
        features,
        Projection(kernel, bias, softcap),
        Entropy(label_smoothing, squares=bool(z_loss)),
        ignore_class=ignore_class,
        chunk_size=chunk_size,
        weights=(1.0, z_loss),
    )
    if not z_loss:
        return values[..., 0]
    return values[..., 0] + z_loss * values[..., 1]


def check_shapes(labels, features, kernel, bias=None):
    """Refuse what is no layer over many classes, and no labels of it."""
    dtype = labels.dtype if isinstance(labels.dtype, str) else str(labels.dtype)
    if "float" in dtype:
        raise TypeError(
            f"Expected `y_true` of {NAME} to be integer labels. Received: "
            f"dtype {dtype}, shape {tuple(labels.shape)}. For class "
            "probabilities compute the logits and take "
            "`categorical_crossentropy`."
        )
    *places, width = features.shape
    if (
        len(kernel.shape) != 2
        or width != kernel.shape[0]
        or not may_be_equal(labels.shape, places)
        or (bias is not None and tuple(bias.shape) != (kernel.shape[1],))
    ):
        last = "" if bias is None else f", bias {tuple(bias.shape)}"
        raise ValueError(
            f"Expected `y_true` of {NAME} to be `(batch, ...)`, `features` "
            "`(batch, ..., width)`, `kernel` `(width, classes)` and `bias` "
            f"`(classes,)`. Received: shapes {tuple(labels.shape)}, "
            f"{tuple(features.shape)} and {tuple(kernel.shape)}{last}."
        )


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the terms of a `LinearCrossEntropy` are computed with.

    Args:
        owner: The name of the loss.
        layer, label_smoothing, ignore_class, z_loss, softcap, chunk_size: Its
            arguments.
    """

    owner: str
    layer: str
    label_smoothing: float
    ignore_class: int | None
    z_loss: float
    softcap: float | None
    chunk_size: int | None

    def entropies(self, labels: Tensor, y_pred: "Tensor | Unprojected"):
        """The values of all terms at each place, `(batch, ..., terms)`."""
        entropy = Entropy(
            self.label_smoothing, self.softcap, squares=bool(self.z_loss)
        )
        if not isinstance(y_pred, Unprojected):
            classes = y_pred.shape[-1]
            check_labels(self.owner, labels, classes, self.ignore_class)
            flat, counted = counted_labels(
                ops.reshape(labels, (-1,)), classes, self.ignore_class
            )
            values = entropy.values_of_chunk(
                ops.reshape(y_pred, (-1, classes)), flat
            )
            values = ops.where(counted[:, None], values, 0.0)
            return ops.reshape(values, (*ops.shape(labels), entropy.columns))
        projection = y_pred.projection
        classes = projection.kernel.shape[1]
        check_labels(self.owner, labels, classes, self.ignore_class)
        return entropies(
            labels,
            y_pred.features,
            projection.capped(self.softcap),
            entropy,
            ignore_class=self.ignore_class,
            chunk_size=self.chunk_size,
            weights=(1.0, self.z_loss),
            shares=y_pred.shares,
        )


@keras.saving.register_keras_serializable("keras_losskit")
class LinearCrossEntropy(Composite):
    """Crossentropy of the logits that a layer makes, computed without them.

    `loss = linear_cross_entropy + z_loss * lse(z) ** 2`, the second term, which
    the logs call `z_loss`, where it is not 0; see
    `losses.linear_cross_entropy`.

    It is the loss of an output that is just what `layer` returns: a `Dense`, an
    `EinsumDense` of a matrix, or a `ReversibleEmbedding` called in reverse. In
    `fit` and `evaluate` of a `keras_losskit.Model` that layer hands on what it
    is given, and the loss computes the logits chunk by chunk. `predict` and a
    call of the model give logits as ever. Accuracy, top-k accuracy and
    crossentropy of integer labels go on working as metrics of that output;
    others are refused.

    Called by itself, in a model of Keras', in one with a custom `train_step`,
    `compute_loss` or `compute_metrics`, and where the layer is quantized, it is
    the ordinary crossentropy of logits.

    Args:
        layer: Name of the layer that makes the logits, or its path or the end
            of it.
        label_smoothing, ignore_class, z_loss, softcap, chunk_size: See
            `losses.linear_cross_entropy`. What is ignored counts nowhere, as if
            masked. A cap of the layer itself need not be given.
        reduction, name, dtype: See `Loss`.

    Raises:
        ValueError: if an argument is out of its range; before training, if the
            model has no such layer or several, or one that does more than
            multiply by a matrix and add a bias, or if something else reads the
            logits of that output.

    Reference:
        Wijmans et al., "Cut Your Losses in Large-Vocabulary Language Models",
        ICLR 2025; Chowdhery et al., "PaLM", JMLR 2023, for `z_loss`.

    Example:
        >>> loss = LinearCrossEntropy("lm_head", z_loss=1e-4)
        >>> loss
        linear_cross_entropy + 0.0001 * z_loss
        >>> round(float(loss([1], [[0.0, 0.0]])), 4)  # of logits
        0.6932
    """

    def __init__(
        self,
        layer: str,
        *,
        label_smoothing: float = 0.0,
        ignore_class: int | None = None,
        z_loss: float = 0.0,
        softcap: float | None = None,
        chunk_size: int | None = None,
        reduction: ReductionLike = "sum_over_batch_size",
        name: str = NAME,
        dtype: DType | None = None,
    ):
        super().__init__(name=name, dtype=dtype)
        reductions.get(reduction)
        self.layer = layer
        self.label_smoothing = label_smoothing
        self.ignore_class = ignore_class
        self.z_loss = z_loss
        self.softcap = softcap
        self.chunk_size = chunk_size
        self.reduction = reduction
        settings = Settings(
            self.name,
            layer,
            label_smoothing,
            ignore_class,
            z_loss,
            softcap,
            chunk_size,
        )
        terms = [(self.name, 1.0)]
        if z_loss:
            terms.append(("z_loss", z_loss))
        self._parts = tuple(
            Part(term, weight, Column(settings, number, reduction, term, dtype))
            for number, (term, weight) in enumerate(terms)
        )

    @property
    def parts(self) -> tuple[Part, ...]:
        """The terms, as a tuple of `Part`."""
        return self._parts

    def part_values(
        self,
        y_true: TensorLike,
        y_pred: TensorLike,
        sample_weight: TensorLike | None = None,
        mask: TensorLike | None = None,
    ) -> list[Tensor]:
        return [
            own_value(part.loss, y_true, y_pred, sample_weight, mask)
            for part in self.parts
        ]

    def get_config(self) -> Config:
        return {
            **stored_settings(self),
            "name": self.name,
            "reduction": reductions.serialize(self.reduction),
            "dtype": self.dtype,
            "version": self.version,
        }

    @classmethod
    def from_config(cls, config: Config) -> Self:
        config = without_version(cls, config)
        if isinstance(config["reduction"], dict):
            config["reduction"] = reductions.get(config["reduction"])
        return cls(**config)


class Column(Loss):
    """One of the terms of a `LinearCrossEntropy`.

    Args:
        of: The `Settings` of the loss.
        number: Which column of the values it is.
        reduction, name, dtype: See `Loss`.
    """

    # Labels stay integers: half precision has no number for class 257.
    keeps_integers = True
    widens = True
    takes_features = True
    named_by_itself = True

    def __init__(self, of, number, reduction, name, dtype):
        self.of = of
        self.number = number
        super().__init__(reduction, name, dtype)

    def call(self, y_true: TensorLike, y_pred: TensorLike) -> Tensor:
        labels = integer_labels(y_true, y_pred, -1, "CategoricalCrossentropy")
        return self._column(labels, self.of.entropies(labels, y_pred))

    def call_on_features(
        self, y_true: TensorLike, y_pred: Unprojected
    ) -> Tensor:
        """`call`, from what the output layer is given."""
        labels = integer_labels(y_true, y_pred, -1, "CategoricalCrossentropy")
        return self._column(
            labels,
            y_pred.once("values", lambda: self.of.entropies(labels, y_pred)),
        )

    def _column(self, labels, values):
        ignored = self.of.ignore_class
        valid = None if ignored is None else ops.not_equal(labels, ignored)
        return without_ignored(values[..., self.number], valid)
