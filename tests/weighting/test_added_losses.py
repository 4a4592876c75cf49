"""Weightings over what layers add by name: as over extra terms of that value.

What extra terms get is held to formulas in the other files.
"""

import keras
import numpy as np
import pytest
from keras import ops

import keras_losskit as losskit
from keras_losskit import extra
from keras_losskit import layers
from keras_losskit import weighting

BACKEND = keras.config.backend()
X = np.random.default_rng(0).normal(size=(10, 3)).astype("float32")
Y = np.random.default_rng(1).normal(size=(10, 1)).astype("float32")


@keras.saving.register_keras_serializable("tests")
def size(x):
    return ops.mean(x**2, axis=-1)


def network(adds, kl_weight=0.5, **penalties):
    """Two layers whose outputs are to be small, if `adds` by `add_loss`."""
    keras.utils.set_random_seed(3)
    x = inputs = keras.Input((3,))
    for name in ("first", "second"):
        x = keras.layers.Dense(3, "tanh", name=name, **penalties)(x)
        if adds:
            added = layers.AddLoss(size, name=f"of_{name}")
            x = Named(name=f"kl_of_{name}", weight=kl_weight)(added(x))
    return losskit.Model(inputs, keras.layers.Dense(1, name="out")(x))


class Named(layers.Layer):
    """Adds the size of its input under a name that several layers share."""

    def __init__(self, weight, **arguments):
        super().__init__(**arguments)
        self.weight = weight

    def call(self, x):
        self.add_loss(size(x), name="kl", weight=self.weight)
        return x


class BothSizes(extra.ExtraTerm):
    """What the two layers add under the name they share."""

    def value(self, context):
        found = [
            size(output)
            for name in ("first", "second")
            for output in context.outputs_of(context.model.get_layer(name))
        ]
        return ops.mean(found[0]) + ops.mean(found[1])

    def kept_layers(self, model):
        return [model.get_layer("first"), model.get_layer("second")]


def compiled(method, adds, model=None, **arguments):
    model = network(adds) if model is None else model
    terms = {
        "of_first": extra.FromLayer("first", size),
        "kl": BothSizes(weight=0.5),
        "of_second": extra.FromLayer("second", size),
    }
    container = losskit.LossesContainer(
        ["mse", "mae"],
        extra_terms=None if adds else terms,
        weighting=method,
    )
    model.compile(keras.optimizers.SGD(0.1), container, **arguments)
    return model


def fit(model, epochs=3):
    return model.fit(
        X, Y, batch_size=4, epochs=epochs, shuffle=False, verbose=0
    ).history


METHODS = {
    "PCGrad": lambda **terms: weighting.PCGrad(seed=1, **terms),
    "MGDA": lambda **terms: weighting.MGDA(every=2, **terms),
    "GradNorm": lambda **terms: weighting.GradNorm(wrt="first/.*", **terms),
    "Uncertainty": lambda **terms: weighting.Uncertainty(**terms),
    "ReLoBRaLo": lambda **terms: weighting.ReLoBRaLo(seed=1, **terms),
}


@pytest.mark.nightly("jax", "tensorflow")
@pytest.mark.parametrize("method", METHODS)
def test_as_over_an_extra_term_of_the_same_value(method):
    make, terms = METHODS[method], ["mse", "kl", "of_second"]
    histories, weights = [], []
    for adds in (True, False):
        model = compiled(make(terms=terms), adds)
        histories.append(fit(model))
        weights.append(model.get_weights())
    added, extras = histories
    keys = {"mse_weight", "kl_weight", "of_second_weight"}
    assert keys <= set(added) and "of_first_weight" not in added
    assert set(added) == set(extras)
    for key in keys | {"loss", "kl_loss"}:
        np.testing.assert_allclose(
            added[key], extras[key], rtol=1e-3, err_msg=key
        )
    for ours, theirs in zip(*weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)


def test_the_weight_is_that_of_the_user_times_the_factor():
    # the factor of one term is exp(0) / 2 at first, and then learned
    model = compiled(weighting.Uncertainty(terms="kl"), adds=True)
    logs = {key: np.array(values) for key, values in fit(model, 1).items()}
    state = model.compiled_loss.weighting.log_variance.numpy()
    assert state.shape == (1,) and state[0] != 0.0
    first = model.evaluate(X, Y, verbose=0, return_dict=True)
    np.testing.assert_allclose(
        first["kl_weight"], 0.5 * np.exp(-state[0]) / 2, rtol=1e-5
    )
    np.testing.assert_allclose(
        first["added_loss"],
        first["of_first_loss"]
        + first["of_second_loss"]
        + first["kl_weight"] * first["kl_loss"],
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        logs["loss"],
        logs["compiled_loss"] + logs["added_loss"] + logs["weighting_loss"],
        rtol=1e-5,
    )


def test_without_terms_what_is_added_keeps_its_weight():
    model = compiled(weighting.PCGrad(), adds=True)
    assert "kl_weight" not in fit(model, 1)
    assert model.compiled_loss.built_losses.weighted_names() == ["mse", "mae"]


def test_compiled_to_one_program():
    jit = BACKEND != "torch"  # TorchInductor takes a minute
    values = []
    for arguments in ({"run_eagerly": True}, {"jit_compile": jit}):
        method = weighting.MGDA(terms=["mse", "kl"])
        values.append(fit(compiled(method, adds=True, **arguments)))
    np.testing.assert_allclose(
        values[0]["kl_weight"], values[1]["kl_weight"], rtol=1e-3
    )


@keras.saving.register_keras_serializable("tests")
class Kept(Named):
    """`Named` that can be saved."""

    def get_config(self):
        return {**super().get_config(), "weight": self.weight}


def test_goes_on_after_loading(tmp_path):
    inputs = keras.Input((3,))
    hidden = Kept(0.5, name="kl")(keras.layers.Dense(2, name="first")(inputs))
    model = losskit.Model(inputs, keras.layers.Dense(1)(hidden))
    method = weighting.ReLoBRaLo(terms=["mse", "kl"], seed=1)
    compiled(method, adds=True, model=model)
    fit(model, 2)
    model.save(tmp_path / "model.keras")
    expected = fit(model, 2)
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    history = fit(loaded, 2)
    for key in ("loss", "kl_weight"):
        np.testing.assert_allclose(history[key], expected[key], rtol=1e-4)


def test_in_a_report_of_gradients():
    model = compiled(weighting.MGDA(terms=["mse", "kl"]), adds=True)
    model.fit(X, Y, verbose=0)
    report = losskit.gradient_report(model, X, Y)
    assert set(report.names) > {"mse", "mae", "kl"}
    weights = dict(zip(report.names, report.weights, strict=True))
    assert weights["kl"] + weights["mse"] == pytest.approx(1.0, abs=1e-4)


def test_in_a_custom_loop():
    model = network(adds=True)
    container = losskit.LossesContainer(
        "mse", weighting=weighting.Uncertainty(terms=["mse", "kl"])
    )
    y_pred = model(X)
    with pytest.raises(ValueError, match=r"'kl'.*build\(y_true, y_pred, mod"):
        container.compute(Y, y_pred, regularization_losses=model.losses)
    container.build(Y, y_pred, model.losses)
    terms = container.compute(Y, y_pred, regularization_losses=model.losses)
    for term in terms.values():
        if term.label == "kl":  # exp(0) / 2 of the user's 0.5
            assert float(ops.convert_to_numpy(term.weight)) == 0.25


def test_a_name_of_no_term_is_refused_before_training():
    model = compiled(weighting.PCGrad(terms=["mse", "kll"]), adds=True)
    with pytest.raises(ValueError, match=r"'kll'.*'of_first', 'kl', 'of_sec"):
        fit(model)
    plain = losskit.LossesContainer(
        ["mse", "mae"],
        added=None,
        weighting=weighting.PCGrad(terms=["mse", "kl"]),
    )
    model.compile("sgd", plain)
    with pytest.raises(ValueError, match=r"'kl', which matches none"):
        fit(model)
