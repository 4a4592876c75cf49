"""What is refused where a loss is expected, and what to do instead."""

import keras
from keras import ops
from keras import tree

from keras_losskit import reductions
from keras_losskit import schedules
from keras_losskit import weighting

#: Objects that can be called like a loss, and where they belong.
_ELSEWHERE = {
    keras.metrics.Metric: (
        "A metric returns a running mean over batches, not the loss of one: "
        "give it to `compile(metrics=...)`, and take a loss of "
        "`keras_losskit.losses`"
    ),
    schedules.Schedule: "A schedule is a weight: write `schedule * loss`",
    keras.optimizers.schedules.LearningRateSchedule: (
        "A schedule is a weight: write `loss * schedule`"
    ),
    reductions.Reduction: (
        "A reduction is an argument of a loss: `Huber(reduction=...)`"
    ),
    weighting.Weighting: (
        "A weighting is an argument of `LossesContainer(..., weighting=...)`"
    ),
    keras.regularizers.Regularizer: (
        "A regularizer is an argument of a layer, such as "
        "`kernel_regularizer=...`"
    ),
}


def refuse_as_loss(candidate, what="a loss"):
    """Raise for an object, or class, that belongs elsewhere.

    Args:
        candidate: What was given for a loss.
        what: What was expected, as the error calls it.

    Raises:
        TypeError: for a metric, a schedule, a reduction, a weighting or a
            regularizer.
    """
    cls = candidate if isinstance(candidate, type) else type(candidate)
    for other, remedy in _ELSEWHERE.items():
        if issubclass(cls, other):
            raise TypeError(
                f"Expected {what}. Received: {candidate!r} of type "
                f"{cls.__name__}. {remedy}."
            )


def checked_loss(candidate, what):
    """`candidate`, if it is a loss object.

    Args:
        candidate: What was given.
        what: What it was given for, as the error calls it.

    Raises:
        TypeError: if it is no `keras.losses.Loss`.
    """
    if isinstance(candidate, keras.losses.Loss):
        return candidate
    refuse_as_loss(candidate, f"{what} to be a `keras.losses.Loss`")
    raise TypeError(
        f"Expected {what} to be a `keras.losses.Loss`. Received: "
        f"{candidate!r} of type {type(candidate).__name__}. `losses.get` makes "
        "one of a name or function."
    )


def refuse_symbolic(loss, *arguments):
    """Raise for symbolic tensors, of which a loss has no value.

    Args:
        loss: A `keras.losses.Loss`.
        *arguments: Targets and predictions.

    Raises:
        TypeError: if one holds a `keras.KerasTensor`.
    """
    for argument in arguments:
        if ops.is_tensor(argument):
            continue  # most are, and need no walk
        for leaf in tree.flatten(argument):
            if isinstance(leaf, keras.KerasTensor):
                raise TypeError(
                    f"Expected tensors with values for loss '{loss.name}'. "
                    f"Received: the symbolic {leaf!r}. Give the loss to "
                    "`compile`, or add it in the functional model, `y_true, "
                    "y_pred = keras_losskit.layers.AddLoss(loss)([y_true, "
                    "y_pred])`."
                )
