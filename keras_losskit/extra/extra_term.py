"""What all terms that read the inside of a model share."""

from typing import Self

import keras
from keras import ops

from keras_losskit import _keras
from keras_losskit import _weights as weights_lib
from keras_losskit import reductions
from keras_losskit._types import Config
from keras_losskit._types import ReductionLike
from keras_losskit._types import Tensor
from keras_losskit._types import TensorLike
from keras_losskit._types import Weight
from keras_losskit.extra.context import Context
from keras_losskit.penalties._add_loss import reduced

#: Class decorator: saved as a class of this package.
registered = keras.saving.register_keras_serializable("keras_losskit")


class ExtraTerm(_keras.Saveable):
    """A term that reads the inside of the model.

    `contribution = weight * value(context)`. Given to a container as
    `LossesContainer(..., extra_terms={name: term})`; subclass it and define
    `value`, and `get_config` for what the subclass takes.

    Args:
        weight: A number, a `keras.Variable` or a schedule.
        reduction: How values `(batch, ...)` become a scalar.

    Example:
        >>> class Confidence(ExtraTerm):
        ...     def value(self, context):
        ...         return ops.mean(ops.max(context.y_pred, axis=-1))
        >>> term = Confidence(weight=0.5)
        >>> term.weight
        0.5
    """

    #: Whether `value` reads the predictions; that of a subclass does.
    reads_predictions = True

    def __init__(
        self,
        *,
        weight: Weight = 1.0,
        reduction: ReductionLike = "sum_over_batch_size",
    ):
        self.weight = weights_lib.check_weight(weight, name=type(self).__name__)
        reductions.get(reduction)  # refused if it is none
        self.reduction = reduction

    def __call__(self, context: Context | None) -> Tensor:
        """The term's value, unweighted.

        Args:
            context: `Context`.

        Returns:
            Scalar, float32 or float64; 0 while shapes are inferred.

        Raises:
            ValueError: if there is no model to look into, or it lacks what the
                term reads.
        """
        if context is None or context.model is None:
            raise ValueError(
                f"Expected {type(self).__name__} to be given the model whose "
                "inside it reads. Received: none. Train a "
                "`keras_losskit.Model`, or hand `compute` a "
                "`Context(model=..., ...)`."
            )
        self.prepare(context.model)
        if _keras.in_symbolic_scope():
            return ops.zeros(())  # the inside has no values yet
        if context.moves:
            self.update_state(context)
        return self.value(context)

    @property
    def variables(self) -> list[keras.Variable]:
        """What the term reads and the model does not have; for subclasses.

        Beside the variables of its weight. A compiled step on JAX sees changes
        of these alone.
        """
        return []

    def value(self, context: Context) -> Tensor:
        """The unweighted value, a scalar; for subclasses."""
        raise NotImplementedError(
            f"Expected {type(self).__name__} to define `value(self, context)`."
        )

    def update_state(self, context: Context) -> None:
        """Move the term's own state on, in a training step; for subclasses."""

    def prepare(self, model: keras.Model) -> None:
        """Reject a model that lacks what the term reads; for subclasses.

        Before the first step it is called while shapes are inferred. Variables
        of the term are made here.
        """

    def kept_layers(self, model: keras.Model) -> list[keras.layers.Layer]:
        """The layers whose outputs the forward pass has to keep."""
        return []

    def copy(self) -> Self:
        """The same term with separate state; for subclasses that have some."""
        return self.copy_in_state()

    def copy_in_state(self) -> Self:
        """The same term over the same state, to run where none is assigned."""
        # Not `copy.copy`, for which Keras would save and load a teacher.
        made = object.__new__(type(self))
        made.__dict__.update(self.__dict__)
        return made

    def reduce(
        self, values: TensorLike, mask: TensorLike | None = None
    ) -> Tensor:
        """The values of a custom function as a scalar."""
        values = ops.convert_to_tensor(values)
        return reduced(values, self.reduction, type(self).__name__, mask)

    def get_config(self) -> Config:
        return {
            "weight": weights_lib.serialize_weight(self.weight),
            "reduction": keras.saving.serialize_keras_object(self.reduction),
        }

    @classmethod
    def from_config(cls, config: Config) -> Self:
        config = dict(config)
        deserialize = keras.saving.deserialize_keras_object
        config["weight"] = weights_lib.deserialize_weight(config["weight"])
        for key in set(config) - {"weight"}:
            config[key] = deserialize(config[key])
        return cls(**config)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(weight={self.weight!r})"
