"""Losses whose values are not one per sample, reduced as Keras reduces them."""

import keras
import numpy as np
import pytest
from keras import ops
from support.autodiff import value_and_gradient

import keras_losskit as losskit
from keras_losskit import losses
from keras_losskit import reductions
from keras_losskit.losses._core import values as values_lib

RNG = np.random.default_rng(0)
TARGETS = RNG.normal(size=(8, 3)).astype("float32")
PREDICTIONS = RNG.normal(size=(8, 3)).astype("float32")
PER_SAMPLE = RNG.uniform(size=8).astype("float32")


def per_class(y_true, y_pred):
    return ops.mean(ops.square(y_true - y_pred), axis=0)


def of_pairs(y_true, y_pred):
    return ops.square(y_pred[0::2] - y_pred[1::2])


def two_per_sample(y_true, y_pred):
    error = y_true - y_pred
    return ops.concatenate([ops.square(error), ops.abs(error)], axis=0)


def products(y_true, y_pred):
    return ops.matmul(ops.transpose(y_true), y_pred)


def kept_axes(y_true, y_pred):
    return ops.mean(ops.square(y_true - y_pred), keepdims=True)


def one_class(y_true, y_pred):
    return per_class(y_true[:, :1], y_pred[:, :1])


FUNCTIONS = [
    per_class,
    of_pairs,
    two_per_sample,
    products,
    kept_axes,
    one_class,
]


def of_keras(fn, reduction="sum_over_batch_size"):
    """A loss of Keras with `fn` as its `call`."""
    members = {"call": lambda self, y_true, y_pred: fn(y_true, y_pred)}
    cls = type("OfKeras", (keras.losses.Loss,), members)
    return cls(reduction=reduction)


@pytest.fixture(autouse=True)
def fresh_warnings():
    values_lib._warned.clear()


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("fn", FUNCTIONS)
def test_values_of_any_shape_are_reduced_as_in_keras(fn, reduction):
    theirs = of_keras(fn, reduction)
    want = value_and_gradient(lambda x: theirs(TARGETS, x), PREDICTIONS)
    for ours in (losses.FunctionLoss(fn, reduction), losses.get(theirs)):
        got = value_and_gradient(
            lambda x, ours=ours: losses.evaluate(ours, TARGETS, x), PREDICTIONS
        )
        np.testing.assert_allclose(got[0], want[0], rtol=1e-6)
        np.testing.assert_allclose(got[1], want[1], rtol=1e-5, atol=1e-7)
    assert abs(want[0]) > 1e-3


#: Weights that Keras broadcasts against the values, of each function.
WEIGHTS = {
    "scalar": (FUNCTIONS, np.float32(0.5)),
    "one": (FUNCTIONS, np.full(1, 0.5, "float32")),
    "per element": (
        [per_class, kept_axes],
        RNG.uniform(size=(8, 3)).astype("float32"),
    ),
    "per sample": ([kept_axes, one_class], PER_SAMPLE),
    "column": ([kept_axes, one_class], PER_SAMPLE[:, None]),
    "zeros": ([kept_axes, one_class], np.eye(8, dtype="float32")[0]),
}


@pytest.mark.filterwarnings("ignore:Loss .* returns one scalar")
@pytest.mark.parametrize("reduction", ["mean", "mean_with_sample_weight"])
@pytest.mark.parametrize("kind", WEIGHTS)
def test_weights_broadcast_as_in_keras(kind, reduction):
    functions, weight = WEIGHTS[kind]
    if kind == "scalar" and reduction == "mean_with_sample_weight":
        # Keras does not divide here: it has one value and one weight.
        functions = [fn for fn in functions if fn is not one_class]
    for fn in functions:
        theirs = of_keras(fn, reduction)
        want = value_and_gradient(
            # a copy, since Keras writes into weights on PyTorch
            lambda x, theirs=theirs: theirs(TARGETS, x, weight.copy()),
            PREDICTIONS,
        )
        ours = losses.FunctionLoss(fn, reduction)
        got = value_and_gradient(
            lambda x, ours=ours: ours(TARGETS, x, weight), PREDICTIONS
        )
        np.testing.assert_allclose(got[0], want[0], rtol=1e-5)
        np.testing.assert_allclose(got[1], want[1], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("fn", [per_class, of_pairs, two_per_sample, products])
def test_sample_weights_without_samples_are_refused(fn):
    loss = losses.FunctionLoss(fn, name="odd")
    for ours in (loss, 0.5 * loss + losses.get("mse")):
        with pytest.raises(ValueError, match=r"'odd'.*weights.*\(8,\)"):
            ours(TARGETS, PREDICTIONS, PER_SAMPLE)


def test_selections_without_samples_are_refused():
    loss = losses.FunctionLoss(per_class, reductions.TopK(k=1), name="odd")
    with pytest.raises(ValueError, match=r"(?s)'odd'.*TopK\(k=1\).*\(3,\)"):
        loss(TARGETS, PREDICTIONS)

    # A custom function decides for itself.
    loss = losses.FunctionLoss(per_class, lambda values, *_: ops.max(values))
    want = np.mean((TARGETS - PREDICTIONS) ** 2, axis=0).max()
    assert float(loss(TARGETS, PREDICTIONS)) == pytest.approx(want, rel=1e-5)


def test_components_may_have_values_of_any_shape():
    def both(y_true, y_pred):
        return {"class": per_class(y_true, y_pred), "pair": of_pairs(0, y_pred)}

    loss = losses.Components(both, ["class", "pair"], {"pair": 0.5})
    pairs = (PREDICTIONS[0::2] - PREDICTIONS[1::2]) ** 2
    want = np.mean((TARGETS - PREDICTIONS) ** 2) + 0.5 * pairs.mean()
    assert float(loss(TARGETS, PREDICTIONS)) == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize("fn", [per_class, of_pairs, one_class])
def test_such_a_loss_trains_as_in_keras(fn):
    logs = []
    for cls in (keras.Model, losskit.Model):
        inputs = keras.Input((3,))
        outputs = keras.layers.Dense(3, kernel_initializer="ones")(inputs)
        model = cls(inputs, outputs)
        model.compile("sgd", loss=fn)
        history = model.fit(
            PREDICTIONS,
            TARGETS,
            batch_size=4,
            epochs=2,
            shuffle=False,
            verbose=0,
        )
        logs.append(history.history["loss"])
    np.testing.assert_allclose(logs[1], logs[0], rtol=1e-5)


def of_sequences(y_true, y_pred):
    return ops.mean(ops.square(y_true - y_pred), axis=(1, 2))


@pytest.mark.parametrize("argument", ["mask", "sample_weight"])
@pytest.mark.parametrize(
    "loss",
    [
        losses.FunctionLoss(of_sequences, name="sequences"),
        of_keras(of_sequences),
    ],
    ids=["function", "loss"],
)
def test_places_of_a_loss_per_sequence_name_the_remedy(loss, argument):
    zeros, ones = np.zeros((2, 5, 1), "float32"), np.ones((2, 5), "float32")
    model = losskit.Sequential(
        [keras.Input((5, 1)), keras.layers.Masking(2.0)]
        if argument == "mask"
        else [keras.Input((5, 1)), keras.layers.Dense(1)]
    )
    model.compile("sgd", loss=loss)
    weight = ones if argument == "sample_weight" else None
    with pytest.raises(
        ValueError,
        match=rf"`{argument}`.*'{loss.name}'.*\((2|None), 5\).*value per step",
    ):
        model.evaluate(zeros, zeros, sample_weight=weight, verbose=0)


def test_a_mask_that_leaves_out_samples_needs_them():
    loss = losses.Masked(losses.FunctionLoss(per_class, name="odd"), -1.0)
    with pytest.raises(ValueError, match=r"'odd'.*per sample.*\(3,\)"):
        loss(TARGETS, PREDICTIONS)
