"""Files and configs that are broken, or that would run code, are refused."""

import copy
import json
import zipfile

import keras
import numpy as np
import pytest
from keras import layers

import keras_losskit as losskit

X = np.ones((4, 2), "float32")
Y = np.zeros((4, 1), "float32")


def container():
    mse = losskit.losses.MeanSquaredError(name="mse")
    return losskit.LossesContainer(
        0.5 * mse + 0.5 * losskit.losses.Huber(name="huber"),
        loss_weights=losskit.schedules.Linear(0.0, 1.0, steps=5),
        weighting=losskit.weighting.Uncertainty(),
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A `.keras` file of a trained model with all that a container holds."""
    inputs = keras.Input((2,))
    model = losskit.Model(
        inputs, layers.Dense(1, kernel_regularizer="l2")(inputs)
    )
    model.compile("sgd", container())
    model.fit(X, Y, verbose=0)
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    model.save(path)
    return path


def rewritten(path, target, change):
    """A copy of an archive whose members went through `change`."""
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(target, "w") as new:
        for name in source.namelist():
            content = change(name, source.read(name))
            if content is not None:
                new.writestr(name, content)
    return target


# ----------------------------------------------------------------- broken files


@pytest.mark.parametrize("part", [0.0, 0.3, 0.9, 0.999])
def test_a_file_that_was_cut_off_is_refused(saved, tmp_path, part):
    path = tmp_path / "cut.keras"
    content = saved.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises((ValueError, OSError, zipfile.BadZipFile)):
        keras.saving.load_model(path)


@pytest.mark.parametrize("member", ["config.json", "model.weights.h5"])
@pytest.mark.parametrize(
    ("instead", "errors"),
    [
        (None, (ValueError, KeyError, OSError)),
        (b"\x00noise" * 9, (ValueError, OSError)),
    ],
    ids=["missing", "overwritten"],
)
def test_a_file_with_a_broken_member_is_refused(
    saved, tmp_path, member, instead, errors
):
    path = rewritten(
        saved,
        tmp_path / "broken.keras",
        lambda name, content: instead if name == member else content,
    )
    with pytest.raises(errors):
        keras.saving.load_model(path)


def with_compile_config(saved, target, change):
    """A copy of the file whose compile config went through `change`."""

    def of_member(name, content):
        if name != "config.json":
            return content
        config = json.loads(content)
        change(config["compile_config"]["loss"]["config"])
        return json.dumps(config)

    return rewritten(saved, target, of_member)


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 99},
        {"log": "everything"},
        {"loss_weights": "heavy"},
        {"regularization": "l2"},
        {"losses": "no_such_loss"},
        {"no_such_argument": 1},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_file_with_an_impossible_container_is_refused(
    saved, tmp_path, changes
):
    path = with_compile_config(
        saved, tmp_path / "bad.keras", lambda config: config.update(changes)
    )
    with pytest.raises((ValueError, TypeError)):
        model = keras.saving.load_model(path)
        model.train_on_batch(X, Y)


# --------------------------------------------------------------- broken configs

CONFIGS = [
    container(),
    losskit.Penalty(0.5, groups={"enc": ("enc/.*", 0.1)}),
    losskit.schedules.Linear(0.0, 1.0, steps=5),
    losskit.weighting.GradNorm(alpha=1.5),
    losskit.reductions.TopK(fraction=0.5),
    losskit.losses.Huber(delta=2.0),
    losskit.extra.FGSM(epsilon=0.1),
]
JUNK = [
    *(None, True, 0, -3, 99, float("nan"), "", "ab"),
    *([], [1], [1, 2], {}, {"": 0}, {"a": 1}),
]


@pytest.mark.parametrize("original", CONFIGS, ids=lambda x: type(x).__name__)
def test_a_config_with_junk_is_refused_or_kept(original):
    whole = keras.saving.serialize_keras_object(original)
    for key in [*whole["config"], "no_such_argument"]:
        for junk in JUNK:
            config = copy.deepcopy(whole)
            config["config"][key] = copy.deepcopy(junk)
            try:
                revived = keras.saving.deserialize_keras_object(config)
                # A loss is resolved when there are outputs, or to be saved.
                again = keras.saving.serialize_keras_object(revived)["config"]
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                assert str(error), (key, junk)
            else:
                # What is taken is not dropped in silence.
                assert key in again, (key, junk)


# -------------------------------------------------------------------- safe mode


def model_with(loss):
    inputs = keras.Input((2,))
    model = losskit.Model(inputs, layers.Dense(1)(inputs))
    model.compile("sgd", loss)
    model.train_on_batch(X, Y)
    return model


def lambda_config():
    """The config of a lambda that would run on loading."""
    layer = layers.Lambda(lambda y_true, y_pred: y_pred - y_true)
    return layer.get_config()["function"]


def put(config, path, value):
    *parents, last = path
    for key in parents:
        config = config[key]
    config[last] = value


@pytest.mark.parametrize(
    "path",
    [("losses",), ("total_loss_mean",), ("weighting",), ("extra_terms", "a")],
    ids=lambda path: path[0],
)
def test_safe_mode_refuses_a_lambda_anywhere(saved, tmp_path, path):
    path = with_compile_config(
        saved,
        tmp_path / "lambda.keras",
        lambda config: put(config, path, lambda_config()),
    )
    with pytest.raises(ValueError, match="safe_mode|unsafe"):
        keras.saving.load_model(path)


def test_safe_mode_refuses_a_lambda_layer_of_a_wrapped_model(tmp_path):
    inputs = keras.Input((2,))
    outputs = layers.Lambda(lambda x: 2 * x, output_shape=(2,))(inputs)
    model = losskit.wrap(keras.Model(inputs, outputs))
    model.save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="safe_mode|unsafe"):
        keras.saving.load_model(tmp_path / "model.keras")


def test_safe_mode_refuses_a_lambda_layer_of_a_teacher(tmp_path):
    inputs = keras.Input((2,))
    teacher = keras.Model(
        inputs,
        layers.Lambda(lambda x: x[:, :1], output_shape=(1,))(inputs),
    )
    term = losskit.extra.FromTeacher(teacher, "mse", weight=0.5)
    model = model_with(
        losskit.LossesContainer("mse", extra_terms={"taught": term})
    )
    model.save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="safe_mode|unsafe"):
        keras.saving.load_model(tmp_path / "model.keras")
