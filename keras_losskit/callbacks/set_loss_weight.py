"""`SetLossWeight`: a weight that a callback sets."""

from collections.abc import Callable
from typing import Any
from typing import Literal
from typing import Self

import keras
from keras import ops

from keras_losskit import _weights as weights_lib
from keras_losskit._support.checks import checked_choice
from keras_losskit._support.checks import checked_name
from keras_losskit._support.checks import checked_number
from keras_losskit._support.checks import refused
from keras_losskit._support.checks import takes
from keras_losskit._types import Config
from keras_losskit._types import Logs
from keras_losskit._types import Variable
from keras_losskit.callbacks._batch_means import checked_container
from keras_losskit.callbacks._batch_means import steps_taken
from keras_losskit.container._arguments import weight_variables


@keras.saving.register_keras_serializable("keras_losskit")
class SetLossWeight(keras.callbacks.Callback):
    """Set a weight of the loss at the start of every epoch or step.

    `variable <- schedule(count)`, where `count` is the number of epochs of
    `fit`, or of the batches that the optimizer has seen, also under gradient
    accumulation. A restored run continues that count.

    A schedule can also be given to the loss itself, which needs no callback and
    is saved with the model. The callback is for what only Python can compute,
    and for a variable that a loaded model already has. The weight is logged as
    `<term>_weight`.

    Args:
        variable: The `keras.Variable` that was given as a weight, or its name:
            a loaded model has another variable of that name.
        schedule: A function of the count that gives a number, a schedule of
            `keras_losskit.schedules`, or a Keras learning rate schedule.
        by: `"epoch"` or `"step"`: how often the weight is set, and what a
            function or a learning rate schedule is given.

    Raises:
        TypeError: if `variable` or `schedule` is of another type, or a function
            does not give a number.
        ValueError: if `by` is neither; or when training begins, if the loss of
            the model does not read the variable.

    Example:
        >>> from keras_losskit import LossesContainer, Model
        >>> beta = keras.Variable(0.0, name="beta", trainable=False)
        >>> inputs = keras.Input((1,))
        >>> model = Model(inputs, keras.layers.Dense(1)(inputs))
        >>> model.compile("sgd", LossesContainer("mse", loss_weights=beta))
        >>> warm_up = SetLossWeight(beta, lambda epoch: 0.5 * epoch)
        >>> history = model.fit(
        ...     keras.ops.ones((2, 1)), keras.ops.ones((2, 1)), epochs=3,
        ...     verbose=0, callbacks=[warm_up]).history
        >>> [float(weight) for weight in history["mse_weight"]]
        [0.0, 0.5, 1.0]
    """

    def __init__(
        self,
        variable: Variable | str,
        schedule: Callable[..., Any],
        *,
        by: Literal["epoch", "step"] = "epoch",
    ):
        super().__init__()
        if not isinstance(variable, keras.Variable | str):
            raise refused(
                variable,
                "`variable` of SetLossWeight to be a keras.Variable or its "
                "name",
            )
        if isinstance(variable, str):
            checked_name(variable, "`variable` of SetLossWeight, a name,")
        self.by = checked_choice(by, ("epoch", "step"), "`by` of SetLossWeight")
        by_schedule = weights_lib.is_schedule(schedule)
        # A class will do, such as `float`.
        if not by_schedule and not (callable(schedule) and takes(schedule, by)):
            raise refused(
                schedule,
                "`schedule` of SetLossWeight to be a schedule, or a function "
                f"of the {by}",
            )
        self.variable = variable
        self.schedule = schedule
        self._epoch = 0
        self._first_step = 0

    @property
    def variable_name(self) -> str:
        """The name of the variable."""
        variable = self.variable
        return variable if isinstance(variable, str) else variable.name

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Set the weight, if it goes by the epoch."""
        self._epoch = epoch
        self._first_step = steps_taken(self.model)
        if self.by == "epoch":
            self._set(self._first_step, epoch)

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Set the weight, if it goes by the step."""
        if self.by == "step":
            self._set(self._first_step + batch, self._epoch)

    def _set(self, step, epoch):
        if weights_lib.is_schedule(self.schedule):
            value = self.schedule(step, epoch)
        else:
            value = self.schedule(step if self.by == "step" else epoch)
        if ops.is_tensor(value):
            value = ops.convert_to_numpy(value)
        number = checked_number(value, f"the weight '{self.variable_name}'")
        # On JAX `self.model` first brings the variables up to date, and the
        # next step then takes them from there.
        read_variable(self.model, self.variable).assign(number)

    def on_train_begin(self, logs: Logs = None) -> None:
        """Look for the variable, so that a wrong one is told at once."""
        read_variable(self.model, self.variable)

    def get_config(self) -> Config:
        """Everything needed to build the callback again; a variable's name."""
        return {
            "variable": self.variable_name,
            "schedule": keras.saving.serialize_keras_object(self.schedule),
            "by": self.by,
        }

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """Build the callback from what `get_config` gave."""
        config = dict(config)
        schedule = keras.saving.deserialize_keras_object(config.pop("schedule"))
        return cls(schedule=schedule, **config)


def read_variable(model, variable):
    """The variable that the model's loss reads: `variable`, or of its name."""
    container = checked_container(model)
    known = variables_of(container) if container is not None else []
    if container is not None and not container.built_losses.reads_known:
        # A step of the user's own on TensorFlow, which runs nothing before.
        if isinstance(variable, keras.Variable):
            return variable
        known = list({id(v): v for v in [*known, *model.variables]}.values())
    found = [
        v
        for v in known
        if v is variable or (isinstance(variable, str) and v.name == variable)
    ]
    if len(found) != 1:
        names = [v.name for v in known]
        raise ValueError(
            "Expected one variable that the loss of the model reads, among "
            f"{names}. Received: {variable!r}. Give it to the loss as a weight "
            "before `compile`; for a loaded model, whose variables are its "
            "own, give its name."
        )
    return found[0]


def variables_of(container):
    """The variables among the weights of a container, built or not."""
    found = weight_variables(container)
    # Once it is built it also knows weights that layers gave to `add_loss`.
    found += container.non_trainable_variables
    clock = {id(v) for v in container.clock.variables}
    return [
        v for key, v in {id(v): v for v in found}.items() if key not in clock
    ]
