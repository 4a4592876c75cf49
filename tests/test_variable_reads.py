"""Variables that a step reads and the model does not have.

A step that JAX compiled must not keep the values that they had then.
"""

import keras
import numpy as np
import pytest
from keras import ops

import keras_losskit as losskit
from keras_losskit import extra

X, Y = np.ones((4, 3), "float32"), np.zeros((4, 1), "float32")


class Read(extra.ExtraTerm):
    def __init__(self, fn):
        super().__init__()
        self.fn = fn

    def value(self, context):
        return self.fn(context.y_pred)


class Penalty(keras.regularizers.Regularizer):
    def __init__(self, fn):
        self.fn = fn

    def __call__(self, x):
        return self.fn(x)


class Subclassed(losskit.Model):
    def __init__(self, fn):
        super().__init__()
        self.dense = keras.layers.Dense(1)
        self.fn = fn


class AddsInCall(Subclassed):
    def call(self, x):
        self.add_loss(self.fn(x), name="read")
        return self.dense(x)


class AddsInComputeLoss(Subclassed):
    def call(self, x):
        return self.dense(x)

    def compute_loss(self, *args, **kwargs):
        return 0.0 * super().compute_loss(*args, **kwargs) + self.fn(X)


def functional(head=None, **dense):
    inputs = keras.Input((3,))
    outputs = keras.layers.Dense(1, name="head", **dense)(inputs)
    return losskit.Model(inputs, head(outputs) if head else outputs)


def with_terms(**terms):
    model = functional()
    model.compile(
        keras.optimizers.SGD(0.0),
        losskit.LossesContainer("mse", extra_terms=terms),
    )
    return model, "read_loss"


def compiled(model, key, loss="mse"):
    model.compile(keras.optimizers.SGD(0.0), loss)
    return model, key


#: Of a function of a tensor that gives the variable: a model and the key under
#: which it logs that.
READERS = {
    "extra term": lambda fn: with_terms(read=Read(fn)),
    "FromLayer": lambda fn: with_terms(read=extra.FromLayer("head", fn)),
    "FromWeights": lambda fn: with_terms(
        read=extra.FromWeights("head/kernel", fn)
    ),
    "loss": lambda fn: compiled(functional(), "loss", lambda y, p: fn(p)),
    "regularizer": lambda fn: compiled(
        functional(kernel_regularizer=Penalty(fn)), "regularization_loss"
    ),
    "activity regularizer": lambda fn: compiled(
        functional(activity_regularizer=Penalty(lambda x: len(X) * fn(x))),
        "activity_loss",
    ),
    "AddLoss": lambda fn: compiled(
        functional(losskit.layers.AddLoss(fn, name="read")), "read_loss"
    ),
    "add_loss": lambda fn: compiled(AddsInCall(fn), "read_loss"),
    "compute_loss": lambda fn: compiled(AddsInComputeLoss(fn), "loss"),
}


def check_follows(model, key, assign):
    """The value is that of now: between fits, in callbacks, in `evaluate`."""

    def of_fit(**arguments):
        return model.fit(X, Y, verbose=0, **arguments).history[key]

    def of_evaluate():
        return model.evaluate(X, Y, verbose=0, return_dict=True)[key]

    assign(1.0)
    np.testing.assert_allclose(of_fit(), [1.0], rtol=1e-6)
    assign(2.0)
    np.testing.assert_allclose(of_evaluate(), 2.0, rtol=1e-6)
    np.testing.assert_allclose(of_fit(), [2.0], rtol=1e-6)
    setter = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: assign(3.0 + epoch)
    )
    values = of_fit(epochs=2, callbacks=[setter])
    np.testing.assert_allclose(values, [3.0, 4.0], rtol=1e-6)
    assign(5.0)
    np.testing.assert_allclose(of_evaluate(), 5.0, rtol=1e-6)


@pytest.mark.parametrize("reader", READERS)
def test_a_variable_has_the_value_of_now(reader):
    variable = keras.Variable(0.0, trainable=False)
    model, key = READERS[reader](lambda x: 0.0 * ops.sum(x) + variable)
    trained = len(model.trainable_variables)
    check_follows(model, key, variable.assign)
    assert len(model.trainable_variables) == trained or not trained


def teacher_and_student():
    teacher = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(1, kernel_initializer="zeros")]
    )
    student = functional(kernel_initializer="zeros")
    term = extra.FromTeacher(teacher, "mae")
    student.compile(
        keras.optimizers.SGD(0.0),
        losskit.LossesContainer("mse", extra_terms={"read": term}),
    )
    return teacher, student


def test_a_teacher_has_the_weights_of_now():
    teacher, student = teacher_and_student()
    bias = teacher.layers[0].bias
    check_follows(student, "read_loss", lambda value: bias.assign([value]))
    # It is neither trained nor a weight of the student.
    assert len(student.trainable_variables) == len(student.weights) == 2
    assert student.count_params() == 4


def test_a_teacher_may_share_the_arrays_of_its_student():
    teacher, student = teacher_and_student()
    student.compile(keras.optimizers.SGD(0.5), student.compiled_loss.copy())
    bias, own = teacher.layers[0].bias, student.get_layer("head").bias
    own.assign([1.0])
    bias.assign(own)
    student.fit(X, Y, epochs=2, batch_size=4, verbose=0)
    np.testing.assert_array_equal(bias.numpy(), [1.0])
    assert own.numpy() != 1.0
    student.train_on_batch(X, Y)


def test_a_teacher_that_follows_its_student_step_by_step():
    teacher, student = teacher_and_student()
    student.compile(keras.optimizers.SGD(0.1), student.compiled_loss.copy())
    student.get_layer("head").bias.assign([1.0])

    class Follow(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            # `self.model` brings the variables on JAX up to date.
            teacher.set_weights(self.model.get_weights())

    history = student.fit(
        X, Y, batch_size=2, epochs=2, verbose=0, callbacks=[Follow()]
    ).history
    for one, other in zip(teacher.weights, student.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    # A distance of 1 before the first of four steps, and 0 before the others.
    assert history["read_loss"][0] == pytest.approx(0.5)
    assert history["read_loss"][1] == 0.0


class Scaled(keras.losses.Loss):
    def __init__(self, scale, **kwargs):
        super().__init__(**kwargs)
        self.scale = scale

    def call(self, y_true, y_pred):
        return ops.mean((y_true - self.scale * y_pred) ** 2, axis=-1)


def scaled_mse(scale):
    return lambda y_true, y_pred: Scaled(scale).call(y_true, y_pred)


def trained_once(model, loss):
    model.compile(keras.optimizers.SGD(0.1), loss)
    model.fit(X, Y, batch_size=4, verbose=0)


@pytest.mark.parametrize(
    "loss",
    [
        lambda scale: scaled_mse(scale),
        lambda scale: Scaled(scale, name="own"),
        lambda scale: losskit.LossesContainer([["mse", scaled_mse(scale)]]),
    ],
    ids=["closure", "attribute", "beside another"],
)
def test_a_trainable_variable_that_is_not_trained_is_told(loss):
    scale = keras.Variable(1.0, name="scale")
    name = "'own'" if getattr(loss(scale), "name", "") == "own" else "lambda"
    with pytest.warns(UserWarning, match=f"scale.*the loss of.*{name}.*attri"):
        trained_once(functional(), loss(scale))
    assert scale.numpy() == 1.0


def test_a_variable_of_a_loss_is_trained_as_an_attribute_of_the_model(recwarn):
    model = functional(kernel_initializer="ones")
    model.scale = scale = keras.Variable(1.0, name="scale")
    trained_once(model, scaled_mse(scale))
    # d (3 scale)^2 / d scale = 18
    np.testing.assert_allclose(scale.numpy(), 1.0 - 0.1 * 18.0, rtol=1e-5)
    assert not [w for w in recwarn if "that training leaves" in str(w.message)]


@pytest.mark.parametrize("kind", ["frozen", "weight"])
def test_a_variable_that_is_to_stay_is_not_told(kind, recwarn):
    variable = keras.Variable(1.0, trainable=kind == "weight")
    loss = scaled_mse(variable)
    if kind == "weight":
        loss = losskit.LossesContainer("mse", loss_weights=variable)
    trained_once(functional(), loss)
    assert not [w for w in recwarn if "that training leaves" in str(w.message)]
