"""Self-distillation: a teacher whose weights follow those of the model."""

from typing import Any
from typing import Self

import keras
import numpy as np
from keras import ops

from keras_losskit._support.checks import checked_fraction
from keras_losskit._types import Config
from keras_losskit._types import LossLike
from keras_losskit._types import Structure
from keras_losskit._types import Weight
from keras_losskit.extra.context import Context
from keras_losskit.extra.extra_term import registered
from keras_losskit.extra.from_teacher import Taught


@registered
class EMATeacher(Taught):
    """A loss between the predictions of a mean teacher and the model's.

    `value = loss(model(x; w'), y_pred)`, summed over the outputs, with the
    sample weights of the batch. `w'`, the teacher's weights, are an exponential
    moving average of the model's: in each training step, before they are used,

    `w' = momentum * w' + (1 - momentum) * w`.

    In the first step `w' = w`. All floating-point weights are averaged,
    including the statistics of batch normalisation. The teacher runs in
    inference mode, has no gradient, moves in training steps only, and is saved
    with the model. This term needs no labels, so it also learns from unlabelled
    samples: mask those in the supervised loss, as `losses.Masked` does.

    Args:
        loss: What compares the predictions: whatever `compile(loss=...)` takes
            for one output.
        momentum: From 0 to 1; close to 1 the teacher moves slowly.
        weight: A number, a `keras.Variable` or a schedule.

    Reference:
        Tarvainen, Valpola, "Mean teachers are better role models", NeurIPS,
        2017.

    Example:
        >>> EMATeacher("mse", momentum=0.99, weight=0.5)
        EMATeacher(mse, momentum=0.99, weight=0.5)
    """

    def __init__(
        self, loss: LossLike, *, momentum: float = 0.999, weight: Weight = 1.0
    ):
        super().__init__(loss, weight=weight)
        self.momentum = checked_fraction(momentum, "`momentum` of EMATeacher")
        # A teacher for each copy; a file may be read before one is made.
        self._averages: list[keras.Variable] = []
        self._stored: list[Any] = []

    @property
    def variables(self) -> list[keras.Variable]:
        """The number of training steps, and the teacher's weights."""
        return list(self._averages)

    def prepare(self, model: keras.Model) -> None:
        if self._averages:
            return
        students = averaged(model)
        self._check_stored(students)
        # Zeros, as a value may not be known here: the first step sets them.
        initial = self._stored or ["zeros"] * (1 + len(students))
        self._averages = [
            new_variable("updates", (), "int32", initial[0]),
            *(
                new_variable(
                    variable.name, variable.shape, wide_dtype(variable), value
                )
                for variable, value in zip(students, initial[1:], strict=True)
            ),
        ]

    def update_state(self, context: Context) -> None:
        updates, *averages = self._averages
        for average, student in self._pairs(context.model, averages):
            student = ops.cast(student.value, average.dtype)
            moved = self.momentum * average + (1.0 - self.momentum) * student
            average.assign(ops.where(updates > 0, moved, student))
        updates.assign_add(1)

    def predictions(self, context: Context) -> Structure:
        updates, *averages = self._averages
        values = [
            (
                student,
                ops.where(
                    updates > 0,
                    ops.cast(average.value, student.dtype),
                    ops.stop_gradient(student.value),
                ),
            )
            for average, student in self._pairs(context.model, averages)
        ]
        outputs = context.model._losskit_call_aside(
            context.x, training=False, values=values
        )
        return keras.tree.map_structure(ops.stop_gradient, outputs)

    def _pairs(self, model, averages):
        return zip(averages, averaged(model), strict=True)

    def assign_to(self, model: keras.Model) -> None:
        """Give a model the teacher's weights.

        Args:
            model: The model itself, or one of the same architecture.

        Raises:
            ValueError: before the first training step.

        Example:
            >>> import keras_losskit as losskit
            >>> inputs = keras.Input((2,))
            >>> student = losskit.Model(inputs, keras.layers.Dense(1)(inputs))
            >>> terms = {"teacher": EMATeacher("mse", momentum=0.9)}
            >>> student.compile(
            ...     "sgd", losskit.LossesContainer("mse", extra_terms=terms))
            >>> _ = student.fit(ops.ones((4, 2)), ops.ones((4, 1)), verbose=0)
            >>> teacher = keras.models.clone_model(student)
            >>> student.compiled_loss.extra_terms["teacher"].assign_to(teacher)
        """
        if not self._averages or not int(self._averages[0].value):
            raise ValueError(
                "Expected a teacher that has followed its model for a training "
                "step at least. Received: one that has not. The term of a "
                "model is `model.compiled_loss.extra_terms[name]`."
            )
        for average, variable in self._pairs(model, self._averages[1:]):
            variable.assign(average.value)

    def copy(self) -> Self:
        made = super().copy()
        made._averages, made._stored = [], []
        return made

    def save_own_variables(self, store: Any) -> None:
        """Write the teacher's weights."""
        for index, variable in enumerate(self._averages):
            store[str(index)] = ops.convert_to_numpy(variable.value)

    def load_own_variables(self, store: Any) -> None:
        """Read them; without any in the file, the teacher starts anew.

        Raises:
            ValueError: for the weights of another architecture.
        """
        count = len(store.keys())
        self._stored = [np.array(store[str(index)]) for index in range(count)]
        if not self._averages:
            return
        self._check_stored(self._averages[1:])
        if not self._stored:
            self._averages[0].assign(0)
        for variable, value in zip(self._averages, self._stored, strict=False):
            variable.assign(value)

    def _check_stored(self, variables):
        """Refuse what a file held of a teacher of another architecture."""
        expected = [tuple(variable.shape) for variable in variables]
        received = [value.shape for value in self._stored[1:]]
        if self._stored and expected != received:
            raise ValueError(
                f"Expected the teacher in the file to have weights of shapes "
                f"{expected}, as the model. Received: {received}. Compile with "
                "a new EMATeacher."
            )

    def get_config(self) -> Config:
        return {**super().get_config(), "momentum": self.momentum}

    def __repr__(self) -> str:
        return (
            f"EMATeacher({self.loss.name}, momentum={self.momentum:g}, "
            f"weight={self.weight!r})"
        )


def averaged(model):
    """The weights of a model that have a mean: those of floating point."""
    return [
        variable
        for variable in model.weights
        if keras.backend.is_float_dtype(variable.dtype)
    ]


def new_variable(name, shape, dtype, initial):
    """A variable of a teacher, alike on all replicas.

    Args:
        name: What it is of.
        shape: Its shape.
        dtype: Its dtype.
        initial: An array, or the name of an initializer.
    """
    if not isinstance(initial, str):
        initial = Stored(initial)
    return keras.Variable(
        initial,
        shape=shape,
        dtype=dtype,
        trainable=False,
        aggregation="only_first_replica",
        name=f"teacher_{name}",
    )


class Stored(keras.initializers.Initializer):
    """What a file held: given when asked for, as shapes may be inferred now.

    Args:
        value: An array.
    """

    def __init__(self, value):
        self.value = value

    def __call__(self, shape, dtype=None):
        return ops.convert_to_tensor(self.value, dtype=dtype)


def wide_dtype(variable):
    """Float32 at least: a narrower mean would stand still."""
    return "float64" if variable.dtype == "float64" else "float32"
