"""Functions and classes of a user's own that the committed files name.

They stand in for what users derive from the public bases: a file holds one of
each, and loading it needs them registered.
"""

import keras
from keras import ops

import keras_losskit as losskit
from keras_losskit import extra
from keras_losskit import layers
from keras_losskit import losses
from keras_losskit import reductions
from keras_losskit import schedules
from keras_losskit import weighting

registered = keras.saving.register_keras_serializable("of_files")


@registered
def absolute(y_true, y_pred):
    return ops.mean(ops.abs(y_true - y_pred), axis=-1)


@registered
def near_and_far(y_true, y_pred):
    error = ops.abs(y_true - y_pred)
    return {"near": error, "far": error**2}


@registered
def mean_square(x):
    return ops.mean(x**2, axis=-1)


@registered
class Levels(losses.Loss):
    """A map and every second pixel of it, compared by a loss over levels."""

    def __init__(self, loss, name="levels", **kwargs):
        super().__init__(name=name, **kwargs)
        self.loss = loss

    def call(self, y_true, y_pred):
        return self.loss(y_true, [y_pred, y_pred[:, ::2, ::2]])

    def settings(self):
        return {"loss": keras.saving.serialize_keras_object(self.loss)}

    @classmethod
    def from_config(cls, config):
        loss = keras.saving.deserialize_keras_object(config["loss"])
        return super().from_config({**config, "loss": loss})


@registered
class MeanOfSquares(reductions.Reduction):
    def __call__(self, values, sample_weight=None, mask=None):
        return ops.mean(ops.square(values))


@registered
class Inverse(schedules.Schedule):
    def __call__(self, step, epoch):
        return 1.0 / (1.0 + ops.cast(step, "float32"))


@registered
class Confidence(extra.ExtraTerm):
    def value(self, context):
        return ops.mean(context.y_pred**2)


@registered
class RunningInverse(weighting.Weighting):
    """Weights by the running mean of the values, which is its state."""

    statistic = "values"

    def build(self, num_terms):
        super().build(num_terms)
        self.mean = self.add_state("mean", 1.0)

    def weigh(self, values, training):
        mean = 0.5 * ops.convert_to_tensor(self.mean) + 0.5 * values
        if training:
            self.mean.assign(mean)
        return 1.0 / (0.1 + mean)


@registered
class ByNorm(weighting.GradientWeighting):
    def weigh(self, gramian, training):
        return 1.0 / (0.1 + ops.sqrt(ops.diagonal(gramian)))


@registered
class Energy(layers.Layer):
    def call(self, x):
        self.add_loss(mean_square(x), name="energy", weight=0.1)
        return x


@registered
class Sparse(layers.Wrapper):
    def call(self, x):
        y = self.layer(x)
        self.add_loss(ops.mean(ops.abs(y)), name="sparse", weight=0.1)
        return y


@registered
class ThriftyCell(layers.SimpleRNNCell):
    """A cell that adds a loss at every step."""

    def call(self, x, states, training=False):
        self.add_loss(mean_square(x), name="use", weight=0.1)
        return super().call(x, states, training=training)


@registered
class Subclassed(keras.Model):
    """A model that knows nothing of this package."""

    def __init__(self, units=3, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.hidden = keras.layers.Dense(
            units, "tanh", activity_regularizer="l2", name="hidden"
        )
        self.out = keras.layers.Dense(2, kernel_regularizer="l2", name="out")

    def call(self, x):
        hidden = self.hidden(x)
        self.add_loss(0.1 * ops.mean(hidden**2))
        return self.out(hidden)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@registered
class Mixed(losskit.LossTermsMixin, Subclassed):
    """The same with separated terms, and a loss of its own on top."""

    def compute_loss(self, *args, **kwargs):
        return super().compute_loss(*args, **kwargs) + 0.01 * ops.sum(
            self.out.kernel**2
        )
