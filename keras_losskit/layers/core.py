"""Drop-in layers of the core: dense, einsum, embedding, activation."""

import keras

from keras_losskit.layers._loss_layer import LossLayer
from keras_losskit.layers._loss_layer import registered


@registered
class Dense(LossLayer, keras.layers.Dense):
    """`keras.layers.Dense` with reducible, readable penalties.

    Takes `activity_reduction` and `regularization_reduction` as well; see
    `keras_losskit.layers`.

    Example:
        >>> layer = Dense(3, kernel_regularizer="l2", kernel_initializer="ones",
        ...               regularization_reduction="mean_over_parameters")
        >>> _ = layer(keras.ops.ones((2, 4)))
        >>> [round(float(loss), 4) for loss in layer.regularization_losses]
        [0.01]
    """


@registered
class EinsumDense(LossLayer, keras.layers.EinsumDense):
    """`keras.layers.EinsumDense` with reducible, readable penalties.

    Takes `activity_reduction` and `regularization_reduction` as well; see
    `keras_losskit.layers`.

    Example:
        >>> layer = EinsumDense("ab,bc->ac", output_shape=3,
        ...                     activity_regularizer="l1",
        ...                     activity_reduction="mean_over_elements",
        ...                     kernel_initializer="ones")
        >>> _ = layer(keras.ops.ones((2, 4)))
        >>> [round(float(loss), 4) for loss in layer.activity_losses]
        [0.04]
    """


@registered
class Embedding(LossLayer, keras.layers.Embedding):
    """`keras.layers.Embedding` with reducible, readable penalties.

    Takes `activity_reduction` and `regularization_reduction` as well; see
    `keras_losskit.layers`.

    Example:
        >>> layer = Embedding(5, 2, embeddings_regularizer="l2",
        ...                   embeddings_initializer="ones")
        >>> _ = layer(keras.ops.array([[1, 2]]))
        >>> [round(float(loss), 4) for loss in layer.regularization_losses]
        [0.1]
    """


@registered
class ReversibleEmbedding(LossLayer, keras.layers.ReversibleEmbedding):
    """`keras.layers.ReversibleEmbedding` with reducible, readable penalties.

    Takes `activity_reduction` and `regularization_reduction` as well; see
    `keras_losskit.layers`.

    Example:
        >>> layer = ReversibleEmbedding(5, 2, embeddings_regularizer="l2",
        ...                             embeddings_initializer="ones")
        >>> _ = layer(keras.ops.array([[1, 2]]))
        >>> [round(float(loss), 4) for loss in layer.regularization_losses]
        [0.1]
    """


@registered
class PReLU(LossLayer, keras.layers.PReLU):
    """`keras.layers.PReLU` with reducible, readable penalties.

    Takes `activity_reduction` and `regularization_reduction` as well; see
    `keras_losskit.layers`.

    Example:
        >>> layer = PReLU(alpha_regularizer="l1", alpha_initializer="ones")
        >>> _ = layer(keras.ops.ones((2, 4)))
        >>> [round(float(loss), 4) for loss in layer.regularization_losses]
        [0.04]
    """


if hasattr(keras.layers, "TernaryDense"):  # from Keras 3.16 on

    @registered
    class TernaryDense(LossLayer, keras.layers.TernaryDense):
        """`keras.layers.TernaryDense` with reducible, readable penalties.

        Takes `activity_reduction` and `regularization_reduction` as well; see
        `keras_losskit.layers`.

        Example:
            >>> layer = TernaryDense(3, kernel_regularizer="l2",
            ...                      kernel_initializer="ones")
            >>> _ = layer(keras.ops.ones((2, 4)))
            >>> [round(float(loss), 4) for loss in layer.regularization_losses]
            [0.12]
        """
