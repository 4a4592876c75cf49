"""`loss` is the sum of the kinds, and every term is what NumPy says it is.

Random models with one to three outputs in any structure, random losses,
weights, masks and sample weights, in batches of which the last is short.
"""

import dataclasses

import hypothesis
import keras
import numpy as np
import pytest
from hypothesis import strategies as st
from keras import ops
from support.models import fit_logs
from support.models import ones_dense
from support.models import out_names
from support.models import packed
from support.models import still

import keras_losskit as losskit

BACKEND = keras.config.backend()
SAMPLES, STEPS = 7, 3


# Per-step losses in float64: (samples, steps, 1) -> (samples, steps).
ORACLES = {
    "mse": lambda y, p: np.mean((y - p) ** 2, -1),
    "mae": lambda y, p: np.mean(np.abs(y - p), -1),
    "huber": lambda y, p: np.mean(
        np.where(np.abs(y - p) <= 1, (y - p) ** 2 / 2, np.abs(y - p) - 0.5), -1
    ),
}


@dataclasses.dataclass(frozen=True)
class Case:
    """What a random model, its losses and its data are made from."""

    structure: str
    losses: tuple
    loss_weights: tuple
    kernel_rates: tuple
    activity_rates: tuple
    adds: bool
    masks: bool
    weights: str
    batch_size: int
    seed: int

    @property
    def names(self):
        return out_names(len(self.losses))

    def packed(self, values):
        """Values in the structure of the outputs."""
        return packed(self.structure, values)


@st.composite
def cases(draw):
    structure = draw(st.sampled_from(["single", "list", "dict"]))
    count = 1 if structure == "single" else draw(st.integers(1, 3))

    def each(strategy):
        return tuple(draw(strategy) for _ in range(count))

    one_loss = st.sampled_from(sorted(ORACLES)).map(lambda loss: (loss,))
    two_losses = st.permutations(sorted(ORACLES)).map(lambda x: tuple(x[:2]))
    rates = st.sampled_from([0.0, 0.01, 0.5])
    return Case(
        structure=structure,
        losses=each(st.one_of(one_loss, two_losses)),
        loss_weights=each(st.sampled_from([0.0, 0.5, 1.0, 3.0])),
        kernel_rates=each(rates),
        activity_rates=each(rates),
        adds=draw(st.booleans()),
        masks=draw(st.booleans()),
        weights=draw(st.sampled_from(["none", "one", "each", "some"])),
        batch_size=draw(st.integers(1, SAMPLES)),
        seed=draw(st.integers(0, 2**16)),
    )


class Adds(keras.layers.Layer):
    """Adds the mean square of its input."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, x):
        self.add_loss(ops.mean(ops.square(x)))
        return x


@dataclasses.dataclass(frozen=True)
class Data:
    x: np.ndarray
    y: tuple
    weights: tuple  # per output an array `(samples,)` or None

    @classmethod
    def random(cls, case, rng):
        x = rng.normal(size=(SAMPLES, STEPS, 1)).astype("float32")
        # Zeros are masked; now and then a whole sample, a batch of size one.
        x[rng.random((SAMPLES, STEPS)) < 0.3] = 0.0
        x[rng.random(SAMPLES) < 0.1] = 0.0
        outputs = range(len(case.losses))
        y = tuple(
            rng.normal(size=(SAMPLES, STEPS, 1)).astype("float32")
            for _ in outputs
        )
        weights = [
            rng.choice([0.0, 0.5, 1.0, 2.0], SAMPLES).astype("float32")
            for _ in outputs
        ]
        if case.weights == "none":
            weights = [None] * len(weights)
        if case.weights == "one":
            weights = [weights[0]] * len(weights)
        if case.weights == "some":
            weights[0] = None
        return cls(x, y, tuple(weights))

    def sample_weight(self, case, base):
        """What is given to `fit`."""
        weights = self.weights
        if all(weight is None for weight in weights):
            return None
        if base is keras.Model:
            # A weight per sample is enough for us; Keras needs one per step,
            # and for every output.
            weights = tuple(
                np.tile(np.ones(SAMPLES) if w is None else w, (STEPS, 1)).T
                for w in weights
            )
        if case.structure == "single":
            return weights[0]
        if case.weights == "one" and base is losskit.Model:
            return weights[0]
        return case.packed(weights)


def kernels_of(case):
    rng = np.random.default_rng(case.seed + 1)
    return rng.uniform(0.5, 2.0, len(case.losses)).astype("float32")


def model_of(case, base):
    inputs = keras.Input((STEPS, 1))
    x = keras.layers.Masking(0.0)(inputs) if case.masks else inputs
    x = Adds()(x) if case.adds else x
    outputs = [
        ones_dense(
            1,
            name=name,
            kernel_initializer=keras.initializers.Constant(float(kernel)),
            kernel_regularizer=keras.regularizers.L2(kernel_rate)
            if kernel_rate
            else None,
            activity_regularizer=keras.regularizers.L2(activity_rate)
            if activity_rate
            else None,
        )(x)
        for name, kernel, kernel_rate, activity_rate in zip(
            case.names,
            kernels_of(case),
            case.kernel_rates,
            case.activity_rates,
            strict=True,
        )
    ]
    return base(inputs, case.packed(outputs))


def oracle(case, data):
    """What `fit` logs of an epoch, by the definitions, in float64."""
    x = data.x.astype("float64")
    starts = range(0, SAMPLES, case.batch_size)
    batches = [slice(s, min(s + case.batch_size, SAMPLES)) for s in starts]
    sums = {}
    for batch in batches:
        size = batch.stop - batch.start
        for key, value in of_batch(case, data, x, batch).items():
            sums[key] = sums.get(key, 0.0) + size * value
    return {key: value / SAMPLES for key, value in sums.items()}


def of_batch(case, data, x, batch):
    x = x[batch]
    mask = (x[..., 0] != 0) if case.masks else np.ones(x.shape[:2], bool)
    kinds = {"compiled": 0.0, "regularization": 0.0, "activity": 0.0}
    values = {}
    for index, (name, kernel) in enumerate(
        zip(case.names, kernels_of(case).astype("float64"), strict=True)
    ):
        y, weight = data.y[index][batch], data.weights[index]
        weight = np.ones(SAMPLES) if weight is None else weight
        weight = weight[batch].astype("float64")[:, None]
        output = 0.0
        for loss in case.losses[index]:
            steps = weight * ORACLES[loss](y.astype("float64"), kernel * x)
            value = np.sum(steps[mask]) / mask.sum() if mask.any() else 0.0
            values[f"{name}_{loss}_loss"] = value
            output += value
        values[f"{name}_loss"] = output
        kinds["compiled"] += case.loss_weights[index] * output
        kinds["regularization"] += case.kernel_rates[index] * kernel**2
        kinds["activity"] += (
            case.activity_rates[index] * np.sum((kernel * x) ** 2) / len(x)
        )
    if case.adds:
        kinds["added"] = np.mean(x**2)
    values |= {f"{kind}_loss": value for kind, value in kinds.items()}
    return values | {"loss": sum(kinds.values())}


def keys_of(case):
    """The keys that are logged, by the rules of the README."""
    kinds = ["compiled"]
    kinds += ["regularization"] if any(case.kernel_rates) else []
    kinds += ["activity"] if any(case.activity_rates) else []
    kinds += ["added"] if case.adds else []
    keys = {"loss"}
    if len(kinds) > 1:
        keys |= {f"{kind}_loss" for kind in kinds}
    several = len(case.losses) > 1
    for name, losses in zip(case.names, case.losses, strict=True):
        keys |= {f"{name}_loss"} if several else set()
        if len(losses) > 1:
            prefix = f"{name}_" if several else ""
            keys |= {f"{prefix}{loss}_loss" for loss in losses}
    return keys


def expected_logs(case, data):
    values = oracle(case, data)
    (only,) = case.names if len(case.names) == 1 else (None,)
    logs = {}
    for key in keys_of(case):
        logs[key] = values[key if key in values else f"{only}_{key}"]
    return logs


def check(case):
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(case.seed)
    train, val = Data.random(case, rng), Data.random(case, rng)
    logs = run(case, losskit.Model, train, val)
    expected = expected_logs(case, train) | {
        f"val_{key}": value for key, value in expected_logs(case, val).items()
    }
    assert set(logs) == set(expected)
    for key, value in expected.items():
        assert logs[key] == pytest.approx(value, rel=1e-5, abs=1e-6), key
    for prefix in ("", "val_"):
        kinds = [
            logs[f"{prefix}{kind}_loss"]
            for kind in ("compiled", "regularization", "activity", "added")
            if f"{prefix}{kind}_loss" in logs
        ]
        if kinds:
            total = logs[f"{prefix}loss"]
            assert total == pytest.approx(sum(kinds), rel=1e-5, abs=1e-7)
    if keras_is_right(case):
        plain = run(case, keras.Model, train, val)
        for key in ("loss", "val_loss"):
            assert logs[key] == pytest.approx(plain[key], rel=1e-5, abs=1e-6)


def run(case, base, train, val):
    model = model_of(case, base)
    single = case.structure == "single"
    losses = [loss[0] if len(loss) == 1 else list(loss) for loss in case.losses]
    weights = case.packed(case.loss_weights)
    model.compile(
        still(),
        case.packed(losses),
        [weights] * len(case.losses[0]) if single else weights,
        jit_compile=False,
    )
    val_data = (val.x, case.packed(val.y))
    if val.sample_weight(case, base) is not None:
        val_data += (val.sample_weight(case, base),)
    return fit_logs(
        model,
        train.x,
        case.packed(train.y),
        sample_weight=train.sample_weight(case, base),
        validation_data=val_data,
        batch_size=case.batch_size,
    )


def keras_is_right(case):
    """Where none of the measured defects of Keras 3.15 touches `loss`."""
    several_losses_of_one_output = any(len(loss) > 1 for loss in case.losses)
    loses_activity = BACKEND == "jax" and any(case.activity_rates)
    overwrites_weights = BACKEND == "torch" and case.masks
    return not (
        several_losses_of_one_output or loses_activity or overwrites_weights
    )


@hypothesis.settings(max_examples=8)
@hypothesis.given(cases())
def test_loss_is_the_sum_of_the_kinds(case):
    check(case)


@pytest.mark.slow  # the same, on as many models as the profile says
@pytest.mark.timeout(0)
@hypothesis.given(cases())
def test_loss_is_the_sum_of_the_kinds_for_many(case):
    check(case)
