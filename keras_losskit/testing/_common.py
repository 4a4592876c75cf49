"""What all checks share: comparing, differentiating, compiling, configs."""

import inspect
import json
from collections.abc import Set

import keras
import numpy as np
from keras import ops

from keras_losskit import _backend
from keras_losskit._support.checks import checked_list
from keras_losskit._support.checks import refused

#: Step of the central differences, for values of the order of 1 in float32.
STEP = 2e-3


def run_checks(checks, subject, skip):
    """Run a series of checks but for those that are skipped.

    Args:
        checks: `{name: function of the subject}`.
        subject: What is checked, and with which data.
        skip: Names of checks that do not apply.

    Raises:
        AssertionError: from the first check that fails.
        ValueError: for a name that is no check.
    """
    if not isinstance(skip, Set):
        among = f"a collection of names among {sorted(checks)}"
        skip = checked_list(skip, "`skip`", among)
    unknown = [name for name in skip if name not in checks]
    if unknown:
        raise ValueError(
            f"Expected `skip` to name checks among {sorted(checks)}. "
            f"Received: {unknown}"
        )
    for name, check in checks.items():
        if name not in skip:
            check(subject)


def checked_samples(array, what, least=1):
    """`array` in NumPy if it holds numbers of as many samples as needed.

    Args:
        array: `(batch, ...)`.
        what: What it was given for, as the error calls it.
        least: The smallest batch.
    """
    samples = np.asarray(array)
    numeric = np.issubdtype(samples.dtype, np.number) or samples.dtype == bool
    if not numeric or not samples.ndim or len(samples) < least:
        raise refused(
            array,
            f"{what} to be numbers, (batch, ...), of {least} samples or more",
            error=ValueError,
        )
    return samples


def expect(condition, what, expected, received, remedy=""):
    """Raise an `AssertionError` in the wording of this package."""
    if not condition:
        remedy = f". {remedy}" if remedy else ""
        raise AssertionError(
            f"{what}: Expected {expected}. Received: {received}{remedy}"
        )


def expect_close(actual, expected, what, why, *, rtol=1e-4, atol=1e-6):
    """`expect` two numbers or arrays to be equal within float32."""
    actual, expected = as_array(actual), as_array(expected)
    same = actual.shape == expected.shape and np.allclose(
        actual, expected, rtol=rtol, atol=atol, equal_nan=False
    )
    expect(same, what, f"{why}, {short(expected)}", short(actual))


def expect_finite_scalar(value, what):
    """`expect` a scalar tensor, float32 at least, and finite."""
    value = ops.convert_to_tensor(value)
    shape, dtype = tuple(value.shape), dtype_of(value)
    expect(shape == (), what, "a scalar", f"shape {shape}")
    expect(
        dtype in ("float32", "float64"),
        what,
        "float32 at least",
        f"dtype {dtype}",
        "Sum in float32: half precision overflows at 65504.",
    )
    number = float(as_array(value))
    expect(np.isfinite(number), what, "a finite value", number)


def as_array(tensor):
    """A tensor of any backend, or numbers, as float64 in NumPy."""
    return np.asarray(ops.convert_to_numpy(tensor), "float64")


def short(array):
    """An array in few characters."""
    return np.array2string(np.asarray(array), precision=6, threshold=8)


def dtype_of(tensor):
    """The name of a tensor's dtype."""
    return keras.backend.standardize_dtype(tensor.dtype)


def is_float(array):
    """Whether gradients flow into what an array holds."""
    return np.issubdtype(np.asarray(array).dtype, np.floating)


def expect_finite_gradient(function, x, what, remedy=""):
    """`expect` a scalar function of `x` to have a finite value and gradient.

    Args:
        function: Of a tensor like `x`, gives a scalar tensor.
        x: `(batch, ...)`, floats.
        what: What it is, for the error.
        remedy: What to do about it.

    Returns:
        The gradient, in NumPy.
    """
    x = ops.convert_to_tensor(np.asarray(x, "float32"))
    value = as_array(function(x))
    expect(np.isfinite(value), what, "a finite value", short(value), remedy)
    (gradient,) = _backend.input_gradients(lambda xs: function(xs[0]), [x])
    gradient = as_array(gradient)
    finite = np.all(np.isfinite(gradient))
    expect(finite, f"gradient of {what}", "finite", short(gradient), remedy)
    return gradient


def check_gradient(function, x, what, *, rtol=2e-2):
    """Compare a gradient with central differences along random directions.

    `(f(x + h d) - f(x - h d)) / 2 h` with `d` of ones and minus ones.

    Args:
        function: Of a tensor like `x`, gives a scalar tensor.
        x: `(batch, ...)`, floats of the order of 1.
        what: What it is the gradient of, for the error.
        rtol: Tolerance, as a part of the sum of the gradient's magnitudes.
    """
    x = np.asarray(x, "float32")
    try:
        (gradient,) = _backend.input_gradients(
            lambda inputs: function(inputs[0]), [ops.convert_to_tensor(x)]
        )
    except RuntimeError as error:  # PyTorch, where nothing is differentiable
        gradient, why = None, f": {error}"
    else:
        why = ""
    expect(
        gradient is not None,
        what,
        "a gradient",
        f"none{why}",
        "Is the way from input to output made of `keras.ops`?",
    )
    gradient = as_array(gradient)
    expect(
        np.all(np.isfinite(gradient)),
        what,
        "a finite gradient",
        short(gradient),
        "`ops.where` lets the branch that is not taken into the gradient: "
        "make its input safe first.",
    )
    random = np.random.default_rng(0)
    value = abs(float(as_array(function(ops.convert_to_tensor(x)))))
    noise = 1e-6 * max(value, 1.0) / STEP
    for _ in range(3):
        direction = random.choice([-1.0, 1.0], x.shape).astype("float32")
        ahead, behind = (
            float(as_array(function(ops.convert_to_tensor(x + sign * step))))
            for sign, step in ((1, STEP * direction), (-1, STEP * direction))
        )
        slope = (ahead - behind) / (2 * STEP)
        along = float(np.sum(gradient * direction))
        allowed = rtol * float(np.sum(np.abs(gradient))) + noise
        expect(
            abs(slope - along) <= allowed,
            what,
            f"a gradient that agrees with finite differences, {slope:.6g} "
            "along a direction",
            f"{along:.6g}",
        )


def check_compiled(function, arguments, what, *, batch=True):
    """Compare a function with what the backend compiles of it.

    Args:
        function: Of tensors, gives a tensor or a nest of them.
        arguments: NumPy arrays; None is left out of it.
        what: What is compiled, for the error.
        batch: Whether the leading size is left open, where a graph can.
    """
    tensors = [ops.convert_to_tensor(array) for array in arguments]
    eager = keras.tree.flatten(function(*tensors))
    try:
        result = _backend.compiled(function, tensors, batch)(*tensors)
    except Exception as error:  # whatever the backend has to say
        raise AssertionError(
            f"{what}: Expected to compile as it stands. Received: "
            f"{type(error).__name__}: {str(error)[:500]}. No branch of Python "
            "may depend on a value, no size on a static `shape[0]`."
        ) from error
    for one, other in zip(eager, keras.tree.flatten(result), strict=True):
        expect_close(other, one, what, "compiled what it gives eagerly")


def check_config(subject, what, optional=()):
    """Check that a config holds every argument and survives JSON.

    Args:
        subject: An object with `get_config` and `from_config`.
        what: What it is called in the error.
        optional: Arguments of the constructor that may be missing.

    Returns:
        The object that the config makes.
    """
    config = subject.get_config()
    parameters = inspect.signature(type(subject).__init__).parameters
    missing = [
        name
        for name, parameter in parameters.items()
        if name not in ("self", *optional, *config)
        and parameter.kind
        not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    expect(
        not missing,
        what,
        "a config with every argument of the constructor",
        f"one without {missing}",
        "Add them to `get_config`, or they return to their defaults when a "
        "model is loaded.",
    )
    cls = type(subject)
    try:
        saved = keras.saving.serialize_keras_object(subject)
        text = json.dumps(saved)
        made = keras.saving.deserialize_keras_object(
            json.loads(text), custom_objects={cls.__name__: cls}
        )
        again = keras.saving.serialize_keras_object(made)
    except Exception as error:  # whatever a constructor raises
        raise AssertionError(
            f"{what}: Expected to make the object again, as a model does that "
            f"is loaded. Received: {type(error).__name__}: {str(error)[:500]}"
        ) from error
    changed = {
        key: f"{saved['config'].get(key)!r} -> {value!r}"
        for key, value in again["config"].items()
        if json.dumps(value) != json.dumps(saved["config"].get(key))
    }
    expect(not changed, what, "the same config again", changed)
    return made
