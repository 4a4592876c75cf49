"""Terms that read the weights, and functions of a weight for them."""

import inspect
from collections.abc import Callable
from typing import Any
from typing import Self

import keras
import numpy as np
from keras import ops

from keras_losskit import _backend
from keras_losskit._support.checks import checked_flag
from keras_losskit._support.checks import checked_function
from keras_losskit._support.checks import checked_pattern
from keras_losskit._support.checks import refused
from keras_losskit._support.named_classes import name_of
from keras_losskit._support.paths import path_matches
from keras_losskit._support.precision import at_least_float32
from keras_losskit._types import Config
from keras_losskit._types import ReductionLike
from keras_losskit._types import Tensor
from keras_losskit._types import TensorLike
from keras_losskit._types import Weight
from keras_losskit.extra.context import Context
from keras_losskit.extra.extra_term import ExtraTerm
from keras_losskit.extra.extra_term import registered


@registered
class FromWeights(ExtraTerm):
    """A function of the weights whose path matches a pattern.

    `value = sum(reduction(fn(w)))` over the matching trainable weights `w`;
    with `from_start`, of `w - w_0`, where `w_0` is the weight when training
    began. `w_0` is saved with the model.

    Args:
        pattern: A regular expression, matched from the start of any component
            of a path to its end: `"encoder/.*kernel"`.
        fn: A function of a weight, in float32 at least, such as a Keras
            regularizer, its name, `orthogonality`, `spectral_norm` or
            `group_lasso`. Register a custom function to save the model.
        weight: A number, a `keras.Variable` or a schedule.
        reduction: How values that are not a scalar become one.
        from_start: Whether the function gets the distance to `w_0`.

    Raises:
        ValueError: before training, if the pattern matches no trainable weight,
            or other weights than `w_0` was taken of.

    Example:
        >>> FromWeights("encoder/.*kernel", "l2", weight=0.5, from_start=True)
        FromWeights('encoder/.*kernel', L2, weight=0.5, from_start=True)
    """

    reads_predictions = False

    def __init__(
        self,
        pattern: str,
        fn: str | Callable[..., Any],
        *,
        weight: Weight = 1.0,
        reduction: ReductionLike = "sum",
        from_start: bool = False,
    ):
        super().__init__(weight=weight, reduction=reduction)
        self.pattern = checked_pattern(pattern, "`pattern` of FromWeights")
        self.fn = function_of_weights(fn)
        self.from_start = checked_flag(
            from_start, "`from_start` of FromWeights"
        )
        # In the order of the model's weights, those that are frozen included:
        # a path is another one after loading.
        self._start: list[np.ndarray] = []

    def value(self, context: Context) -> Tensor:
        variables = self._variables(context.model)
        starts = self._starts(context.model) if self.from_start else {}
        values = []
        for variable in variables:
            weight = at_least_float32(variable.value)
            if self.from_start:
                start = starts[id(variable)]
                weight = weight - ops.cast(start, weight.dtype)
            values.append(self.reduce(self.fn(weight)))
        return sum(values[1:], values[0])

    def _starts(self, model):
        matching = self._matching(model.weights)
        return {
            id(variable): start
            for variable, start in zip(matching, self._start, strict=True)
        }

    def prepare(self, model: keras.Model) -> None:
        self._variables(model)
        if not self.from_start:
            return
        matching = self._matching(model.weights)
        if not self._start:
            self._start = [np.array(_backend.value_now(v)) for v in matching]
        shapes = [tuple(variable.shape) for variable in matching]
        saved = [start.shape for start in self._start]
        if shapes != saved:
            raise ValueError(
                f"Expected the weights that '{self.pattern}' matches to be "
                f"those that training began with, of shapes {saved}. "
                f"Received: shapes {shapes}. Compile with a new FromWeights."
            )

    def _variables(self, model):
        found = self._matching(model.trainable_weights)
        if not found:
            paths = [variable.path for variable in model.trainable_weights]
            raise ValueError(
                f"Expected the pattern '{self.pattern}' to match a trainable "
                f"weight. Received: {paths}"
            )
        return found

    def _matching(self, variables):
        return [v for v in variables if path_matches(self.pattern, v.path)]

    def copy(self) -> Self:
        made = super().copy()
        made._start = []
        return made

    def save_own_variables(self, store: Any) -> None:
        """Write the starting weights."""
        for index, start in enumerate(self._start):
            store[str(index)] = start

    def load_own_variables(self, store: Any) -> None:
        """Read them; with a file that lacks them they are taken anew."""
        count = len(store.keys())
        self._start = [np.array(store[str(index)]) for index in range(count)]

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "pattern": self.pattern,
            "fn": keras.saving.serialize_keras_object(self.fn),
            "from_start": self.from_start,
        }

    def __repr__(self) -> str:
        named = inspect.isroutine(self.fn)
        name = name_of(self.fn) if named else type(self.fn).__name__
        end = ", from_start=True)" if self.from_start else ")"
        return f"FromWeights({self.pattern!r}, {name}, " + (
            f"weight={self.weight!r}{end}"
        )


def function_of_weights(fn):
    """The function of a weight that `fn` is, or names; refused if none."""
    try:
        found = keras.regularizers.get(fn)
    except (TypeError, ValueError, AttributeError):
        found = None
    if found is None or isinstance(found, type):
        raise refused(
            fn,
            "`fn` of FromWeights to be a function of a weight, a Keras "
            "regularizer or its name",
        )
    return checked_function(found, "`fn` of FromWeights", ["weight"])


def as_columns(weight):
    """A weight as a matrix with a column per output unit."""
    return ops.reshape(weight, (-1, weight.shape[-1]))


@registered
def orthogonality(weight: TensorLike) -> Tensor:
    """How far the columns of a weight are from being orthonormal.

    `||W^T W - I||_F ** 2`, with `W` the weight as `(inputs, units)`; with more
    units than inputs the rows are meant: `||W W^T - I||_F ** 2`.

    Args:
        weight: `(..., units)`.

    Returns:
        Scalar.

    Reference:
        Bansal et al., "Can We Gain More from Orthogonality Regularizations in
        Training Deep Networks?", NeurIPS, 2018.

    Example:
        >>> float(orthogonality(2.0 * ops.eye(2)))
        18.0
    """
    matrix = as_columns(weight)
    if matrix.shape[0] < matrix.shape[1]:
        matrix = ops.transpose(matrix)
    gram = ops.matmul(ops.transpose(matrix), matrix)
    return ops.sum((gram - ops.eye(gram.shape[0], dtype=gram.dtype)) ** 2)


@registered
def spectral_norm(weight: TensorLike) -> Tensor:
    """The largest singular value of a weight as `(inputs, units)`.

    `max(svd(W))`.

    Args:
        weight: `(..., units)`.

    Returns:
        Scalar.

    Reference:
        Yoshida, Miyato, "Spectral Norm Regularization for Improving the
        Generalizability of Deep Learning", 2017.

    Example:
        >>> round(float(spectral_norm(3.0 * ops.eye(2))), 4)
        3.0
    """
    matrix = as_columns(weight)
    return ops.max(ops.linalg.svd(matrix, compute_uv=False))


@registered
def group_lasso(weight: TensorLike) -> Tensor:
    """The sum of the norms of the columns, each scaled by its size.

    `sqrt(inputs) * sum(||W[:, j]||)` over the units `j`: whole units go to 0.

    Args:
        weight: `(..., units)`.

    Returns:
        Scalar.

    Reference:
        Yuan, Lin, "Model selection and estimation in regression with grouped
        variables", J. R. Stat. Soc. B, 2006.

    Example:
        >>> float(group_lasso(ops.ones((4, 3))))
        12.0
    """
    matrix = as_columns(weight)
    squares = ops.sum(matrix**2, axis=0)
    # The root has no gradient at 0, where a pruned unit stays.
    positive = ops.greater(squares, 0.0)
    norms = ops.where(
        positive, ops.sqrt(ops.where(positive, squares, 1.0)), 0.0
    )
    return np.sqrt(matrix.shape[0]).astype("float32") * ops.sum(norms)
