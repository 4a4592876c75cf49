"""What is refused where a loss is expected, by name and with the remedy."""

import keras
import numpy as np
import pytest
from keras import ops
from support.autodiff import value_and_gradient

import keras_losskit as losskit
from keras_losskit import losses
from keras_losskit.losses import _catalogue

#: What can be called like a loss, and a word of where it belongs.
ELSEWHERE = {
    "metric": (keras.metrics.MeanSquaredError(), "metrics="),
    "class of metrics": (keras.metrics.Accuracy, "metrics="),
    "schedule": (losskit.schedules.Linear(0.0, 1.0, epochs=2), r"\* loss"),
    "learning rate": (
        keras.optimizers.schedules.CosineDecay(0.1, 10),
        r"loss \*",
    ),
    "reduction": (losskit.reductions.TopK(k=1), "reduction="),
    "weighting": (losskit.weighting.Uncertainty(), "weighting="),
    "regularizer": (keras.regularizers.L2(), "kernel_regularizer="),
}
ACCEPTING = {
    "get": losses.get,
    "FunctionLoss": losses.FunctionLoss,
    "Components": lambda given: losses.Components(given, ["a"]),
    "WeightedSum": lambda given: losses.WeightedSum([given]),
    "Masked": lambda given: losses.Masked(given, -1),
    "DeepSupervision": losses.DeepSupervision,
}


@pytest.mark.parametrize("place", ACCEPTING)
@pytest.mark.parametrize("kind", ELSEWHERE)
def test_what_belongs_elsewhere_is_refused(kind, place):
    given, remedy = ELSEWHERE[kind]
    with pytest.raises(
        TypeError, match=rf"(?s)Expected .*Received: .*{remedy}"
    ):
        ACCEPTING[place](given)


@pytest.mark.parametrize("structure", ["one", "dict", "list", "container"])
def test_a_metric_is_refused_before_training(structure):
    metric = keras.metrics.MeanSquaredError()
    loss = {
        "one": metric,
        "dict": {"out": metric},
        "list": [["mse", metric]],
        "container": lambda: losskit.LossesContainer({"out": metric}),
    }[structure]
    inputs = keras.Input((1,))
    model = losskit.Model(inputs, keras.layers.Dense(1, name="out")(inputs))
    before = model.get_weights()
    x = np.ones((4, 1), "float32")
    with pytest.raises(TypeError, match="'out'.*Received.*metrics="):
        model.compile("sgd", loss() if structure == "container" else loss)
        model.fit(x, x, verbose=0)
    for kept, weight in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, kept)


def test_wrappers_take_loss_objects_alone():
    for given in ("mse", None, 3, lambda y_true, y_pred: y_pred):
        for place in ("WeightedSum", "Masked", "DeepSupervision"):
            with pytest.raises(TypeError, match=r"Received: .*`losses\.get`"):
                ACCEPTING[place](given)


def both(y_true, y_pred):
    return {"near": ops.abs(y_true - y_pred), "far": (y_true - y_pred) ** 2}


MAE = losses.MeanAbsoluteError(name="mae")
SYMBOLIC = {
    **{name: cls() for name, cls in _catalogue.KERAS_LOSSES.items()},
    **{name: cls() for name, cls in _catalogue.FURTHER_LOSSES.items()},
    "function": losses.FunctionLoss(lambda y_true, y_pred: y_pred),
    "sum": 0.5 * MAE,
    "masked": losses.Masked(MAE, -1),
    "components": losses.Components(both, ["near", "far"]),
    "levels": losses.DeepSupervision(MAE, levels=1),
}


@pytest.mark.parametrize("name", SYMBOLIC)
def test_symbolic_tensors_name_the_remedy(name):
    inputs = keras.Input((4, 3))
    targets = keras.Input((4, 3))
    outputs = keras.layers.Dense(3)(inputs)
    outputs = [outputs] if name == "levels" else outputs
    loss = SYMBOLIC[name]
    message = rf"'{loss.name}'.*Received: the symbolic .*AddLoss"
    for call in (loss, lambda *data: losses.evaluate(loss, *data)):
        with pytest.raises(TypeError, match=message):
            call(targets, outputs)


def test_the_remedy_for_symbolic_tensors_works():
    inputs, targets = keras.Input((1,)), keras.Input((1,))
    y_true, y_pred = losskit.layers.AddLoss(MAE, name="mae")([targets, inputs])
    model = losskit.Model([inputs, targets], [y_true, y_pred])
    zeros, threes = np.zeros((2, 1), "float32"), np.full((2, 1), 3.0, "float32")
    model([zeros, threes])
    assert [float(loss) for loss in model.losses] == [3.0]


@pytest.mark.parametrize(
    "loss",
    [
        losses.BinaryCrossentropy(),
        losses.BinaryCrossentropy(from_logits=True),
        losses.BinaryFocalCrossentropy(),
        losses.BinaryFocalCrossentropy(gamma=0.5),
        losses.BinaryFocalCrossentropy(from_logits=True),
        losses.get("bce") + losses.BinaryFocalCrossentropy(gamma=0.0),
    ],
    ids=repr,
)
def test_a_prediction_that_is_nan_gives_nan(loss):
    # PyTorch raises: its crossentropy checks that probabilities are in [0, 1].
    labels = np.array([[1.0], [0.0], [1.0]], "float32")
    p = np.array([[0.3], [np.nan], [0.6]], "float32")
    value, gradient = value_and_gradient(lambda x: loss(labels, x), p)
    assert np.isnan(value)
    assert not np.isnan(gradient[[0, 2]]).any()
    if keras.config.backend() != "tensorflow":  # whose clip drops the gradient
        assert np.isnan(gradient[1])
    p[1] = 0.5
    _, finite = value_and_gradient(lambda x: loss(labels, x), p)
    np.testing.assert_allclose(gradient[[0, 2]], finite[[0, 2]], rtol=1e-6)


def test_the_output_whose_predictions_are_nan_is_named():
    inputs = keras.Input((1,))
    outputs = {
        name: keras.layers.Dense(1, "sigmoid", name=name)(inputs)
        for name in ("a", "b")
    }
    model = losskit.Model(inputs, outputs)
    model.compile("sgd", loss={"a": "mse", "b": "binary_crossentropy"})
    model.get_layer("b").set_weights([np.full((1, 1), np.nan), np.zeros(1)])
    x = np.ones((4, 1), "float32")
    stop = losskit.callbacks.TerminateOnNonFiniteTerm()
    with pytest.warns(RuntimeWarning, match="Not finite: b_loss"):
        model.fit(x, {"a": x, "b": x}, callbacks=[stop], verbose=0)
