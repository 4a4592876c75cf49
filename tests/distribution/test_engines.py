"""The scripts of `examples/distributed` train as one device does.

One for each engine, started as it stands, in processes of its own: loss, terms,
weights that are found and parameters after two epochs equal those of one
device, the logs are shown once, a checkpoint goes on with another number of
devices, and a run ends if one of its processes is killed.
"""

import os
import signal
import time

import keras
import pytest
from distribution.engines import SAMPLES
from distribution.engines import Run
from distribution.engines import assert_alike
from distribution.engines import results

import keras_losskit  # noqa: F401  (whose classes checkpoints hold)

BACKEND = keras.config.backend()
#: `(script, number of processes)`.
ENGINES = {
    "jax": [("jax_mesh.py", 1), ("jax_processes.py", 2)],
    "tensorflow": [("tensorflow_workers.py", 2)],
    "torch": [("torch_ddp.py", 2)],
}[BACKEND]
#: That with processes which can be killed.
SCRIPT, PROCESSES = ENGINES[-1]
METHODS = ["Uncertainty", "ReLoBRaLo", "UPGrad"]

each_engine = pytest.mark.parametrize(
    ("script", "processes"), ENGINES, ids=[name for name, _ in ENGINES]
)
slow = pytest.mark.slow  # they start processes, each of which loads a framework


def options(method, epochs=2):
    """Arguments of a script."""
    given = ["--samples", SAMPLES, "--epochs", epochs]
    return given + ["--weighting", method] if method else given


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    """`method -> result` of the same training on one device."""
    known = {}

    def result(method):
        if method not in known:
            folder = tmp_path_factory.mktemp("one")
            (known[method],), _ = results(
                "task.py", folder, 1, *options(method)
            )
        return known[method]

    return result


@each_engine
@pytest.mark.parametrize(
    "method",
    [
        pytest.param(None, marks=() if BACKEND == "torch" else slow),
        *(pytest.param(name, marks=slow) for name in METHODS),
    ],
)
def test_trains_as_one_device(script, processes, method, one_device, tmp_path):
    found, output = results(script, tmp_path, processes, *options(method))
    assert len(found) == processes
    for received in found:
        assert_alike(received, one_device(method))
    # Shown once, and saved once.
    assert output.count("epoch 2: ") == 1
    assert [file.name for file in tmp_path.glob("*.keras")] == [
        "checkpoint.keras"
    ]


@slow
@each_engine
@pytest.mark.parametrize("to", ["fewer", "more"])
def test_a_checkpoint_goes_on_elsewhere(
    script, processes, to, one_device, tmp_path
):
    """From several devices to one, or from one to several."""
    runs = [(script, processes), ("task.py", 1)]
    (first, its), (second, others) = runs if to == "fewer" else runs[::-1]
    results(first, tmp_path, its, *options("UPGrad", epochs=1))
    for file in tmp_path.glob("process_*.json"):
        file.unlink()
    found, _ = results(second, tmp_path, others, *options("UPGrad"))
    expected = one_device("UPGrad")
    logs = {key: values[1:] for key, values in expected["logs"].items()}
    for received in found:
        assert_alike(received, {**expected, "logs": logs})


#: What the run says after a process of it was killed.
ENDS = {
    "jax": ["peer", "UNAVAILABLE", "died", "heartbeat"],
    "tensorflow": ["UnavailableError", "Collective ops is aborted", "peer"],
    "torch": ["Signal 9 (SIGKILL)"],
}[BACKEND]


@slow
def test_a_killed_process_ends_the_run_and_its_checkpoint_goes_on(
    one_device, tmp_path
):
    arguments = map(str, options("UPGrad", epochs=100_000))
    arguments = ("--folder", str(tmp_path), *arguments)
    with Run(SCRIPT, tmp_path, PROCESSES, arguments) as run:
        run.wait_for(tmp_path / "checkpoint.keras")
        os.kill(run.workers()[-1], signal.SIGKILL)
        start = time.monotonic()
        statuses = run.wait(90)
        took = time.monotonic() - start
        output = run.output()
    assert all(statuses)
    assert any(text in output for text in ENDS), output[-4000:]
    assert took < 75  # the time-out of the scripts, and what ending takes
    # To an epoch after that of the checkpoint.
    model = keras.models.load_model(tmp_path / "checkpoint.keras")
    done = int(model.optimizer.iterations.numpy()) // 3
    epochs = options("UPGrad", done + 1)
    found, _ = results(SCRIPT, tmp_path, PROCESSES, *epochs)
    (alone,), _ = results("task.py", tmp_path / "alone", 1, *epochs)
    logs = {key: values[-1:] for key, values in alone["logs"].items()}
    for received in found:
        assert_alike(received, {**alone, "logs": logs})


# --------------------------------------------- what Keras does not work with


@slow
@pytest.mark.skipif(BACKEND != "torch", reason="FSDP2 is PyTorch's")
def test_terms_are_those_of_one_process_under_fsdp2(tmp_path):
    script = "torch_fsdp2.py"
    (one,), _ = results(script, tmp_path / "one", 1, "--samples", SAMPLES)
    two, _ = results(script, tmp_path / "two", 2, "--samples", SAMPLES)
    assert len(two) == 2
    for received in two:
        assert_alike(received, one)


@slow
@pytest.mark.skipif(BACKEND != "torch", reason="FSDP2 is PyTorch's")
def test_keras_trains_nothing_that_fsdp2_splits(tmp_path):
    with Run("plain_keras_fsdp2.py", tmp_path, 2) as run:
        assert run.wait() == [0], run.output()
        output = run.output()
    assert "what Keras computes with: {'Parameter'}" in output
    assert "same weights after a step: False" in output


@slow
@pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.distribute")
def test_fit_of_keras_raises_with_several_workers(tmp_path):
    with Run("plain_keras_workers.py", tmp_path, 2) as run:
        assert run.wait() == [0, 0], run.output()
        for index in range(2):
            assert "fit raises: " in run.output(index)
