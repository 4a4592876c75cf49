"""`LinearCrossEntropy` in `fit`: as with logits, but without them."""

import functools

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_losskit as losskit
from keras_losskit import extra
from keras_losskit import losses
from keras_losskit import weighting
from keras_losskit.losses._core.chunked_entropy import ChunkedEntropy
from keras_losskit.models._output_layers import is_product

CLASSES, WIDTH, STEPS = 23, 6, 5
RANDOM = np.random.default_rng(0)
TOKENS = RANDOM.integers(0, CLASSES, (10, STEPS))
LABELS = RANDOM.integers(0, CLASSES, (10, STEPS))
WEIGHTS = RANDOM.uniform(0.0, 2.0, (10, STEPS)).astype("float32")
RANDOM_INPUTS = RANDOM.normal(size=(10, WIDTH)).astype("float32")
METRICS = [
    keras.metrics.SparseCategoricalAccuracy,
    functools.partial(keras.metrics.SparseTopKCategoricalAccuracy, k=4),
    functools.partial(
        keras.metrics.SparseCategoricalCrossentropy, from_logits=True
    ),
]
HEADS = {
    "dense": lambda _: layers.Dense(CLASSES, name="head"),
    "einsum": lambda _: layers.EinsumDense(
        "abc,cd->abd", (None, CLASSES), name="head"
    ),
    "tied, capped": lambda embed: functools.partial(embed, reverse=True),
}


def logits_of_keras(**arguments):
    return losses.SparseCategoricalCrossentropy(from_logits=True, **arguments)


def linear(head="head", **arguments):
    return losses.LinearCrossEntropy(head, chunk_size=7, **arguments)


def network(head="dense", cls=losskit.Model):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((STEPS,), dtype="int32")
    embed = layers.ReversibleEmbedding(
        CLASSES,
        WIDTH,
        mask_zero=True,
        logit_soft_cap=2.0 if head == "tied, capped" else None,
        name="embed",
    )
    x = layers.Dense(WIDTH, activation="tanh")(embed(inputs))
    return cls(inputs, HEADS[head](embed)(x))


def compiled(model, loss, **arguments):
    model.compile(keras.optimizers.SGD(0.5), loss, **arguments)
    return model


def eager(model, loss, **arguments):
    """As `compiled`, without the graph, which takes TensorFlow far longer."""
    return compiled(
        model,
        loss,
        run_eagerly=keras.config.backend() == "tensorflow",
        **arguments,
    )


def trained(model, epochs=1, **data):
    """What `fit` logs and what `evaluate` returns, and the weights."""
    keras.utils.set_random_seed(1)
    data = {"x": TOKENS, "y": LABELS, "sample_weight": WEIGHTS, **data}
    logs = model.fit(
        **data, batch_size=4, epochs=epochs, shuffle=False, verbose=0
    ).history
    results = model.evaluate(**data, batch_size=4, verbose=0, return_dict=True)
    return logs, results, model.get_weights()


def assert_same(first, second):
    for one, other in zip(first[:2], second[:2], strict=True):
        for key in one.keys() & other.keys():
            # Keras loses masks there: row 22 of docs/defects.md.
            of_metric = one is first[0] and not key.endswith("loss")
            if of_metric and keras.config.backend() == "jax":
                continue
            np.testing.assert_allclose(
                one[key], other[key], rtol=1e-5, atol=1e-6, err_msg=key
            )
    for one, other in zip(first[2], second[2], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.fixture
def heads_called(monkeypatch):
    """The names of the layers that computed logits."""
    called = []
    for cls in (layers.Dense, layers.EinsumDense, layers.ReversibleEmbedding):

        def call(self, *args, original=cls.call, **kwargs):
            result = original(self, *args, **kwargs)
            if result.shape[-1] == CLASSES and not isinstance(
                result, keras.KerasTensor
            ):
                called.append(self.name)
            return result

        monkeypatch.setattr(cls, "call", functools.wraps(cls.call)(call))
    return called


@pytest.mark.parametrize("head", HEADS)
def test_fit_and_evaluate_are_as_with_logits(head, heads_called):
    of_metrics = {
        "metrics": [make() for make in METRICS],
        "weighted_metrics": [keras.metrics.SparseCategoricalAccuracy("w")],
    }
    full = compiled(network(head), logits_of_keras(), **of_metrics)
    full.fit(TOKENS[:4], LABELS[:4], epochs=0)
    heads_called.clear()
    expected = trained(full)
    assert heads_called
    name = "embed" if head.startswith("tied") else "head"
    model = compiled(
        network(head),
        linear(name),
        metrics=[make() for make in METRICS],
        weighted_metrics=[keras.metrics.SparseCategoricalAccuracy("w")],
    )
    # Shapes are inferred with logits, before the first step.
    model.fit(TOKENS[:4], LABELS[:4], epochs=0)
    heads_called.clear()
    found = trained(model)
    assert not heads_called
    assert found[0].keys() == expected[0].keys()
    assert list(found[1]) == list(expected[1])
    assert_same(found, expected)
    np.testing.assert_allclose(
        model.predict(TOKENS, verbose=0),
        full.predict(TOKENS, verbose=0),
        rtol=1e-5,
        atol=1e-6,
    )
    assert tuple(model(TOKENS[:2]).shape) == (2, STEPS, CLASSES)


def test_z_loss_is_a_term_and_the_parts_sum_to_the_loss():
    model = compiled(network(), linear(z_loss=0.03))
    logits = model.predict(TOKENS, verbose=0).astype("float64")
    lse = np.log(np.exp(logits).sum(axis=-1))
    picked = np.take_along_axis(logits, LABELS[..., None], -1)[..., 0]
    weights = np.where(TOKENS == 0, 0.0, WEIGHTS)
    counted = (TOKENS != 0).sum()
    entropy = (weights * (lse - picked)).sum() / counted
    squares = (weights * lse**2).sum() / counted
    results = model.evaluate(
        TOKENS, LABELS, sample_weight=WEIGHTS, return_dict=True, verbose=0
    )
    np.testing.assert_allclose(
        [
            results["linear_cross_entropy_loss"],
            results["z_loss_loss"],
            results["loss"],
        ],
        [entropy, squares, entropy + 0.03 * squares],
        rtol=1e-5,
    )
    logs = model.fit(TOKENS, LABELS, epochs=2, verbose=0).history
    np.testing.assert_allclose(
        np.add(
            logs["linear_cross_entropy_loss"],
            0.03 * np.array(logs["z_loss_loss"]),
        ),
        logs["loss"],
        rtol=1e-6,
    )


@pytest.mark.parametrize(
    "loss",
    [
        lambda: linear(label_smoothing=0.2, z_loss=0.1, softcap=1.5),
        lambda: linear(ignore_class=3),
        lambda: linear(reduction=losskit.reductions.TopK(fraction=0.5)),
        lambda: losses.Masked(linear(), ignore_value=2),
        lambda: 0.05 * linear(z_loss=0.1, reduction="sum", name="lm"),
    ],
    ids=["options", "ignored", "top k", "masked", "scaled sum"],
)
def test_features_give_what_logits_give(loss):
    # A step of the user's own is shown logits, which is the way without.
    class Own(losskit.Model):
        def compute_metrics(self, x, y, y_pred, sample_weight=None):
            assert y_pred.shape[-1] == CLASSES
            return super().compute_metrics(x, y, y_pred, sample_weight)

    found = trained(eager(network(), loss()))
    expected = trained(eager(network(cls=Own), loss()))
    assert found[0].keys() == expected[0].keys()
    assert_same(found, expected)


@pytest.mark.skipif(
    keras.config.backend() != "torch", reason="a graph holds both branches"
)
@pytest.mark.parametrize(
    ("loss", "passes"),
    [
        (linear, 1),
        (lambda: 0.5 * linear(z_loss=0.1), 1),
        (lambda: linear(ignore_class=3), 1),
        (lambda: losses.Masked(linear(), ignore_value=2), 1),
        # Which tokens count is known when all values are.
        (lambda: linear(reduction=losskit.reductions.TopK(fraction=0.5)), 2),
    ],
    ids=["plain", "two terms", "ignored", "masked", "top k"],
)
def test_nothing_is_computed_twice(loss, passes, monkeypatch):
    calls = []
    original = ChunkedEntropy.values_and_gradients

    def counted(self, *arguments):
        calls.append(arguments)
        return original(self, *arguments)

    monkeypatch.setattr(ChunkedEntropy, "values_and_gradients", counted)
    model = compiled(network(), loss())
    model.fit(TOKENS, LABELS, sample_weight=WEIGHTS, batch_size=5, verbose=0)
    assert len(calls) == 2 * passes


@pytest.mark.nightly("jax", "tensorflow")
def test_smoothing_is_that_of_keras():
    one_hot = np.eye(CLASSES, dtype="float32")[LABELS]
    of_keras = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=0.3
    )
    expected = trained(eager(network(), of_keras), y=one_hot)
    found = trained(eager(network(), linear(label_smoothing=0.3)))
    assert_same(found, expected)


def test_in_a_model_of_keras_it_is_the_crossentropy_of_logits():
    expected = trained(eager(network(cls=keras.Model), logits_of_keras()))
    found = trained(eager(network(cls=keras.Model), linear()))
    assert_same(found, expected)


def two_heads(cls=losskit.Model):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((STEPS,), dtype="int32")
    x = layers.Embedding(CLASSES, WIDTH, mask_zero=True)(inputs)
    heads = {
        "next": layers.Dense(CLASSES, name="next_head")(x),
        "tag": layers.Dense(4, name="tag_head")(x),
    }
    return cls(inputs, heads)


@pytest.mark.nightly("jax", "tensorflow")
@pytest.mark.parametrize("method", [weighting.PCGrad, weighting.Uncertainty])
def test_several_outputs_and_weightings(method):
    labels = {"next": LABELS, "tag": LABELS % 4}
    results = []
    for head in (linear("next_head"), logits_of_keras()):
        container = losskit.LossesContainer(
            {"next": head, "tag": logits_of_keras()},
            loss_weights={"next": 0.7, "tag": 2.0},
            weighting=method(),
        )
        model = compiled(
            two_heads(),
            container,
            metrics={"next": ["accuracy"], "tag": ["accuracy"]},
        )
        results.append(trained(model, y=labels, sample_weight=None))
    assert results[0][0].keys() == results[1][0].keys()
    assert_same(*results)


@pytest.mark.nightly("jax", "tensorflow")
def test_extra_terms_that_read_predictions_are_given_logits():
    class Confidence(extra.ExtraTerm):
        def value(self, context):
            assert context.y_pred.shape[-1] == CLASSES
            return ops.mean(ops.max(context.y_pred, axis=-1))

    def results(loss):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((WIDTH,))
        x = layers.Dense(WIDTH, activation="tanh")(inputs)
        outputs = layers.Dense(CLASSES, name="head")(x)
        terms = {
            "confidence": Confidence(weight=0.1),
            "attacked": extra.FGSM(epsilon=0.1, weight=0.5),
        }
        container = losskit.LossesContainer(loss, extra_terms=terms)
        model = eager(losskit.Model(inputs, outputs), container)
        x = RANDOM_INPUTS
        return trained(model, x=x, y=LABELS[:, 0], sample_weight=None)

    assert_same(results(linear()), results(logits_of_keras()))


@pytest.mark.nightly("jax", "tensorflow")
@pytest.mark.parametrize("change", ["lora", "frozen", "int8"])
def test_changed_heads(change):
    results = []
    for loss in (linear(), logits_of_keras()):
        model = network()
        head = model.get_layer("head")
        if change == "lora":
            head.enable_lora(2, b_initializer="ones")
        elif change == "frozen":
            head.trainable = False
        else:
            head.quantize("int8")
        results.append(trained(eager(model, loss)))
    assert_same(*results)


def test_mixed_precision(heads_called):
    results = []
    for loss in (linear(), logits_of_keras()):
        keras.config.set_dtype_policy("mixed_bfloat16")
        try:
            model = network()
        finally:
            keras.config.set_dtype_policy("float32")
        results.append(trained(eager(model, loss)))
    for one, other in zip(results[0][2], results[1][2], strict=True):
        np.testing.assert_allclose(one, other, atol=0.02)
    np.testing.assert_allclose(
        results[0][0]["loss"], results[1][0]["loss"], rtol=0.01
    )


def test_it_is_saved_with_the_model(tmp_path):
    model = eager(network(), linear(z_loss=0.1), metrics=["accuracy"])
    trained(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert repr(loaded.compiled_loss.losses) == repr(linear(z_loss=0.1))
    assert_same(trained(loaded), trained(model))


READERS = {
    "add_loss": lambda self, x: self.add_loss(ops.mean(ops.logsumexp(x, -1))),
    "product": lambda self, x: 2.0 * x,
    "product with a tensor": lambda self, x: ops.ones(()) * x,
    "entry": lambda self, x: x[0],
    "shape": lambda self, x: x.shape,
    "tensor": lambda self, x: ops.convert_to_tensor(x),
    "layer": lambda self, x: self.other(x),
    "keyword": lambda self, x: self.other(inputs=x),
}


class Reads(losskit.Model):
    """A model whose `call` reads its logits."""

    def __init__(self, read):
        super().__init__()
        self.embed = layers.Embedding(CLASSES, WIDTH)
        self.head = layers.Dense(CLASSES, name="head")
        self.other = layers.Dense(2)
        self.read = read

    def call(self, inputs):
        logits = self.head(inputs=self.embed(inputs))
        self.read(self, logits)
        return {"logits": logits}


@pytest.mark.parametrize("reader", READERS)
def test_code_that_reads_the_logits_is_refused(reader):
    model = Reads(READERS[reader])
    compiled(model, {"logits": linear()})
    with pytest.raises(ValueError, match=r"(?s)head'.*which reads them"):
        model.fit(TOKENS, {"logits": LABELS}, verbose=0)
    compiled(model, {"logits": logits_of_keras()})  # the model stays usable
    model.fit(TOKENS, {"logits": LABELS}, verbose=0)


def test_a_layer_that_is_called_by_keyword():
    results = []
    for loss in (linear(), logits_of_keras()):
        keras.utils.set_random_seed(0)
        model = Reads(lambda self, x: None)
        eager(model, {"logits": loss})
        results.append(model.fit(TOKENS, {"logits": LABELS}, verbose=0).history)
    assert results[0]["loss"] == pytest.approx(results[1]["loss"], rel=1e-5)


@pytest.mark.parametrize("order", [(0, 1), (1, 0), (1, 1)])
def test_features_and_logits_may_both_be_outputs(order):
    results = []
    for loss in (linear, logits_of_keras):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((WIDTH,))
        features = layers.Dense(WIDTH, name="features")(inputs)
        logits = layers.Dense(CLASSES, name="head")(features)
        outputs = [(features, logits)[i] for i in order]
        model = losskit.Model(inputs, outputs)
        eager(model, [loss(name="ce") if i else None for i in order])
        labels = [LABELS[:, 0]] * 2
        results.append(
            trained(model, x=RANDOM_INPUTS, y=labels, sample_weight=None)
        )
    assert_same(*results)


def jumps(x):
    return ops.tanh(x)


class OwnDense(layers.Dense):
    def call(self, inputs):
        return 2.0 * super().call(inputs)


REFUSED = {
    "no layer": (
        lambda x: layers.Dense(CLASSES, name="other")(x),
        {},
        "'head' for Linear",
    ),
    "activation": (
        lambda x: layers.Dense(CLASSES, activation="softmax", name="head")(x),
        {},
        "activation='softmax'",
    ),
    "own class": (
        lambda x: OwnDense(CLASSES, name="head")(x),
        {},
        "a OwnDense",
    ),
    "regularizer": (
        lambda x: layers.Dense(CLASSES, activity_regularizer="l2", name="head")(
            x
        ),
        {},
        "activity regularizer",
    ),
    "bias of places": (
        lambda x: layers.EinsumDense(
            "abc,cd->abd", (STEPS, CLASSES), bias_axes="bd", name="head"
        )(x),
        {},
        "bias_axes='bd'",
    ),
    "changed": (
        lambda x: 2.0 * layers.Dense(CLASSES, name="head")(x),
        {},
        "'head'.*Multiply 'multiply.*', which reads them",
    ),
    "a loss of the layer": (
        lambda x: losskit.layers.AddLoss(ops.square, name="size")(
            layers.Dense(CLASSES, name="head")(x)
        ),
        {},
        "'head'.*AddLoss 'size', which reads them",
    ),
    "a penalty of the output": (
        lambda x: layers.ActivityRegularization(0.1, name="penalty")(
            layers.Dense(CLASSES, name="head")(x)
        ),
        {},
        "'head'.*ActivityRegularization 'penalty', which reads them",
    ),
    "metric": (
        lambda x: layers.Dense(CLASSES, name="head")(x),
        {"metrics": ["sparse_categorical_crossentropy"]},
        r"output 'head'.*Received: \['sparse_categorical_crossentropy'\]",
    ),
    "another loss": (
        lambda x: layers.Dense(CLASSES, name="head")(x),
        {"loss": lambda: [linear(), logits_of_keras(name="other")]},
        r"only loss of output 'head'.*Received beside it: \['other'\]",
    ),
    "a term": (
        lambda x: layers.Dense(CLASSES, name="head")(x),
        {
            "loss": lambda: losskit.LossesContainer(
                linear(),
                extra_terms={"size": extra.FromLayer("head", jumps)},
            )
        },
        r"extra term 'size'.*Received: \['head'\]",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_not_be_the_logits_is_refused_before_training(case):
    head, arguments, match = REFUSED[case]
    inputs = keras.Input((STEPS,), dtype="int32")
    model = losskit.Model(
        inputs, head(layers.Embedding(CLASSES, WIDTH)(inputs))
    )
    arguments = dict(arguments)
    loss = arguments.pop("loss", linear)()
    compiled(model, loss, **arguments)
    before = model.get_weights()
    with pytest.raises(ValueError, match=f"(?s)Expected.*{match}"):
        model.fit(TOKENS, LABELS, verbose=0)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    compiled(model, "mse")  # the model stays usable
    assert tuple(model.predict(TOKENS, verbose=0).shape)[-1] == CLASSES


@pytest.mark.parametrize(
    ("equation", "expected"),
    [
        ("abc,cd->abd", True),
        ("...d, dv -> ...v", True),
        ("abc,bcd->abd", False),
        ("abc,cd->adb", False),
        ("abc,dc->abd", False),
        ("ab,bcd->acd", False),
    ],
)
def test_which_equations_are_products_with_a_matrix(equation, expected):
    assert is_product(equation) is expected


def test_a_step_of_the_users_own_is_shown_logits():
    seen = []

    class Own(losskit.Model):
        def compute_loss(self, x, y, y_pred, sample_weight, training=True):
            seen.append(y_pred.shape[-1])
            return super().compute_loss(x, y, y_pred, sample_weight, training)

    found = trained(eager(network(cls=Own), linear()))
    assert set(seen) == {CLASSES}
    assert_same(found, trained(eager(network(), linear())))
