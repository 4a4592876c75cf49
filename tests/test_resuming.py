"""Training goes on in a new process as if it had not been stopped."""

import numpy as np
import pytest
from support.processes import fresh_processes
from support.results import record
from support.resuming import EPOCHS
from support.resuming import NAMES
from support.resuming import resume
from support.resuming import train_and_save

# Before, in the middle of, and after training; then it goes on to `EPOCHS`.
STOPS = [0, 2, EPOCHS - 1]
SAMPLE = ["PCGrad", "ReLoBRaLo", "schedules", "extra terms"]


@pytest.mark.nightly("jax", "tensorflow")
@pytest.mark.parametrize(
    ("names", "stops"),
    [
        pytest.param(SAMPLE, [2], id="sample"),
        pytest.param(
            NAMES,
            STOPS,
            id="all",
            marks=[pytest.mark.slow, pytest.mark.timeout(0)],
        ),
    ],
)
def test_a_new_process_goes_on_as_if_nothing_had_happened(
    names, stops, tmp_path
):
    whole = {name: train_and_save(name, tmp_path) for name in names}
    with fresh_processes(1) as pool:
        resumed = pool.submit(resume, names, stops, str(tmp_path)).result()
    assert len(resumed) == len(names) * len(stops)
    for (name, stop), (logs, state) in resumed.items():
        where = f"{name} from epoch {stop}"
        expected, final = whole[name]
        assert set(logs) == set(expected), where
        for key, values in expected.items():
            np.testing.assert_allclose(
                logs[key], values[stop:], 1e-4, 1e-6, err_msg=f"{where}: {key}"
            )
        assert len(state) == len(final), where
        for value, other in zip(state, final, strict=True):
            np.testing.assert_allclose(value, other, 1e-4, 1e-5, err_msg=where)
    if stops == STOPS:
        facts = {
            "weightings, all schedules, all extra terms": len(names),
            "stopped after epochs": stops,
            "trainings that went on in a new process": len(resumed),
            "values of logs and state that differed": 0,
        }
        record("resuming", "Training that goes on from a file", facts)
