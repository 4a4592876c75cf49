"""Programs written for Keras run the same with the classes of this package."""

import gc
import os

import hypothesis
import keras
import numpy as np
import pytest
from support.programs import Classes
from support.programs import observe
from support.programs import programs
from support.results import record

import keras_losskit as losskit

BACKEND = keras.config.backend()
KERAS = Classes(keras.Model, keras.Sequential, keras.layers.Dense)
OURS = Classes(losskit.Model, losskit.Sequential, losskit.layers.Dense)
#: So many are drawn by one seed.
PART = 50
#: The seeds: processes that share the work count `PROGRAMS=0:1000` and on.
FIRST, _, LAST = os.environ.get("PROGRAMS", "0:2000").rpartition(":")
SEEDS = range(int(FIRST or 0) // PART, -(-int(LAST) // PART))
#: Compiling takes longer than the rest; the nightly run compiles.
EAGER = None if BACKEND == "torch" else True


def assert_same(ours, keras_own, where):
    """The same value, type, length and order; dicts may have more keys."""
    if isinstance(keras_own, dict):
        assert set(keras_own) <= set(ours), where
        for key, value in keras_own.items():
            assert_same(ours[key], value, f"{where}, {key}")
    elif isinstance(keras_own, (list, tuple)):
        assert type(ours) is type(keras_own), where
        assert len(ours) == len(keras_own), where
        for one, other in zip(ours, keras_own, strict=True):
            assert_same(one, other, where)
    elif isinstance(keras_own, (str, bool, type(None))):
        assert ours == keras_own, where
    else:
        assert type(ours) is type(keras_own), where
        np.testing.assert_allclose(
            ours, keras_own, rtol=1e-4, atol=1e-6, err_msg=where
        )


def may_have_no_loss(program):
    """Whether no loss is compiled, and no penalty added or left when frozen."""
    alone = program.targets == "one" or program.losses_as in (
        "single",
        "partial",
    )
    compiled = program.losses[:1] if alone else program.losses
    # What freezes is the first layer, which may be that of the input.
    freezes = program.style in ("sequential", "subclassed")
    freezes = freezes and "freeze" in program.operations
    penalties = program.regularizers[1:] if freezes else program.regularizers
    if program.adds_loss or any(penalties):
        return False
    return set(compiled) == {"none"}


def is_row_15(program, error):
    """Whether ours refuse what Keras trains at 0.0: row 15 of docs/defects.md.

    Only where the program may have no loss, and in the words that say so.
    """
    return (
        BACKEND == "jax"
        and isinstance(error, ValueError)
        and str(error).startswith("No loss to compute.")
        and may_have_no_loss(program)
    )


def check(program):
    """Run a program with both; return what became of it."""
    expected = observe(program, KERAS)
    received = observe(program, OURS)
    for (operation, result), (own_operation, own_result) in zip(
        expected, received, strict=False
    ):
        where = f"{operation} of {program}"
        if isinstance(result, Exception):
            # Ours may take more than Keras does.
            if isinstance(own_result, Exception):
                assert type(own_result) is type(result), where
            return "raised"
        if is_row_15(program, own_result):
            return "left out"
        if isinstance(own_result, Exception):
            raise AssertionError(where) from own_result
        assert operation == own_operation
        assert_same(own_result, result, where)
    return "ran"


@hypothesis.settings(max_examples=15 if BACKEND == "torch" else 6)
@hypothesis.given(program=programs(eager=EAGER))
def test_a_program_does_with_ours_what_it_does_with_keras(program):
    hypothesis.event(check(program))


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_many_programs_do_with_ours_what_they_do_with_keras():
    counts = {"ran": 0, "raised": 0, "left out": 0}

    @hypothesis.settings(max_examples=PART, database=None, deadline=None)
    @hypothesis.given(program=programs())
    def run(program):
        counts[check(program)] += 1

    for seed in SEEDS:
        # Every program clears Keras' session, which collects garbage: of what
        # is there before, that of TensorFlow would take 0.4 of the time.
        gc.collect()
        gc.freeze()
        hypothesis.seed(seed)(run)()
        assert counts["ran"] >= counts["raised"] + counts["left out"]
        # After each seed: a run that is stopped leaves what it found.
        record("programs", "Programs with Keras' classes and ours", counts)
        keras.backend.clear_session()
