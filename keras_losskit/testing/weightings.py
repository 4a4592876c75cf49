"""`check_weighting`: what a weighting is held to."""

import dataclasses
from collections.abc import Collection
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_losskit._support.checks import checked_count
from keras_losskit._support.checks import checked_instance
from keras_losskit.testing import _common
from keras_losskit.weighting import SampleWeighting
from keras_losskit.weighting import Weighting

STATISTICS = ("values", "step", "gramian", "samples")


def check_weighting(
    weighting: Weighting | SampleWeighting,
    *,
    terms: int = 3,
    skip: Collection[str] = (),
) -> None:
    """Check a weighting as those of this package are checked.

    It is not moved: the checks run on objects made from its config, so the
    config is the first of them. In this order, under these names:

    - `"config"`: every argument is in the config, which makes an equal one;
    - `"value"`: for statistics of any size between 1e-6 and 1e6, and all zero,
      one finite weight for each term, or each sample of a batch for a
      `SampleWeighting`, float32 at least; what the method itself
      adds to the loss is a finite scalar;
    - `"training"`: with `training=False` nothing moves;
    - `"state"`: an object that loads the variables of another goes on with the
      weights that the other would have given;
    - `"jit"`: compiled, weights and state are the same. On PyTorch nothing is
      compiled.

    Args:
        weighting: A `weighting.Weighting`, or a `SampleWeighting`.
        terms: Number of terms, or of samples in a batch.
        skip: Names of the checks that do not apply.

    Raises:
        AssertionError: for the first check that fails.

    Example:
        >>> from keras_losskit.weighting import Uncertainty
        >>> check_weighting(Uncertainty())
    """
    owner = "check_weighting"
    kinds = Weighting | SampleWeighting
    checked_instance(weighting, kinds, f"`weighting` of {owner}", "a Weighting")
    terms = checked_count(terms, f"`terms` of {owner}")
    of_samples = isinstance(weighting, SampleWeighting)
    kind = SampleWeightingSubject if of_samples else WeightingSubject
    subject = kind(weighting, terms)
    _common.run_checks(CHECKS, subject, skip)


@dataclasses.dataclass(frozen=True)
class WeightingSubject:
    """A weighting and the number of terms that it is checked with."""

    weighting: Any
    terms: int

    @property
    def name(self):
        """What the weighting is called in errors."""
        return f"weighting {type(self.weighting).__name__}"

    def new(self):
        """A weighting of the same config, built."""
        config = self.weighting.get_config()
        made = type(self.weighting).from_config(config)
        made.build(self.terms)
        return made

    def statistics(self, count, scale=1.0):
        """Random statistics as the weighting wants them."""
        random = np.random.default_rng(0)
        for step in range(count):
            if self.weighting.statistic == "gramian":
                jacobian = random.normal(size=(self.terms, 2 * self.terms))
                statistic = scale * (jacobian @ jacobian.T)
            elif self.weighting.statistic == "step":
                statistic = np.float32(step)
            else:
                statistic = scale * random.uniform(0.5, 2.0, self.terms)
            yield ops.convert_to_tensor(np.asarray(statistic, "float32"))

    def weights(self, weighting, statistic, training=True):
        """The weights of one step."""
        more = {}
        if weighting.takes_values:
            values = np.linspace(1.0, 2.0, self.terms).astype("float32")
            more["values"] = ops.convert_to_tensor(values)
        return weighting(statistic, training=training, **more)

    def extra_loss(self, weighting):
        """What the method itself adds to the loss, or None."""
        return weighting.extra_loss(ops.ones((self.terms,)))

    def run(self, weighting, statistics):
        """The weights of several steps, an epoch's end after every second."""
        found = []
        for step, statistic in enumerate(statistics):
            weights = self.weights(weighting, statistic)
            found.append(_common.as_array(weights))
            if step % 2:
                weighting.on_epoch_end()
        return found


class SampleWeightingSubject(WeightingSubject):
    """One that weighs samples, with batches of `terms` of them, or all."""

    def __post_init__(self):
        samples = self.weighting.samples
        if samples is not None and samples < self.terms:
            object.__setattr__(self, "terms", samples)

    def weights(self, weighting, statistic, training=True):
        """The weights of one step."""
        ids = np.arange(self.terms, dtype="int32")
        return weighting(statistic, ids, training=training)

    def extra_loss(self, weighting):
        """A method over samples adds nothing."""
        return None


def check_config(subject):
    """Every argument."""
    _common.check_config(subject.weighting, f"config of {subject.name}")
    known = subject.weighting.statistic
    _common.expect(
        known in STATISTICS,
        f"`statistic` of {subject.name}",
        f"one of {STATISTICS}",
        repr(known),
    )


def check_value(subject):
    """One finite weight for each term."""
    for scale in (1.0, 1e-6, 1e6, 0.0):
        weighting = subject.new()
        what = f"weights of {subject.name} for statistics of size {scale:g}"
        for statistic in subject.statistics(4, scale):
            weights = subject.weights(weighting, statistic)
            expect_weights(weights, subject.terms, what)
    extra = subject.extra_loss(weighting)
    if extra is not None:
        what = f"`extra_loss` of {subject.name}"
        _common.expect_finite_scalar(extra, what)


def expect_weights(weights, terms, what):
    """`expect` `(terms,)` finite numbers, float32 at least."""
    weights = ops.convert_to_tensor(weights)
    shape, dtype = tuple(weights.shape), _common.dtype_of(weights)
    _common.expect(shape == (terms,), what, f"shape {(terms,)}", f"{shape}")
    wide = dtype in ("float32", "float64")
    _common.expect(wide, what, "float32 at least", dtype)
    weights = _common.as_array(weights)
    _common.expect(
        np.all(np.isfinite(weights)),
        what,
        "finite weights",
        _common.short(weights),
        "Divide by no sum or norm that can be 0.",
    )


def check_training(subject):
    """Nothing moves outside of training."""
    weighting = subject.new()
    *earlier, last = subject.statistics(5)
    subject.run(weighting, earlier)
    before = [_common.as_array(v.value) for v in weighting.variables]
    subject.weights(weighting, last, training=False)
    for variable, value in zip(weighting.variables, before, strict=True):
        _common.expect(
            np.array_equal(_common.as_array(variable.value), value),
            f"variable '{variable.name}' of {subject.name}",
            "to stay as it is with `training=False`",
            f"{_common.short(value)} became "
            f"{_common.short(_common.as_array(variable.value))}",
        )


def check_state(subject):
    """What is saved is all there is."""
    first, second = subject.new(), subject.new()
    statistics = list(subject.statistics(8))
    subject.run(first, statistics[:4])
    store = {}
    first.save_own_variables(store)
    second.load_own_variables(
        {key: _common.as_array(value) for key, value in store.items()}
        if all(_common.is_float(_common.as_array(v)) for v in store.values())
        else store
    )
    expected = subject.run(first, statistics[4:])
    received = subject.run(second, statistics[4:])
    _common.expect_close(
        np.stack(received),
        np.stack(expected),
        f"{subject.name} that loaded the state of another",
        "the weights that the other gives",
    )


def check_jit(subject):
    """Compiled the same, state and all."""
    weighting = subject.new()
    statistics = list(subject.statistics(4))
    subject.run(weighting, statistics[:3])
    variables = weighting.variables

    def step(statistic, *values):
        mapping = list(zip(variables, values, strict=True))
        with keras.StatelessScope(state_mapping=mapping) as scope:
            weights = subject.weights(weighting, statistic)
        after = [scope.get_current_value(v) for v in variables]
        return [weights, *after]

    values = [ops.convert_to_numpy(v.value) for v in variables]
    _common.check_compiled(
        step, [statistics[3], *values], subject.name, batch=False
    )


CHECKS = {
    "config": check_config,
    "value": check_value,
    "training": check_training,
    "state": check_state,
    "jit": check_jit,
}
