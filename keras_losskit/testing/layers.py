"""`check_layer`: what a layer that adds to the loss is held to."""

import dataclasses
from collections.abc import Collection
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_losskit._support.checks import checked_instance
from keras_losskit._support.checks import checked_positive
from keras_losskit._types import TensorLike
from keras_losskit.models.model import Model
from keras_losskit.penalties.collect import collect_losses
from keras_losskit.terms import KINDS
from keras_losskit.testing import _common

#: Arguments of every layer.
COMMON_ARGUMENTS = ("activity_regularizer", "autocast", "dtype", "name")


def check_layer(
    layer: keras.layers.Layer,
    x: TensorLike | None = None,
    *,
    rtol: float = 2e-2,
    skip: Collection[str] = (),
) -> None:
    """Check a layer and its penalties as those of this package are checked.

    The layer itself is not called: the checks run on layers made from its
    config, so the config is the first of them. In this order, under these
    names:

    - `"config"`: the config makes an equal layer, of the same output and
      losses for the same weights;
    - `"value"`: the output is finite, and every loss a finite scalar, float32
      at least;
    - `"terms"`: in a `keras_losskit.Model` each loss is a term with a name, a
      kind and a path, and they sum to `losses` of a `keras.Model`;
    - `"gradient"`: of output and losses by the input, where that is of floats,
      against finite differences;
    - `"dtype"`: under the policy `mixed_float16` every loss is finite and
      float32 at least;
    - `"jit"`: compiled, output and losses are the same. On PyTorch nothing is
      compiled.

    Args:
        layer: A `keras.layers.Layer` of one input and one output.
        x: Input in NumPy, `(batch, ...)`. Defaults to numbers between 0.5 and
            2, `(4, 3)`.
        rtol: Tolerance of the gradient.
        skip: Names of the checks that do not apply.

    Raises:
        AssertionError: for the first check that fails.

    Example:
        >>> from keras_losskit import layers
        >>> check_layer(layers.Dense(
        ...     2, activity_regularizer="l1", activity_reduction="sum"))
    """
    owner = "check_layer"
    checked_instance(
        layer, keras.layers.Layer, f"`layer` of {owner}", "a Keras layer"
    )
    rtol = checked_positive(rtol, f"`rtol` of {owner}")
    if x is None:
        x = np.random.default_rng(0).uniform(0.5, 2.0, (4, 3))
        x = x.astype("float32")
    x = _common.checked_samples(x, f"`x` of {owner}")
    subject = LayerSubject(layer, x, rtol)
    _common.run_checks(CHECKS, subject, skip)


@dataclasses.dataclass(frozen=True)
class LayerSubject:
    """A layer and the input that it is checked with."""

    layer: Any
    x: Any
    rtol: float

    @property
    def name(self):
        """What the layer is called in errors."""
        return f"layer {type(self.layer).__name__}"

    def new(self, **config):
        """A layer of the same config, built, with the same weights each."""
        config = {**self.layer.get_config(), **config}
        made = type(self.layer).from_config(config)
        made.build(self.x.shape)
        random = np.random.default_rng(1)
        for variable in made.weights:
            if keras.backend.is_float_dtype(variable.dtype):
                variable.assign(random.uniform(0.1, 1.0, variable.shape))
        return made


def run(layer, x):
    """`(output, losses)` of one pass, seeds and state left as they were."""
    values = [v.value for v in layer.trainable_variables]
    others = [v.value for v in layer.non_trainable_variables]
    outputs, _, losses = layer.stateless_call(
        values, others, x, return_losses=True
    )
    return outputs, list(losses)


def check_config(subject):
    """An equal layer."""
    # Those that all layers have, Keras leaves out where they are as usual.
    _common.check_config(
        subject.layer, f"config of {subject.name}", COMMON_ARGUMENTS
    )
    first, second = subject.new(), subject.new()
    x = ops.convert_to_tensor(subject.x)
    expected, received = (
        keras.tree.flatten(run(layer, x)) for layer in (first, second)
    )
    _common.expect(
        len(received) == len(expected),
        f"{subject.name} made again from its config",
        f"{len(expected)} outputs and losses",
        len(received),
    )
    for one, other in zip(expected, received, strict=True):
        _common.expect_close(
            other,
            one,
            f"{subject.name} made again from its config",
            "the same output and losses",
        )


def check_value(subject):
    """Finite output and losses."""
    output, losses = run(subject.new(), ops.convert_to_tensor(subject.x))
    for leaf in keras.tree.flatten(output):
        values = _common.as_array(leaf)
        _common.expect(
            np.all(np.isfinite(values)),
            f"output of {subject.name}",
            "finite values",
            _common.short(values),
        )
    for loss in losses:
        _common.expect_finite_scalar(loss, f"a loss of {subject.name}")


def check_terms(subject):
    """Each loss a term; nothing lost and nothing twice."""
    layer, x = subject.new(), ops.convert_to_tensor(subject.x)
    inputs = keras.Input(subject.x.shape[1:], dtype=str(subject.x.dtype))
    outputs = layer(inputs)
    plain, model = keras.Model(inputs, outputs), Model(inputs, outputs)
    plain(x)
    expected = sum(float(_common.as_array(loss)) for loss in plain.losses)
    model(x)
    terms = collect_losses(model)
    total = sum(float(_common.as_array(term.contribution)) for term in terms)
    _common.expect_close(
        total,
        expected,
        f"sum of the terms of {subject.name}",
        "the sum of `losses` in a keras.Model",
    )
    for term in terms:
        _common.expect(
            term.kind in KINDS and term.name and term.path,
            f"a term of {subject.name}",
            "a name, a kind and a path",
            repr(term),
        )


def check_gradient(subject):
    """By the input."""
    if not _common.is_float(subject.x):
        return
    layer = subject.new()

    def total(x):
        output, losses = run(layer, x)
        squares = [
            ops.mean(ops.square(leaf)) for leaf in keras.tree.flatten(output)
        ]
        return sum(losses, sum(squares))

    _common.check_gradient(
        total,
        subject.x,
        f"gradient of {subject.name} and its losses",
        rtol=subject.rtol,
    )


def check_dtype(subject):
    """Losses in float32 whatever the layer computes in."""
    layer = subject.new(dtype="mixed_float16")
    _, losses = run(layer, ops.convert_to_tensor(subject.x))
    for loss in losses:
        _common.expect_finite_scalar(
            loss, f"a loss of {subject.name} under mixed_float16"
        )


def check_jit(subject):
    """Compiled the same."""
    layer = subject.new()

    def both(x):
        output, losses = run(layer, x)
        return [*keras.tree.flatten(output), *losses]

    _common.check_compiled(both, [subject.x], subject.name)


CHECKS = {
    "config": check_config,
    "value": check_value,
    "terms": check_terms,
    "gradient": check_gradient,
    "dtype": check_dtype,
    "jit": check_jit,
}
