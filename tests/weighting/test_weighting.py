"""What every weighting promises: config, state, shapes, compilation."""

import functools

import keras
import numpy as np
import pytest
from keras import ops
from support.frameworks import compiled_with_state
from support.models import fit_logs
from support.models import ones_dense
from support.models import still
from support.weightings import OF_TERMS

import keras_losskit as losskit
from keras_losskit import weighting
from keras_losskit.weighting import weighting as base

METHODS = {
    "AlignedMTL": {},
    "CAGrad": {"c": 0.4},
    "GradNorm": {"alpha": 0.5, "learning_rate": 0.1},
    "IMTLGradient": {},
    "LearningRateAnnealing": {"decay": 0.8, "reference": 1},
    "MGDA": {},
    "PCGrad": {"seed": 3},
    "UPGrad": {},
    "DynamicWeightAverage": {"temperature": 0.7},
    "Equal": {},
    "GeometricMean": {},
    "IMTLLoss": {},
    "RandomLossWeighting": {"seed": 3},
    "ReLoBRaLo": {"alpha": 0.9, "temperature": 0.5, "rho": 0.5, "seed": 3},
    "SoftAdapt": {"beta": 0.3, "normalize": True, "loss_weighted": True},
    "Uncertainty": {"clamp": [-5.0, 5.0]},
}


def make(name):
    return getattr(weighting, name)(**METHODS[name])


def statistics(method, count=6):
    """Random statistics of three terms, as `method` wants them."""
    random = np.random.default_rng(1)
    for step in range(count):
        if method.statistic == "gramian":
            jacobian = random.normal(size=(3, 5))
            yield ops.array(jacobian @ jacobian.T, "float32")
        elif method.statistic == "step":
            yield ops.array(step, "float32")
        else:
            yield ops.array(random.uniform(0.5, 2.0, 3), "float32")


def run(method, steps, ask=None):
    """Weights of `steps`, an epoch end after every second."""
    more = {}
    if method.takes_values:
        more["values"] = ops.array([1.0, 2.0, 3.0])
    if method.statistic == "step" and not method.built:
        method.build(3)  # which a step does not tell
    ask = ask or functools.partial(method, training=True)
    found = []
    for i, statistic in enumerate(steps):
        weights = ask(statistic, **more)
        found.append(ops.convert_to_numpy(weights))
        if i % 2:
            method.on_epoch_end()
    return np.array(found)


def test_every_public_method_is_tested():
    bases = {"Weighting", "GradientWeighting"}
    assert sorted(METHODS) == sorted(set(OF_TERMS) - bases)


@pytest.mark.parametrize("name", METHODS)
def test_config_gives_back_every_argument(name):
    method = getattr(weighting, name)(
        **METHODS[name], name="mine", dtype="float64", trainable=False
    )
    config = keras.saving.serialize_keras_object(method)
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is type(method)
    assert again.get_config() == method.get_config()
    assert (again.name, again.trainable) == ("mine", False)
    assert again.variable_dtype == "float64"
    for argument, value in METHODS[name].items():
        assert again.get_config()[argument] == value


def test_repr_is_the_constructor():
    assert repr(weighting.MGDA()) == "MGDA()"
    assert repr(weighting.CAGrad(c=0.4, name="mine")) == "CAGrad(c=0.4)"
    assert repr(weighting.PCGrad(seed=3)) == "PCGrad(seed=3)"
    assert repr(weighting.PCGrad()) == "PCGrad()"


@pytest.mark.parametrize("name", METHODS)
def test_a_built_method_comes_back_built(name):
    method = make(name)
    method.build(3)
    config = keras.saving.serialize_keras_object(method)
    again = keras.saving.deserialize_keras_object(config)
    assert again.built
    assert [v.name for v in again.variables] == [
        v.name for v in method.variables
    ]


class Power(weighting.Weighting):
    """Leaves its config to Keras."""

    def __init__(self, power, *, floors=(), **options):
        super().__init__(**options)
        self.power = power
        self.floors = floors

    def weigh(self, values, training):
        return ops.ones_like(values) * self.power


class PowerOfGradients(weighting.GradientWeighting):
    def __init__(self, power=1.0, **options):
        super().__init__(**options)
        self.power = power

    def weigh(self, gramian, training):
        return ops.ones((self.num_terms,)) * self.power


def test_compile_keeps_what_a_constructor_was_given():
    x = np.ones((4, 2), "float32")
    given = Power(10.0, floors=[1, "a"], name="mine", terms="m.e")
    model = losskit.Sequential([keras.Input((2,)), ones_dense(1)])
    model.compile(still(), losskit.LossesContainer("mse", weighting=given))
    # error 2 - 0, squared 4, times 10
    assert fit_logs(model, x, 0 * x[:, :1])["loss"] == 40.0
    made = model.compiled_loss.weighting
    assert made is not given
    assert made.get_config() == given.get_config()
    assert (made.name, made.floors) == ("mine", [1, "a"])
    assert repr(made) == "Power(power=10.0, floors=[1, 'a'], terms=['m.e'])"


def test_a_gradient_weighting_keeps_it_beside_a_layer():
    x = np.ones((4, 2), "float32")
    dense = ones_dense(1)
    given = PowerOfGradients(
        10.0,
        wrt=dense,
        every=np.int64(2),
        dtype=keras.DTypePolicy("float64"),
    )
    model = losskit.Sequential([keras.Input((2,)), dense])
    model.compile(still(), losskit.LossesContainer("mse", weighting=given))
    assert fit_logs(model, x, 0 * x[:, :1])["mse_weight"] == 10.0
    made = model.compiled_loss.weighting
    assert made.wrt.parts == (dense,)
    assert (made.every, made.variable_dtype) == (2, "float64")


def test_an_argument_that_keras_cannot_save_asks_for_a_config():
    method = Power(ops.ones)
    with pytest.raises(NotImplementedError, match="implement `get_config"):
        losskit.LossesContainer("mse", weighting=method).copy()
    assert repr(method) == "Power(...)"


def test_a_subclass_of_a_method_keeps_its_arguments_too():
    class Steeper(weighting.CAGrad):
        def __init__(self, power, c=0.4, wrt=None, **options):
            super().__init__(c=c, wrt=wrt, **options)
            self.power = power

    given = Steeper(2, wrt="trunk/.*", every=3)
    again = Steeper.from_config(given.get_config())
    assert again.get_config() == given.get_config()
    assert (again.power, again.c, again.every) == (2, 0.4, 3)


def test_an_argument_kept_elsewhere_asks_for_a_config():
    class Hidden(weighting.Weighting):
        def __init__(self, power, **options):
            super().__init__(**options)
            self.exponent = power

    with pytest.raises(NotImplementedError, match="`power`.*no such attr"):
        Hidden(2.0).get_config()


def test_its_weights_are_its_variables_as_of_any_layer():
    method = make("Uncertainty")
    method.build(2)
    assert method.weights == [method.log_variance]


@keras.saving.register_keras_serializable("tests")
class Holder(keras.Model):
    """A model that holds a weighting, as any layer may hold a layer."""

    def __init__(self, method, **kwargs):
        super().__init__(**kwargs)
        self.method = method
        self.dense = keras.layers.Dense(1)

    def build(self, input_shape):
        self.dense.build(input_shape)

    def call(self, x):
        return self.dense(x)

    def get_config(self):
        method = keras.saving.serialize_keras_object(self.method)
        return {"method": method}

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config["method"]))


@pytest.mark.parametrize("name", METHODS)
def test_a_run_resumed_from_a_file_is_the_run_that_went_on(name, tmp_path):
    model = Holder(make(name))
    model(np.ones((2, 2), "float32"))
    steps = list(statistics(model.method))
    run(model.method, steps[:4])
    for variable in model.method.trainable_variables:
        variable.assign([0.1, 0.2, 0.3])
    model.save(tmp_path / "model.keras")
    went_on = run(model.method, steps)
    resumed = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(run(resumed.method, steps), went_on)


def two_tasks(method=None, model_class=losskit.Model):
    """Three terms over random kernels, weighed by a method if one is given."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((3,))
    hidden = keras.layers.Dense(3, name="hidden")(inputs)
    outputs = {n: keras.layers.Dense(1, name=n)(hidden) for n in "ab"}
    model = model_class(inputs, outputs)
    if method is not None:
        model.compile(
            keras.optimizers.SGD(0.01),
            loss=losskit.LossesContainer(
                {"a": ["mse", "mae"], "b": "mae"}, weighting=method
            ),
            jit_compile=False,
        )
    return model


def train(model, epochs):
    x = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
    y = {"a": x[:, :1], "b": 3 * x[:, 1:2]}
    arguments = {"epochs": epochs, "shuffle": False, "verbose": 0}
    return model.fit(x, y, batch_size=4, **arguments).history


@pytest.mark.nightly("tensorflow")
@pytest.mark.parametrize("name", METHODS)
def test_a_run_resumed_from_weights_is_the_run_that_went_on(name, tmp_path):
    model, resumed = two_tasks(make(name)), two_tasks(make(name))
    train(model, 3)
    model.save_weights(tmp_path / "of.weights.h5")
    resumed.load_weights(tmp_path / "of.weights.h5")
    ours, theirs = (m.compiled_loss.weighting for m in (resumed, model))
    for variable, other in zip(ours.variables, theirs.variables, strict=True):
        np.testing.assert_array_equal(variable.numpy(), other.numpy())
    went_on, logs = train(model, 2), train(resumed, 2)
    assert set(logs) == set(went_on)
    for key, values in went_on.items():
        np.testing.assert_allclose(logs[key], values, rtol=1e-6)


@pytest.mark.nightly("tensorflow")
@pytest.mark.filterwarnings("ignore:Skipping variable loading")
@pytest.mark.parametrize("name", METHODS)
def test_weights_of_a_plain_model_leave_the_state_as_it_is(name, tmp_path):
    two_tasks(model_class=keras.Model).save_weights(tmp_path / "a.weights.h5")
    model = two_tasks(make(name))
    model.load_weights(tmp_path / "a.weights.h5")  # not built yet
    train(model, 1)
    method = model.compiled_loss.weighting
    before = [variable.numpy().copy() for variable in method.variables]
    model.load_weights(tmp_path / "a.weights.h5")
    for variable, value in zip(method.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_a_model_may_hold_a_weighting():
    model = Holder(make("Uncertainty"))
    model.method.build(2)
    model(np.ones((2, 2), "float32"))
    # Keras goes over `layer.weights` of every sublayer.
    assert len(model.weights) == 3
    assert len(model.trainable_weights) == 3
    assert len(model.get_weights()) == 3
    assert model.count_params() == 2 + 2 + 1


@pytest.mark.parametrize("name", METHODS)
def test_without_training_no_state_moves(name):
    method = make(name)
    for statistic in statistics(method, 3):
        run(method, [statistic])
    method.on_epoch_end()
    before = [ops.convert_to_numpy(v.value) for v in method.variables]
    extra = {}
    if method.takes_values:
        extra["values"] = ops.array([5.0, 1.0, 9.0])
    for statistic in statistics(method, 3):
        method(statistic * 7.0, training=False, **extra)
    after = [ops.convert_to_numpy(v.value) for v in method.variables]
    for a, b in zip(after, before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", METHODS)
def test_compiled_weights_are_the_eager_ones(name):
    eager, compiled = make(name), make(name)
    compiled.build(3)
    ask = compiled_with_state(
        lambda statistic, **more: compiled(statistic, training=True, **more),
        compiled.variables,
        # TensorFlow draws other numbers under XLA than without.
        xla=not isinstance(compiled, base.RandomWeighting),
    )
    steps = list(statistics(eager))
    np.testing.assert_allclose(
        run(compiled, steps, ask), run(eager, steps), rtol=1e-5
    )


@pytest.mark.parametrize("name", METHODS)
def test_weights_are_float32_under_every_policy(name):
    keras.config.set_dtype_policy("mixed_float16")
    method = make(name)
    for dtype in ("float16", "float32"):
        for statistic in statistics(method, 2):
            (weights,) = run(method, [ops.cast(statistic, dtype)])
            assert weights.dtype == "float32"
            assert weights.shape == (3,)
    floats = [v for v in method.variables if "int" not in v.dtype]
    assert {v.dtype for v in floats} <= {"float32"}


@pytest.mark.parametrize("name", METHODS)
def test_another_number_of_terms_is_refused(name):
    method = make(name)
    method.build(3)
    shape = (4, 4) if method.statistic == "gramian" else (4,)
    # A step is one number, however many terms there are.
    fits = r"\(\)" if method.statistic == "step" else r"\(3"
    with pytest.raises(ValueError, match=rf"Expected.*{fits}.*Received.*\(4"):
        method(ops.ones(shape))


@pytest.mark.parametrize("terms", [0, -1, 2.5, True])
def test_a_number_of_terms_that_is_none_is_refused(terms):
    with pytest.raises((ValueError, TypeError), match="`num_terms`"):
        weighting.Equal().build(terms)


def test_nothing_to_weigh_is_refused_with_the_remedy():
    dense = ones_dense(1, kernel_regularizer="l2")
    model = losskit.Sequential([keras.Input((2,)), dense])
    method = weighting.Uncertainty(clamp=(-1, 1))
    model.compile("sgd", losskit.LossesContainer(None, weighting=method))
    with pytest.raises(ValueError, match=r"Uncertainty\(clamp=.*leave `wei"):
        model.fit(np.ones((4, 2), "float32"), verbose=0)


def test_a_weighting_over_steps_is_built_first():
    class Ramp(weighting.Weighting):
        statistic = "step"

        def weigh(self, step, training):
            return step * ops.ones(self.num_terms)

    method = Ramp()
    with pytest.raises(ValueError, match="to be built.*Received"):
        method(3)
    method.build(2)
    assert [float(w) for w in method(3)] == [3.0, 3.0]


def test_a_method_without_weigh_says_so():
    class Silent(weighting.Weighting):
        pass

    with pytest.raises(NotImplementedError, match="Silent to define"):
        Silent()(ops.ones(2))
