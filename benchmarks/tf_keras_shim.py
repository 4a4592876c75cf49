"""What stands for tf.keras in its own tests: Keras 3 and this package.

Only names and arguments are translated. What Keras 3 has no more is not built
anew.
"""

import contextlib
import functools
import types

import keras
import tensorflow as tf
from absl.testing import parameterized

import keras_losskit as losskit

#: How the test under way is to run: `{"eager": bool, "model": its type}`.
MODE = {"eager": False, "model": "functional"}

REDUCTIONS = {"auto": "sum_over_batch_size"}


def per_output(metrics, count):
    """Metrics for all outputs as one list for each, as Keras 3 wants them."""
    if metrics is None or count == 1:
        return metrics
    return [
        [type(metric).from_config(metric.get_config()) for metric in metrics]
        for _ in range(count)
    ]


def tuples(batches):
    """Batches of a generator with tuples for lists, and None left out."""
    for batch in batches:
        yield tuple(
            tuple(part) if isinstance(part, list) else part
            for part in batch
            if part is not None
        )


def in_order(logs):
    """Logs as a list as in tf.keras: losses, then output by output."""
    losses = [key for key in logs if key.endswith("loss")]
    others = sorted(set(logs) - set(losses))
    return [logs[key] for key in losses + others]


class TrainsAsTfKeras:
    """Mixin for models: arguments, methods and orders of tf.keras."""

    def compile(
        self,
        *args,
        metrics=None,
        weighted_metrics=None,
        sample_weight_mode=None,
        **kwargs,
    ):
        del sample_weight_mode  # temporal weights are recognized by their shape
        count = len(getattr(self, "output_names", None) or "1")
        super().compile(
            *args,
            metrics=per_output(metrics, count),
            weighted_metrics=per_output(weighted_metrics, count),
            **kwargs,
        )

    def fit_generator(self, batches, **kwargs):
        return self.fit(tuples(batches), **kwargs)

    def evaluate_generator(self, batches, **kwargs):
        return self.evaluate(tuples(batches), **kwargs)

    def evaluate(self, *args, **kwargs):
        return self._listed(super().evaluate(*args, return_dict=True, **kwargs))

    def train_on_batch(self, *args, **kwargs):
        logs = super().train_on_batch(*args, return_dict=True, **kwargs)
        return self._listed(logs)

    def test_on_batch(self, *args, **kwargs):
        logs = super().test_on_batch(*args, return_dict=True, **kwargs)
        return self._listed(logs)

    def _listed(self, logs):
        # The tests have metrics only where there are several outputs, and no
        # penalties there.
        several = len(getattr(self, "output_names", None) or "1") > 1
        return in_order(logs) if several else logs["loss"]


class Model(TrainsAsTfKeras, losskit.Model):
    """`tf.keras.Model`."""


class Sequential(TrainsAsTfKeras, losskit.Sequential):
    """`tf.keras.Sequential`."""


class Layer(losskit.layers.Layer):
    """`tf.keras.layers.Layer`, whose weights have the name in front."""

    def add_weight(self, *args, **kwargs):
        if args and isinstance(args[0], str):
            name, *args = args
            kwargs["name"] = name
        return super().add_weight(*args, **kwargs)


class MeanAbsoluteError(losskit.losses.MeanAbsoluteError):
    """`tf.keras.losses.MeanAbsoluteError`, with its name of a reduction."""

    def __init__(self, reduction="auto", **kwargs):
        super().__init__(REDUCTIONS.get(reduction, reduction), **kwargs)


class Result:
    """A metric of a container, whose result is a tensor."""

    def __init__(self, metric):
        self.name = metric.name
        self.metric = metric

    def result(self):
        return tf.convert_to_tensor(self.metric.result())


class LossesContainer(losskit.LossesContainer):
    """`LossesContainer` with the private names that tests look at."""

    @property
    def metrics(self):
        return [Result(metric) for metric in super().metrics]

    @property
    def _built(self):
        return self.built

    @property
    def _losses(self):
        return [part.loss for part in self.built_losses.parts]

    @property
    def _output_names(self):
        return list(self.built_losses.output_losses.outputs.names)


class Bias(Layer):
    """Adds a weight that starts at 0."""

    def build(self, input_shape):
        self.bias = self.add_weight("bias", (1,), initializer="zeros")

    def call(self, inputs):
        return inputs + self.bias


class Chain(Model):
    """A subclassed model of layers in a row."""

    def __init__(self, layers):
        super().__init__()
        self.chain = layers

    def call(self, inputs):
        for layer in self.chain:
            inputs = layer(inputs)
        return inputs


class Branches(Model):
    """A subclassed model with two inputs and two outputs."""

    def __init__(self, branches):
        super().__init__()
        self.branches = branches
        self.output_names = ["output_1", "output_2"]

    def call(self, inputs):
        outputs = []
        for x, layers in zip(inputs, self.branches, strict=True):
            for layer in layers:
                x = layer(x)
            outputs.append(x)
        return outputs


def get_model_from_layers(layers, input_shape):
    """A model of layers in a row, of the type of the test under way."""
    if MODE["model"] == "sequential":
        return Sequential(layers)
    if MODE["model"] == "subclass":
        return Chain(layers)
    inputs = keras.Input(input_shape)
    x = inputs
    for layer in layers:
        x = layer(x)
    return Model(inputs, x)


def get_multi_io_model(branch_a, branch_b):
    """A model of two branches that begin with inputs."""
    if MODE["model"] == "subclass":
        return Branches([branch_a[1:], branch_b[1:]])
    outputs = []
    for x, *layers in (branch_a, branch_b):
        for layer in layers:
            x = layer(x)
        outputs.append(x)
    return Model([branch_a[0], branch_b[0]], outputs)


def repeated(key, values):
    """A decorator: the test is run in each of several modes.

    Args:
        key: A key of `MODE`.
        values: What it is to be.
    """

    def decorated(test):
        if isinstance(test, type):
            for name, method in list(vars(test).items()):
                if name.startswith("test"):
                    setattr(test, name, decorated(method))
            return test

        @functools.wraps(test)
        def in_each(self, *args, **kwargs):
            for value in values:
                with self.subTest(**{key: value}), mode(key, value):
                    test(self, *args, **kwargs)

        return in_each

    return decorated


@contextlib.contextmanager
def mode(key, value):
    """A mode for the time being."""
    before, MODE[key] = MODE[key], value
    try:
        yield
    finally:
        MODE[key] = before


def run_all_keras_modes(test=None, always_skip_v1=None):
    """A decorator: eager, and as a graph."""
    del always_skip_v1
    decorate = repeated("eager", [True, False])
    return decorate if test is None else decorate(test)


def run_with_all_model_types(test=None, exclude_models=()):
    """A decorator: functional, subclassed and sequential."""
    types_ = ("functional", "subclass", "sequential")
    decorate = repeated("model", [x for x in types_ if x not in exclude_models])
    return decorate if test is None else decorate(test)


class TestCase(tf.test.TestCase, parameterized.TestCase):
    """A test case with what TensorFlow asserts."""


def module(**names):
    """A module of these names."""
    made = types.ModuleType("tf_keras_shim")
    vars(made).update(names)
    return made


class Falling(types.ModuleType):
    """A module of some names, and else of another module."""

    def __init__(self, rest, **names):
        super().__init__(rest.__name__)
        vars(self).update(names, _rest=rest)

    def __getattr__(self, name):
        return getattr(self._rest, name)


layers = Falling(losskit.layers, Layer=Layer, Input=keras.Input)
losses = Falling(
    losskit.losses,
    MeanAbsoluteError=MeanAbsoluteError,
    mse=keras.losses.mean_squared_error,
)
test_utils = module(
    Bias=Bias,
    should_run_eagerly=lambda: MODE["eager"],
    get_model_from_layers=get_model_from_layers,
    get_multi_io_model=get_multi_io_model,
)
test_combinations = module(
    TestCase=TestCase,
    run_all_keras_modes=run_all_keras_modes,
    run_with_all_model_types=run_with_all_model_types,
    combine=parameterized.product,
    generate=lambda decorate: decorate,
)

#: `{module that a test imports from: what stands for it}`.
MODULES = {
    "tf_keras": module(
        Input=keras.Input,
        Model=Model,
        Sequential=Sequential,
        backend=keras.ops,
        layers=layers,
        losses=losses,
        metrics=keras.metrics,
    ),
    "tf_keras.engine": module(
        compile_utils=module(LossesContainer=LossesContainer)
    ),
    "tf_keras.optimizers": module(
        legacy=module(gradient_descent=keras.optimizers)
    ),
    "tf_keras.testing_infra": module(
        test_combinations=test_combinations, test_utils=test_utils
    ),
    "tensorflow.python.training.rmsprop": module(
        RMSPropOptimizer=keras.optimizers.RMSprop
    ),
}


def importing(name, *args):
    """`__import__`, with what stands for tf.keras."""
    return MODULES[name] if name in MODULES else __import__(name, *args)
