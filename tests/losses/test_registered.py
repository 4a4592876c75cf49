"""Losses that are named by what they are registered as, and pickled."""

import copy
import pickle

import keras
import numpy as np
import pytest
from keras import ops
from support.models import passing
from support.models import still

import keras_losskit as losskit
from keras_losskit import losses
from keras_losskit import reductions
from keras_losskit import schedules

Y_TRUE, Y_PRED = np.zeros((2, 1), "float32"), np.array([[1.0], [3.0]])


@keras.saving.register_keras_serializable("MyPackage")
class Fourth(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return ops.mean((y_true - y_pred) ** 4, axis=-1)


@keras.saving.register_keras_serializable("MyPackage")
class Sixth(losses.Loss):
    def call(self, y_true, y_pred):
        return ops.mean((y_true - y_pred) ** 6, axis=-1)


@keras.saving.register_keras_serializable("MyPackage")
def tenth(y_true, y_pred):
    return ops.mean(ops.abs(y_true - y_pred), axis=-1) / 10


def plain(y_true, y_pred):
    return ops.mean(ops.abs(y_true - y_pred), axis=-1)


@pytest.mark.parametrize(
    ("name", "value"),
    # errors 1 and 3: (1 + 81) / 2, (1 + 729) / 2, (1 + 3) / 20
    [("Fourth", 41.0), ("Sixth", 365.0), ("tenth", 0.2)],
)
def test_a_registered_name_stands_for_its_loss(name, value):
    loss = losses.get(f"MyPackage>{name}")
    assert float(loss(Y_TRUE, Y_PRED)) == pytest.approx(value)
    assert repr(2 * losses.get("mse") + loss) == f"2 * mse + {loss.name}"
    assert losses.has_default_name(loss)


@pytest.mark.parametrize("name", ["Fourth", "tenth"])
def test_compiles_saves_and_loads_by_a_registered_name(name, tmp_path):
    model = passing()
    model.compile(still(), [f"MyPackage>{name}", "mse"])
    logs = model.fit(Y_PRED, Y_TRUE, verbose=0).history
    own = 41.0 if name == "Fourth" else 0.2
    assert logs[f"{name.lower()}_loss"] == pytest.approx([own])
    # squares 1 and 9
    assert logs["loss"] == pytest.approx([own + 5.0])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.evaluate(Y_PRED, Y_TRUE, verbose=0) == pytest.approx(
        model.evaluate(Y_PRED, Y_TRUE, verbose=0)
    )


def test_a_name_in_a_scope_comes_first():
    with keras.saving.custom_object_scope({"mse": plain, "mine": Fourth}):
        assert float(losses.get("mse")(Y_TRUE, Y_PRED)) == 2.0
        assert float(losses.get("mine")(Y_TRUE, Y_PRED)) == 41.0
        container = losskit.LossesContainer("mine")
        assert float(container(Y_TRUE, Y_PRED)) == 41.0
    assert float(losses.get("mse")(Y_TRUE, Y_PRED)) == 5.0


@pytest.mark.parametrize("name", ["MyPackage>Typo", "MyPackage"])
def test_a_name_that_is_not_registered_is_refused(name):
    with pytest.raises(ValueError, match=name):
        losses.get(name)


MAKE = {
    "name": lambda: losses.get("mse"),
    "settings": lambda: losses.Huber(
        delta=3.0,
        reduction=reductions.TopK(k=1),
        weight=schedules.Linear(0.5, 1.0, epochs=2),
    ),
    "variable": lambda: losses.Huber(weight=keras.Variable(2.0, name="w")),
    "function": lambda: losses.get(plain),
    "sum": lambda: 0.5 * losses.Huber(name="h") + losses.get(plain),
    "masked": lambda: losses.Masked(losses.get(plain), -1),
    "own": Sixth,
}


@pytest.mark.parametrize("how", ["pickle", "deepcopy", "copy"])
@pytest.mark.parametrize("name", MAKE)
def test_a_loss_is_pickled_and_copied_as_it_is(name, how):
    loss = MAKE[name]()
    copied = {
        "pickle": lambda x: pickle.loads(pickle.dumps(x)),
        "deepcopy": copy.deepcopy,
        "copy": copy.copy,
    }[how](loss)
    assert type(copied) is type(loss)
    assert copied is not loss
    assert losses.has_default_name(copied) == losses.has_default_name(loss)
    assert repr(copied) == repr(loss) or name == "variable"
    assert float(copied(Y_TRUE, Y_PRED)) == float(loss(Y_TRUE, Y_PRED))
    if name == "variable" and how != "copy":
        loss.weight.assign(7.0)
        assert float(copied.weight) == 2.0
