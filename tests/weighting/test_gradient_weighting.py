"""Weightings over gradients in `fit`, against a network derived by hand."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops
from support.processes import with_own_paths
from support.weightings import OF_TERMS

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
    if BACKEND == "tensorflow":
        # XLA takes seconds to compile; one test asks for it.
        arguments = {"jit_compile": False, **arguments}
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
    """Those of the network alone, without what the loss has."""
    names = ("trunk", "a", "b")
    return [w for name in names for w in model.get_layer(name).get_weights()]


def assert_same_layers(model, other, rtol=1e-5, atol=1e-6):
    pairs = zip(*map(layer_weights, (model, other)), strict=True)
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol)


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
        # On top of those of the user.
        found = [logs[f"{n}_weight"][0] / LOSS_WEIGHTS[n] for n in ("a", "b")]
        np.testing.assert_allclose(found, weights, rtol=1e-4)
        after = np.concatenate([w.ravel() for w in layer_weights(model)])
        start = np.concatenate([w.ravel() for w in before])
        np.testing.assert_allclose(
            after, start - 0.05 * weights @ rows, rtol=1e-4, atol=1e-6
        )


def test_weights_that_move_are_logged_beside_those_that_are_found():
    model = network()
    model.compile(
        keras.optimizers.SGD(0.0),
        loss=losskit.LossesContainer(
            {"a": "mse", "b": "mse"},
            loss_weights={
                "a": losskit.schedules.Linear(1.0, 3.0, epochs=2),
                "b": losskit.schedules.Linear(0.0, 4.0, epochs=2),
            },
            weighting=Counting((5.0,), growth=1.0, terms="a"),
        ),
    )
    logs = fit(model, epochs=3)
    assert logs["a_weight"] == [1 * 5, 2 * 10, 3 * 15]
    assert logs["b_weight"] == [0, 2, 4]
    kept = [
        w_a * a + w_b * b
        for w_a, w_b, a, b in zip(
            (1, 2, 3), (0, 2, 4), logs["a_loss"], logs["b_loss"], strict=True
        )
    ]
    np.testing.assert_allclose(logs["loss"], kept, rtol=1e-6)


# ------------------------------------------------------------ wrt, every


@pytest.mark.parametrize(
    "options, mode",
    [
        ({"wrt": "trunk/.*"}, {}),
        ({"wrt": "trunk/.*", "every": 2}, {}),
        ({"every": 2}, {"jit_compile": "auto"}),
        ({"every": 2}, {"run_eagerly": True}),
    ],
)
def test_the_update_is_the_same_however_it_is_computed(options, mode):
    if mode and BACKEND == "jax":
        pytest.skip("JAX always compiles")
    method = Counting((0.5, 4.0), **options)
    model = compiled(method, network(penalty="l2"), **mode)
    plain = network(penalty="l2")
    # weights (0.5, 4) on top of (1, 0.5)
    plain.compile(
        keras.optimizers.SGD(0.05),
        loss={"a": "mse", "b": "mse"},
        loss_weights={"a": 0.5, "b": 2.0},
        run_eagerly=True,
    )
    for one in (plain, model):
        fit(one, epochs=2, batch_size=8)
    assert_same_layers(model, plain)


def test_every_keeps_the_weights_in_between():
    model = compiled(Counting((1.0, 2.0), growth=1.0, every=3))
    logs = fit(model, epochs=7)
    assert logs["a_weight"] == [1, 1, 1, 2, 2, 2, 3]
    assert logs["b_weight"] == [1, 1, 1, 2, 2, 2, 3]  # 0.5 * 2 and so on
    method = model.compiled_loss.weighting
    assert float(method.asked.numpy()) == 3


@pytest.mark.skipif(BACKEND != "torch", reason="counts PyTorch's passes")
@pytest.mark.parametrize("wrt, passes", [(None, [2, 1]), ("trunk/.*", [3, 1])])
def test_a_step_in_between_takes_one_backward_pass(wrt, passes, monkeypatch):
    import torch

    model = compiled(Counting(wrt=wrt, every=2))
    counts = []
    grad = torch.autograd.grad

    def counted(*args, **kwargs):
        counts.append(1)
        return grad(*args, **kwargs)

    monkeypatch.setattr(torch.autograd, "grad", counted)
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
    assert container.built_losses.picked == ids
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
        {"every": 0},
        {"every": 1.5},
        {"terms": []},
        {"terms": ["a", "*"]},
        {"terms": [3]},
    ],
)
def test_malformed_options_are_refused(options):
    with pytest.raises((ValueError, TypeError), match="Expected.*Received"):
        weighting.PCGrad(**options)


@pytest.mark.parametrize("name", OF_TERMS)
def test_options_are_in_the_config(name):
    cls = getattr(weighting, name)
    options = {"terms": ["a", "b.*"]}
    if issubclass(cls, weighting.GradientWeighting):
        options.update(wrt=["trunk/.*"], every=5)
    method = cls(**options)
    again = cls.from_config(method.get_config())
    assert again.get_config() == method.get_config()
    assert {k: again.get_config()[k] for k in options} == options
    assert "terms=['a', 'b.*']" in repr(method)


# ------------------------------------------------------------------------ terms


def test_terms_leaves_the_others_in_the_rest():
    # The weight of "a" is found; "b" and the penalty keep theirs.
    model = compiled(Counting((3.0,), terms="a"), network(penalty="l2"))
    reference = network(penalty="l2")
    reference.compile(
        keras.optimizers.SGD(0.05),
        loss={"a": "mse", "b": "mse"},
        loss_weights={"a": 3.0, "b": 0.5},
        run_eagerly=True,
    )
    logs, _ = fit(model, epochs=2), fit(reference, epochs=2)
    assert logs["a_weight"] == [3.0, 3.0]
    assert "b_weight" not in logs
    assert_same_layers(model, reference)
    assert model.compiled_loss.weighting.seen.shape == (1, 1)


def test_terms_of_a_weighting_over_values():
    model = compiled(weighting.Uncertainty(terms="b"))
    logs = {k: np.array(v) for k, v in fit(model, epochs=2).items()}
    assert model.compiled_loss.weighting.log_variance.shape == (1,)
    assert "a_weight" not in logs
    # 0.5 of the user times exp(-0) / 2, which then falls: b is over 1
    assert logs["b_weight"][0] == 0.25 > logs["b_weight"][1]
    np.testing.assert_allclose(
        logs["compiled_loss"],
        logs["a_loss"] + logs["b_weight"] * logs["b_loss"],
        rtol=1e-5,
    )


def test_terms_that_match_nothing_are_refused_before_training():
    for method in (
        weighting.PCGrad(terms=["a", "kernel.*"]),
        weighting.Uncertainty(terms="kernel.*"),
    ):
        model = compiled(method, network(penalty="l2"))
        expected = r"`terms` of \w+ .*Received: 'kernel.*\['a', 'b'\]"
        with pytest.raises(ValueError, match=expected):
            fit(model)


# ------------------------------------------------------------------------ state


def test_a_resumed_run_goes_on_as_one_that_was_not_stopped(tmp_path):
    method = weighting.GradNorm(
        learning_rate=0.1, wrt="trunk/.*", every=3, terms=["a", "b"]
    )
    whole = compiled(method)
    # Two steps: in the middle of those that keep their weights.
    fit(whole, epochs=2)
    whole.save(tmp_path / "model.keras")
    resumed = keras.saving.load_model(tmp_path / "model.keras")
    # Validation moves no state, here in one of the two.
    expected = fit(whole, epochs=5)
    logs = fit(resumed, epochs=5, validation_data=(X, Y))
    for key, values in expected.items():
        np.testing.assert_allclose(logs[key], values, rtol=1e-5)
    assert len(set(logs["a_weight"])) > 1
    assert_same_weights(resumed, whole)


# --------------------------------------------- what else a training step may be


def test_gradient_accumulation():
    # Two batches of 12 are one of 24: the mean of their gradients.
    optimizer = keras.optimizers.SGD(0.05, gradient_accumulation_steps=2)
    method = Counting(wrt="trunk/.*", every=2)
    accumulated = compiled(method, optimizer=optimizer)
    once = compiled(None, run_eagerly=BACKEND != "jax")
    fit(accumulated, epochs=2, batch_size=12)
    fit(once, epochs=2)
    assert_same_layers(accumulated, once)


def test_a_scaled_loss_that_overflows_leaves_the_state_finite():
    keras.config.set_dtype_policy("mixed_float16")
    model = network()
    keras.config.set_dtype_policy("float32")
    optimizer = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.01), initial_scale=2.0**24
    )
    method = weighting.GradNorm(learning_rate=0.1, every=2)
    compiled(method, model, optimizer)
    fit(model)
    # The first steps overflow in float16 and are skipped.
    assert float(optimizer.dynamic_scale.numpy()) < 2.0**24
    for ours, start in zip(layer_weights(model), START, strict=True):
        np.testing.assert_array_equal(ours, start)
    logs = fit(model, epochs=20)
    assert np.isfinite(logs["a_weight"]).all()
    assert logs["a_weight"][-1] != logs["a_weight"][0]
    assert logs["loss"][-1] < logs["loss"][0]
    for variable in model.compiled_loss.weighting.variables:
        assert np.isfinite(ops.convert_to_numpy(variable)).all()


def test_loss_scaling_does_not_change_the_gramian():
    optimizer = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.05), initial_scale=1024.0
    )
    model = compiled(Counting(), optimizer=optimizer)
    fit(model)
    seen = model.compiled_loss.weighting.seen.numpy()
    np.testing.assert_allclose(seen, GRAMIANS[None], rtol=1e-5)


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
    assert_same_weights(plain.layers[0], weighed.layers[0])


TWO_DEVICES = """
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * 2
)
import test_gradient_weighting as here
here.compare_with_replicas(
    tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
)
"""


def compare_with_replicas(strategy):
    for options in ({}, {"wrt": "trunk/.*"}, {"every": 2}):
        with strategy.scope():
            model = compiled(Counting((0.5, 2.0), growth=1.0, **options))
        alone = compiled(Counting((0.5, 2.0), growth=1.0, **options))
        logs, expected = (fit(m, epochs=3) for m in (model, alone))
        for key, values in expected.items():
            np.testing.assert_allclose(
                logs[key], values, rtol=1e-4, err_msg=f"{key} {options}"
            )
        seen, whole = (
            m.compiled_loss.weighting.seen.numpy() for m in (model, alone)
        )
        np.testing.assert_allclose(seen, whole, rtol=1e-4)
        assert_same_layers(model, alone)


@pytest.mark.slow
@pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.distribute")
def test_the_gramian_is_that_of_all_replicas():
    # A process of its own: devices are made before the first operation.
    result = subprocess.run(
        [sys.executable, "-c", TWO_DEVICES],
        env=with_own_paths(),
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr[-3000:]
