"""Random trainings: compiled as eager, and both as NumPy has them.

Random models, losses, outputs, masks, weights, reductions and batch sizes. The
logs hold every term that was asked for and no other, each is what its
definition gives in float64, and an epoch of training leads to the same weights
whether the step is compiled or not.
"""

import concurrent.futures
import dataclasses
import os
import time

import hypothesis
import keras
import numpy as np
import pytest
from hypothesis import strategies as st
from keras import ops
from support.models import out_names
from support.models import packed
from support.processes import fresh_processes
from support.results import record

import keras_losskit as losskit
from keras_losskit import losses as losses_lib

BACKEND = keras.config.backend()
STEPS = 3
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "2000"))
BLOCK = 250

#: Losses per step in float64: (samples, steps, 1) -> (samples, steps).
ORACLES = {
    "mse": lambda y, p: np.mean((y - p) ** 2, -1),
    "mae": lambda y, p: np.mean(np.abs(y - p), -1),
    "log_cosh": lambda y, p: np.mean(np.log(np.cosh(y - p)), -1),
}
CLASSES = {
    "mse": losses_lib.MeanSquaredError,
    "mae": losses_lib.MeanAbsoluteError,
    "log_cosh": losses_lib.LogCosh,
}
REDUCTIONS = ("sum_over_batch_size", "sum", "mean_with_sample_weight")


@dataclasses.dataclass(frozen=True)
class Output:
    """What hangs on one output."""

    parts: tuple  # (loss, weight inside the composite)
    composite: bool
    reduction: str
    loss_weight: float
    kernel_rate: float
    activity_rate: float


@dataclasses.dataclass(frozen=True)
class Case:
    """What a random training is made from."""

    outputs: tuple
    structure: str
    subclassed: bool
    hidden: tuple
    added: float
    added_always: bool
    masks: bool
    weights: str
    samples: int
    batch_size: int
    compiled_as: str
    evaluated: bool
    seed: int

    @property
    def names(self):
        return out_names(len(self.outputs))

    def packed(self, values):
        """Values in the structure of the outputs."""
        return packed(self.structure, values)

    def adds(self, training):
        """Whether a layer adds a loss in this phase."""
        return self.added and (training or self.added_always)


@st.composite
def outputs_(draw):
    names = draw(st.permutations(sorted(ORACLES)))[: draw(st.integers(1, 3))]
    composite = len(names) > 1 and draw(st.booleans())
    weights = st.sampled_from([0.25, 0.5, 2.0]) if composite else st.just(1.0)
    rates = st.sampled_from([0.0, 0.01, 0.5])
    return Output(
        parts=tuple((name, draw(weights)) for name in names),
        composite=composite,
        reduction=draw(st.sampled_from(REDUCTIONS)),
        loss_weight=draw(st.sampled_from([0.0, 0.5, 1.0, 3.0])),
        kernel_rate=draw(rates),
        activity_rate=draw(rates),
    )


@st.composite
def cases(draw):
    structure = draw(st.sampled_from(["single", "list", "dict"]))
    count = 1 if structure == "single" else draw(st.integers(1, 3))
    samples = draw(st.integers(1, 9))
    return Case(
        outputs=tuple(draw(outputs_()) for _ in range(count)),
        structure=structure,
        subclassed=draw(st.booleans()),
        hidden=tuple(draw(st.lists(st.integers(1, 3), max_size=2))),
        added=draw(st.sampled_from([0.0, 0.1, 2.0])),
        added_always=draw(st.booleans()),
        masks=draw(st.booleans()),
        weights=draw(st.sampled_from(["none", "one", "each", "some"])),
        samples=samples,
        batch_size=draw(st.integers(1, samples)),
        compiled_as=draw(st.sampled_from(["graph", "jit"])),
        evaluated=draw(st.integers(0, 3)) == 0,
        seed=draw(st.integers(0, 2**16)),
    )


# -------------------------------------------------------------------- the model


class Adds(losskit.layers.Layer):
    """Adds the mean square of its input as `size`, or in training only."""

    def __init__(self, case, **kwargs):
        super().__init__(**kwargs)
        self.case = case
        self.supports_masking = True

    def call(self, x, training=False):
        if self.case.adds(training):
            size = ops.mean(ops.square(x))
            self.add_loss(size, name="size", weight=self.case.added)
        return x


class Chain(losskit.Model):
    """The layers of a case, called one after another."""

    def __init__(self, case, trunk, heads):
        super().__init__()
        self.case = case
        self.trunk = trunk
        self.heads = heads

    def call(self, x, training=False):
        for layer in self.trunk:
            x = layer(x)
        return self.case.packed([head(x) for head in self.heads])


def dense(units, name, kernel_rate=0.0, activity_rate=0.0, activation=None):
    def l2(rate):
        return keras.regularizers.L2(rate) if rate else None

    return keras.layers.Dense(
        units,
        activation,
        name=name,
        kernel_regularizer=l2(kernel_rate),
        activity_regularizer=l2(activity_rate),
    )


def model_of(case):
    trunk = [keras.layers.Masking(0.0)] if case.masks else []
    trunk += [
        dense(units, f"hidden{index}", 0.01, 0.01, "tanh")
        for index, units in enumerate(case.hidden)
    ]
    trunk += [Adds(case)] if case.added else []
    heads = [
        dense(1, name, output.kernel_rate, output.activity_rate)
        for name, output in zip(case.names, case.outputs, strict=True)
    ]
    if case.subclassed:
        model = Chain(case, trunk, heads)
        model(np.zeros((1, STEPS, 2), "float32"))
    else:
        inputs = x = keras.Input((STEPS, 2))
        for layer in trunk:
            x = layer(x)
        model = losskit.Model(inputs, case.packed([head(x) for head in heads]))
    rng = np.random.default_rng(case.seed)
    for weight in model.weights:
        weight.assign(rng.uniform(-1, 1, weight.shape))
    return model, [layer for layer in trunk if "hidden" in layer.name], heads


def losses_of(output):
    found = [
        CLASSES[name](reduction=output.reduction, name=name)
        for name, _ in output.parts
    ]
    if output.composite:
        pairs = zip(found, output.parts, strict=True)
        return sum(weight * loss for loss, (_, weight) in pairs)
    return found[0] if len(found) == 1 else found


def compiled(case, **settings):
    model, trunk, heads = model_of(case)
    # A number for all losses of an output, also where it is the only one.
    weights = [
        [output.loss_weight] * len(output.parts)
        if not output.composite and len(output.parts) > 1
        else output.loss_weight
        for output in case.outputs
    ]
    names = None if case.structure == "dict" else list(case.names)
    model.compile(
        # With clipped steps no training runs away, in which one unit in the
        # last place of a weight would end up as thousands. Most gradients are
        # below the norm, so that one scaled as a whole shows.
        keras.optimizers.SGD(global_clipnorm=5.0),
        losskit.LossesContainer(
            case.packed([losses_of(output) for output in case.outputs]),
            case.packed(weights),
            output_names=names,
        ),
        **settings,
    )
    return model, trunk, heads


def data_of(case):
    """`(x, labels, weights)`, the last two one for each output."""
    rng = np.random.default_rng(case.seed + 1)
    x = rng.normal(size=(case.samples, STEPS, 2)).astype("float32")
    # Zeros are masked; now and then a whole sample.
    x[rng.random((case.samples, STEPS)) < 0.3] = 0.0
    x[rng.random(case.samples) < 0.1] = 0.0
    labels = [
        rng.normal(size=(case.samples, STEPS, 1)).astype("float32")
        for _ in case.outputs
    ]
    weights = [
        rng.choice([0.0, 0.5, 1.0, 2.0], case.samples).astype("float32")
        for _ in case.outputs
    ]
    if case.weights == "none":
        weights = [None] * len(weights)
    if case.weights == "one":
        weights = [weights[0]] * len(weights)
    if case.weights == "some":
        weights[0] = None
    return x, labels, weights


# ------------------------------------------------------------------- the oracle


def reduced(reduction, values, weight, mask):
    """By the definitions: per step `values` and `mask`, per sample `weight`."""
    given = weight is not None
    weight = weight.astype("float64")[:, None] if given else 1.0
    valid = np.ones(values.shape, bool) if mask is None else mask
    total = np.sum(np.where(valid, weight * values, 0.0))
    if reduction == "sum":
        return total
    count = valid.sum()
    if reduction == "mean_with_sample_weight" and given:
        # Without a mask a weight per sample counts once, as in Keras.
        count = np.sum(weight if mask is None else weight * mask)
    return total / count if count else 0.0


def of_batch(case, layers, x, labels, weights, training):
    """All that could be logged of one batch, in float64."""
    trunk, heads = layers
    x = x.astype("float64")
    # `Masking` also zeroes what it masks, which is 0 already.
    mask = np.any(x != 0, axis=-1) if case.masks else None
    kinds = dict.fromkeys(
        ("compiled", "regularization", "activity", "added"), 0.0
    )

    def through(layer, x, kernel_rate, activity_rate):
        kernel, bias = (w.astype("float64") for w in layer.get_weights())
        x = x @ kernel + bias
        x = np.tanh(x) if "hidden" in layer.name else x
        kinds["regularization"] += kernel_rate * np.sum(kernel**2)
        kinds["activity"] += activity_rate * np.sum(x**2) / len(x)
        return x

    for layer in trunk:
        x = through(layer, x, 0.01, 0.01)
    values = {"size": np.mean(x**2)}
    if case.adds(training):
        kinds["added"] = case.added * values["size"]
    for name, output, head, y, weight in zip(
        case.names, case.outputs, heads, labels, weights, strict=True
    ):
        y_pred = through(head, x, output.kernel_rate, output.activity_rate)
        total = 0.0
        for loss, inner in output.parts:
            steps = ORACLES[loss](y.astype("float64"), y_pred)
            value = reduced(output.reduction, steps, weight, mask)
            values[f"{name}_{loss}"] = value
            total += inner * value
        values[name] = total
        kinds["compiled"] += output.loss_weight * total
    values |= kinds
    return values | {"loss": sum(kinds.values())}


def keys_of(case, training):
    """`{logged key: name in the oracle}`, by the rules of the README."""
    kinds = {
        "compiled": True,
        "regularization": case.hidden
        or any(output.kernel_rate for output in case.outputs),
        "activity": case.hidden
        or any(output.activity_rate for output in case.outputs),
        "added": case.adds(training),
    }
    kinds = [kind for kind, there in kinds.items() if there]
    keys = {"loss": "loss"}
    keys |= {f"{k}_loss": k for k in kinds if len(kinds) > 1}
    keys |= {"size_loss": "size"} if case.adds(training) else {}
    several = len(case.outputs) > 1
    for name, output in zip(case.names, case.outputs, strict=True):
        keys |= {f"{name}_loss": name} if several else {}
        if len(output.parts) > 1:
            prefix = f"{name}_" if several else ""
            for loss, _ in output.parts:
                keys[f"{prefix}{loss}_loss"] = f"{name}_{loss}"
    return keys


def expected_logs(case, layers, data, training):
    x, labels, weights = data
    keys = keys_of(case, training)
    sums = dict.fromkeys(keys, 0.0)
    for start in range(0, case.samples, case.batch_size):
        part = slice(start, start + case.batch_size)
        values = of_batch(
            case,
            layers,
            x[part],
            [y[part] for y in labels],
            [None if w is None else w[part] for w in weights],
            training,
        )
        for key, name in keys.items():
            sums[key] += len(x[part]) * values[name]
    return {key: value / case.samples for key, value in sums.items()}


# -------------------------------------------------------------------- the tests


def check(case):
    keras.utils.set_random_seed(0)
    x, labels, weights = data_of(case)
    given = None
    if any(weight is not None for weight in weights):
        given = weights[0] if case.weights == "one" else case.packed(weights)
    arguments = (x, case.packed(labels))
    settings = {
        "sample_weight": given,
        "batch_size": case.batch_size,
        "verbose": 0,
    }
    # PyTorch's compiler takes a minute; JAX runs uncompiled without XLA.
    jit = {"jax": True, "torch": False}.get(BACKEND, case.compiled_as == "jit")
    model, *layers = compiled(case, jit_compile=jit)
    eager, *_ = compiled(case, run_eagerly=True)

    def fit(model, rate):
        model.optimizer.learning_rate = rate
        history = model.fit(*arguments, shuffle=False, **settings).history
        return {key: values[0] for key, values in history.items()}

    data = (x, labels, weights)
    expected = expected_logs(case, layers, data, training=False)
    for evaluated in [eager, model] if case.evaluated else [eager]:
        logs = evaluated.evaluate(*arguments, return_dict=True, **settings)
        assert set(logs) == set(expected)
        assert_close(logs, expected, rel=2e-5)
    # An epoch at a rate of 0, whose every batch NumPy knows beforehand, takes
    # no second compilation, which an evaluation does.
    expected = expected_logs(case, layers, data, training=True)
    logs = fit(model, 0.0)
    assert set(logs) == set(expected)
    assert_close(logs, expected, rel=2e-5)

    trained, reference = fit(model, 0.01), fit(eager, 0.01)
    assert set(trained) == set(reference) == set(expected)
    assert_close(trained, reference, rel=2e-5)
    if case.batch_size == case.samples:
        assert_close(trained, expected, rel=2e-5)
    for ours, theirs in zip(
        model.get_weights(), eager.get_weights(), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    kinds = ("compiled", "regularization", "activity", "added")
    parts = [trained[f"{k}_loss"] for k in kinds if f"{k}_loss" in trained]
    if parts:
        assert sum(parts) == pytest.approx(trained["loss"], rel=1e-5)


def assert_close(received, expected, rel):
    for key, value in expected.items():
        assert received[key] == pytest.approx(value, rel=rel, abs=1e-5), key


@hypothesis.settings(max_examples=20 if BACKEND == "torch" else 3)
@hypothesis.given(cases())
def test_trains_as_its_definition(case):
    check(case)


@pytest.mark.slow  # an hour or two, where every step is compiled
@pytest.mark.timeout(0)
def test_trains_as_its_definition_in_thousands_of_cases():
    start, seen = time.monotonic(), []
    # Each block in a process of its own: TensorFlow keeps 10 MB for each case.
    with fresh_processes(os.cpu_count()) as processes:
        sizes = [
            min(BLOCK, EXAMPLES - first) for first in range(0, EXAMPLES, BLOCK)
        ]
        blocks = [processes.submit(fuzzed, size) for size in sizes]
        for block in concurrent.futures.as_completed(blocks):
            try:
                seen += block.result()
            except BaseException:
                processes.shutdown(cancel_futures=True)
                raise
            # What a run that is stopped has shown, it has shown.
            record_fuzz(seen, start)
    assert len(seen) >= EXAMPLES


def fuzzed(examples):
    """The random cases that this process checked."""
    seen = []

    @hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )
    @hypothesis.given(cases())
    def run(case):
        check(case)
        seen.append(case)

    run()
    return seen


def record_fuzz(seen, start):
    record(
        "fuzz",
        "Random trainings",
        {
            "trainings": f"{len(seen)} of {EXAMPLES}",
            "different": len(set(seen)),
            "compiled against eager, both against NumPy": "no difference",
            "minutes": round((time.monotonic() - start) / 60),
        },
    )
