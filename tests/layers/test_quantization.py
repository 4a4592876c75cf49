"""What Keras does to a layer by its exact type, it does to a drop-in layer."""

import keras
import numpy as np
import pytest

import keras_losskit as losskit

PLAIN, OURS = (keras.layers, keras.Model), (losskit.layers, losskit.Model)
X = np.arange(10).reshape(2, 5)


def model_of(layers, model_class, dtype=None):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5,), dtype="int32")
    x = layers.Embedding(16, 8, name="embedding")(inputs)
    y = layers.ReversibleEmbedding(16, 8, name="reversible")(inputs)
    x = layers.EinsumDense(
        "abc,cd->abd", (None, 8), kernel_regularizer="l2", name="einsum"
    )(x + y)
    outputs = layers.Dense(
        4, activity_regularizer="l1", dtype=dtype, name="dense"
    )(x)
    return model_class(inputs, outputs)


def dtypes(model):
    return {variable.path: variable.dtype for variable in model.variables}


@pytest.fixture(autouse=True)
def fresh_names():
    keras.utils.clear_session()


@pytest.mark.parametrize("mode", ["int8", "int4", "float8"])
def test_quantized_layers_have_the_variables_and_values_of_keras(mode):
    plain, ours = model_of(*PLAIN), model_of(*OURS)
    for model in (plain, ours):
        model.quantize(mode)
    assert dtypes(ours) == dtypes(plain)
    assert set(dtypes(ours).values()) != {"float32"} or mode == "float8"
    assert ours.get_layer("dense").quantization_mode == mode
    want, got = (m.predict(X, verbose=0) for m in (plain, ours))
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


@pytest.mark.nightly("jax", "tensorflow")
@pytest.mark.parametrize("mode", ["int8", "float8"])
@pytest.mark.parametrize(
    ("name", "arguments"),
    [("MultiHeadAttention", (2, 3)), ("GroupQueryAttention", (3, 2, 1))],
)
def test_the_projections_of_attention_are_quantized(name, arguments, mode):
    models = []
    for layers, model_class in (PLAIN, OURS):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((3, 4))
        attention = getattr(layers, name)(*arguments, name="attention")
        model = model_class(inputs, attention(inputs, value=inputs))
        model.quantize(mode)
        models.append(model)
    plain, ours = models
    assert dtypes(ours) == dtypes(plain)
    projections = ours.get_layer("attention")._flatten_layers()
    assert [x.quantization_mode for x in projections].count(mode) == 4
    x = np.random.default_rng(0).normal(size=(2, 3, 4))
    want, got = (m.predict(x, verbose=0) for m in models)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("filters", ["dense", ["embedding", "einsum"]])
def test_filters_choose_the_layers_that_they_choose_in_keras(filters):
    plain, ours = model_of(*PLAIN), model_of(*OURS)
    for model in (plain, ours):
        model.quantize("int8", filters=filters)
    assert dtypes(ours) == dtypes(plain)
    assert "int8" in dtypes(ours).values()


def test_the_layers_of_a_model_in_a_model_are_quantized():
    inner = model_of(*OURS)
    outer = losskit.Sequential([keras.Input((5,), dtype="int32"), inner])
    outer.quantize("int8")
    assert inner.get_layer("dense").kernel.dtype == "int8"


def test_a_dtype_policy_quantizes():
    policies = keras.dtype_policies.DTypePolicyMap(default_policy="float32")
    policies["dense"] = keras.dtype_policies.get("int8_from_float32")
    plain, ours = model_of(*PLAIN, policies), model_of(*OURS, policies)
    assert dtypes(ours) == dtypes(plain)
    assert ours.get_layer("dense").kernel.dtype == "int8"


def test_a_custom_subclass_is_left_as_it_is():
    class Mine(losskit.layers.Dense):
        pass

    layer = Mine(2)
    layer.build((None, 3))
    with pytest.raises(NotImplementedError):
        layer.quantize("int8")
    assert layer.kernel.dtype == "float32"


def test_what_lora_adds_is_what_it_adds_in_keras():
    plain, ours = model_of(*PLAIN), model_of(*OURS)
    for model in (plain, ours):
        for name in ("embedding", "einsum", "dense"):
            model.get_layer(name).enable_lora(2)
    names = [[v.path for v in m.trainable_variables] for m in (plain, ours)]
    assert names[0] == names[1]
    assert sum("lora" in path for path in names[1]) == 6
    # Their regularizers too, of the layer that has one.
    assert len(ours.regularization_losses) == len(plain.losses) == 2


def test_a_clone_has_drop_in_layers():
    clone = keras.models.clone_model(model_of(*OURS))
    assert type(clone.get_layer("dense")) is losskit.layers.Dense
    assert clone.get_layer("einsum").kernel_regularizer is not None
