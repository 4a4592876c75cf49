"""Files say whose state they hold, and the state of another is refused."""

import itertools
import pickle

import h5py
import keras
import numpy as np
import pytest
from support.results import record
from support.weightings import OF_TERMS

import keras_losskit as losskit
from keras_losskit import weighting

X = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
Y = {"a": X[:, :1], "b": 3 * X[:, 1:2]}
# From, to, and what tells them apart in a file of 0.1.0, if anything does.
OTHERS = [
    ("SoftAdapt", "Uncertainty", "expected 1 variables"),
    ("ReLoBRaLo", "DynamicWeightAverage", "could not be loaded"),
    ("Uncertainty", "LearningRateAnnealing", None),
    ("RandomLossWeighting", "PCGrad", None),
]
METHODS = sorted(set(OF_TERMS) - {"Weighting", "GradientWeighting"})
SEEDED = {"PCGrad", "RandomLossWeighting", "ReLoBRaLo"}
KEY = "compiled_loss/weighting/vars/class"


def trained(name, seed=1):
    """A model of three terms with a weighting, after two steps."""
    model = untrained(name, seed)
    model.fit(X, Y, batch_size=4, verbose=0)
    return model


def untrained(name, seed=1, seeded=False):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((3,))
    hidden = keras.layers.Dense(3, name="hidden")(inputs)
    outputs = {n: keras.layers.Dense(1, name=n)(hidden) for n in "ab"}
    model = losskit.Model(inputs, outputs)
    arguments = {"seed": 3} if seeded and name in SEEDED else {}
    loss = losskit.LossesContainer(
        {"a": ["mse", "mae"], "b": "mae"},
        weighting=getattr(weighting, name)(**arguments),
    )
    model.compile(keras.optimizers.Adam(0.01), loss, jit_compile=False)
    return model


def state_of(model):
    variables = [
        *model.variables,
        *model.optimizer.variables,
        *model.compiled_loss.variables,
    ]
    return [variable.numpy().copy() for variable in variables]


def as_of_0_1_0(path):
    """The file without the name of the weighting, as 0.1.0 wrote it."""
    with h5py.File(path, "a") as file:
        del file[KEY]
    return path


@pytest.mark.parametrize("source, target, _", OTHERS)
def test_the_state_of_another_is_refused_by_name(source, target, _, tmp_path):
    path = tmp_path / "a.weights.h5"
    trained(source).save_weights(path)
    for model in (trained(target, seed=2), untrained(target, seed=2)):
        model.optimizer.build(model.trainable_variables)
        before = state_of(model)
        with pytest.raises(ValueError, match=f"of {target}.*{source}"):
            model.load_weights(path)
        after = state_of(model)
        for value, other in zip(before, after, strict=True):
            np.testing.assert_array_equal(value, other)
    # And what a file says then is not held against the next one.
    trained(target).save_weights(tmp_path / "b.weights.h5")
    model.load_weights(tmp_path / "b.weights.h5")


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_every_pair_of_weightings_is_refused_by_name(tmp_path):
    models = {name: trained(name) for name in METHODS}
    for name, model in models.items():
        model.save_weights(tmp_path / f"{name}.weights.h5")
    pairs = list(itertools.permutations(METHODS, 2))
    for source, target in pairs:
        model = models[target]
        before = state_of(model)
        with pytest.raises(ValueError, match=f"of {target}.*{source}"):
            model.load_weights(tmp_path / f"{source}.weights.h5")
        for value, other in zip(before, state_of(model), strict=True):
            np.testing.assert_array_equal(value, other)
    # And each still takes its own.
    for name, model in models.items():
        model.load_weights(tmp_path / f"{name}.weights.h5")
    facts = {"weightings": len(models), "ordered pairs refused": len(pairs)}
    record("weighting-pairs", "Files with the state of another", facts)


@pytest.mark.nightly("jax", "tensorflow")
@pytest.mark.parametrize("source, target, message", OTHERS)
def test_a_file_of_0_1_0_does_not_say(source, target, message, tmp_path):
    path = tmp_path / "a.weights.h5"
    saved = trained(source)
    saved.save_weights(path)
    as_of_0_1_0(path)
    same, other = trained(source, seed=2), trained(target, seed=2)
    same.load_weights(path)
    for value, expected in zip(state_of(same), state_of(saved), strict=True):
        np.testing.assert_array_equal(value, expected)
    if message is None:
        other.load_weights(path)
        return
    with pytest.raises(ValueError, match=message):
        other.load_weights(path)


def test_a_whole_model_is_a_file_of_weights_too(tmp_path):
    path = tmp_path / "a.keras"
    saved = trained("ReLoBRaLo")
    saved.save(path)
    with pytest.raises(ValueError, match="of DynamicWeightAverage.*ReLoBRaLo"):
        trained("DynamicWeightAverage").load_weights(path)
    again = keras.saving.load_model(path)
    for value, expected in zip(state_of(again), state_of(saved), strict=True):
        np.testing.assert_array_equal(value, expected)


def reloaded(model, path):
    model.save(path)
    return keras.saving.load_model(path)


def pickled(model, path):
    del path
    return pickle.loads(pickle.dumps(model))


@pytest.mark.nightly("tensorflow")
@pytest.mark.parametrize(
    "way",
    [
        reloaded,
        pytest.param(pickled, marks=pytest.mark.nightly("jax", "tensorflow")),
    ],
)
@pytest.mark.parametrize("name", METHODS)
def test_a_file_from_before_training_trains_as_the_original(
    name, way, tmp_path
):
    model = untrained(name, seeded=True)
    again = way(model, tmp_path / "a.keras")
    for each in (model, again):
        each.fit(X, Y, batch_size=4, shuffle=False, verbose=0)
    assert len(state_of(again)) == len(state_of(model))
    for value, expected in zip(state_of(again), state_of(model), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["Uncertainty", "IMTLLoss"])
def test_an_optimizer_of_another_loss_is_refused(name):
    model = untrained("Equal")
    model.fit(X, Y, verbose=0)
    before = model.get_weights()
    method = getattr(weighting, name)()
    loss = losskit.LossesContainer({"a": "mse"}, weighting=method)
    model.compile(model.optimizer, loss)
    with pytest.raises(ValueError, match="Give `compile` a new optimizer"):
        model.fit(X, Y, verbose=0)
    for value, expected in zip(model.get_weights(), before, strict=False):
        np.testing.assert_array_equal(value, expected)


def test_a_mismatch_is_skipped_where_that_is_asked_for(tmp_path):
    path = tmp_path / "a.weights.h5"
    saved, model = trained("Uncertainty"), trained("IMTLLoss", seed=2)
    saved.save_weights(path)
    before = model.compiled_loss.weighting.log_scale.numpy().copy()
    with pytest.warns(UserWarning, match="of IMTLLoss.*Uncertainty"):
        model.load_weights(path, skip_mismatch=True)
    method = model.compiled_loss.weighting
    np.testing.assert_array_equal(method.log_scale.numpy(), before)
    kernels = [m.get_layer("hidden").kernel.numpy() for m in (model, saved)]
    np.testing.assert_array_equal(*kernels)


def test_keras_own_function_says_so_as_well(tmp_path):
    path = tmp_path / "a.weights.h5"
    trained("Uncertainty").save_weights(path)
    model = trained("IMTLLoss", seed=2)
    # It reads what it can, and forgets the error of a loss.
    with pytest.warns(UserWarning, match="of IMTLLoss.*Uncertainty"):
        keras.saving.load_weights(model, path)


def test_a_model_without_a_weighting_takes_any_file(tmp_path):
    path = tmp_path / "a.weights.h5"
    saved = trained("Uncertainty")
    saved.save_weights(path)
    model = keras.Model(saved.inputs, saved.outputs)
    model.load_weights(path)
    model = losskit.wrap(model)
    model.compile("sgd", "mse")
    model.load_weights(path)
