"""`check_reduction`: what a reduction is held to."""

import dataclasses
from collections.abc import Collection
from typing import Any

import numpy as np
from keras import ops

from keras_losskit import reductions
from keras_losskit._support.checks import checked_positive
from keras_losskit._support.named_classes import name_of
from keras_losskit._types import ReductionLike
from keras_losskit._types import TensorLike
from keras_losskit.reductions.reduction import uses_targets
from keras_losskit.testing import _common


def check_reduction(
    reduction: ReductionLike,
    values: TensorLike | None = None,
    y_true: TensorLike | None = None,
    *,
    rtol: float = 2e-2,
    skip: Collection[str] = (),
) -> None:
    """Check a reduction as those of this package are checked.

    In this order, under these names:

    - `"value"`: a finite scalar, float32 at least;
    - `"gradient"`: by the values, against finite differences;
    - `"mask"`: a masked value, whatever it is, counts as if it were not there;
      nothing valid gives 0 and a gradient of 0;
    - `"sample_weight"`: weights of 1 change nothing, weights of 0 give 0;
    - `"dtype"`: values in float16 whose sum exceeds 65504 give a finite result;
    - `"config"`: every argument is in the config, which makes an equal one. A
      function has none;
    - `"jit"`: compiled, with the batch size open, the result is the same. On
      PyTorch nothing is compiled.

    Args:
        reduction: What `losses` take for `reduction`: a `Reduction`, a function
            `(values, sample_weight, mask) -> scalar`, or a name.
        values: Eight values or more in NumPy, `(batch, ...)`, none of which is
            0. Defaults to numbers between 0.5 and 2, all different, `(8,)`.
        y_true: Targets, for a reduction that uses them.
        rtol: Tolerance of the gradient.
        skip: Names of the checks that do not apply.

    Raises:
        AssertionError: for the first check that fails.

    Example:
        >>> def largest(values, sample_weight=None, mask=None):
        ...     if mask is not None:
        ...         values = ops.where(mask, values, 0.0)
        ...     if sample_weight is not None:
        ...         values = values * sample_weight
        ...     return ops.max(ops.cast(values, "float32"))
        >>> check_reduction(largest)
    """
    owner = "check_reduction"
    reductions.get(reduction)  # which refuses what is none
    rtol = checked_positive(rtol, f"`rtol` of {owner}")
    if values is None:
        values = np.random.default_rng(0).permutation(np.linspace(0.5, 2.0, 8))
    values = _common.checked_samples(values, f"`values` of {owner}", 8)
    if y_true is not None:
        y_true = _common.checked_samples(
            y_true, f"`y_true` of {owner}", len(values)
        )
    values = values.astype("float32")
    subject = ReductionSubject(reduction, values, y_true, rtol)
    _common.run_checks(CHECKS, subject, skip)


@dataclasses.dataclass(frozen=True)
class ReductionSubject:
    """A reduction and the data that it is checked with."""

    reduction: Any
    values: Any
    y_true: Any
    rtol: float

    @property
    def name(self):
        """What the reduction is called in errors."""
        return f"reduction {name_of(self.reduction)}"

    def reduce(self, values, sample_weight=None, mask=None, kept=None):
        """The reduced values, as a tensor."""
        function = reductions.get(self.reduction)
        more = {}
        if uses_targets(function):
            y_true = np.asarray(self.y_true)
            more["y_true"] = y_true if kept is None else y_true[kept]
        values, sample_weight, mask = (
            None if x is None else ops.convert_to_tensor(x)
            for x in (values, sample_weight, mask)
        )
        result = function(values, sample_weight, mask, **more)
        return ops.convert_to_tensor(result)


def check_value(subject):
    """A finite scalar."""
    value = subject.reduce(subject.values)
    _common.expect_finite_scalar(value, f"value of {subject.name}")


def check_gradient(subject):
    """By the values."""
    _common.check_gradient(
        subject.reduce,
        subject.values,
        f"gradient of {subject.name}",
        rtol=subject.rtol,
    )


def check_mask(subject):
    """A masked value counts as if it were not there."""
    kept = np.arange(len(subject.values)) % 3 != 1
    mask = np.broadcast_to(
        kept.reshape(-1, *[1] * (subject.values.ndim - 1)), subject.values.shape
    )
    expected = subject.reduce(subject.values[kept], kept=kept)
    for other in (0.0, 100.0, -100.0):
        values = np.where(mask, subject.values, np.float32(other))
        _common.expect_close(
            subject.reduce(values, mask=mask),
            expected,
            f"{subject.name} with masked values of {other:g}",
            "the result without these values",
        )
    _common.expect_finite_gradient(
        lambda values: subject.reduce(values, mask=mask),
        np.where(mask, subject.values, np.nan),
        f"{subject.name} with masked values of NaN",
        "Put `ops.where(mask, values, 0.0)` first.",
    )
    nothing = np.zeros_like(mask)
    what = f"{subject.name} with everything masked"
    _common.expect_close(
        subject.reduce(subject.values, mask=nothing), 0.0, what, "nothing"
    )
    _common.check_gradient(
        lambda values: subject.reduce(values, mask=nothing),
        subject.values,
        f"gradient of {what}",
    )


def check_sample_weight(subject):
    """Weights of 1 and of 0."""
    ones = np.ones_like(subject.values)
    _common.expect_close(
        subject.reduce(subject.values, ones),
        subject.reduce(subject.values),
        f"{subject.name} with weights of 1",
        "the result without weights",
    )
    _common.expect_close(
        subject.reduce(subject.values, 0.0 * ones),
        0.0,
        f"{subject.name} with weights of 0",
        "nothing",
    )


def check_dtype(subject):
    """Large values in half precision."""
    large = (20_000.0 * subject.values).astype("float16")
    value = subject.reduce(large)
    what = f"{subject.name} of large values in float16"
    _common.expect_finite_scalar(value, what)
    _common.expect_close(
        value,
        subject.reduce(large.astype("float32")),
        what,
        "the result in float32",
        rtol=1e-2,
    )


def check_config(subject):
    """Every argument, and an equal reduction."""
    if not isinstance(subject.reduction, reductions.Reduction):
        return
    what = f"config of {subject.name}"
    made = _common.check_config(subject.reduction, what)
    _common.expect_close(
        dataclasses.replace(subject, reduction=made).reduce(subject.values),
        subject.reduce(subject.values),
        f"{subject.name} made again from its config",
        "the same result",
    )


def check_jit(subject):
    """Compiled the same, with weights and a mask."""
    function = reductions.get(subject.reduction)
    random = np.random.default_rng(1)
    weights = random.uniform(0.5, 2.0, subject.values.shape).astype("float32")
    mask = random.uniform(size=subject.values.shape) > 0.3
    _common.check_compiled(
        subject.reduce,
        [subject.values, weights, mask],
        subject.name,
        # The targets that are closed over have one size.
        batch=not uses_targets(function),
    )


CHECKS = {
    "value": check_value,
    "gradient": check_gradient,
    "mask": check_mask,
    "sample_weight": check_sample_weight,
    "dtype": check_dtype,
    "config": check_config,
    "jit": check_jit,
}
