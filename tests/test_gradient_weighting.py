"""Weightings over gradients in `fit`, against a network derived by hand."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

import keras_losskit as losskit
from keras_losskit import weighting

BACKEND = keras.config.backend()
rng = np.random.default_rng(0)
X = rng.normal(size=(24, 3)).astype("float32")
Y = {
    "a": rng.normal(size=(24, 1)).astype("float32"),
    "b": 3 * rng.normal(size=(24, 2)).astype("float32"),
}
# trunk kernel and bias, head a, head b
START = [
    rng.normal(size=shape).astype("float32")
    for shape in [(3, 4), (4,), (4, 1), (1,), (4, 2), (2,)]
]
LOSS_WEIGHTS = {"a": 1.0, "b": 0.5}


def jacobian(values, x=X, y=Y):
    """Gradients of `mse(a)` and `0.5 * mse(b)`, one row each, by hand."""
    kernel, bias, *heads = (value.astype("float64") for value in values)
    hidden = np.tanh(x @ kernel + bias)
    rows = []
    for index, name in enumerate(("a", "b")):
        head, head_bias = heads[2 * index : 2 * index + 2]
        error = hidden @ head + head_bias - y[name]
        error = LOSS_WEIGHTS[name] * 2 * error / error.size
        back = (error @ head.T) * (1 - hidden**2)
        parts = [np.zeros(value.shape) for value in values]
        parts[0], parts[1] = x.T @ back, back.sum(axis=0)
        parts[2 + 2 * index] = hidden.T @ error
        parts[3 + 2 * index] = error.sum(axis=0)
        rows.append(np.concatenate([part.ravel() for part in parts]))
    return np.array(rows)


TRUNK = slice(0, 3 * 4 + 4)
#: What `jacobian` gave when this was written, so that it does not move either.
GRAMIANS = {
    None: [[37.77815769, 0.84165061], [0.84165061, 1.99129638]],
    "trunk/.*": [[4.19651565, 0.84165061], [0.84165061, 0.93268585]],
}


@keras.saving.register_keras_serializable("tests")
class Counting(weighting.GradientWeighting):
    """The weights `base * n` in the n-th asking, and the Gramian it saw."""

    def __init__(self, base=(1.0, 1.0), growth=0.0, **options):
        super().__init__(**options)
        self.base = tuple(base)
        self.growth = growth

    def build(self, num_terms):
        super().build(num_terms)
        self.asked = self.add_weight(
            shape=(), initializer="zeros", trainable=False
        )
        self.seen = self.add_weight(
            shape=(num_terms, num_terms), initializer="zeros", trainable=False
        )

    def weigh(self, gramian, training):
        self.seen.assign(gramian)
        scale = 1.0 + self.growth * ops.convert_to_tensor(self.asked)
        self.asked.assign_add(1.0)
        return scale * ops.convert_to_tensor(self.base[: self.num_terms])

    def get_config(self):
        config = super().get_config()
        return {**config, "base": list(self.base), "growth": self.growth}


def network(model_class=losskit.Model, penalty=None):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((3,))
    trunk = layers.Dense(4, "tanh", name="trunk", kernel_regularizer=penalty)
    hidden = trunk(inputs)
    heads = [layers.Dense(1, name="a"), layers.Dense(2, name="b")]
    model = model_class(inputs, {head.name: head(hidden) for head in heads})
    for layer, kernel, bias in zip(
        [trunk, *heads], START[::2], START[1::2], strict=True
    ):
        layer.set_weights([kernel, bias])
    return model


def compiled(method, model=None, optimizer=None, **arguments):
    model = model or network()
    model.compile(
        optimizer or keras.optimizers.SGD(0.05),
        loss=losskit.LossesContainer(
            {"a": "mse", "b": "mse"},
            loss_weights=LOSS_WEIGHTS,
            weighting=method,
        ),
        **arguments,
    )
    return model


def fit(model, epochs=1, batch_size=24, **arguments):
    arguments = {"shuffle": False, "verbose": 0, **arguments}
    return model.fit(
        X, Y, batch_size=batch_size, epochs=epochs, **arguments
    ).history


def assert_same_weights(model, other, rtol=1e-5):
    for ours, theirs in zip(
        model.get_weights(), other.get_weights(), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=1e-6)


def layer_weights(model):
    return [
        w for n in ("trunk", "a", "b") for w in model.get_layer(n).get_weights()
    ]


# ------------------------------------------------------------------ the Gramian


@pytest.mark.parametrize("wrt", [None, "trunk/.*"])
def test_the_gramian_is_that_derived_by_hand(wrt):
    model = compiled(Counting(wrt=wrt))
    fit(model)
    rows = jacobian(START)[:, slice(None) if wrt is None else TRUNK]
    seen = model.compiled_loss.weighting.seen.numpy()
    np.testing.assert_allclose(seen, rows @ rows.T, rtol=1e-5)
    np.testing.assert_allclose(seen, GRAMIANS[wrt], rtol=1e-5)


def mgda_of_two(gramian):
    (aa, ab), (_, bb) = gramian
    first = np.clip((bb - ab) / (aa - 2 * ab + bb), 0, 1)
    return np.array([first, 1 - first])


@pytest.mark.parametrize("options", [{}, {"wrt": "trunk/.*"}])
def test_weights_in_logs_and_updates_follow_the_formula(options):
    model = compiled(weighting.MGDA(**options))
    part = TRUNK if options else slice(None)
    for _ in range(4):
        before = layer_weights(model)
        logs = fit(model)
        rows = jacobian(before)
        weights = mgda_of_two(rows[:, part] @ rows[:, part].T)
        found = [logs["a_weight"][0], logs["b_weight"][0]]
        np.testing.assert_allclose(found, weights, rtol=1e-4)
        after = np.concatenate([w.ravel() for w in layer_weights(model)])
        start = np.concatenate([w.ravel() for w in before])
        np.testing.assert_allclose(
            after, start - 0.05 * weights @ rows, rtol=1e-4, atol=1e-6
        )


# ------------------------------------------------------------ wrt, update_every


@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {"wrt": "trunk/.*"},
        {"wrt": "trunk/.*", "update_every": 2},
        {"update_every": 2},
    ],
)
def test_the_update_is_the_same_however_it_is_computed(options, eager):
    if eager and BACKEND == "jax":
        pytest.skip("JAX has one step for both")
    models = [
        compiled(Counting((0.5, 2.0), **more), network(penalty="l2"))
        for more in ({}, options)
    ]
    models[1].run_eagerly = eager
    expected, logs = (fit(m, epochs=2, batch_size=8) for m in models)
    for key, values in expected.items():
        np.testing.assert_allclose(logs[key], values, rtol=1e-5)
    for ours, theirs in zip(*map(layer_weights, models), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_update_every_keeps_the_weights_in_between():
    model = compiled(Counting((1.0, 2.0), growth=1.0, update_every=3))
    logs = fit(model, epochs=7)
    assert logs["a_weight"] == [1, 1, 1, 2, 2, 2, 3]
    assert logs["b_weight"] == [2, 2, 2, 4, 4, 4, 6]
    method = model.compiled_loss.weighting
    assert float(method.asked.numpy()) == 3


@pytest.mark.skipif(BACKEND != "torch", reason="counts PyTorch's passes")
@pytest.mark.parametrize("wrt, passes", [(None, [2, 1]), ("trunk/.*", [3, 1])])
def test_a_step_in_between_takes_one_backward_pass(wrt, passes, monkeypatch):
    import torch

    model = compiled(Counting(wrt=wrt, update_every=2))
    counts = []
    grad = torch.autograd.grad
    monkeypatch.setattr(
        torch.autograd,
        "grad",
        lambda *a, **k: counts.append(1) or grad(*a, **k),
    )
    for expected in passes:
        counts.clear()
        fit(model)
        assert len(counts) == expected


class Subclassed(losskit.Model):
    def __init__(self):
        super().__init__()
        self.trunk = layers.Dense(4, "tanh")
        self.a, self.b = layers.Dense(1), layers.Dense(2)

    def call(self, x):
        hidden = self.trunk(x)
        return {"a": self.a(hidden), "b": self.b(hidden)}


def test_wrt_takes_layers_before_they_are_built():
    model = Subclassed()
    compiled(Counting(wrt=[model.trunk, model.a]), model)
    container = model.compiled_loss
    fit(model)
    ids = {id(v) for v in (*model.trunk.variables, *model.a.variables)}
    assert container.picked == ids
    # The layers stay the model's alone.
    assert len(model.layers) == 3
    assert len(container.weighting.variables) == 2


def test_wrt_by_layer_goes_through_a_file(tmp_path):
    model = network()
    compiled(Counting(wrt=model.get_layer("trunk")), model)
    fit(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.compiled_loss.weighting.get_config()["wrt"] == [
        {"layer": "trunk"}
    ]
    before = layer_weights(loaded)
    fit(loaded)
    rows = jacobian(before)[:, TRUNK]
    seen = loaded.compiled_loss.weighting.seen.numpy()
    np.testing.assert_allclose(seen, rows @ rows.T, rtol=1e-5)


def frozen():
    model = network()
    model.get_layer("trunk").trainable = False
    return model


@pytest.mark.parametrize(
    "wrt, model",
    [
        ("trnk/.*", network),
        (["trunk/.*", "decoder"], network),
        (layers.Dense(1, name="elsewhere"), network),
        ("trunk/.*", frozen),
    ],
)
def test_a_wrt_that_finds_nothing_is_refused_before_training(wrt, model):
    model = compiled(Counting(wrt=wrt), model())
    for _ in range(2):
        with pytest.raises(ValueError, match=r"of `wrt`.*Received: .*a/kernel"):
            fit(model)
    for ours, start in zip(layer_weights(model), START, strict=True):
        np.testing.assert_array_equal(ours, start)


@pytest.mark.parametrize(
    "options",
    [
        {"wrt": []},
        {"wrt": "("},
        {"wrt": 3},
        {"update_every": 0},
        {"update_every": 1.5},
        {"terms": []},
        {"terms": ["a", "*"]},
        {"terms": [3]},
    ],
)
def test_malformed_options_are_refused(options):
    with pytest.raises((ValueError, TypeError), match="Expected.*Received"):
        weighting.PCGrad(**options)


@pytest.mark.parametrize("name", sorted(weighting.__all__))
def test_options_are_in_the_config(name):
    cls = getattr(weighting, name)
    options = {"terms": ["a", "b.*"]}
    if issubclass(cls, weighting.GradientWeighting):
        options.update(wrt=["trunk/.*"], update_every=5)
    method = cls(**options)
    again = cls.from_config(method.get_config())
    assert again.get_config() == method.get_config()
    assert {k: again.get_config()[k] for k in options} == options
    assert "terms=['a', 'b.*']" in repr(method)


# ------------------------------------------------------------------------ terms


@pytest.mark.parametrize("update_every", [1, 2])
def test_terms_leaves_the_others_in_the_rest(update_every):
    # The weight of "a" is found; "b" and the penalty keep theirs.
    method = Counting((3.0,), terms="a", update_every=update_every)
    model = compiled(method, network(penalty="l2"))
    reference = network(penalty="l2")
    reference.compile(
        keras.optimizers.SGD(0.05),
        loss={"a": "mse", "b": "mse"},
        loss_weights={"a": 3.0, "b": 0.5},
    )
    logs, _ = fit(model, epochs=2), fit(reference, epochs=2)
    assert logs["a_weight"] == [3.0, 3.0]
    assert "b_weight" not in logs
    for pair in zip(*map(layer_weights, (model, reference)), strict=True):
        np.testing.assert_allclose(*pair, rtol=1e-5, atol=1e-6)
    rows = jacobian(START)[:1]
    assert model.compiled_loss.weighting.seen.shape == (1, 1)
    model = compiled(Counting((3.0,), terms="a"))
    fit(model)
    np.testing.assert_allclose(
        model.compiled_loss.weighting.seen.numpy(), rows @ rows.T, rtol=1e-5
    )


def test_terms_of_a_weighting_over_values():
    method = weighting.DynamicWeightAverage(terms=["b"], temperature=0.5)
    logs = fit(compiled(method), epochs=3)
    # One term of one: the weight is 1, and "a" has none that moves.
    np.testing.assert_allclose(logs["b_weight"], 1.0, rtol=1e-6)
    assert "a_weight" not in logs
    uncertainty = compiled(weighting.Uncertainty(terms="b"))
    logs = fit(uncertainty, epochs=2)
    assert uncertainty.compiled_loss.weighting.log_variance.shape == (1,)
    np.testing.assert_allclose(
        logs["compiled_loss"],
        np.array(logs["a_loss"])
        + 0.5 * np.array(logs["b_weight"]) / 0.5 * np.array(logs["b_loss"]),
        rtol=1e-5,
    )


def test_terms_that_match_nothing_are_refused_before_training():
    for method in (
        weighting.PCGrad(terms=["a", "kernel.*"]),
        weighting.Uncertainty(terms="kernel.*"),
    ):
        model = compiled(method, network(penalty="l2"))
        with pytest.raises(
            ValueError,
            match=r"`terms` of \w+ .*Received: 'kernel.*\['a', 'b'\]",
        ):
            fit(model)


# ------------------------------------------------------------------------ state


@pytest.mark.parametrize(
    "make",
    [
        lambda: weighting.PCGrad(seed=3),
        lambda: weighting.GradNorm(learning_rate=0.1, update_every=3),
        lambda: weighting.LearningRateAnnealing(wrt="trunk/.*", update_every=4),
        lambda: weighting.CAGrad(wrt="trunk/.*"),
        lambda: Counting(growth=1.0, update_every=4, terms=["a"]),
    ],
)
def test_a_resumed_run_goes_on_as_one_that_was_not_stopped(make, tmp_path):
    whole = compiled(make())
    # Two steps: in the middle of those that keep their weights.
    first = fit(whole, epochs=2)
    whole.save(tmp_path / "model.keras")
    resumed = keras.saving.load_model(tmp_path / "model.keras")
    expected, logs = (fit(m, epochs=5) for m in (whole, resumed))
    assert set(logs) == set(expected)
    for key, values in expected.items():
        np.testing.assert_allclose(logs[key], values, rtol=1e-5)
    assert_same_weights(resumed, whole)
    assert {"a_weight"} <= set(first)


def test_validation_freezes_weights_and_state():
    options = {"learning_rate": 0.1, "update_every": 2}
    plain, validated = (
        compiled(weighting.GradNorm(**options)) for _ in range(2)
    )
    expected = fit(plain, epochs=3)
    logs = fit(validated, epochs=3, validation_data=(X, Y))
    validated.evaluate(X, Y, verbose=0)
    for key, values in expected.items():
        np.testing.assert_allclose(logs[key], values, rtol=1e-6)
    assert_same_weights(validated, plain)


# --------------------------------------------- what else a training step may be


@pytest.mark.parametrize(
    "options", [{}, {"wrt": "trunk/.*", "update_every": 2}]
)
def test_gradient_accumulation(options):
    # Two batches of 12 are one of 24: the mean of their gradients.
    def optimizer():
        return keras.optimizers.SGD(0.05, gradient_accumulation_steps=2)

    plain = compiled(None, optimizer=optimizer())
    weighed = compiled(Counting(**options), optimizer=optimizer())
    for model in (plain, weighed):
        fit(model, epochs=2, batch_size=12)
    for pair in zip(*map(layer_weights, (plain, weighed)), strict=True):
        np.testing.assert_allclose(*pair, rtol=1e-5, atol=1e-6)
    once = compiled(None)
    fit(once, epochs=2)
    for pair in zip(*map(layer_weights, (once, weighed)), strict=True):
        np.testing.assert_allclose(*pair, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "method",
    [
        lambda: weighting.GradNorm(learning_rate=0.1),
        lambda: weighting.GradNorm(learning_rate=0.1, update_every=2),
        lambda: weighting.LearningRateAnnealing(wrt="trunk/.*"),
    ],
)
def test_a_scaled_loss_that_overflows_leaves_the_state_finite(method):
    keras.config.set_dtype_policy("mixed_float16")
    model = network()
    keras.config.set_dtype_policy("float32")
    optimizer = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.01), initial_scale=2.0**24
    )
    compiled(method(), model, optimizer)
    before = layer_weights(model)
    fit(model)
    # The first steps overflow in float16 and are skipped.
    assert float(optimizer.dynamic_scale.numpy()) < 2.0**24
    for pair in zip(before, layer_weights(model), strict=True):
        np.testing.assert_array_equal(*pair)
    logs = fit(model, epochs=20)
    assert np.isfinite(logs["a_weight"]).all()
    assert logs["a_weight"][-1] != logs["a_weight"][0]
    assert logs["loss"][-1] < logs["loss"][0]
    for variable in model.compiled_loss.weighting.variables:
        assert np.isfinite(ops.convert_to_numpy(variable)).all()


def test_loss_scaling_does_not_change_the_weights():
    optimizer = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.05), initial_scale=1024.0
    )
    scaled = compiled(weighting.MGDA(wrt="trunk/.*"), optimizer=optimizer)
    plain = compiled(weighting.MGDA(wrt="trunk/.*"))
    logs, expected = (fit(m, epochs=3) for m in (scaled, plain))
    np.testing.assert_allclose(
        logs["a_weight"], expected["a_weight"], rtol=1e-4
    )
    np.testing.assert_allclose(logs["loss"], expected["loss"], rtol=1e-5)


def test_class_weight():
    labels = np.arange(24) % 3

    def model_with(method):
        keras.utils.set_random_seed(1)
        model = losskit.Sequential([keras.Input((3,)), layers.Dense(3)])
        first, second = (
            losskit.losses.SparseCategoricalCrossentropy(
                from_logits=True, name=name
            )
            for name in ("first", "second")
        )
        model.compile(
            keras.optimizers.SGD(0.1),
            loss=losskit.LossesContainer(
                first + 0.5 * second, weighting=method
            ),
        )
        return model

    plain, weighed = model_with(None), model_with(Counting())
    for model in (plain, weighed):
        model.fit(
            X,
            labels,
            class_weight={0: 1.0, 1: 5.0, 2: 0.1},
            epochs=2,
            shuffle=False,
            verbose=0,
        )
    for pair in zip(
        plain.layers[0].get_weights(),
        weighed.layers[0].get_weights(),
        strict=True,
    ):
        np.testing.assert_allclose(*pair, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.distribute")
@pytest.mark.parametrize(
    "options",
    [{}, {"wrt": "trunk/.*"}, {"update_every": 2}],
)
def test_the_gramian_is_that_of_all_replicas(options):
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        model = compiled(Counting((0.5, 2.0), growth=1.0, **options))
    logs = fit(model, epochs=3)
    alone = compiled(Counting((0.5, 2.0), growth=1.0, **options))
    expected = fit(alone, epochs=3)
    for key, values in expected.items():
        np.testing.assert_allclose(logs[key], values, rtol=1e-4)
    np.testing.assert_allclose(
        model.compiled_loss.weighting.seen.numpy(),
        alone.compiled_loss.weighting.seen.numpy(),
        rtol=1e-4,
    )
