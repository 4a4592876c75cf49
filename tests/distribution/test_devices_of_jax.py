"""What the devices of JAX do not divide trains as on one device.

`devices_of_jax.py` trains in a process of its own.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

pytestmark = [
    pytest.mark.skipif(
        keras.config.backend() != "jax", reason="keras.distribution is JAX'"
    ),
    pytest.mark.slow,  # half a minute of compiling
]
SCRIPT = Path(__file__).with_name("devices_of_jax.py")


@pytest.fixture(scope="module")
def results():
    flags = os.environ.get("XLA_FLAGS", "")
    run = subprocess.run(
        [sys.executable, SCRIPT],
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": flags + " --xla_force_host_platform_device_count=8",
        },
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-4000:]
    (line,) = (x for x in run.stdout.splitlines() if x.startswith("RESULT "))
    return json.loads(line.removeprefix("RESULT "))


@pytest.mark.parametrize("where", ["eight", "mesh"])
def test_trains_and_evaluates_as_one_device(results, where):
    expected, received = results["one"], results[where]
    assert set(received["logs"]) == set(expected["logs"])
    for key, values in expected["logs"].items():
        np.testing.assert_allclose(
            received["logs"][key], values, rtol=1e-5, atol=1e-6, err_msg=key
        )
    for ours, theirs in zip(
        received["weights"], expected["weights"], strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_each_device_computes_its_part_of_a_short_batch(results):
    rows = results["eight"]["rows"]
    assert 2 in rows  # of 11 samples an eighth, rounded up
    assert 11 not in rows
