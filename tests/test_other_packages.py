"""Models of other Keras packages, LoRA and exported models.

keras-tuner is in `callbacks/test_beside_others.py`, `keras.applications` in
`penalties/test_penalty_groups.py`.
"""

import keras
import numpy as np
import pytest
from support.callback_models import compiled_model
from support.callback_models import data
from support.models import fit_logs
from support.models import numpy_l2
from support.models import still
from support.versions import IS_KERAS_3_14

import keras_losskit as losskit

BACKEND = keras.config.backend()


# ------------------------------------------------------------------- KerasHub


@pytest.fixture(scope="module")
def keras_hub():
    if BACKEND != "tensorflow":
        pytest.skip("keras-hub brings TensorFlow along: only in its leg")
    try:
        import keras_hub
    except ImportError as error:
        if "from 'keras.src" not in str(error):
            raise
        pytest.skip(f"this keras-hub is for an older Keras: {error}")
    return keras_hub


def classifier(keras_hub, num_layers=2):
    """A task model from a config, with Keras' and KerasHub's own layers."""
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=7,
        num_layers=num_layers,
        num_heads=1,
        hidden_dim=4,
        intermediate_dim=6,
        max_sequence_length=5,
        dropout=0.0,
    )
    return keras_hub.models.BertTextClassifier(
        backbone, num_classes=2, preprocessor=None, dropout=0.0
    )


def test_a_language_model_of_keras_hub_without_its_logits(keras_hub):
    results = []
    for loss in (
        losskit.losses.LinearCrossEntropy("token_embedding"),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    ):
        keras.utils.set_random_seed(0)
        backbone = keras_hub.models.GPT2Backbone(
            vocabulary_size=7,
            num_layers=1,
            num_heads=1,
            hidden_dim=4,
            intermediate_dim=6,
            max_sequence_length=5,
            dropout=0.0,
        )
        gpt = keras_hub.models.GPT2CausalLM(backbone, preprocessor=None)
        model = losskit.wrap(gpt)
        model.compile(
            keras.optimizers.SGD(0.5),
            loss,
            weighted_metrics=[keras.metrics.SparseCategoricalAccuracy()],
        )
        x, _ = tokens(6)
        y = np.roll(x["token_ids"], -1, axis=1)
        del x["segment_ids"]
        weights = np.linspace(0, 2, y.size, dtype="float32").reshape(y.shape)
        logs = model.fit(
            x,
            y,
            sample_weight=weights,
            batch_size=4,
            epochs=2,
            shuffle=False,
            verbose=0,
        ).history
        results.append((logs, model.get_weights()))
    (ours, our_weights), (theirs, their_weights) = results
    assert ours.keys() == theirs.keys()
    for key, values in theirs.items():
        np.testing.assert_allclose(ours[key], values, rtol=1e-5)
    for one, other in zip(our_weights, their_weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def tokens(samples=4):
    generator = np.random.default_rng(0)
    x = {
        "token_ids": generator.integers(0, 7, (samples, 5)),
        "segment_ids": np.zeros((samples, 5), "int32"),
        "padding_mask": np.ones((samples, 5), "int32"),
    }
    return x, np.arange(samples) % 2


def test_a_task_of_keras_hub_as_it_is(keras_hub):
    task = classifier(keras_hub)
    layers = list(task.layers)
    # after the fact: no layer is replaced
    for variable in task.trainable_variables:
        if variable.path.endswith("kernel"):
            variable.regularizer = keras.regularizers.L2(0.01)
    model = losskit.wrap(task)
    kernels = {
        layer: [
            v
            for v in task.trainable_variables
            if v.path.startswith(layer) and v.path.endswith("kernel")
        ]
        for layer in ("transformer_layer_0", "transformer_layer_1", "")
    }
    model.compile(
        still(),
        losskit.LossesContainer(
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            regularization=losskit.Penalty(
                groups={
                    "early": (".*transformer_layer_0/.*", 0.5),
                    "late": (".*transformer_layer_1/.*", 2.0),
                }
            ),
            extra_terms={
                "words": losskit.extra.FromWeights(
                    "token_embedding/.*", "l1", weight=0.1
                )
            },
        ),
        run_eagerly=True,
    )
    x, y = tokens()
    logs = fit_logs(model, x, y)

    def penalty(name):
        return sum(numpy_l2(0.01, v.value) for v in kernels[name])

    early, late = penalty("transformer_layer_0"), penalty("transformer_layer_1")
    rest = penalty("") - early - late
    assert logs["early_loss"] == pytest.approx(early, rel=1e-5)
    assert logs["late_loss"] == pytest.approx(late, rel=1e-5)
    assert logs["regularization_loss"] == pytest.approx(
        0.5 * early + 2.0 * late + rest, rel=1e-5
    )
    embeddings = task.backbone.token_embedding.embeddings
    words = 0.01 * np.sum(np.abs(embeddings.numpy()))
    assert logs["words_loss"] == pytest.approx(words, rel=1e-5)
    kinds = ("compiled", "regularization", "added")
    total = sum(logs[f"{kind}_loss"] for kind in kinds)
    assert logs["loss"] == pytest.approx(total, rel=1e-5)
    assert task.layers == layers
    assert type(task) is keras_hub.models.BertTextClassifier


def test_a_backbone_of_keras_hub_in_a_model(keras_hub):
    backbone = classifier(keras_hub, num_layers=1).backbone
    inputs = backbone.input
    features = backbone(inputs)["pooled_output"]
    head = losskit.layers.Dense(
        1, kernel_regularizer="l2", activity_regularizer="l1", name="head"
    )
    model = losskit.Model(inputs, head(features))
    model.compile(still(), "mse")
    x, y = tokens()
    logs = fit_logs(model, x, y[:, None].astype("float32"))
    predicted = model.predict(x, verbose=0)
    assert logs["compiled_loss"] == pytest.approx(
        np.mean((predicted[:, 0] - y) ** 2), rel=1e-4
    )
    assert logs["activity_loss"] == pytest.approx(
        0.01 * np.mean(np.abs(predicted)), rel=1e-4
    )
    assert logs["regularization_loss"] == pytest.approx(
        numpy_l2(0.01, head.kernel.value), rel=1e-5
    )


# ----------------------------------------------------------------------- LoRA


@pytest.mark.parametrize(
    ("module", "settings"),
    [
        (keras.layers, {}),
        (losskit.layers, {}),
        (
            losskit.layers,
            {"regularization_reduction": "mean_over_parameters"},
        ),
    ],
    ids=["keras", "drop-in", "mean"],
)
def test_lora_moves_the_penalty_to_the_adapters(module, settings):
    inputs = keras.Input((3,))
    dense = module.Dense(
        4, kernel_regularizer="l2", activity_regularizer="l1", **settings
    )
    model = losskit.Model(inputs, module.Dense(1)(dense(inputs)))
    dense.enable_lora(2)
    generator = np.random.default_rng(0)
    adapters = dense.lora_kernel_a, dense.lora_kernel_b
    for adapter in adapters:
        adapter.assign(generator.normal(size=adapter.shape))
    frozen = np.array(dense.get_weights()[0])
    # what the first step sees
    penalties = [numpy_l2(0.01, adapter.numpy()) for adapter in adapters]
    if settings:
        penalties = [
            penalty / np.prod(adapter.shape)
            for penalty, adapter in zip(penalties, adapters, strict=True)
        ]
    model.compile(
        keras.optimizers.SGD(0.01), losskit.LossesContainer("mse", log="all")
    )
    x = generator.normal(size=(4, 3)).astype("float32")
    logs = fit_logs(model, x, x[:, :1])
    named = {
        name: logs[f"{adapter.path}_contribution"]
        for name, adapter in zip("ab", adapters, strict=True)
    }
    assert named == pytest.approx(dict(zip("ab", penalties, strict=True)))
    assert logs["regularization_loss"] == pytest.approx(sum(penalties))
    assert sum(key.endswith("_contribution") for key in logs) == 4
    total = sum(logs[f"{k}_loss"] for k in ("compiled", "activity"))
    total += logs["regularization_loss"]
    assert logs["loss"] == pytest.approx(total, rel=1e-5)
    np.testing.assert_array_equal(dense._kernel.numpy(), frozen)


# --------------------------------------------------------------------- export


def exported_outputs(model, folder, x):
    """What the model gives that was exported and read back."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        model.export(folder / "model", verbose=False)
        restored = tf.saved_model.load(str(folder / "model"))
        return restored.serve(x)
    import torch

    path = folder / "model.pt2"
    # Keras exports for a batch of 1 otherwise.
    signature = [keras.InputSpec(shape=x.shape, dtype="float32")]
    model.export(path, "torch", verbose=False, input_signature=signature)
    return torch.export.load(path).module()(torch.as_tensor(x))


@pytest.mark.skipif(
    BACKEND == "jax", reason="every format of Keras needs another framework"
)
@pytest.mark.skipif(
    BACKEND == "torch" and IS_KERAS_3_14,
    reason="this Keras has no format for PyTorch",
)
@pytest.mark.parametrize("subclassed", [False, True])
def test_an_exported_model_gives_the_same_outputs(subclassed, tmp_path):
    class Doubling(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(
                2, kernel_regularizer="l2", activity_regularizer="l1"
            )

        def call(self, x):
            self.add_loss(keras.ops.mean(x))
            return 2.0 * self.dense(x)

    x, y = data()
    if subclassed:
        model = losskit.wrap(Doubling())
        model.compile("sgd", "mse")
        model.fit(x, x, verbose=0)
    else:
        model = compiled_model()
        model.fit(x, y, verbose=0)
    expected = model.predict(x, verbose=0)
    received = exported_outputs(model, tmp_path, x)
    keras.tree.map_structure(
        lambda one, other: np.testing.assert_allclose(
            keras.ops.convert_to_numpy(other), one, rtol=1e-5, atol=1e-6
        ),
        expected,
        dict(received) if isinstance(expected, dict) else received,
    )
    # and it trains on
    logs = fit_logs(model, x, x if subclassed else y)
    assert np.isfinite(logs["loss"])
