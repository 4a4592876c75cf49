"""The drop-in layers beside Keras' own: which there are, and what they do."""

import inspect

import keras
import numpy as np
import pytest
from keras import ops
from support.layer_cases import CASES

import keras_losskit as losskit
from keras_losskit import layers


def regularizer_arguments(cls):
    parameters = inspect.signature(cls.__init__).parameters
    return [name for name in parameters if name.endswith("_regularizer")]


def keras_layers_with_regularizers():
    found = {}
    for name in dir(keras.layers):
        cls = getattr(keras.layers, name)
        if inspect.isclass(cls) and issubclass(cls, keras.layers.Layer):
            if regularizer_arguments(cls):
                found[name] = cls
    return found


def test_every_keras_layer_with_a_regularizer_has_a_subclass_here():
    for name, cls in keras_layers_with_regularizers().items():
        assert name in layers.__all__, f"Keras added {name}"
        assert issubclass(getattr(layers, name), cls)


def test_every_subclass_is_tried_below():
    aliases = {n for n in layers.__all__ if getattr(layers, n).__name__ != n}
    others = {"Layer", "Wrapper", "AddLoss", "ActivityRegularization", "RNN"}
    assert set(CASES) == set(layers.__all__) - aliases - others


def test_other_layers_are_those_of_keras():
    assert layers.Dropout is keras.layers.Dropout
    assert layers.Input is keras.layers.Input
    with pytest.raises(AttributeError, match="NoSuchLayer"):
        _ = layers.NoSuchLayer
    assert "Dropout" in dir(layers)


def inputs_for(name):
    shape = CASES[name][2]
    generator = np.random.default_rng(1)
    if "Embedding" in name:
        return ops.convert_to_tensor(generator.integers(0, 7, shape))
    x = ops.convert_to_tensor(generator.normal(size=shape).astype("float32"))
    return x


def made(module, name, **further):
    args, kwargs, _ = CASES[name]
    return getattr(module, name)(*args, **kwargs, **further)


def called(layer, name, x):
    if name.endswith("Cell"):
        return layer(x, layer.get_initial_state(batch_size=x.shape[0]))
    if name.endswith("Attention"):
        return layer(x, x)
    return layer(x)


def regularized(module, name, **further):
    given = regularizer_arguments(getattr(keras.layers, name))
    regularizers = {argument: keras.regularizers.L2(0.1) for argument in given}
    keras.utils.set_random_seed(3)
    return made(module, name, **{**regularizers, **further})


def to_numpy(nest):
    return [ops.convert_to_numpy(x) for x in keras.tree.flatten(nest)]


@pytest.mark.parametrize("name", CASES)
def test_equals_keras_to_the_bit(name):
    x = inputs_for(name)
    ours, theirs = regularized(layers, name), regularized(keras.layers, name)
    theirs.activity_regularizer = ours.activity_regularizer  # or forgotten
    called(theirs, name, x)
    outputs = to_numpy(called(ours, name, x))
    theirs.set_weights(ours.get_weights())
    expected = to_numpy(called(theirs, name, x))
    for output, expectation in zip(outputs, expected, strict=True):
        np.testing.assert_array_equal(output, expectation)
    losses, expected = to_numpy(ours.losses), to_numpy(theirs.losses)
    assert len(losses) == len(expected) > 0
    np.testing.assert_array_equal(losses, expected)


@pytest.mark.nightly("jax", "tensorflow")
@pytest.mark.parametrize("name", CASES)
def test_config_round_trip_keeps_every_argument(name):
    layer = regularized(
        layers,
        name,
        activity_reduction="mean_over_elements",
        regularization_reduction="mean_over_parameters",
        dtype="bfloat16" if name == "Dense" else None,
    )
    called(layer, name, inputs_for(name))
    config = keras.saving.serialize_keras_object(layer)
    assert config["registered_name"] == f"keras_losskit>{name}"
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is getattr(layers, name)
    assert again.get_config() == layer.get_config()
    assert again.activity_reduction == "mean_over_elements"
    called(again, name, inputs_for(name))
    for old, new in zip(layer.weights, again.weights, strict=True):
        assert type(old.regularizer) is type(new.regularizer)


@pytest.mark.parametrize("name", CASES)
def test_penalty_per_weight_over_its_size(name):
    layer = regularized(
        layers, name, regularization_reduction="mean_over_parameters"
    )
    called(layer, name, inputs_for(name))
    penalized = [v for v in layer.trainable_weights if v.regularizer]
    expected = [0.1 * np.mean(v.numpy() ** 2) for v in penalized]
    assert expected
    values = to_numpy(layer.regularization_losses)
    np.testing.assert_allclose(values, expected, rtol=1e-5)


@pytest.mark.parametrize("argument", ["activity", "regularization"])
def test_unknown_reduction_is_refused(argument):
    with pytest.raises(ValueError, match=f"{argument}_reduction.*'average'"):
        layers.Dense(1, **{f"{argument}_reduction": "average"})


def test_subclass_without_get_config_keeps_its_arguments():
    @keras.saving.register_keras_serializable("tests")
    class Scale(layers.Layer):
        def __init__(self, factor, **kwargs):
            super().__init__(**kwargs)
            self.factor = factor

        def call(self, x):
            return x * self.factor

    layer = Scale(3.0, activity_reduction="sum", activity_regularizer=None)
    again = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(layer)
    )
    assert again.factor == 3.0
    assert again.activity_reduction == "sum"


def small_model(module, model_class):
    inputs = keras.Input((6, 2))
    x = module.Conv1D(4, 2, kernel_regularizer="l2")(inputs)
    x = module.BatchNormalization(gamma_regularizer="l2")(x)
    x = module.LSTM(3, recurrent_regularizer="l1", return_sequences=True)(x)
    x = module.Dense(2, activity_regularizer="l1", bias_regularizer="l2")(x)
    x = keras.layers.Flatten()(x)
    return model_class(inputs, module.Dense(1, kernel_regularizer="l1l2")(x))


def fitted(module, model_class, **compile_arguments):
    keras.utils.set_random_seed(5)
    model = small_model(module, model_class)
    model.compile("adam", "mse", **compile_arguments)
    generator = np.random.default_rng(2)
    x = generator.normal(size=(20, 6, 2)).astype("float32")
    y = generator.normal(size=(20, 1)).astype("float32")
    model.fit(x, y, epochs=5, batch_size=8, shuffle=False, verbose=0)
    return model


# Stock JAX training drops activity terms at random, so the reference there is
# our model over Keras' layers.
STOCK = losskit.Model if keras.config.backend() == "jax" else keras.Model


@pytest.mark.parametrize("model_class", {STOCK, losskit.Model})
def test_trains_as_a_model_of_keras_layers(model_class):
    theirs = fitted(keras.layers, STOCK).get_weights()
    ours = fitted(layers, model_class).get_weights()
    for mine, expected in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-6, atol=1e-6)


def test_saves_and_loads(tmp_path):
    model = fitted(layers, losskit.Model)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    x = np.random.default_rng(0).normal(size=(3, 6, 2)).astype("float32")
    np.testing.assert_array_equal(
        model.predict(x, verbose=0), loaded.predict(x, verbose=0)
    )
    assert [type(layer) for layer in loaded.layers] == [
        type(layer) for layer in model.layers
    ]
    np.testing.assert_array_equal(
        to_numpy(model.regularization_losses),
        to_numpy(loaded.regularization_losses),
    )


@pytest.mark.parametrize("name", sorted(CASES))
def test_every_regularizer_acts_and_is_in_the_config(name):
    arguments = regularizer_arguments(getattr(keras.layers, name))
    for argument in {*arguments, "activity_regularizer"}:
        given = {argument: keras.regularizers.L2(0.3)}
        if (name, argument) == ("EinsumDense", "bias_regularizer"):
            given["bias_axes"] = "d"  # it has no bias otherwise
        layer = made(layers, name, **given)
        assert layer.get_config()[argument] is not None, argument
        for one in (layer, type(layer).from_config(layer.get_config())):
            called(one, name, inputs_for(name))
            assert len(one.losses) > 0, argument


def test_an_activity_regularizer_of_a_simple_rnn_is_that_of_its_outputs():
    layer = layers.SimpleRNN(
        3, activity_regularizer="l2", return_sequences=True
    )
    outputs = ops.convert_to_numpy(layer(inputs_for("SimpleRNN")))
    # 0.01 * sum(x ** 2) over the batch size of 4
    np.testing.assert_allclose(
        float(layer.activity_losses[0]),
        0.01 * np.sum(outputs**2) / 4,
        rtol=1e-5,
    )
    by_position = layers.SimpleRNN(
        3, *["tanh", True, "zeros", "zeros", "zeros", None, None, None], "l1"
    )
    assert isinstance(by_position.activity_regularizer, keras.regularizers.L1)
