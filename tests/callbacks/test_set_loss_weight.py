"""`SetLossWeight`: the weight that every step is computed with."""

import copy

import keras
import numpy as np
import pytest
from support.callback_models import compiled_model
from support.callback_models import fit
from support.models import still

import keras_losskit as losskit
from keras_losskit import schedules
from keras_losskit.callbacks import SetLossWeight
from keras_losskit.callbacks import TermHistory
from keras_losskit.callbacks.set_loss_weight import variables_of


def variable(value=0.5):
    return keras.Variable(value, name="beta", trainable=False)


@pytest.fixture(scope="module")
def compiled():
    return compiled_model(still(), variable())


@pytest.fixture
def model(compiled):
    """A model that learns nothing, whose output `b` is weighted."""
    compiled.optimizer.iterations.assign(0)
    return compiled


def weights_of(model, schedule, by="epoch", **fitting):
    """`b_weight` at every batch of three epochs."""
    terms = TermHistory(batches=True)
    fit(model, [SetLossWeight("beta", schedule, by=by), terms], **fitting)
    # a + weight * b = compiled: the step was computed with this weight
    for row in terms.batches:
        total = row["a_loss"] + row["b_weight"] * row["b_loss"]
        assert row["compiled_loss"] == pytest.approx(total, rel=1e-5)
    return [row["b_weight"] for row in terms.batches]


@pytest.mark.parametrize(
    ("schedule", "by", "expected"),
    [
        (lambda epoch: 10.0 + epoch, "epoch", [10, 10, 11, 11, 12, 12]),
        (lambda step: step, "step", [0, 1, 2, 3, 4, 5]),
        (lambda step: np.float64(step), "step", [0, 1, 2, 3, 4, 5]),
        (lambda step: keras.ops.ones(()), "step", [1] * 6),
        (
            schedules.Linear(0.0, 1.0, epochs=2),
            "epoch",
            [0, 0, 0.5, 0.5, 1, 1],
        ),
        (
            schedules.Linear(0.0, 1.0, steps=4),
            "step",
            [0, 0.25, 0.5, 0.75, 1, 1],
        ),
        # only looked at when an epoch begins
        (schedules.Linear(0.0, 1.0, steps=4), "epoch", [0, 0, 0.5, 0.5, 1, 1]),
        (
            keras.optimizers.schedules.ExponentialDecay(1.0, 1, 0.5),
            "step",
            [1, 0.5, 0.25, 0.125, 0.0625, 0.03125],
        ),
    ],
)
def test_the_step_is_computed_with_the_weight(model, schedule, by, expected):
    weights = weights_of(model, schedule, by)
    assert weights == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_steps_count_on_from_run_to_run(model):
    terms = TermHistory(batches=True)
    callback = SetLossWeight("beta", float, by="step")
    fit(model, [callback], epochs=2)
    fit(model, [callback, terms], epochs=1)
    assert [row["b_weight"] for row in terms.batches] == pytest.approx([4, 5])


@pytest.mark.parametrize("accumulation", [None, 2])
@pytest.mark.parametrize("scaled", [False, True])
def test_steps_are_batches_with_any_optimizer(accumulation, scaled):
    optimizer = keras.optimizers.SGD(
        0.0, gradient_accumulation_steps=accumulation
    )
    if scaled:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    model = compiled_model(optimizer, variable())
    # three batches in an epoch: the second begins amid an update
    weights = weights_of(model, float, by="step", batch_size=3, epochs=2)
    assert weights == pytest.approx([0, 1, 2, 3, 4, 5])


def test_a_loaded_models_variable_is_found_by_name(tmp_path):
    compiled_model(weight=variable()).save(tmp_path / "model.keras")
    model = keras.saving.load_model(tmp_path / "model.keras")
    callback = copy.deepcopy(SetLossWeight("beta", lambda epoch: 3.0 + epoch))
    history = fit(model, [callback], epochs=2).history
    assert history["b_weight"] == pytest.approx([3.0, 4.0])
    assert history["val_b_weight"] == pytest.approx([3.0, 4.0])


@keras.saving.register_keras_serializable("tests")
def doubled(epoch):
    return 2.0 * epoch


@pytest.mark.parametrize(
    "schedule", [doubled, schedules.Linear(0.0, 4.0, epochs=2)]
)
def test_config(model, schedule):
    callback = SetLossWeight(variable(), schedule)
    config = keras.saving.serialize_keras_object(callback)
    restored = keras.saving.deserialize_keras_object(config)
    assert restored.variable == "beta"
    history = fit(model, [restored]).history
    assert history["b_weight"] == pytest.approx([0.0, 2.0, 4.0])


def test_errors(model):
    with pytest.raises(TypeError, match="`variable`.*Received: 1.0"):
        SetLossWeight(1.0, doubled)
    with pytest.raises(TypeError, match="`schedule`.*Received: 2.0"):
        SetLossWeight(variable(), 2.0)
    with pytest.raises(ValueError, match="Received: 'batch'"):
        SetLossWeight(variable(), doubled, by="batch")
    with pytest.raises(ValueError, match=r"reads, among \['beta'\].*<Variable"):
        fit(model, [SetLossWeight(variable(), doubled)])
    with pytest.raises(TypeError, match="weight 'beta' to be a real number"):
        weights_of(model, lambda epoch: "1")
    with pytest.raises(ValueError, match="weight 'beta' to be a finite"):
        weights_of(model, lambda epoch: float("nan"))


def test_finds_the_variable_wherever_it_is_a_weight():
    inside, of_penalty = variable(), variable()
    losses = [0.5 * losskit.losses.MeanSquaredError(), "mae"]
    container = losskit.LossesContainer(
        {"a": [losses[0] * inside, losses[1]]},
        activity=losskit.Penalty(weight=of_penalty),
    )
    before = variables_of(container)
    assert [id(v) for v in before] == [id(inside), id(of_penalty)]
