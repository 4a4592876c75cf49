"""Terms over the gradient of a model by its inputs."""

from collections.abc import Callable
from typing import Any
from typing import Literal
from typing import Self

import keras
from keras import ops

from keras_losskit import _backend
from keras_losskit._support import replicas
from keras_losskit._support.checks import checked_choice
from keras_losskit._support.checks import checked_function
from keras_losskit._support.checks import checked_index
from keras_losskit._support.checks import checked_name
from keras_losskit._support.checks import checked_number
from keras_losskit._support.precision import at_least_float32
from keras_losskit._types import Config
from keras_losskit._types import Structure
from keras_losskit._types import Tensor
from keras_losskit._types import Weight
from keras_losskit.extra._inputs import floating_inputs
from keras_losskit.extra.context import Context
from keras_losskit.extra.extra_term import ExtraTerm
from keras_losskit.extra.extra_term import registered

PLACES = ("interpolates", "inputs", "real", "fake")

#: Labels above it say that a sample is real.
REAL_ABOVE = 0.5

#: Seed of the interpolates where no state may move: the same at every call.
FIXED_SEED = 0


def input_gradient(fn: Callable[[Any], Structure], x: Structure) -> Structure:
    """The gradient of a function by its input, on any backend.

    `d sum(fn(x)) / dx`: where `fn` treats each sample by itself, row `i` is the
    gradient of what it returns for sample `i`. The result can be differentiated
    once more, by the weights of a model or, in a nested call, by `x`.

    Args:
        fn: A function of `x` that returns a tensor or a nest of tensors of any
            shape, such as a model.
        x: A tensor `(batch, ...)`, or a nest of them.

    Returns:
        The gradient, a tensor or nest of the shapes and dtypes of `x`; zeros
        where `fn` does not depend on `x`, and for leaves of integers.

    Raises:
        TypeError: if `fn` is not a function of one argument.
        ValueError: if `x` has no leaf of floating point.

    Example:
        >>> x = ops.array([[1.0], [2.0]])
        >>> slope = input_gradient(lambda x: x**3, x)
        >>> [float(row) for row in slope[:, 0]]  # 3 * x ** 2
        [3.0, 12.0]
        >>> curvature = input_gradient(
        ...     lambda x: input_gradient(lambda x: x**3, x), x)
        >>> [float(row) for row in curvature[:, 0]]  # 6 * x
        [6.0, 12.0]
    """
    checked_function(fn, "`fn` of input_gradient", ["x"])
    leaves, packed = floating_inputs(x)

    def total(values):
        parts = keras.tree.flatten(fn(packed(values)))
        sums = [
            ops.sum(at_least_float32(ops.convert_to_tensor(part)))
            for part in parts
        ]
        return sum(sums[1:], sums[0])

    gradients = _backend.input_gradients(total, leaves, differentiable=True)
    zeros = keras.tree.map_structure(
        lambda leaf: ops.zeros_like(ops.convert_to_tensor(leaf)), x
    )
    return floating_inputs(zeros)[1](list(gradients))


@registered
class GradientPenalty(ExtraTerm):
    """How far the norm of a critic's input gradient is from a target.

    `value = mean((||d D(x) / dx||_2 - target) ** 2)`, with one norm per sample,
    over all floating-point inputs. `D` is an output of the model, summed over
    its elements. The gradient of the value flows into the weights.

    - WGAN-GP: `GradientPenalty(weight=10.0)`.
    - R1: `GradientPenalty(at="real", target=0.0, weight=gamma / 2)`; R2 with
      `at="fake"`.

    Train the critic on batches of real and generated samples in any order;
    samples with labels above 0.5 are real. The model is called once more, which
    changes none of its state, as with `FGSM`. If layers mix samples, as batch
    normalisation does, the gradient is not that of a single sample.

    Args:
        at: Where the gradient is taken: at `"interpolates"`, random points
            between a generated sample and a real one; at all `"inputs"`; or at
            those that are `"real"` or `"fake"`. Interpolates pair generated
            and real samples in the order in which they come; integer inputs
            are those of the real sample.
        target: The norm that costs nothing.
        output: Name of the output, where the model has several.
        weight: A number, a `keras.Variable` or a schedule.
        seed: Seed of the random points, an int. Defaults to a random one.

    Raises:
        ValueError: for an unknown `at`, or before training if there is no such
            output, or no label that tells what is real.

    Reference:
        Gulrajani et al., "Improved Training of Wasserstein GANs", NeurIPS,
        2017. Mescheder, Geiger, Nowozin, "Which Training Methods for GANs do
        actually Converge?", ICML, 2018.

    Example:
        >>> GradientPenalty(weight=10.0)
        GradientPenalty(at='interpolates', target=1, weight=10.0)
    """

    reads_predictions = False

    def __init__(
        self,
        *,
        at: Literal["interpolates", "inputs", "real", "fake"] = "interpolates",
        target: float = 1.0,
        output: str | None = None,
        weight: Weight = 1.0,
        seed: int | None = None,
    ):
        super().__init__(weight=weight)
        self.at = checked_choice(at, PLACES, "`at` of GradientPenalty")
        self.target = checked_number(target, "`target` of GradientPenalty")
        if output is not None:
            checked_name(output, "`output` of GradientPenalty")
        self.output = output
        if seed is not None:
            seed = checked_index(seed, "`seed` of GradientPenalty")
        self.seed = seed
        self._generator = keras.random.SeedGenerator(seed)

    @property
    def variables(self) -> list[keras.Variable]:
        """The state of the random numbers, where there are any."""
        return [self._generator.state] if self.at == "interpolates" else []

    def __call__(self, context: Context | None) -> Tensor:
        """The term's value, unweighted; see `ExtraTerm`."""
        if context is not None and context.model is not None:
            _, labels = context.output(self.output)
            if labels is None and self.at != "inputs":
                raise ValueError(
                    "Expected labels that tell real samples, above "
                    f"{REAL_ABOVE}, from generated ones. Received: none for "
                    f"{self!r}. Give `fit` a label for each sample, or take "
                    'at="inputs".'
                )
        return super().__call__(context)

    def value(self, context: Context) -> Tensor:
        position, labels = context.output(self.output)
        points, counts = self._points(context, labels)

        def critic(x):
            outputs = context.model._losskit_call_aside(x, context.training)
            return keras.tree.flatten(outputs)[position]

        leaves = floating_inputs(input_gradient(critic, points))[0]
        squares = [squared_norms(at_least_float32(leaf)) for leaf in leaves]
        values = self._distance(sum(squares[1:], squares[0]))
        return mean_of_batch(values, counts, context.y_pred)

    def _points(self, context, labels):
        """Where the gradient is taken, and what each point counts."""
        if self.at == "interpolates":
            return self._interpolates(context, is_real(labels))
        if self.at == "inputs":
            first = keras.tree.flatten(context.y_pred)[0]
            return context.x, ops.ones((ops.shape(first)[0],))
        real = is_real(labels)
        counts = ops.cast(real if self.at == "real" else ~real, "float32")
        return context.x, counts

    def _interpolates(self, context, real):
        count = ops.shape(real)[0]
        places = ops.arange(count)
        # In their order, those that are generated first.
        order = ops.argsort(ops.cast(real, places.dtype) * count + places)
        fakes, reals = order[: count // 2], order[count - count // 2 :]
        taken = ops.cast(ops.take(real, reals), "float32")
        taken *= 1.0 - ops.cast(ops.take(real, fakes), "float32")
        seed = self._generator if context.moves else FIXED_SEED
        shares = keras.random.uniform((ops.shape(fakes)[0],), seed=seed)

        def between(x):
            x = ops.convert_to_tensor(x)
            at_real = ops.take(x, reals, axis=0)
            if not keras.backend.is_float_dtype(
                keras.backend.standardize_dtype(x.dtype)
            ):
                return at_real
            share = ops.cast(shares, x.dtype)
            share = ops.reshape(share, (-1,) + (1,) * (len(x.shape) - 1))
            return share * at_real + (1 - share) * ops.take(x, fakes, axis=0)

        return keras.tree.map_structure(between, context.x), taken

    def _distance(self, squares):
        if self.target == 0.0:
            return squares
        # The root has no gradient at 0.
        positive = squares > 0.0
        norms = ops.sqrt(ops.where(positive, squares, 1.0))
        return ops.square(ops.where(positive, norms, 0.0) - self.target)

    def copy(self) -> Self:
        made = super().copy()
        made._generator = keras.random.SeedGenerator(self.seed)
        return made

    def save_own_variables(self, store: Any) -> None:
        """Write the state of the random numbers."""
        for index, variable in enumerate(self.variables):
            store[str(index)] = ops.convert_to_numpy(variable.value)

    def load_own_variables(self, store: Any) -> None:
        """Read it; a file without one leaves it as it is."""
        if len(store.keys()) == len(self.variables):
            for index, variable in enumerate(self.variables):
                variable.assign(store[str(index)])

    def get_config(self) -> Config:
        config = super().get_config()
        del config["reduction"]
        return {
            **config,
            "at": self.at,
            "target": self.target,
            "output": self.output,
            "seed": self.seed,
        }

    def __repr__(self) -> str:
        output = "" if self.output is None else f", output={self.output!r}"
        return (
            f"GradientPenalty(at={self.at!r}, target={self.target:g}{output}, "
            f"weight={self.weight!r})"
        )


def is_real(labels):
    """Whether each sample is real, `(batch,)`; by the mean of its labels."""
    labels = ops.cast(ops.convert_to_tensor(labels), "float32")
    axes = tuple(range(1, len(labels.shape)))
    return (ops.mean(labels, axis=axes) if axes else labels) > REAL_ABOVE


def squared_norms(x):
    """Squared l2 norm per sample, `(batch,)`."""
    axes = tuple(range(1, len(x.shape)))
    return ops.sum(ops.square(x), axis=axes) if axes else ops.square(x)


def mean_of_batch(values, counts, batch):
    """Weighted mean over the samples of all replicas, 0 without any.

    Args:
        values: `(n,)`.
        counts: What each of them counts, `(n,)`.
        batch: The predictions of the batch that the values are of.
    """
    counts = ops.cast(counts, values.dtype)
    # What counts for nothing may be infinite.
    values = ops.where(counts > 0.0, values, 0.0)
    total = replicas.total_of(ops.sum(counts))
    part = replicas.part_of_sum(ops.sum(values * counts))
    mean = ops.divide_no_nan(part, ops.cast(total, part.dtype))
    # The container makes extra terms parts of a batch itself.
    return replicas.undo_share(mean, replicas.batch_share(batch))
