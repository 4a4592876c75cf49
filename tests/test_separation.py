"""Where each penalty comes from: its kind, its owner and its value.

Every model of `ZOO` is built on `keras.Model` and on `losskit.Model` from the
same layers, whose kernels are ones, so that NumPy tells what each term is.
"""

import keras
import numpy as np
import pytest
from keras import ops
from support.frameworks import variable_gradients
from support.models import MODES
from support.models import each_mode
from support.models import fit_logs
from support.models import floats
from support.models import numpy_l2
from support.models import ones_dense
from support.models import still
from support.versions import IS_KERAS_3_14

import keras_losskit as losskit

X = np.array([[1, 2], [3, -1], [0.5, 0], [-2, 1]], "float32")
SUMS = X.astype("float64").sum(axis=1)
BATCH = len(X)


def l1(rate):
    return keras.regularizers.L1(rate)


def l2(rate):
    return keras.regularizers.L2(rate)


def activity_l2(rate, outputs):
    """`rate * sum(outputs ** 2) / batch`, as Keras since 3.14."""
    return numpy_l2(rate, outputs) / BATCH


class Adding(keras.layers.Layer):
    """Returns its input; adds its mean, and twice the mean of its square."""

    def call(self, x):
        self.add_loss(ops.mean(x))
        self.add_loss(2.0 * ops.mean(ops.square(x)))
        return x


def adding_terms(path, inputs):
    return [
        ("added", path, np.mean(inputs)),
        ("added", path, 2 * np.mean(np.square(inputs))),
    ]


# Each entry: a function of the base class that returns a model, and the terms
# (kind, path, value) of a pass over `X`, in the order of `model.losses`.


def weights_only(base):
    inputs = keras.Input((2,))
    x = ones_dense(
        3,
        name="first",
        use_bias=True,
        bias_initializer="ones",
        kernel_regularizer=l2(0.5),
        bias_regularizer=l1(0.25),
    )(inputs)
    x = keras.layers.BatchNormalization(
        name="norm", gamma_regularizer=l2(2.0), beta_regularizer=l2(1.0)
    )(x)
    return base(
        inputs, ones_dense(1, name="out", kernel_regularizer=l1(4.0))(x)
    )


WEIGHTS_ONLY = [
    ("regularization", "first/kernel", 0.5 * 6),
    ("regularization", "first/bias", 0.25 * 3),
    ("regularization", "norm/gamma", 2.0 * 3),
    ("regularization", "norm/beta", 0.0),
    ("regularization", "out/kernel", 4.0 * 3),
]


def activity_only(base):
    inputs = keras.Input((2,))
    x = keras.layers.ActivityRegularization(l2=0.5, name="watch")(inputs)
    return base(inputs, ones_dense(3, name="out", activity_regularizer="l2")(x))


ACTIVITY_ONLY = [
    ("activity", "watch", activity_l2(0.5, X)),
    ("activity", "out", activity_l2(0.01, np.tile(SUMS, 3))),
]


def every_kind(base):
    inputs = keras.Input((2,))
    x = ones_dense(
        1,
        name="dense",
        kernel_regularizer=l2(0.5),
        activity_regularizer=l2(0.25),
    )(inputs)
    return base(inputs, Adding(name="adding")(x))


EVERY_KIND = [
    ("activity", "dense", activity_l2(0.25, SUMS)),
    *adding_terms("adding", SUMS),
    ("regularization", "dense/kernel", 0.5 * 2),
]


def activity_and_added(base):
    inputs = keras.Input((2,))
    x = Adding(name="both", activity_regularizer=l2(0.25))(inputs)
    return base(inputs, ones_dense(1)(x))


ACTIVITY_AND_ADDED = [
    *adding_terms("both", X),
    ("activity", "both", activity_l2(0.25, X)),
]


def shared_layer(base):
    inputs = keras.Input((2,))
    shared = Adding(name="shared", activity_regularizer=l2(0.25))
    doubled = keras.layers.Rescaling(2.0)(inputs)
    x = keras.layers.Add()([shared(inputs), shared(doubled)])
    return base(
        inputs, ones_dense(1, kernel_regularizer=l2(1.0), name="out")(x)
    )


SHARED_LAYER = [
    *adding_terms("shared", X),
    ("activity", "shared", activity_l2(0.25, X)),
    *adding_terms("shared", 2 * X),
    ("activity", "shared", activity_l2(0.25, 2 * X)),
    ("regularization", "out/kernel", 2.0),
]


def nested_models(base):
    inner_inputs = keras.Input((2,))
    inner = keras.Model(
        inner_inputs,
        ones_dense(
            2,
            name="deep",
            kernel_regularizer=l2(0.5),
            activity_regularizer=l2(0.25),
        )(inner_inputs),
        name="inner",
    )
    stack = keras.Sequential(
        [keras.Input((2,)), Adding(name="adding")], name="stack"
    )
    inputs = keras.Input((2,))
    return base(inputs, ones_dense(1)(stack(inner(inputs))))


NESTED_MODELS = [
    ("activity", "deep", activity_l2(0.25, np.tile(SUMS, 2))),
    *adding_terms("stack/adding", np.tile(SUMS, 2)),
    ("regularization", "deep/kernel", 0.5 * 4),
]


def shared_submodel(base):
    inner_inputs = keras.Input((2,))
    inner = keras.Model(
        inner_inputs,
        ones_dense(2, name="deep", activity_regularizer=l2(0.25))(inner_inputs),
    )
    inputs = keras.Input((2,))
    return base(inputs, ones_dense(1)(inner(inner(inputs))))


SHARED_SUBMODEL = [
    ("activity", "deep", activity_l2(0.25, np.tile(SUMS, 2))),
    ("activity", "deep", activity_l2(0.25, np.tile(2 * SUMS, 2))),
]


def subclassed(base):
    class Subclassed(base):
        def __init__(self):
            super().__init__(name="subclassed")
            self.dense = ones_dense(
                2,
                name="dense",
                kernel_regularizer=l2(0.5),
                activity_regularizer=l2(0.25),
            )
            self.blocks = [Adding(name="block_1"), Adding(name="block_2")]
            self.out = ones_dense(1, name="out")

        def call(self, x):
            self.add_loss(ops.sum(x))
            for _ in range(3):
                x = self.dense(x)
            for block in self.blocks:
                x = block(x)
            self.add_loss(ops.convert_to_tensor(0.125))
            return self.out(x)

    return Subclassed()


SUBCLASSED = [
    ("added", "subclassed", SUMS.sum()),
    ("added", "subclassed", 0.125),
    ("activity", "subclassed/dense", activity_l2(0.25, np.tile(SUMS, 2))),
    ("activity", "subclassed/dense", activity_l2(0.25, np.tile(2 * SUMS, 2))),
    ("activity", "subclassed/dense", activity_l2(0.25, np.tile(4 * SUMS, 2))),
    *adding_terms("subclassed/block_1", 4 * SUMS),
    *adding_terms("subclassed/block_2", 4 * SUMS),
    ("regularization", "subclassed/dense/kernel", 0.5 * 4),
]


def built_late(base):
    # Keras 3.14 makes a tensor of the rate: in `build` one of the graph that
    # TensorFlow builds in, dead afterwards.
    kernel, activity = l2(0.5), l2(0.25)

    class Wrapping(keras.layers.Layer):
        def build(self, input_shape):
            self.inner = ones_dense(
                2,
                name="inner",
                kernel_regularizer=kernel,
                activity_regularizer=activity,
            )
            self.inner.build(input_shape)
            self.built = True

        def call(self, x):
            return self.inner(x)

    class BuiltLate(base):
        def __init__(self):
            super().__init__(name="built_late")
            self.wrapping = Wrapping(name="wrapping")
            self.out = ones_dense(1, name="out")

        def call(self, x):
            return self.out(self.wrapping(x))

    return BuiltLate()


BUILT_LATE = [
    (
        "activity",
        "built_late/wrapping/inner",
        activity_l2(0.25, np.tile(SUMS, 2)),
    ),
    ("regularization", "built_late/wrapping/inner/kernel", 0.5 * 4),
]


def time_distributed(base):
    # Keras calls `layer.call`, so the inner activity regularizer is never
    # applied, and neither is it here; `add_loss` inside comes once per step.
    inputs = keras.Input((2,))
    x = keras.layers.Reshape((2, 1))(inputs)
    inner = ones_dense(
        1,
        name="inner",
        kernel_regularizer=l2(0.5),
        activity_regularizer=l2(0.25),
    )
    x = keras.layers.TimeDistributed(inner, name="steps")(x)
    return base(inputs, ones_dense(1)(keras.layers.Flatten()(x)))


TIME_DISTRIBUTED = [("regularization", "steps/inner/kernel", 0.5)]

ZOO = {
    "weights_only": (weights_only, WEIGHTS_ONLY),
    "activity_only": (activity_only, ACTIVITY_ONLY),
    "every_kind": (every_kind, EVERY_KIND),
    "activity_and_added": (activity_and_added, ACTIVITY_AND_ADDED),
    "shared_layer": (shared_layer, SHARED_LAYER),
    "nested_models": (nested_models, NESTED_MODELS),
    "shared_submodel": (shared_submodel, SHARED_SUBMODEL),
    "subclassed": (subclassed, SUBCLASSED),
    "built_late": (built_late, BUILT_LATE),
    "time_distributed": (time_distributed, TIME_DISTRIBUTED),
}
KINDS = ("regularization", "activity", "added")

on_meta = pytest.mark.skipif(
    keras.config.backend() == "torch" and IS_KERAS_3_14,
    reason="Keras leaves the weights of a layer made in `build` on `meta`",
)


def each_of(names):
    return pytest.mark.parametrize(
        "name",
        [
            pytest.param(name, marks=[on_meta] if name == "built_late" else [])
            for name in names
        ],
    )


each_model = each_of(ZOO)


def values_of(expected, kind=None):
    return [value for k, _, value in expected if kind in (None, k)]


def close(values, expected):
    assert len(values) == len(expected)
    np.testing.assert_allclose(floats(list(values)), expected, rtol=1e-5)


@each_model
def test_lists_hold_the_terms_of_their_kind(name):
    build, expected = ZOO[name]
    model = build(losskit.Model)
    model(X)
    close(model.losses, values_of(expected))
    close(model.regularization_losses, values_of(expected, "regularization"))
    close(model.activity_losses, values_of(expected, "activity"))
    close(model.added_losses, values_of(expected, "added"))


@each_model
def test_terms_name_their_owners(name):
    build, expected = ZOO[name]
    model = build(losskit.Model)
    model(X)
    terms = losskit.collect_losses(model)
    assert [(t.kind, t.path) for t in terms] == [e[:2] for e in expected]
    assert len({term.name for term in terms}) == len(terms)
    close([term.value for term in terms], values_of(expected))


@each_model
def test_losses_keep_the_order_and_values_of_keras(name):
    build, _ = ZOO[name]
    plain, ours = build(keras.Model), build(losskit.Model)
    plain(X)
    ours(X)
    assert floats(list(ours.losses)) == floats(list(plain.losses))


@each_model
def test_wrapped_models_separate_as_well(name):
    build, expected = ZOO[name]
    model = losskit.wrap(build(keras.Model))
    model(X)
    terms = losskit.collect_losses(model)
    assert [(t.kind, t.path) for t in terms] == [e[:2] for e in expected]
    close([term.value for term in terms], values_of(expected))


@each_of(sorted(set(ZOO) - {"activity_and_added", "shared_layer"}))
def test_terms_of_a_plain_model_are_collected(name):
    build, expected = ZOO[name]
    model = build(keras.Model)
    model(X)
    terms = losskit.collect_losses(model)
    assert [(t.kind, t.path) for t in terms] == [e[:2] for e in expected]
    close([term.value for term in terms], values_of(expected))


@pytest.mark.parametrize("name", ["activity_and_added", "shared_layer"])
def test_what_a_plain_model_cannot_tell_apart_is_refused(name):
    model = ZOO[name][0](keras.Model)
    model(X)
    with pytest.raises(ValueError, match=r"Expected.*Received.*wrap\(model\)"):
        losskit.collect_losses(model)


@each_mode
@each_model
def test_fit_and_evaluate_log_every_kind(name, mode):
    build, expected = ZOO[name]
    model = build(losskit.Model)
    # The batch statistics of a normalization would move in `fit`.
    frozen = [x for x in model.layers if x.name == "norm"]
    for layer in frozen:
        layer.momentum = 1.0
    model.compile(still(), "mse", **MODES[mode])
    y = np.zeros((BATCH, 1), "float32")
    for logs in (
        fit_logs(model, X, y, batch_size=BATCH),
        model.evaluate(X, y, batch_size=BATCH, verbose=0, return_dict=True),
    ):
        present = {"compiled", *(kind for kind, _, _ in expected)}
        assert set(logs) == {"loss", *(f"{kind}_loss" for kind in present)}
        for kind in present - {"compiled"}:
            total = sum(values_of(expected, kind))
            assert logs[f"{kind}_loss"] == pytest.approx(total, rel=1e-5)
        kinds = sum(logs[f"{kind}_loss"] for kind in present)
        assert logs["loss"] == pytest.approx(kinds, rel=1e-6)


@each_mode
def test_compiled_part_stands_beside_the_penalties(mode):
    model = every_kind(losskit.Model)
    model.compile(still(), "mse", **MODES[mode])
    logs = fit_logs(model, X, np.zeros((BATCH, 1), "float32"))
    np.testing.assert_allclose(
        logs["compiled_loss"], np.mean(SUMS**2), rtol=1e-6
    )


def test_inner_activity_regularizer_of_time_distributed_is_not_applied():
    model = time_distributed(losskit.Model)
    model(X)
    assert model.activity_losses == [] and len(model.losses) == 1


@each_mode
def test_models_that_fit_builds_log_what_their_layers_add(mode):
    model = losskit.Sequential([ones_dense(2), Adding(), ones_dense(1)])
    model.compile(still(), **MODES[mode])
    logs = fit_logs(model, X, np.zeros((BATCH, 1), "float32"))
    # two columns of sums
    added = np.mean(SUMS) + 2 * np.mean(SUMS**2)
    assert logs == {"loss": pytest.approx(added, rel=1e-6)}


def test_lists_start_anew_with_every_pass():
    model = every_kind(losskit.Model)
    for x in (X, 2 * X, X):
        model(x)
    close(model.losses, values_of(EVERY_KIND))


class HandingOn(keras.layers.Layer):
    """Gives its regularizer to a sublayer, as `GroupQueryAttention` does."""

    def build(self, shape):
        self.inner = keras.layers.Dense(
            2,
            kernel_initializer="ones",
            activity_regularizer=self.activity_regularizer,
        )
        self.inner.build(shape)

    def call(self, x):
        self.add_loss(5.0 * ops.mean(x))
        return self.inner(x)


class Outer(losskit.Model):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def call(self, x):
        return self.layer(x)


def test_a_regularizer_that_a_layer_hands_on_stays_one():
    regularizer = keras.regularizers.L2(0.1)
    layer = HandingOn(activity_regularizer=regularizer)
    build = vars(layer)["build"]
    model = Outer(layer)
    for _ in range(2):  # the pass that builds it, and another
        model(np.ones((4, 2), "float32"))
        terms = sorted(
            (t.kind, float(t.value)) for t in model._losskit_penalty_terms()
        )
        # 5 * 1; an output of 2 twice, 0.1 * (4 + 4), of inner and outer layer
        assert terms == [
            ("activity", pytest.approx(0.8)),
            ("activity", pytest.approx(0.8)),
            ("added", 5.0),
        ]
    assert layer.activity_regularizer is regularizer
    assert layer.inner.activity_regularizer is regularizer
    assert vars(layer)["build"] is build


def test_nothing_of_the_recording_stays_on_the_layers():
    model = every_kind(losskit.Model)
    regularizer = model.get_layer("dense").activity_regularizer
    before = {layer.name: set(layer.__dict__) for layer in model.layers}
    model(X)
    after = {layer.name: set(layer.__dict__) for layer in model.layers}
    assert after == before
    assert model.get_layer("dense").activity_regularizer is regularizer


# What a penalty does to gradients.


def two_layers(rate):
    inputs = keras.Input((2,))
    first = ones_dense(
        2, name="first", kernel_regularizer=l2(rate) if rate else None
    )
    second = ones_dense(1, name="second")
    return losskit.Model(inputs, second(first(inputs)))


@each_mode
def test_l2_moves_its_own_kernel_only_in_fit(mode):
    kernels = []
    for rate in (None, 0.5):
        model = two_layers(rate)
        model.compile(keras.optimizers.SGD(0.01), "mse", **MODES[mode])
        model.fit(X, SUMS[:, None], batch_size=BATCH, verbose=0)
        kernels.append(floats_of(model.trainable_variables))
    (first, second), (first_l2, second_l2) = kernels
    # d (0.5 * k ** 2) = k = 1, times the learning rate
    np.testing.assert_allclose(first - first_l2, 0.01, rtol=1e-4)
    np.testing.assert_array_equal(second, second_l2)


def test_l2_changes_the_gradient_of_its_own_kernel_only():
    gradients = []
    for rate in (None, 0.5):
        model = two_layers(rate)
        container = losskit.LossesContainer("mse")

        def total(model=model, container=container):
            y_pred = model(ops.convert_to_tensor(X))
            return container.compute(
                ops.convert_to_tensor(SUMS[:, None].astype("float32")),
                y_pred,
                regularization_losses=model.regularization_losses,
            ).total

        model(X)
        gradients.append(variable_gradients(total, model.trainable_variables))
    (first, second), (first_l2, second_l2) = gradients
    np.testing.assert_allclose(first_l2 - first, 1.0, rtol=1e-5)
    np.testing.assert_array_equal(second, second_l2)


def floats_of(variables):
    return [ops.convert_to_numpy(v).astype("float64").copy() for v in variables]
