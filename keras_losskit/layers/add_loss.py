"""Layers that only add a loss, and bases for custom layers."""

from collections.abc import Callable
from typing import Any
from typing import Self

import keras
from keras import ops

from keras_losskit import _keras
from keras_losskit import _weights as weights_lib
from keras_losskit import reductions
from keras_losskit._support.checks import checked_function
from keras_losskit._support.precision import at_least_float32
from keras_losskit._types import Config
from keras_losskit._types import ReductionLike
from keras_losskit._types import Structure
from keras_losskit._types import Weight
from keras_losskit.layers._loss_layer import LossLayer
from keras_losskit.layers._loss_layer import registered
from keras_losskit.layers._side_branches import OnlyAddsLoss
from keras_losskit.penalties._add_loss import of_what_counts
from keras_losskit.penalties._add_loss import reduced
from keras_losskit.terms import checked_term_name


@registered
class Layer(LossLayer, keras.layers.Layer):
    """`keras.layers.Layer` whose `add_loss` takes a name and a weight.

    Takes `activity_reduction` and `regularization_reduction` as well; see
    `keras_losskit.layers`. Constructor arguments that `get_config` of a
    subclass leaves out are saved as Keras saves them.

    Example:
        >>> class Shrink(Layer):
        ...     def call(self, x):
        ...         self.add_loss(keras.ops.sum(x**2, axis=-1), name="size",
        ...                       weight=0.1)
        ...         return x
        >>> layer = Shrink()
        >>> _ = layer(keras.ops.ones((3, 2)))
        >>> [round(float(loss), 4) for loss in layer.added_losses]
        [0.2]
    """

    @_keras.derived_config
    def get_config(self) -> Config:
        return super().get_config()


@registered
class Wrapper(LossLayer, keras.layers.Wrapper):
    """`keras.layers.Wrapper` whose `add_loss` takes a name and a weight.

    Takes `activity_reduction` and `regularization_reduction` as well; see
    `keras_losskit.layers`.

    Example:
        >>> class Sparse(Wrapper):
        ...     def call(self, x):
        ...         y = self.layer(x)
        ...         self.add_loss(keras.ops.mean(keras.ops.abs(y)), name="l1")
        ...         return y
        >>> layer = Sparse(keras.layers.Dense(2, kernel_initializer="ones"))
        >>> _ = layer(keras.ops.ones((3, 4)))
        >>> [float(loss) for loss in layer.added_losses]
        [4.0]
    """


@registered
class ActivityRegularization(
    OnlyAddsLoss, LossLayer, keras.layers.ActivityRegularization
):
    """`keras.layers.ActivityRegularization` with a reduction.

    `loss = (l1 * sum(|x|) + l2 * sum(x ** 2)) / n`, where `n` is what
    `activity_reduction` says; see `keras_losskit.layers`.

    Example:
        >>> layer = ActivityRegularization(
        ...     l2=0.5, activity_reduction="mean_over_elements")
        >>> _ = layer(keras.ops.ones((3, 4)))
        >>> [float(loss) for loss in layer.activity_losses]
        [0.5]
    """


@registered
class AddLoss(OnlyAddsLoss, LossLayer, keras.layers.Layer):
    """Adds a function of its inputs to the loss and passes them on.

    `total += weight * reduction(fn(inputs))`. What `model.add_loss(symbolic)`
    was in tf.keras: in a functional model, continue with what it returns, as
    Keras leaves out a layer that leads to no output. `fit` of a
    `keras_losskit.Model` rejects a model where that was forgotten.

    Args:
        fn: A function of the inputs: `fn(x)` for one tensor, `fn(a, b)` for a
            list or tuple, `fn(a=..., b=...)` for a dict. It gets floats in
            float32 at least and returns a scalar or values `(batch, ...)`.
            Register it with `keras.saving.register_keras_serializable` to save
            the model.
        name: Name of the layer and of the logged term, `<name>_loss`.
        weight: A number, a `keras.Variable` or a schedule.
        reduction: How per-sample values become a scalar. What the Keras mask of
            a single input masks is left out, of values per step.
        **kwargs: As `keras.layers.Layer`.

    Returns:
        Of a call: its inputs, unchanged.

    Raises:
        TypeError: if `fn` is not callable.

    Example:
        >>> inputs = keras.Input((2,))
        >>> def energy(x):
        ...     return keras.ops.sum(x**2, axis=-1)
        >>> x = AddLoss(energy, name="energy", weight=0.5)(inputs)
        >>> model = keras.Model(inputs, x)
        >>> _ = model(keras.ops.ones((3, 2)))
        >>> [float(loss) for loss in model.losses]
        [1.0]
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        name: str | None = None,
        weight: Weight = 1.0,
        reduction: ReductionLike = "sum_over_batch_size",
        **kwargs,
    ):
        checked_function(fn, "`fn` of AddLoss, of the inputs,")
        reductions.get(reduction)  # refused if it is none
        if name is not None:
            checked_term_name(name, "`name` of AddLoss")
        # The inputs are passed on: their dtype is left alone.
        super().__init__(name=name, **{"autocast": False, **kwargs})
        self.fn = fn
        self.weight = weights_lib.check_weight(weight, name=self.name)
        self.reduction = reduction
        self.supports_masking = True

    def call(self, inputs: Structure) -> Structure:
        values = keras.tree.map_structure(widened, inputs)
        if isinstance(values, dict):
            loss = self.fn(**values)
        elif isinstance(values, (list, tuple)):
            loss = self.fn(*values)
        else:
            mask = _keras.get_keras_mask(inputs)
            loss = of_what_counts(self.fn, values, mask)
            if mask is not None and ops.is_tensor(loss):
                loss = reduced(loss, self.reduction, self.name, mask)
        self.add_loss(
            loss, name=self.name, weight=self.weight, reduction=self.reduction
        )
        return inputs

    def compute_output_spec(self, inputs: Structure) -> Structure:
        return keras.tree.map_structure(
            lambda x: keras.KerasTensor(x.shape, x.dtype), inputs
        )

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            "fn": keras.saving.serialize_keras_object(self.fn),
            "weight": weights_lib.serialize_weight(self.weight),
            "reduction": keras.saving.serialize_keras_object(self.reduction),
        }

    @classmethod
    def from_config(cls, config: Config) -> Self:
        config = dict(config)
        deserialize = keras.saving.deserialize_keras_object
        config["fn"] = deserialize(config["fn"])
        config["weight"] = weights_lib.deserialize_weight(config["weight"])
        config["reduction"] = deserialize(config["reduction"])
        return cls(**config)


def widened(x):
    """A float tensor in float32 at least; any other as it is."""
    if "float" in keras.backend.standardize_dtype(x.dtype):
        return at_least_float32(x)
    return x
