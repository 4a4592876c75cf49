"""The conformance kit finds what is not finite at an edge."""

import keras
import pytest
from keras import ops

from keras_losskit import losses
from keras_losskit import testing


class Distance(keras.losses.Loss):
    """The root of a sum of squares: no slope where it is 0."""

    def call(self, y_true, y_pred):
        return ops.sqrt(ops.sum(ops.square(y_true - y_pred), axis=-1))


class Entropy(losses.Loss):
    def call(self, y_true, y_pred):
        return -ops.sum(y_true * ops.log(y_pred), axis=-1)


class Furthest(losses.Loss):
    """Reduces over the batch by a shape that an empty one does not have."""

    def call(self, y_true, y_pred):
        if y_pred.shape[0] == 0:
            raise IndexError("no sample")
        return ops.mean(ops.abs(y_true - y_pred), axis=-1)


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (Distance, "gradient of loss .* that are the labels: Expected finite"),
        (Entropy, "predictions of 0: Expected a finite value.*logarithm"),
        (Furthest, "empty batch: Expected a finite value.*IndexError"),
    ],
)
def test_finds_an_edge(cls, message):
    with pytest.raises(AssertionError, match=message):
        testing.check_loss(cls())
    others = ["edges", "dtype", "config", "jit"]
    testing.check_loss(cls(), skip=others)


def by_product(values, sample_weight=None, mask=None):
    """Multiplies by the mask, which NaN survives."""
    values = ops.cast(values, "float32")
    if sample_weight is not None:
        values = values * sample_weight
    if mask is None:
        return ops.mean(values)
    mask = ops.cast(mask, values.dtype)
    return ops.sum(values * mask) / ops.maximum(ops.sum(mask), 1.0)


def test_finds_a_reduction_that_multiplies_by_the_mask():
    with pytest.raises(AssertionError, match="masked values of NaN.*where"):
        testing.check_reduction(by_product)
