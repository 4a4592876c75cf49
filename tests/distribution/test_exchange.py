"""What devices exchange in a compiled step, beside plain Keras.

On a mesh, where kernels are split, nothing gathers one. What measures is
`benchmarks/exchange.py`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

ROOT = Path(__file__).parents[2]
TERMS = 2
#: Bytes of a float32.
NUMBER = 4

MEASURE = f"""
import json
from benchmarks.exchange import contestants, measured_on_jax

rows = {{
    f"{{where}}, {{name}}": measured_on_jax(8, {TERMS}, name, where == "mesh")
    for where in ("mesh", "eight")
    for name in contestants()
}}
print("ROWS " + json.dumps(rows))
"""


@pytest.fixture(scope="module")
def rows():
    flags = os.environ.get("XLA_FLAGS", "")
    run = subprocess.run(
        [sys.executable, "-c", MEASURE],
        cwd=ROOT,
        env={
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "OMP_NUM_THREADS": "1",
            "XLA_FLAGS": flags + " --xla_force_host_platform_device_count=8",
        },
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-4000:]
    (line,) = (x for x in run.stdout.splitlines() if x.startswith("ROWS "))
    return json.loads(line.removeprefix("ROWS "))


pytestmark = [
    pytest.mark.skipif(
        keras.config.backend() != "jax", reason="reads programs of XLA"
    ),
    pytest.mark.slow,  # ten programs for eight devices
]
each_way = pytest.mark.parametrize("where", ["mesh", "eight"])


@each_way
def test_terms_exchange_what_keras_does(rows, where):
    assert rows[f"{where}, terms"]["bytes"] == rows[f"{where}, Keras"]["bytes"]


@each_way
def test_a_weighting_of_values_exchanges_the_values_at_most(rows, where):
    beyond = (
        rows[f"{where}, terms, ReLoBRaLo"]["bytes"]
        - rows[f"{where}, Keras"]["bytes"]
    )
    assert beyond <= TERMS * NUMBER


@each_way
def test_a_weighting_of_gradients_exchanges_those_of_each_term(rows, where):
    plain = rows[f"{where}, Keras"]["bytes"]
    found = rows[f"{where}, terms, UPGrad"]["bytes"]
    # Those of the terms and of the rest; the Gramian and values on top.
    assert found <= (TERMS + 1) * plain + 16 * TERMS * TERMS * NUMBER


def test_no_weight_is_gathered(rows):
    assert {name: row["gathers"] for name, row in rows.items()} == {
        # The values that are ranked.
        name: row["gathers"] if "TopK" in name else 0
        for name, row in rows.items()
    }
