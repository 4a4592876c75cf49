"""Small models with known numbers, and the ways of running them."""

import keras
import numpy as np
import pytest

import keras_losskit as losskit

#: Ways of compiling a step: by XLA or TorchInductor, by neither, not at all.
MODES = {
    "jit": {"jit_compile": True},
    "graph": {"jit_compile": False},
    "eager": {"run_eagerly": True},
}

# TorchInductor takes a minute where XLA takes a second.
each_mode = pytest.mark.parametrize(
    "mode",
    [
        pytest.param(
            "jit",
            marks=pytest.mark.slow if keras.config.backend() == "torch" else (),
        ),
        "graph",
        "eager",
    ],
)


def still():
    """An optimizer that leaves the variables as they are."""
    return keras.optimizers.SGD(0.0)


def ones_dense(units, **kwargs):
    """A dense layer whose outputs are the sum of its inputs."""
    kwargs = {"kernel_initializer": "ones", "use_bias": False} | kwargs
    return keras.layers.Dense(units, **kwargs)


def passing(features=1, outputs=("out",), **kwargs):
    """A model that returns the sum of its inputs at every named output.

    `Dense` layers with the kernel 1 and no bias; one output is not in a list.
    """
    inputs = keras.Input((features,))
    layers = [ones_dense(1, name=name, **kwargs) for name in outputs]
    results = [layer(inputs) for layer in layers]
    return losskit.Model(inputs, results[0] if len(results) == 1 else results)


def out_names(count):
    """Names of the outputs of a random model."""
    return tuple(f"out{index}" for index in range(count))


def packed(structure, values):
    """A value per output, laid out as a model with that structure has them."""
    if structure == "single":
        return values[0]
    if structure == "list":
        return list(values)
    return dict(zip(out_names(len(values)), values, strict=True))


class Listed(losskit.Model):
    """A subclassed model that returns its input `count` times, in a list."""

    def __init__(self, count=2, **kwargs):
        super().__init__(**kwargs)
        self.count = count
        self.dense = ones_dense(1)

    def call(self, x):
        return [self.dense(x)] * self.count


def fit_logs(model, x, y=None, **kwargs):
    """The logs of one epoch of `fit`, in order, as floats."""
    settings = {"epochs": 1, "verbose": 0, "shuffle": False} | kwargs
    history = model.fit(x, y, **settings).history
    return {key: float(values[-1]) for key, values in history.items()}


def batch_logs(model, x, y=None, **kwargs):
    """The logs of `train_on_batch`, with the running means started anew."""
    model.reset_metrics()
    logs = model.train_on_batch(x, y, return_dict=True, **kwargs)
    return floats(logs)


def floats(structure):
    """Every scalar of a nest as a Python float."""
    return keras.tree.map_structure(
        lambda value: float(keras.ops.convert_to_numpy(value)), structure
    )


def column(*values):
    """`(len(values), 1)` in float32."""
    return np.array(values, "float32")[:, None]


def numpy_l2(rate, array):
    """`rate * sum(array ** 2)`, as `keras.regularizers.L2`."""
    return rate * np.sum(np.square(np.asarray(array, "float64")))
