"""`get`, `FunctionLoss`, names and configs."""

import functools
import inspect
import json

import keras
import numpy as np
import pytest
from keras import ops
from support.autodiff import value_and_gradient

import keras_losskit as losskit
from keras_losskit import losses
from keras_losskit.losses import _catalogue


def test_every_loss_of_keras_is_here():
    theirs = {
        name
        for name in dir(keras.losses)
        if not name.startswith("_")
        and name not in ("Loss", "get", "serialize", "deserialize")
    }
    assert theirs <= set(losses.__all__)
    for name in theirs:
        ours, keras_own = getattr(losses, name), getattr(keras.losses, name)
        if isinstance(keras_own, type):
            assert issubclass(ours, keras_own)
            assert ours is not keras_own
            assert _catalogue.FROM_KERAS[keras_own] is ours
        else:
            assert ours is keras_own
            assert _catalogue.BY_FUNCTION[keras_own]


def test_every_name_of_keras_is_known():
    from keras.src.losses import ALL_OBJECTS_DICT

    bases = {"Loss", "LossFunctionWrapper"}
    assert set(ALL_OBJECTS_DICT) - bases <= set(_catalogue.BY_NAME)
    for name in set(ALL_OBJECTS_DICT) - bases:
        keras_own = keras.losses.get(name)
        ours = losses.get(name)
        if isinstance(keras_own, keras.losses.Loss):
            assert isinstance(ours, type(keras_own))
            assert ours.name == keras_own.name
        else:
            assert ours is not keras_own
            assert _catalogue.BY_FUNCTION[keras_own] is type(ours)
            assert ours.name == name


#: Arguments that Keras has from 3.16 on, and this package on every version.
LATER_ARGUMENTS = {("sparse_categorical_crossentropy", "label_smoothing")}


@pytest.mark.parametrize(
    "name", sorted(set(_catalogue.KERAS_LOSSES) - _catalogue.LATER)
)
def test_signature_begins_as_keras(name):
    cls = _catalogue.KERAS_LOSSES[name]
    ours = inspect.signature(cls.__init__).parameters
    theirs = inspect.signature(getattr(keras.losses, cls.__name__)).parameters
    positional = [
        p
        for p in ours
        if ours[p].kind.name != "KEYWORD_ONLY"
        and (p in theirs or (name, p) not in LATER_ARGUMENTS)
    ]
    assert positional[1:] == list(theirs)
    for parameter in theirs:
        assert ours[parameter].default == theirs[parameter].default


#: A setting other than the default for every argument there is.
OTHER = {
    "delta": 3.0,
    "axis": 1,
    "from_logits": True,
    "label_smoothing": 0.2,
    "alpha": 0.4,
    "beta": 0.7,
    "gamma": 3.0,
    "apply_class_balancing": True,
    "ignore_class": 1,
    "margin": 0.2,
    "remove_diagonal": False,
    "q": 0.3,
    "normalize": False,
    "dtype": "float16",
    "reduction": "sum",
    "name": "other",
    "weight": 0.5,
}


@pytest.mark.parametrize("cls", _catalogue.KERAS_LOSSES.values())
def test_config_holds_every_argument(cls):
    names = set(inspect.signature(cls).parameters)
    loss = cls(**{name: OTHER[name] for name in names})
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(loss)))
    assert names <= set(config["config"])
    revived = keras.saving.deserialize_keras_object(config)
    assert type(revived) is cls
    assert revived.get_config() == loss.get_config()
    for name in names:
        assert getattr(revived, name) == OTHER[name], name


def test_huber_keeps_its_delta():
    # An error of 10: 3 * 10 - 4.5; Keras gives 9.5 after a round trip.
    for loss in (losses.Huber(delta=3.0), keras.losses.Huber(delta=3.0)):
        revived = losses.get(losses.deserialize(losses.serialize(loss)))
        assert float(revived([[0.0]], [[10.0]])) == 25.5


def test_a_config_from_the_future_is_refused_by_name():
    config = {**losses.Huber().get_config(), "version": 7}
    with pytest.raises(ValueError, match="`Huber`.*version=7"):
        losses.Huber.from_config(config)


@pytest.mark.parametrize(
    ("targets", "predictions", "cls"),
    [
        ((8, 1), (8, 1), losses.BinaryCrossentropy),
        ((8,), (8,), losses.BinaryCrossentropy),
        ((8,), (8, 3), losses.SparseCategoricalCrossentropy),
        ((8, 1), (8, 3), losses.SparseCategoricalCrossentropy),
        ((8, 3), (8, 3), losses.CategoricalCrossentropy),
        ((None, 5), (None, 5, 3), losses.SparseCategoricalCrossentropy),
    ],
)
@pytest.mark.parametrize("name", ["crossentropy", "ce", "CE"])
def test_crossentropy_is_chosen_by_shape(name, targets, predictions, cls):
    loss = losses.get(
        name, keras.KerasTensor(targets), keras.KerasTensor(predictions)
    )
    assert type(loss) is cls
    assert loss.name == name
    with pytest.raises(ValueError, match="chosen by their shapes"):
        losses.get(name)


def test_get_refuses_what_is_no_loss():
    for bad in ("typo", 3):
        with pytest.raises(ValueError, match="loss"):
            losses.get(bad)
    assert losses.get(None) is None


def test_get_takes_classes_configs_and_losses():
    assert losses.get(losses.Huber).name == "huber_loss"
    loss = losses.Huber(delta=2.0, name="h")
    assert losses.get(loss) is loss
    config = keras.saving.serialize_keras_object(loss)
    assert losses.get(config).delta == 2.0
    plain = losses.get(keras.losses.CosineSimilarity(axis=1, name="cos"))
    assert repr(2 * plain) == "2 * cos"
    assert plain.axis == 1
    weighted = losses.get(losses.Huber(weight=0.5, name="h"))
    assert [(part.name, part.weight) for part in weighted.parts] == [("h", 0.5)]


class Callable:
    def __call__(self, y_true, y_pred):
        return ops.mean(ops.abs(y_true - y_pred), axis=-1)


def plain_function(y_true, y_pred):
    return ops.mean(ops.abs(y_true - y_pred), axis=-1)


@pytest.mark.parametrize(
    ("fn", "name"),
    [
        (plain_function, "plain_function"),
        (lambda a, b: b, "lambda"),
        (Callable(), "callable"),
        (functools.partial(plain_function), "partial"),
        (keras.losses.mean_squared_error, "mean_squared_error"),
    ],
)
def test_a_function_gives_its_name(fn, name):
    loss = losses.get(fn)
    assert loss.name == name
    assert losses.has_default_name(loss)
    assert not losses.has_default_name(losses.FunctionLoss(fn, name="mine"))


def test_default_names():
    assert losses.has_default_name(losses.Huber())
    assert losses.has_default_name(keras.losses.Huber())
    assert losses.has_default_name(losses.get("mse"))
    assert not losses.has_default_name(losses.Huber(name="h"))
    assert not losses.has_default_name(keras.losses.Huber(name="h"))


def dtypes_seen(**settings):
    """A loss that notes the dtypes that it is given, and its notes."""
    seen = []

    def look(y_true, y_pred):
        tensors = (y_true, y_pred)
        seen.append(
            tuple(keras.backend.standardize_dtype(x.dtype) for x in tensors)
        )
        return ops.cast(y_pred[:, 0], "float32")

    return losses.FunctionLoss(look, **settings), seen


@pytest.mark.parametrize("dtype", ["int32", "int8", "bool", "float64"])
def test_labels_are_cast_for_a_function(dtype):
    loss, seen = dtypes_seen()
    loss(np.ones(2, dtype), np.ones((2, 3), "float16"))
    assert seen == [("float32", "float32")]
    half, seen = dtypes_seen(dtype="float16")
    half(np.ones(2, dtype), np.ones((2, 3), "int32"))
    assert seen == [("float16", "float16")]


@pytest.mark.parametrize("dtype", ["int32", "int8", "bool"])
def test_integers_reach_a_function_that_asks_for_them(dtype):
    loss, seen = dtypes_seen(integer_labels=True)
    loss(np.ones(2, dtype), np.ones((2, 3), "int32"))
    assert seen == [(dtype, "float32")]
    revived = losses.FunctionLoss.from_config(
        losses.FunctionLoss(scaled, integer_labels=True).get_config()
    )
    assert revived.integer_labels


def test_a_function_of_an_older_file_still_gets_integers():
    config = losses.FunctionLoss(scaled).get_config()
    assert not losses.FunctionLoss.from_config(config).integer_labels
    del config["integer_labels"]
    older = losses.FunctionLoss.from_config({**config, "version": 1})
    assert older.integer_labels


class Difference(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return ops.square(y_true - y_pred)


def difference(y_true, y_pred):
    return ops.square(y_true - y_pred)


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
@pytest.mark.parametrize(
    "loss",
    [
        difference,
        functools.partial(difference),
        Difference(name="difference"),
        0.5 * losses.FunctionLoss(difference),
    ],
    ids=["function", "object", "loss", "sum"],
)
def test_labels_of_any_dtype_train_as_in_keras(loss, dtype):
    x = np.linspace(-1.0, 1.0, 8, dtype="float32")[:, None]
    y = (x > 0).astype(dtype)
    logs = []
    for cls in (keras.Model, losskit.Model):
        inputs = keras.Input((1,))
        outputs = keras.layers.Dense(1, kernel_initializer="ones")(inputs)
        model = cls(inputs, outputs)
        model.compile("sgd", loss=loss)
        logs.append(model.fit(x, y, epochs=2, verbose=0).history["loss"])
    np.testing.assert_allclose(logs[1], logs[0], rtol=1e-6)
    # (y - x) ** 2 with y from 0 and 1, before the first update
    factor = 0.5 if isinstance(loss, losses.WeightedSum) else 1.0
    want = factor * np.mean((y.astype("float32") - x) ** 2)
    assert logs[1][0] == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize(
    ("first", "second", "want"),
    [
        ((4,), (4, 1), ((4, 1), (4, 1))),
        ((4, 1), (4,), ((4, 1), (4, 1))),
        ((4, 3), (4, 3, 1), ((4, 3), (4, 3))),
        ((4, 3, 1), (4, 3), ((4, 3), (4, 3))),
        ((4,), (4, 3), ((4,), (4, 3))),
        ((4, 2), (4, 2), ((4, 2), (4, 2))),
    ],
)
def test_both_sides_get_one_rank(first, second, want):
    seen = []

    def look(y_true, y_pred):
        seen.append((tuple(y_true.shape), tuple(y_pred.shape)))
        return ops.ones((4,))

    losses.FunctionLoss(look)(np.ones(first), np.ones(second))
    assert seen == [want]


@keras.saving.register_keras_serializable("test_functions")
def scaled(y_true, y_pred, scale=1.0):
    return scale * ops.mean(ops.abs(y_true - y_pred), axis=-1)


def test_a_registered_function_is_saved():
    loss = losses.FunctionLoss(
        scaled, arguments={"scale": 3.0}, reduction="sum", weight=0.5
    )
    assert float(loss([[0.0]], [[2.0]])) == 3.0
    config = json.loads(json.dumps(losses.serialize(loss)))
    revived = losses.deserialize(config)
    assert revived.fn is scaled
    assert revived.get_config() == loss.get_config()
    assert losses.deserialize(losses.serialize(scaled)) is scaled
    assert losses.serialize("mse") == "mse"
    assert losses.serialize(keras.losses.huber) == "huber"
    assert losses.serialize(None) is None


@pytest.mark.parametrize(
    "fn",
    [lambda a, b: b, plain_function, Callable(), functools.partial(scaled)],
    ids=["lambda", "function", "object", "partial"],
)
def test_saving_another_says_what_to_register(fn):
    for config in (
        losses.FunctionLoss(fn).get_config,
        lambda: losses.serialize(fn),
    ):
        with pytest.raises(ValueError, match="register_keras_serializable"):
            config()


def test_a_lambda_trains_a_plain_model():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    loss = 0.5 * losses.get(lambda a, b: ops.square(a - b)) + losses.get("mae")
    model.compile("sgd", loss=loss)
    x = np.ones((8, 1), "float32")
    logs = model.fit(x, 2 * x, epochs=3, verbose=0).history["loss"]
    assert logs[-1] < logs[0]


@pytest.mark.parametrize("label", [3, -1])
def test_labels_out_of_range_are_refused_in_eager_mode(label):
    loss = losses.SparseCategoricalCrossentropy(name="ce")
    with pytest.raises(ValueError, match=r"'ce' to be in \[0, 3\)"):
        loss(np.array([0, label]), np.full((2, 3), 1 / 3))
    ignoring = losses.SparseCategoricalCrossentropy(ignore_class=label)
    assert float(ignoring(np.array([0, label]), np.full((2, 3), 1 / 3))) == (
        pytest.approx(np.log(3), rel=1e-4)
    )


def test_textbook_crossentropy_and_gradient():
    loss = losses.CategoricalCrossentropy(normalize=False)
    target = np.array([[1.0, 0.0, 0.0]], "float32")
    value, gradient = value_and_gradient(
        lambda x: loss(target, x), [[0.2, 0.3, 0.1]]
    )
    assert value == pytest.approx(-np.log(0.2), rel=1e-5)
    np.testing.assert_allclose(gradient, [[-5.0, 0.0, 0.0]], rtol=1e-5)
    _, gradient = value_and_gradient(
        lambda x: loss(target, x), [[0.8, 0.1, 0.1]]
    )
    np.testing.assert_allclose(gradient, [[-1.25, 0.0, 0.0]], rtol=1e-5)
    zeros = np.zeros((1, 3))
    assert np.isfinite(float(loss(target, zeros)))


@pytest.mark.parametrize("axis", [1, -1])
def test_label_smoothing_counts_the_classes_of_the_axis(axis):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 3, 5)).astype("float32")
    labels = np.zeros((2, 3, 5), "float32")
    labels[:, 0] = 1.0
    if axis == -1:
        logits, labels = np.moveaxis(logits, 1, 2), np.moveaxis(labels, 1, 2)
    smooth = 0.8 * labels + 0.2 / 3
    log_p = logits - np.log(np.exp(logits).sum(axis, keepdims=True))
    want = -(smooth * log_p).sum(axis).mean()
    loss = losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=0.2, axis=axis
    )
    assert float(loss(labels, logits)) == pytest.approx(want, rel=1e-5)


def test_arguments_may_be_what_the_function_needs():
    def power(y_true, y_pred, exponent, *, scale):
        return scale * (y_pred - y_true) ** exponent

    arguments = {"exponent": 3, "scale": 0.5}
    loss = losses.FunctionLoss(power, arguments=arguments)
    # 0.5 * 2 ** 3
    assert float(loss([[0.0]], [[2.0]])) == 4.0
    for wrong in ({}, {"exponent": 3}, {**arguments, "base": 2}):
        with pytest.raises(TypeError, match="`fn` of FunctionLoss.*Received: "):
            losses.FunctionLoss(power, arguments=wrong)
