"""Keras' similarity losses."""

import keras

from keras_losskit.losses.base import LossMixin


@keras.saving.register_keras_serializable("keras_losskit")
class CosineSimilarity(LossMixin, keras.losses.CosineSimilarity):
    """Negative cosine similarity: -1 for the same direction.

    `loss = -sum(y_true * y_pred, axis) / (norm(y_true) * norm(y_pred))`.

    Args:
        axis: Axis of the vectors.
        reduction, name, dtype, weight: See `Loss`.

    Example:
        >>> loss = CosineSimilarity()
        >>> round(float(loss([[1.0, 0.0]], [[3.0, 4.0]])), 4)
        -0.6
    """

    def __init__(
        self,
        axis=-1,
        reduction="sum_over_batch_size",
        name="cosine_similarity",
        dtype=None,
        *,
        weight=1.0,
    ):
        super().__init__(
            axis=axis,
            reduction=reduction,
            name=name,
            dtype=dtype,
            weight=weight,
        )
        self.axis = axis

    def settings(self):
        return {
            "axis": self.axis,
        }

    @property
    def values_follow_batch(self):
        """Whether the values have the batch in front."""
        return self.axis != 0


@keras.saving.register_keras_serializable("keras_losskit")
class Circle(LossMixin, keras.losses.Circle):
    """Circle loss between integer labels and unit-norm embeddings.

    Over the pairs of a batch: `loss = softplus(logsumexp(gamma * an * (sn -
    margin)) + logsumexp(-gamma * ap * (sp - 1 + margin)))`, with similarities
    `sp` inside and `sn` between classes and their detached weights.

    Args:
        gamma: Largest scale of a similarity.
        margin: Relaxation of the decision boundary.
        remove_diagonal: Whether to leave out a sample's similarity with
            itself.
        reduction, name, dtype, weight: See `Loss`.

    Reference:
        Sun et al., "Circle Loss", CVPR 2020.

    Example:
        >>> loss = Circle()
        >>> embeddings = [[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]
        >>> round(float(loss([0, 0, 1], embeddings)), 4)
        19.2
    """

    def __init__(
        self,
        gamma=80.0,
        margin=0.4,
        remove_diagonal=True,
        reduction="sum_over_batch_size",
        name="circle",
        dtype=None,
        *,
        weight=1.0,
    ):
        super().__init__(
            gamma=gamma,
            margin=margin,
            remove_diagonal=remove_diagonal,
            reduction=reduction,
            name=name,
            dtype=dtype,
            weight=weight,
        )
        self.gamma = gamma
        self.margin = margin
        self.remove_diagonal = remove_diagonal

    def settings(self):
        return {
            "gamma": self.gamma,
            "margin": self.margin,
            "remove_diagonal": self.remove_diagonal,
        }
