"""`check_loss`: what a loss is held to."""

import dataclasses
from collections.abc import Collection
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_losskit._support.checks import checked_positive
from keras_losskit._types import LossObject
from keras_losskit._types import Structure
from keras_losskit.losses import evaluate
from keras_losskit.losses._core.composition import Composable
from keras_losskit.losses._core.composition import parts_of
from keras_losskit.losses._core.composition import values_of
from keras_losskit.losses._core.evaluation import is_composite
from keras_losskit.losses._core.evaluation import overrides_call
from keras_losskit.losses._core.evaluation import weighted_total
from keras_losskit.losses._core.refusals import checked_loss
from keras_losskit.testing import _common


def check_loss(
    loss: LossObject,
    y_true: Structure | None = None,
    y_pred: Structure | None = None,
    *,
    rtol: float = 2e-2,
    skip: Collection[str] = (),
) -> None:
    """Check a loss as those of this package are checked.

    In this order, under these names:

    - `"value"`: the reduced value is a finite scalar, float32 at least, and for
      a loss whose values follow the batch there is one for each sample;
    - `"gradient"`: by `y_pred`, against finite differences;
    - `"mask"`: a masked sample counts as if it were not there, also if it is
      NaN; nothing valid gives 0;
    - `"sample_weight"`: weights of 1 change nothing, a sample of weight 0 has
      no say, also if it is NaN, and weights of 0 give 0;
    - `"dtype"`: in float16 the value is finite and about the same;
    - `"config"`: every argument is in the config, which makes an equal loss;
    - `"jit"`: compiled, with the batch size open, the value is the same. On
      PyTorch nothing is compiled;
    - `"edges"`: the value and the gradient are finite where predictions are 0,
      and where they are the labels; an empty batch has a finite value.

    Args:
        loss: A `keras.losses.Loss`, a single one or a composite.
        y_true: Labels of four samples or more in NumPy, `(batch, ...)`, or a
            nest of them. Defaults to numbers between 0.1 and 0.9, `(4, 3)`.
        y_pred: Predictions, likewise.
        rtol: Tolerance of the gradient.
        skip: Names of the checks that do not apply, such as `"gradient"` for a
            loss that stops it, or `"mask"` and `"sample_weight"` for one that
            compares samples with each other.

    Raises:
        AssertionError: for the first check that fails.

    Example:
        >>> class Cubic(keras.losses.Loss):
        ...     def call(self, y_true, y_pred):
        ...         return ops.mean(ops.abs(y_true - y_pred) ** 3, axis=-1)
        >>> check_loss(Cubic(name="cubic"))
    """
    owner = "check_loss"
    checked_loss(loss, f"`loss` of {owner}")
    rtol = checked_positive(rtol, f"`rtol` of {owner}")
    random = np.random.default_rng(0)
    if y_true is None:
        y_true = random.uniform(0.1, 0.9, (4, 3)).astype("float32")
    if y_pred is None:
        y_pred = random.uniform(0.1, 0.9, (4, 3)).astype("float32")
    y_true = checked_nest(y_true, f"`y_true` of {owner}")
    y_pred = checked_nest(y_pred, f"`y_pred` of {owner}")
    subject = LossSubject(loss, y_true, y_pred, rtol)
    _common.run_checks(CHECKS, subject, skip)


def checked_nest(nest, what):
    """A nest of labels or predictions, in NumPy."""
    return keras.tree.map_structure(
        lambda leaf: _common.checked_samples(leaf, what, least=4), nest
    )


@dataclasses.dataclass(frozen=True)
class LossSubject:
    """A loss and the data that it is checked with."""

    loss: Any
    y_true: Any
    y_pred: Any
    rtol: float

    @property
    def name(self):
        """What the loss is called in errors."""
        return f"loss '{self.loss.name}'"

    @property
    def batch(self):
        """The number of samples."""
        return len(keras.tree.flatten(self.y_pred)[0])

    def value(self, y_pred=None, sample_weight=None, y_true=None):
        """The reduced, weighted value."""
        return evaluate(
            self.loss,
            self.y_true if y_true is None else y_true,
            self.y_pred if y_pred is None else y_pred,
            sample_weight,
        )

    def masked_value(self, mask):
        """The value under a mask."""
        values = values_of(self.loss, self.y_true, self.y_pred, None, mask)
        weights = [part.weight for part in parts_of(self.loss)]
        return weighted_total(values, weights)


def check_value(subject):
    """A finite scalar, from one value for each sample."""
    loss, batch = subject.loss, subject.batch
    if not is_composite(loss) and not overrides_call(loss):
        values = loss.call(
            *keras.tree.map_structure(
                ops.convert_to_tensor, (subject.y_true, subject.y_pred)
            )
        )
        shape = tuple(ops.shape(values))
        follows = getattr(loss, "values_follow_batch", True)
        _common.expect(
            shape == () or not follows or shape[0] == batch,
            f"values of {subject.name}",
            f"one or more for each of the {batch} samples, or a scalar",
            f"shape {shape}",
            "Reduce over the last axis and leave the others to the reduction.",
        )
    _common.expect_finite_scalar(subject.value(), f"value of {subject.name}")


def check_gradient(subject):
    """By the predictions that are floats."""
    for _, leaf, put in float_leaves(subject):
        _common.check_gradient(
            lambda x, put=put: subject.value(put(x)),
            leaf,
            f"gradient of {subject.name}",
            rtol=subject.rtol,
        )


def float_leaves(subject):
    """`(index, leaf, put)` of the predictions that are floats.

    `put(x)` are the predictions with `x` for that leaf.
    """
    leaves = keras.tree.flatten(subject.y_pred)
    for index, leaf in enumerate(leaves):
        if not _common.is_float(leaf):
            continue

        def put(x, index=index):
            replaced = [*leaves[:index], x, *leaves[index + 1 :]]
            return keras.tree.pack_sequence_as(subject.y_pred, replaced)

        yield index, leaf, put


def check_edges(subject):
    """Predictions of 0, right ones, and none at all."""
    remedy = (
        "A power, root, logarithm or quotient has no slope at 0: keep its "
        "input away from it."
    )
    labels = keras.tree.flatten(subject.y_true)
    for index, leaf, put in float_leaves(subject):
        edges = {"predictions of 0": np.zeros_like(leaf)}
        if index < len(labels) and labels[index].shape == leaf.shape:
            edges["predictions that are the labels"] = labels[index]
        for what, x in edges.items():
            _common.expect_finite_gradient(
                lambda x, put=put: subject.value(put(x)),
                x,
                f"{subject.name} of {what}",
                remedy,
            )
    what = f"{subject.name} of an empty batch"
    y_true, y_pred = keras.tree.map_structure(
        lambda array: array[:0], (subject.y_true, subject.y_pred)
    )
    try:
        value = _common.as_array(subject.value(y_pred, y_true=y_true))
    except Exception as error:  # whatever the backend has to say
        raise AssertionError(
            f"{what}: Expected a finite value. Received: "
            f"{type(error).__name__}: {str(error)[:500]}"
        ) from error
    _common.expect(np.isfinite(value), what, "a finite value", value)


def check_nothing_of(subject, how, value):
    """A sample that is NaN and does not count adds nothing to the gradient.

    Args:
        subject: `LossSubject`.
        how: What keeps the sample from counting, for the error.
        value: `(y_true, y_pred) -> scalar` in which sample 1 does not count.
    """
    if any(overrides_call(part.loss) for part in parts_of(subject.loss)):
        return  # It applies weights itself, as Keras does: 0 * NaN.

    def spoiled(array):
        if not _common.is_float(array):
            return array
        array = array.copy()
        array[1] = np.nan
        return array

    y_true = keras.tree.map_structure(spoiled, subject.y_true)
    for _, leaf, put in float_leaves(subject):
        gradient = _common.expect_finite_gradient(
            lambda x, put=put: value(y_true, put(x)),
            spoiled(leaf),
            f"{subject.name} with a sample of NaN {how}",
        )
        _common.expect_close(
            gradient[1],
            np.zeros_like(gradient[1]),
            f"gradient of {subject.name} by a sample {how}",
            "nothing",
        )


def check_mask(subject):
    """A masked sample counts as if it were not there."""
    _common.expect(
        not overrides_call(subject.loss) or is_composite(subject.loss),
        subject.name,
        "reduction left to `reduction`, so that a mask can be applied",
        "a `__call__` of its own",
        "Implement `call`, which gives a value for each sample.",
    )
    mask = np.arange(subject.batch) != 1
    kept_true, kept_pred = keras.tree.map_structure(
        lambda array: array[mask], (subject.y_true, subject.y_pred)
    )
    _common.expect_close(
        subject.masked_value(mask),
        subject.value(kept_pred, y_true=kept_true),
        f"{subject.name} with a masked sample",
        "the value without that sample",
    )
    _common.expect_close(
        subject.masked_value(np.zeros_like(mask)),
        0.0,
        f"{subject.name} with everything masked",
        "nothing",
    )
    check_nothing_of(
        subject,
        "that is masked",
        lambda y_true, y_pred: dataclasses.replace(
            subject, y_true=y_true, y_pred=y_pred
        ).masked_value(mask),
    )


def check_sample_weight(subject):
    """Weights of 1 and of 0."""
    ones = np.ones(subject.batch, "float32")
    _common.expect_close(
        subject.value(sample_weight=ones),
        subject.value(),
        f"{subject.name} with weights of 1",
        "the value without weights",
    )
    weights = np.where(np.arange(subject.batch) == 1, 0.0, ones)
    weights = weights.astype("float32")
    expected = subject.value(sample_weight=weights)

    def other(array):
        array = array.copy()
        array[1] = array[0]
        return array

    _common.expect_close(
        subject.value(keras.tree.map_structure(other, subject.y_pred), weights),
        expected,
        f"{subject.name} with another prediction of weight 0",
        "the same value",
    )
    _common.expect_close(
        subject.value(sample_weight=0.0 * ones),
        0.0,
        f"{subject.name} with weights of 0",
        "nothing",
    )
    check_nothing_of(
        subject,
        "of weight 0",
        lambda y_true, y_pred: subject.value(y_pred, weights, y_true),
    )


def check_dtype(subject):
    """In half precision about the same."""
    config = subject.loss.get_config()
    if "dtype" in config:
        config["dtype"] = "float16"
    floatx = keras.config.floatx()
    keras.config.set_floatx("float16")
    try:
        loss = type(subject.loss).from_config(config)
    finally:
        keras.config.set_floatx(floatx)
    narrow = dataclasses.replace(subject, loss=loss)

    def halved(array):
        return array.astype("float16") if _common.is_float(array) else array

    value = narrow.value(
        keras.tree.map_structure(halved, subject.y_pred),
        y_true=keras.tree.map_structure(halved, subject.y_true),
    )
    what = f"{subject.name} in float16"
    _common.expect_finite_scalar(value, what)
    _common.expect_close(
        value,
        subject.value(),
        what,
        "about its value in float32",
        rtol=5e-2,
        atol=1e-2,
    )


def check_config(subject):
    """Every argument, and an equal loss."""
    # Keras' own base leaves it out of the config.
    optional = () if isinstance(subject.loss, Composable) else ("dtype",)
    made = _common.check_config(
        subject.loss, f"config of {subject.name}", optional
    )
    _common.expect_close(
        dataclasses.replace(subject, loss=made).value(),
        subject.value(),
        f"{subject.name} made again from its config",
        "the same value",
    )


def check_jit(subject):
    """Compiled the same."""
    data = (subject.y_true, subject.y_pred)

    def value(*leaves):
        y_true, y_pred = keras.tree.pack_sequence_as(data, list(leaves))
        return subject.value(y_pred, y_true=y_true)

    _common.check_compiled(value, keras.tree.flatten(data), subject.name)


CHECKS = {
    "value": check_value,
    "gradient": check_gradient,
    "mask": check_mask,
    "sample_weight": check_sample_weight,
    "dtype": check_dtype,
    "config": check_config,
    "jit": check_jit,
    "edges": check_edges,
}
