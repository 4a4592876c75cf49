"""`SampleWeighting`: from the values of samples to a weight for each."""

from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_losskit import _keras
from keras_losskit._support.checks import checked_count
from keras_losskit._support.checks import refused
from keras_losskit._support.sample_ids import check_ids_of_step
from keras_losskit._support.shapes import may_be_equal
from keras_losskit._support.tables import assign_rows
from keras_losskit._types import Tensor
from keras_losskit._types import TensorLike
from keras_losskit.weighting._arithmetic import all_finite
from keras_losskit.weighting._base import WeightingOfTerms
from keras_losskit.weighting.weighting import in_float


@keras.saving.register_keras_serializable("keras_losskit")
class SampleWeighting(WeightingOfTerms):
    """What gives each sample a weight that moves during training.

    Given to a container as `LossesContainer(..., sample_weighting=...)`, for a
    model that is trained on `with_ids(x)`. The weights act as sample weights of
    the terms that take part, times those of the user, so that terms still sum
    to the total. They hold in training steps; `evaluate` weighs nothing.

    A sample has one value: what it has in the terms that take part, `sum(weight
    * value)`, where a value is the mean over what counts of the sample, and
    `weight` is that of the term. One that is not finite keeps weight 1, so that
    the loss shows it. A subclass makes its variables in `build` and
    defines `weigh`; it is saved and copied as a `Weighting` is.

    Args:
        samples: Number of samples, over every id; None for a method that keeps
            nothing of a sample.
        **options: `terms`, `name` and `dtype`; see `Weighting`. Terms that have
            no values of samples, such as penalties, cannot take part.

    Raises:
        ValueError: in `fit`, before the first step, for samples without ids, or
            named `terms` that have no values of samples.

    Example:
        >>> class LargestOnly(SampleWeighting):
        ...     def weigh(self, values, ids, counts, training):
        ...         return ops.cast(values == ops.max(values), "float32")
        >>> weights = LargestOnly()(ops.array([1.0, 3.0, 2.0]))
        >>> [float(weight) for weight in weights]
        [0.0, 1.0, 0.0]
    """

    #: What it sees: the values of the samples of a batch.
    statistic = "samples"

    def __init__(self, samples: int | None = None, **options: Any):
        super().__init__(**options)
        if samples is not None:
            what = f"`samples` of {type(self).__name__}"
            samples = checked_count(samples, what)
        self.samples = samples

    @property
    def needs_ids(self) -> bool:
        """Whether it has to know which sample is which."""
        return self.samples is not None

    def add_table(self, name: str, initial: float = 0.0) -> keras.Variable:
        """Make a non-trainable `(samples,)` variable, all of it `initial`."""
        return self.add_weight(
            name=name,
            shape=(self.samples,),
            initializer=keras.initializers.Constant(initial),
            trainable=False,
        )

    def rows_of(self, table: keras.Variable, ids: Tensor) -> Tensor:
        """What a table has of the samples of a batch, `(batch,)`."""
        return ops.take(ops.convert_to_tensor(table), ids, axis=0)

    def assign_rows(
        self, table: keras.Variable, ids: Tensor, rows: Tensor
    ) -> None:
        """Put values into a table, one for each sample of a batch."""
        assign_rows(table, ids, rows)

    # Not by way of `Layer.__call__`; see `Weighting`.
    def __call__(
        self,
        values: TensorLike,
        ids: TensorLike | None = None,
        counts: TensorLike | None = None,
        training: bool = False,
    ) -> Tensor:
        """The weights of the samples of a batch.

        Args:
            values: `(batch,)`. Their gradient is stopped.
            ids: Ids of the samples, `(batch,)`, integers.
            counts: Whether a sample counts for anything, `(batch,)`; what does
                not is no part of a mean or a maximum. Defaults to all.
            training: Whether the state moves. Values with NaN or infinity leave
                it as it is.

        Returns:
            `(batch,)`, of the dtype of the values, float32 at least.

        Raises:
            ValueError: without ids that are needed, for values of another
                shape, for a `weigh` that returns something else, or, where they
                can be read, for ids that are too large.
        """
        values = in_float(values)
        if len(values.shape) != 1:
            raise ValueError(
                f"Expected {self.name} to receive a value for each sample, "
                f"(batch,). Received: shape {tuple(values.shape)}"
            )
        if self.needs_ids and ids is None:
            raise ValueError(
                f"Expected samples with ids, which {self!r} tells them apart "
                "by. Received: none. Train on "
                "`fit(keras_losskit.with_ids(x), y)`."
            )
        if not self.built:
            self.build(1)
        if values.shape[0] == 0:
            return ops.stop_gradient(values)  # there is nothing to weigh
        if counts is None:
            counts = ops.ones_like(values)
        counts = ops.cast(counts, values.dtype)
        values = ops.where(counts > 0, values, ops.zeros_like(values))
        if ids is not None:
            ids = ops.cast(ids, "int32")
        if ids is not None and self.samples is not None:
            check_ids_of_step(ids, self.samples, type(self).__name__)
        finite = all_finite(values)
        state = self.non_trainable_variables if training else []
        before = [ops.copy(variable) for variable in state]
        weights = self.weigh(values, ids, counts, training=training)
        weights = self._checked(weights, values)
        # One bad batch must not stay in the state for ever.
        for variable, value in zip(state, before, strict=True):
            variable.assign(ops.where(finite, variable.value, value))
        return ops.cast(ops.stop_gradient(weights), values.dtype)

    def _checked(self, weights, values):
        """What `weigh` returned, refused if it is no weight per sample."""
        received = "None"
        if weights is not None:
            weights = ops.convert_to_tensor(weights)
            # Of a `tf.numpy_function` not even the rank is known.
            rank_unknown = getattr(weights.shape, "rank", 0) is None
            if rank_unknown or may_be_equal(weights.shape, values.shape):
                return weights
            received = f"shape {tuple(weights.shape)}"
        raise ValueError(
            f"Expected `weigh` of {type(self).__name__} to return a weight for "
            f"each sample, shape {tuple(values.shape)}. Received: {received}"
        )

    def weigh(
        self, values: Tensor, ids: Tensor | None, counts: Tensor, training: bool
    ) -> Tensor:
        """Weights of the samples, `(batch,)`; a subclass defines it."""
        raise NotImplementedError(
            f"Expected {type(self).__name__} to define "
            "`weigh(self, values, ids, counts, training)`."
        )


class SampleWeightings(_keras.Saveable):
    """Several sample weightings, which a file names by their positions.

    Those of a list it would name by their classes, and miss another's state.
    """

    def __init__(self, weightings: Sequence[SampleWeighting] = ()):
        self._names = [f"weighting_{index}" for index in range(len(weightings))]
        for name, weighting in zip(self._names, weightings, strict=True):
            setattr(self, name, weighting)

    def __iter__(self) -> Iterator[SampleWeighting]:
        return (getattr(self, name) for name in self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return repr(list(self))


def checked_sample_weightings(given: Any) -> SampleWeightings:
    """What `sample_weighting` of a container stands for.

    Example:
        >>> checked_sample_weightings(None)
        []
    """
    if given is None:
        return SampleWeightings()
    several = isinstance(given, list | tuple | SampleWeightings)
    found = list(given) if several else [given]
    for each in found:
        if not isinstance(each, SampleWeighting):
            raise refused(
                each,
                "`sample_weighting` to be an object of keras_losskit.weighting "
                "that weighs samples, a list of them, or None",
                remedy="Give an object, such as `weighting.SmallLoss(0.8)`",
            )
    return SampleWeightings(found)
