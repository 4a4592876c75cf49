"""Models, their losses and the state of both survive a `.keras` file."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops
from support.models import fit_logs

import keras_losskit as losskit

rng = np.random.default_rng(0)
X = rng.normal(size=(40, 4)).astype("float32")
Y = rng.normal(size=(40, 2)).astype("float32")


@keras.saving.register_keras_serializable("tests")
class Subclassed(keras.Model):
    def __init__(self, units=4, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.hidden = layers.Dense(units, activity_regularizer="l2")
        self.drop = layers.Dropout(0.3, seed=3)
        self.out = layers.Dense(2, kernel_regularizer="l2")

    def call(self, x, training=False):
        hidden = self.drop(self.hidden(x), training=training)
        self.add_loss(0.1 * ops.mean(hidden**2))
        return self.out(hidden)

    def doubled(self, x):
        return 2 * self(x)

    def get_config(self):
        return {"units": self.units}


def subclassed():
    model = Subclassed()
    model(X[:2])
    return model


def functional():
    inputs = keras.Input((4,))
    hidden = layers.Dense(
        4, kernel_regularizer="l2", activity_regularizer="l1"
    )(inputs)
    hidden = layers.Dropout(0.2, seed=1)(hidden)
    return keras.Model(inputs, layers.Dense(2)(hidden))


def sequential():
    return keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(4, kernel_regularizer="l2"),
            layers.Dropout(0.4, seed=3),
            layers.Dense(2),
        ]
    )


BUILDERS = [subclassed, functional, sequential]


def fit(model, epochs=2):
    return model.fit(
        X, Y, batch_size=16, epochs=epochs, verbose=0, shuffle=False
    ).history


@pytest.mark.parametrize("build", BUILDERS)
def test_training_goes_on_as_if_it_had_not_stopped(build, tmp_path):
    model = losskit.wrap(build())
    model.compile(
        keras.optimizers.Adam(0.01),
        loss=["mse", "mae"],
        loss_weights=[1.0, 0.5],
        metrics=["mae"],
    )
    fit(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    expected, received = fit(model), fit(loaded)
    # dropout too: the seed's state is in the file
    assert set(received) == set(expected)
    for key, values in expected.items():
        np.testing.assert_allclose(received[key], values, rtol=1e-5)


@pytest.mark.parametrize("build", BUILDERS)
def test_wrap_leaves_the_given_model_as_it_is(build):
    plain = build()
    plain.compile("sgd", "mse")
    variables = [v.path for v in plain.variables]
    wrapped = losskit.wrap(plain)
    assert not wrapped.compiled
    assert plain.compiled
    assert plain.loss == "mse"
    assert type(plain).__module__.split(".")[0] != "keras_losskit"
    assert [v.path for v in plain.variables] == variables
    wrapped.compile("sgd", "mse")
    before = plain.get_weights()[0].copy()
    fit(wrapped, epochs=1)
    # one set of weights: what one model learns, the other knows
    assert not np.allclose(plain.get_weights()[0], before)
    np.testing.assert_array_equal(
        plain.get_weights()[0], wrapped.get_weights()[0]
    )


@pytest.mark.parametrize("build", BUILDERS)
def test_unwrap_gives_back_the_class(build, tmp_path):
    plain = build()
    unwrapped = losskit.unwrap(losskit.wrap(plain))
    assert type(unwrapped) is type(plain)
    assert unwrapped.layers == plain.layers
    unwrapped.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded) is type(plain)
    np.testing.assert_allclose(
        loaded.predict(X, verbose=0), plain.predict(X, verbose=0), rtol=1e-5
    )


def test_wrapped_keeps_its_own_methods():
    plain = subclassed()
    wrapped = losskit.wrap(plain)
    assert isinstance(wrapped, Subclassed)
    np.testing.assert_allclose(
        ops.convert_to_numpy(wrapped.doubled(X[:3])),
        2 * ops.convert_to_numpy(plain(X[:3])),
        rtol=1e-6,
    )


def test_unwrap_refuses_a_class_that_needs_this_package():
    class Mine(losskit.Model):
        def call(self, x):
            return x

    with pytest.raises(TypeError, match="wrap the instance"):
        losskit.unwrap(Mine())


def test_a_schedule_goes_on_where_it_was(tmp_path):
    model = losskit.wrap(sequential())
    ramp = losskit.schedules.Linear(0.0, 1.0, epochs=10)
    model.compile(
        keras.optimizers.SGD(0.0),
        loss=losskit.LossesContainer("mse", loss_weights=ramp),
    )
    assert fit(model, epochs=2)["mse_weight"] == pytest.approx([0.0, 0.1])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert fit(loaded, epochs=2)["mse_weight"] == pytest.approx([0.2, 0.3])


@pytest.mark.parametrize("trained", [False, True])
def test_variables_among_the_weights_come_with_the_weights(tmp_path, trained):
    x, y = np.ones((4, 1), "float32"), np.zeros((4, 1), "float32")

    def compiled_with(*values):
        given, part, kind = (keras.Variable(v, name="w") for v in values)
        model = losskit.Sequential(
            [
                keras.Input((1,)),
                layers.Dense(
                    1, kernel_initializer="ones", kernel_regularizer="l1"
                ),
            ]
        )
        loss = losskit.losses.MeanSquaredError(name="mse")
        other = losskit.losses.MeanAbsoluteError(name="mae", weight=part)
        model.compile(
            keras.optimizers.SGD(0.0),
            losskit.LossesContainer(
                [loss, other],
                # One that is used twice is two after loading.
                [given, given],
                regularization=losskit.Penalty(weight=kind),
            ),
        )
        return model

    model = compiled_with(2.0, 3.0, 50.0)
    expected = fit_logs(model, x, y)
    assert expected["loss"] == pytest.approx(2.0 + 6.0 + 0.5)
    model.save_weights(tmp_path / "of.weights.h5")
    other = compiled_with(1.0, 1.0, 1.0)
    if trained:
        fit_logs(other, x, y)
    other.load_weights(tmp_path / "of.weights.h5")
    assert fit_logs(other, x, y) == expected
    # A file that has none leaves them.
    functional().save_weights(tmp_path / "plain.weights.h5")
    kept = losskit.wrap(functional())
    weight = keras.Variable(5.0)
    kept.compile("sgd", losskit.LossesContainer("mse", weight))
    kept.load_weights(tmp_path / "plain.weights.h5")
    assert float(weight.numpy()) == 5.0


def test_weights_of_a_plain_model_load_into_a_compiled_one(tmp_path):
    plain = functional()
    plain.save_weights(tmp_path / "plain.weights.h5")
    model = losskit.wrap(functional())
    model.compile("sgd", "mse")
    model.load_weights(tmp_path / "plain.weights.h5")
    for ours, theirs in zip(
        model.get_weights(), plain.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_weights_load_into_a_model_that_has_trained(tmp_path):
    model = losskit.Sequential([keras.Input((1,)), layers.Dense(1)])
    model.compile("sgd", loss=["mse"])
    x = np.ones((4, 1), "float32")
    model.fit(x, 2 * x, verbose=0)
    model.save_weights(tmp_path / "of.weights.h5")
    expected = model.get_weights()
    model.fit(x, 2 * x, verbose=0)
    assert model.compiled_loss.metrics
    model.load_weights(tmp_path / "of.weights.h5")
    for value, other in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(value, other)


def test_a_lambda_trains_and_saving_says_what_to_register(tmp_path):
    model = losskit.wrap(sequential())
    model.compile("sgd", loss=lambda a, b: ops.mean((a - b) ** 2, axis=-1))
    assert np.isfinite(fit(model, epochs=1)["loss"]).all()
    with pytest.warns(UserWarning, match="register"):
        model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.compiled_loss is None
    np.testing.assert_array_equal(
        loaded.get_weights()[0], model.get_weights()[0]
    )


def test_five_losses_three_outputs_deep_come_back_with_the_file(tmp_path):
    losses = losskit.losses
    composite = (
        0.4 * losses.CategoricalCrossentropy(from_logits=True, name="ce")
        + losses.CategoricalFocalCrossentropy(from_logits=True, gamma=1.5)
        + 0.5 * losses.Dice(from_logits=True)
        + losses.Poly1(epsilon=2.0, from_logits=True)
        + 0.1
        * losses.CategoricalCrossentropy(
            from_logits=True,
            label_smoothing=0.2,
            name="smooth",
            reduction=losskit.reductions.TopK(k=3),
        )
    )
    inputs = keras.Input((4,))
    outputs = {
        "image": {
            "parts": {
                "mask": keras.layers.Dense(3, name="mask")(inputs),
                "edge": keras.layers.Dense(1, name="edge")(inputs),
            }
        },
        "score": keras.layers.Dense(1, name="score")(inputs),
    }
    model = losskit.Model(inputs, outputs)
    model.compile(
        "adam",
        {
            "image": {"parts": {"mask": composite, "edge": "mse"}},
            "score": "mae",
        },
        loss_weights={"score": 0.25},
    )
    rng = np.random.default_rng(0)
    x = rng.normal(size=(10, 4)).astype("float32")
    y = {
        "image": {
            "parts": {
                "mask": np.eye(3, dtype="float32")[rng.integers(0, 3, 10)],
                "edge": rng.normal(size=(10, 1)).astype("float32"),
            }
        },
        "score": rng.normal(size=(10, 1)).astype("float32"),
    }
    model.fit(x, y, batch_size=4, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert repr(loaded.compiled_loss) == repr(model.compiled_loss)
    want = model.evaluate(x, y, batch_size=4, verbose=0, return_dict=True)
    got = loaded.evaluate(x, y, batch_size=4, verbose=0, return_dict=True)
    assert got == pytest.approx(want, rel=1e-6)
    composed = got.pop("image/parts/mask_loss")
    parts = [key for key in got if "/mask_" in key]
    assert len(parts) == 5, got
    weights = dict(zip(("ce", "dice", "smooth"), (0.4, 0.5, 0.1), strict=True))
    total = sum(
        next((w for n, w in weights.items() if f"_{n}_" in key), 1.0) * got[key]
        for key in parts
    )
    assert composed == pytest.approx(total, rel=1e-5)
    rest = got["image/parts/edge_loss"] + 0.25 * got["score_loss"]
    assert got["loss"] == pytest.approx(total + rest, rel=1e-5)


def test_a_container_comes_back_whole():
    container = losskit.LossesContainer(
        {"a": ["mse", keras.losses.Huber(delta=3.0)], "b": None},
        loss_weights={"a": [1.0, losskit.schedules.Linear(0.0, 1.0, steps=5)]},
        regularization=losskit.Penalty(
            0.5, reduction="mean", groups={"enc": ("enc/.*", 0.1)}
        ),
        activity=None,
        log="all",
    )
    config = keras.saving.serialize_keras_object(container)
    again = keras.saving.deserialize_keras_object(config)
    assert repr(again) == repr(container)
    assert keras.saving.serialize_keras_object(again) == config
    # errors 0 and 10 | mse 50, huber (0 + 3 * 10 - 4.5) / 2 = 12.75
    y_true = {"a": np.array([[0.0], [10.0]]), "b": np.zeros((2, 1))}
    y_pred = {"a": np.array([[0.0], [0.0]]), "b": np.zeros((2, 1))}
    terms = again.compute(y_true, y_pred)
    assert {n: float(v) for n, v in terms.as_dict().items()} == pytest.approx(
        {"mse": 50.0, "huber_loss": 12.75}
    )


def test_a_config_of_a_later_version_is_refused():
    config = losskit.LossesContainer("mse").get_config()
    config["version"] = 99
    with pytest.raises(ValueError, match="version=99"):
        losskit.LossesContainer.from_config(config)


@keras.saving.register_keras_serializable("tests")
class CompilesItsWay(losskit.Model):
    def compile(self, optimizer, own_loss):
        super().compile(optimizer, own_loss)

    def call(self, x):
        return 2 * x


def test_a_custom_compile_is_not_called_in_loading_as_in_keras(tmp_path):
    model = CompilesItsWay()
    model.compile("sgd", "mse")
    model.predict(X, verbose=0)
    model.save(tmp_path / "model.keras")
    with pytest.warns(UserWarning, match="`compile\\(\\)` method is custom"):
        loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.compiled_loss is None
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), 2 * X)
