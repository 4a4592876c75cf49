"""`Reciprocal`: the weight of a loss divided by a variable or schedule."""

import keras

from keras_losskit import schedules
from keras_losskit import weights as weights_lib


@keras.saving.register_keras_serializable("keras_losskit")
class Reciprocal(schedules.Schedule):
    """One over a weight that moves.

    `weight(step, epoch) = 1 / divisor(step, epoch)`; made by `loss / divisor`.

    Args:
        divisor: A `keras.Variable` or schedule.

    Example:
        >>> Reciprocal(keras.Variable(4.0, name="temperature"))
        1 / temperature
    """

    def __init__(self, divisor):
        self.divisor = weights_lib.check_weight(divisor, name="divisor")

    def __call__(self, step, epoch):
        return 1.0 / weights_lib.weight_value(self.divisor, step, epoch)

    @property
    def variables(self):
        """The `keras.Variable`s of the divisor."""
        return weights_lib.weight_variables(self.divisor)

    def get_config(self):
        return {"divisor": weights_lib.serialize_weight(self.divisor)}

    @classmethod
    def from_config(cls, config):
        """Build a reciprocal from what `get_config` gave."""
        return cls(weights_lib.deserialize_weight(config["divisor"]))

    def __repr__(self):
        return f"1 / {weights_lib.weight_repr(self.divisor)}"
