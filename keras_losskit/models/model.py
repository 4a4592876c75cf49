"""`Model` and `Sequential`, whose loss is made of named terms."""

import keras

from keras_losskit.models.mixin import LossTermsMixin


@keras.saving.register_keras_serializable("keras_losskit")
class Model(LossTermsMixin, keras.Model):
    """`keras.Model` with separated, named loss terms.

    Functional (`Model(inputs, outputs)`) and subclassed, in any order: unlike
    Keras it never rewrites the bases of a class.

    Example:
        >>> inputs = keras.Input((2,))
        >>> model = Model(inputs, keras.layers.Dense(1)(inputs))
        >>> model.compile("sgd", loss="mse")
        >>> history = model.fit(
        ...     keras.ops.ones((4, 2)), keras.ops.ones((4, 1)), verbose=0)
        >>> sorted(history.history)
        ['loss']
    """


@keras.saving.register_keras_serializable("keras_losskit")
class Sequential(Model, keras.Sequential):
    """`keras.Sequential` with separated, named loss terms.

    Example:
        >>> model = Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        >>> model.count_params()
        3
    """
