"""One batch over several devices or processes: as on one device.

JAX with `keras.distribution.DataParallel` over eight virtual devices and with
`ModelParallel` over a mesh of two by four, TensorFlow with `MirroredStrategy`
over two, PyTorch with two processes and `DistributedDataParallel`. Each runs in
processes of its own, where all cases of `training_cases.py` train; here their
logs and weights are compared.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

BACKEND = keras.config.backend()
SCRIPT = Path(__file__).with_name("training_cases.py")

#: What every change is held to; the others are nightly.
CASES = ["reductions_short", "rankings_short", "ReLoBRaLo", "MGDA"]
SLOW_CASES = [
    "reductions",
    "rankings_weighed",
    "masks_short",
    "samples",
    "extra_terms",
    "Uncertainty",
    "GradNorm",
    "AlignedMTL",
    "CAGrad",
    "DynamicWeightAverage",
    "GeometricMean",
    "IMTLGradient",
    "IMTLLoss",
    "LearningRateAnnealing",
    "MGDA_of_trunk",
    "PCGrad",
    "RandomLossWeighting",
    "SoftAdapt",
    "UPGrad",
    "vocabulary",
]


def started(where, names, **env):
    return subprocess.Popen(
        [sys.executable, SCRIPT, where, *names],
        env={**os.environ, "OMP_NUM_THREADS": "1", **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def results_of(processes):
    """What each process printed; none of them outlives this."""
    try:
        outputs = [process.communicate(timeout=500) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    for process, (_, errors) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, errors[-4000:]
    return [
        json.loads(line.removeprefix("RESULT "))
        for output, _ in outputs
        for line in output.splitlines()
        if line.startswith("RESULT ")
    ]


def environments():
    """The variables of each process that takes part."""
    if BACKEND == "jax":
        flags = os.environ.get("XLA_FLAGS", "")
        flags += " --xla_force_host_platform_device_count=8"
        return [{"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}]
    if BACKEND == "tensorflow":
        return [{"CUDA_VISIBLE_DEVICES": ""}]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    return [
        {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
            "WORLD_SIZE": "2",
            "RANK": str(rank),
            "CUDA_VISIBLE_DEVICES": "",
        }
        for rank in range(2)
    ]


def both(names, way="replicas"):
    """`(expected, [received])` of the cases: one device, and each process."""
    single = started("single", names)
    parts = [started(way, names, **env) for env in environments()]
    expected, *received = results_of([single, *parts])
    assert len(received) == len(parts)
    return expected, received


@pytest.fixture(scope="module")
def trainings():
    return both(CASES)


@pytest.fixture(scope="module")
def slow_trainings():
    return both(SLOW_CASES)


def check(trainings, name, by_fit=BACKEND != "torch"):
    expected, received = trainings
    logs = dict(expected[name]["logs"])
    if not by_fit:  # a loop of one's own logs no total by itself
        logs = {k: v for k, v in logs.items() if not k.startswith("val_")}
        del logs["loss"]
    for part in received:
        found = part[name]
        assert set(found["logs"]) == set(logs)
        for key, values in logs.items():
            np.testing.assert_allclose(
                found["logs"][key], values, rtol=1e-5, atol=1e-6, err_msg=key
            )
        for ours, theirs in zip(
            found["weights"], expected[name]["weights"], strict=True
        ):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_replicas_train_as_one_device(trainings, name):
    check(trainings, name)


#: Cases that a process reduces by itself in the forward pass.
BY_THEMSELVES = {
    "masks_short": "a mask that leaves PyTorch processes unequal shares of an "
    "added loss: see docs/distributed.md"
}


def known(names):
    """The names, those that PyTorch processes train otherwise marked so."""
    return [
        pytest.param(
            name,
            marks=pytest.mark.xfail(strict=True, reason=BY_THEMSELVES[name])
            if BACKEND == "torch" and name in BY_THEMSELVES
            else (),
        )
        for name in names
    ]


@pytest.mark.slow  # a minute of compiling
@pytest.mark.parametrize("name", known(SLOW_CASES))
def test_replicas_train_as_one_device_with_others(slow_trainings, name):
    check(slow_trainings, name)


# -------------------------------------------------- weights that are split

on_mesh = pytest.mark.skipif(BACKEND != "jax", reason="ModelParallel is JAX'")
ON_MESH = [*SLOW_CASES, *CASES]


@pytest.fixture(scope="module")
def meshes():
    return both(ON_MESH, "mesh")


@on_mesh
@pytest.mark.slow
@pytest.mark.parametrize("name", ON_MESH)
def test_a_mesh_trains_as_one_device(meshes, name):
    check(meshes, name)


# ------------------------------------------------- processes that Keras knows

by_keras = pytest.mark.skipif(
    not hasattr(keras.Model, "_initialize_ddp"),
    reason="Keras' PyTorch trainer knows of processes from 3.16 on",
)


@pytest.fixture(scope="module")
def fits():
    return both(CASES, "fit")


@pytest.fixture(scope="module")
def slow_fits():
    return both(SLOW_CASES, "fit")


@pytest.fixture(scope="module")
def fits_inside():
    return both(CASES, "fit_inside")


@by_keras
@pytest.mark.parametrize("name", CASES)
def test_fit_in_processes_trains_as_one(fits, name):
    check(fits, name, by_fit=True)


@by_keras
@pytest.mark.slow
@pytest.mark.parametrize("name", known(SLOW_CASES))
def test_fit_in_processes_trains_as_one_with_others(slow_fits, name):
    check(slow_fits, name, by_fit=True)


@by_keras
@pytest.mark.parametrize("name", CASES)
def test_data_parallel_around_fit_does_nothing_twice(fits_inside, name):
    check(fits_inside, name, by_fit=True)


#: Trains with a strategy made anew for each loss, in one process.
STRATEGIES_IN_TURN = """
import json
import keras, numpy as np, tensorflow as tf
import keras_losskit as losskit

device = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(
    device, 2 * [tf.config.LogicalDeviceConfiguration()]
)
x = np.arange(8.0, dtype="float32").reshape(8, 1)
losses = ["mse", ["mse", "mae"], ["mae", "mse", "msle"]]
for loss in losses:
    with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
        inputs = keras.Input((1,))
        dense = keras.layers.Dense(1, kernel_initializer="ones")
        model = losskit.Model(inputs, dense(inputs))
        container = losskit.LossesContainer(
            [loss] if isinstance(loss, list) else loss
        )
        model.compile(keras.optimizers.SGD(0.0), container)
    logs = model.fit(x, 0 * x, batch_size=8, verbose=0).history
    print(json.dumps({key: value[0] for key, value in logs.items()}))
"""


@pytest.mark.skipif(BACKEND != "tensorflow", reason="of tf.distribute")
def test_a_second_strategy_may_train_other_losses():
    run = subprocess.run(
        [sys.executable, "-c", STRATEGIES_IN_TURN],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    *_, one, two, three = map(json.loads, run.stdout.splitlines())
    x = np.arange(8.0)
    # The means over both halves of the batch.
    want = {"mse": np.mean(x**2), "mae": np.mean(x)}
    log = np.mean(np.log1p(x) ** 2)
    assert one["loss"] == pytest.approx(want["mse"])
    assert two["loss"] == pytest.approx(sum(want.values()))
    assert three["loss"] == pytest.approx(sum(want.values()) + log)
    for name, value in want.items():
        assert three[f"{name}_loss"] == pytest.approx(value)
