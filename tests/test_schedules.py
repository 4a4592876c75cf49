import math

import keras
import numpy as np
import pytest
from keras import ops
from support.frameworks import jitted

from keras_losskit import schedules


class Halving(keras.optimizers.schedules.LearningRateSchedule):
    """A user's own learning rate schedule, without a config."""

    def __call__(self, step):
        return 0.5 ** ops.cast(step, "float32")


def cyclical(t):
    """Cyclical(1, 3, n=20, cycles=3, ratio=0.5) in exact arithmetic."""
    if t >= 20:
        return 3.0
    tau = ((t * 3) % 20) / 20
    return 1.0 + 2.0 * min(tau / 0.5, 1.0)


# Constructor by unit, and the weight after t of 20 steps or epochs.
FORMULAS = {
    "linear": (
        lambda **n: schedules.Linear(1.0, 3.0, **n),
        lambda t: 1.0 + 2.0 * min(t / 20, 1.0),
    ),
    "cosine": (
        lambda **n: schedules.Cosine(1.0, 3.0, **n),
        lambda t: 1.0 + 2.0 * (1 - math.cos(math.pi * min(t / 20, 1))) / 2,
    ),
    "exponential": (
        lambda **n: schedules.Exponential(1.0, 3.0, **n),
        lambda t: 3.0 ** min(t / 20, 1.0),
    ),
    "cyclical": (
        lambda **n: schedules.Cyclical(1.0, 3.0, cycles=3, **n),
        cyclical,
    ),
}
TIMES = [0, 1, 5, 6, 7, 10, 13, 14, 19, 20, 21, 1000]


@pytest.mark.parametrize("unit", ["steps", "epochs"])
@pytest.mark.parametrize("name", FORMULAS)
def test_weight_follows_the_formula_at_every_time(name, unit):
    make, formula = FORMULAS[name]
    schedule = make(**{unit: 20})
    for t in TIMES:
        step, epoch = (t, 777) if unit == "steps" else (777, t)
        weight = schedule(step, epoch)
        assert keras.backend.standardize_dtype(weight.dtype) == "float32"
        assert tuple(weight.shape) == ()
        np.testing.assert_allclose(float(weight), formula(t), rtol=1e-6)


@pytest.mark.parametrize("name", FORMULAS)
def test_weight_moves_inside_a_compiled_function(name):
    make, formula = FORMULAS[name]
    schedule = make(steps=20)
    compiled = jitted(lambda step, epoch: schedule(step, epoch))
    for t in TIMES:
        weight = compiled(ops.array(t, "int32"), ops.array(3, "int32"))
        np.testing.assert_allclose(float(weight), formula(t), rtol=1e-6)


def test_every_cycle_starts_on_its_own_first_step():
    # A third of 99 steps is 33: t = 33 and 66 are starts, not ends.
    schedule = schedules.Cyclical(0.0, 1.0, steps=99, cycles=3)
    assert [float(schedule(t, 0)) for t in (0, 33, 66)] == [0.0, 0.0, 0.0]
    assert [float(schedule(t, 0)) for t in (32, 65, 98, 99)] == [1.0] * 4


def test_ends_are_exact():
    for make, _ in FORMULAS.values():
        assert float(make(epochs=20)(0, 0)) == 1.0
    assert float(schedules.Linear(0.1, 0.7, steps=3)(3, 0)) == np.float32(0.7)


@pytest.mark.parametrize("unit", ["steps", "epochs"])
def test_piecewise_changes_at_its_boundaries(unit):
    schedule = schedules.Piecewise([0.1, 0.2, 0.4], **{unit: [2, 5]})
    compiled = jitted(lambda step, epoch: schedule(step, epoch))
    expected = [0.1, 0.1, 0.2, 0.2, 0.2, 0.4, 0.4]
    for t, weight in enumerate(expected):
        step, epoch = (t, 9) if unit == "steps" else (9, t)
        assert float(schedule(step, epoch)) == np.float32(weight)
        t = [ops.array(n, "int32") for n in (step, epoch)]
        assert float(compiled(*t)) == np.float32(weight)


@pytest.mark.parametrize("by", ["step", "epoch"])
def test_learning_rate_schedule_is_read_by_step_or_epoch(by):
    schedule = schedules.FromLearningRateSchedule(Halving(), by=by)
    step, epoch = (3, 9) if by == "step" else (9, 3)
    assert float(schedule(step, epoch)) == 0.125
    compiled = jitted(lambda step, epoch: schedule(step, epoch))
    counts = [ops.array(n, "int32") for n in (step, epoch)]
    assert float(compiled(*counts)) == 0.125


EVERY_SCHEDULE = [
    *(make(steps=20) for make, _ in FORMULAS.values()),
    *(make(epochs=20) for make, _ in FORMULAS.values()),
    schedules.Cyclical(0.0, 2.0, epochs=6, cycles=2, ratio=0.25),
    schedules.Piecewise([1.0, 2.0], epochs=[3]),
    schedules.Piecewise([1.0, 2.0], steps=[3]),
    schedules.FromLearningRateSchedule(
        keras.optimizers.schedules.PolynomialDecay(0.5, 10, power=2.0),
        by="epoch",
    ),
]


@pytest.mark.parametrize("schedule", EVERY_SCHEDULE, ids=repr)
def test_config_gives_back_the_same_schedule(schedule):
    config = keras.saving.serialize_keras_object(schedule)
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is type(schedule)
    assert again.get_config() == schedule.get_config()
    for step, epoch in [(0, 0), (2, 5), (7, 2), (50, 50)]:
        assert float(again(step, epoch)) == float(schedule(step, epoch))


@pytest.mark.parametrize(
    "schedule",
    [s for s in EVERY_SCHEDULE if "Learning" not in repr(s)],
    ids=repr,
)
def test_repr_is_the_constructor(schedule):
    again = eval(repr(schedule), vars(schedules))
    assert again.get_config() == schedule.get_config()


def test_repr_of_a_learning_rate_schedule_shows_its_settings():
    decay = keras.optimizers.schedules.ExponentialDecay(0.5, 10, 0.9)
    text = repr(schedules.FromLearningRateSchedule(decay))
    assert text.startswith("FromLearningRateSchedule(ExponentialDecay(")
    assert "initial_learning_rate=0.5" in text
    # One without a config is still named.
    assert "Halving()" in repr(schedules.FromLearningRateSchedule(Halving()))


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: schedules.Linear(0, 1), ValueError, "either `steps` or"),
        (
            lambda: schedules.Linear(0, 1, steps=1, epochs=1),
            ValueError,
            "steps=1, epochs=1",
        ),
        (lambda: schedules.Linear("a", 1, steps=1), TypeError, "`start` of"),
        (lambda: schedules.Linear(True, 1, steps=1), TypeError, "`start` of"),
        (
            lambda: schedules.Linear(0, math.nan, steps=1),
            ValueError,
            "`end` of Linear to be a finite",
        ),
        (lambda: schedules.Cosine(0, 1, epochs=0), ValueError, "positive"),
        (lambda: schedules.Cosine(0, 1, steps=1.5), ValueError, "whole"),
        (
            lambda: schedules.Exponential(0, 1, steps=5),
            ValueError,
            "of one sign",
        ),
        (
            lambda: schedules.Exponential(-1, 1, steps=5),
            ValueError,
            "of one sign",
        ),
        (
            lambda: schedules.Cyclical(steps=5, ratio=0.0),
            ValueError,
            "`ratio` of Cyclical",
        ),
        (
            lambda: schedules.Piecewise([1, 2], steps=[1, 2]),
            ValueError,
            "one value more",
        ),
        (
            lambda: schedules.Piecewise([1, 2, 3], steps=[2, 2]),
            ValueError,
            "to rise",
        ),
        (
            lambda: schedules.FromLearningRateSchedule(0.1),
            TypeError,
            "LearningRateSchedule",
        ),
        (
            lambda: schedules.FromLearningRateSchedule(Halving(), by="batch"),
            ValueError,
            "one of 'step', 'epoch'",
        ),
    ],
)
def test_wrong_arguments_are_refused(make, error, message):
    with pytest.raises(error, match="Expected.*Received") as caught:
        make()
    assert message in str(caught.value)


def test_a_schedule_without_a_call_says_so():
    class Silent(schedules.Schedule):
        pass

    with pytest.raises(NotImplementedError, match="Silent to define"):
        Silent()(0, 0)
