"""Distillation: a term that compares with another model."""

import keras
from keras import ops

from keras_losskit import losses as losses_lib
from keras_losskit._support import replicas
from keras_losskit._support.checks import checked_instance
from keras_losskit._support.checks import refused
from keras_losskit._types import Config
from keras_losskit._types import LossLike
from keras_losskit._types import Structure
from keras_losskit._types import Tensor
from keras_losskit._types import Weight
from keras_losskit.extra.context import Context
from keras_losskit.extra.extra_term import ExtraTerm
from keras_losskit.extra.extra_term import registered
from keras_losskit.losses._core.check import check_loss


class Taught(ExtraTerm):
    """A loss between the predictions of a teacher and the model's.

    Args:
        loss: What compares them.
        weight: A number, a `keras.Variable` or a schedule.
    """

    def __init__(self, loss: LossLike, *, weight: Weight = 1.0):
        super().__init__(weight=weight)
        self.loss = checked_loss(loss, type(self).__name__)

    def predictions(self, context: Context) -> Structure:
        """The teacher's predictions, without gradient; for subclasses."""
        raise NotImplementedError

    def value(self, context: Context) -> Tensor:
        targets = keras.tree.flatten(self.predictions(context))
        predictions = keras.tree.flatten(context.y_pred)
        if len(targets) != len(predictions):
            raise ValueError(
                "Expected the teacher to have the outputs of the model, "
                f"{len(predictions)}. Received: {len(targets)}"
            )
        weights = context.sample_weights()
        values = [
            losses_lib.evaluate(self.loss, target, prediction, weight)
            for target, prediction, weight in zip(
                targets, predictions, weights, strict=True
            )
        ]
        # The container makes extra terms parts of a batch itself.
        share = replicas.batch_share(context.y_pred)
        return replicas.undo_share(sum(values[1:], values[0]), share)

    def get_config(self) -> Config:
        config = super().get_config()
        del config["reduction"]
        return {**config, "loss": losses_lib.serialize(self.loss)}


@registered
class FromTeacher(Taught):
    """A loss between a frozen teacher's predictions and the model's.

    `value = loss(teacher(x), y_pred)`, summed over the outputs, with the sample
    weights of the batch. The teacher runs in inference mode, is not trained and
    is saved with the model. Weights that are set, such as by a callback, count
    from the next step on.

    Args:
        teacher: A built `keras.Model` that takes the model's inputs and has its
            outputs.
        loss: What compares them: whatever `compile(loss=...)` takes for one
            output.
        weight: A number, a `keras.Variable` or a schedule.

    Raises:
        ValueError: if the teacher is not built.

    Reference:
        Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network",
        2015.

    Example:
        >>> teacher = keras.Sequential([keras.Input((2,)),
        ...                             keras.layers.Dense(1)])
        >>> FromTeacher(teacher, "mse", weight=0.5).weight
        0.5
    """

    def __init__(
        self, teacher: keras.Model, loss: LossLike, *, weight: Weight = 1.0
    ):
        super().__init__(loss, weight=weight)
        checked_instance(
            teacher, keras.Model, "`teacher` of FromTeacher", "a keras.Model"
        )
        if not teacher.built:
            raise ValueError(
                "Expected the teacher to be built. Received: the unbuilt model "
                f"'{teacher.name}'. Call it on a batch first."
            )
        self.teacher = teacher

    @property
    def variables(self) -> list[keras.Variable]:
        """The teacher's, whose weights may be set during training."""
        return self.teacher.variables

    def predictions(self, context: Context) -> Structure:
        return self.targets(context.x)

    def targets(self, x: Structure) -> Structure:
        """The teacher's predictions, through which no gradient flows."""
        kwargs = {}
        if "training" in self.teacher.call_signature_parameters:
            kwargs["training"] = False
        # Stateless, so that neither its losses nor its seeds are touched.
        outputs, _ = self.teacher.stateless_call(
            [v.value for v in self.teacher.trainable_variables],
            [v.value for v in self.teacher.non_trainable_variables],
            x,
            **kwargs,
        )
        return keras.tree.map_structure(ops.stop_gradient, outputs)

    def get_config(self) -> Config:
        teacher = keras.saving.serialize_keras_object(self.teacher)
        return {**super().get_config(), "teacher": teacher}

    def __repr__(self) -> str:
        return (
            f"FromTeacher({self.teacher.name!r}, {self.loss.name}, "
            f"weight={self.weight!r})"
        )


def checked_loss(loss, term):
    """The loss object that `loss` stands for, or an error that says so."""
    try:
        check_loss(loss)
        found = losses_lib.get(loss)
    except (TypeError, ValueError, AttributeError):
        found = None
    if found is None:
        raise refused(
            loss,
            f"`loss` of {term} to be a name, a function of (y_true, "
            "y_pred) or a `keras.losses.Loss`",
        )
    return found
