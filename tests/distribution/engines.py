"""Runs the scripts of `examples/distributed`, in processes that end."""

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "examples" / "distributed"
#: Samples of an epoch, in batches of 16: the last one has 8 where processes
#: have to share it evenly, else 11.
SAMPLES = {"jax": 40, "tensorflow": 43, "torch": 43}[keras.config.backend()]


def ports(count):
    """Free ports of this machine."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    found = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return found


def commands(script, processes):
    """What to start: the processes, or a launcher of theirs."""
    if script.startswith("jax_processes"):
        (port,) = ports(1)
        address = ["--address", f"localhost:{port}"]
        address += ["--count", str(processes), "--devices", str(8 // processes)]
        return [
            [script, *address, "--index", str(index)]
            for index in range(processes)
        ]
    if "workers" in script:
        hosts = ",".join(f"localhost:{port}" for port in ports(processes))
        return [
            [script, "--workers", hosts, "--index", str(index)]
            for index in range(processes)
        ]
    if "torch" in script or "fsdp" in script:
        torchrun = ["-m", "torch.distributed.run", "--standalone"]
        return [[*torchrun, "--nproc-per-node", str(processes), script]]
    return [[script]]


@dataclasses.dataclass
class Run:
    """Processes that were started, each with what it printed.

    Args:
        script: The name of a file.
        folder: Where results and output go.
        processes: How many share the batch.
        arguments: Further ones of the script.
    """

    script: str
    folder: Path
    processes: int = 1
    arguments: tuple = ()

    def __enter__(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        self.files, self.started = [], []
        environment = {
            **os.environ,
            "KERAS_BACKEND": keras.config.backend(),
            "OMP_NUM_THREADS": "1",
            "TF_CPP_MIN_LOG_LEVEL": "2",
            "CUDA_VISIBLE_DEVICES": "",
            "JAX_PLATFORMS": "cpu",
        }
        environment.pop("TF_CONFIG", None)
        for index, command in enumerate(commands(self.script, self.processes)):
            file = open(self.folder / f"output_{index}.txt", "w+")
            self.files.append(file)
            self.started.append(
                subprocess.Popen(
                    [sys.executable, *command, *self.arguments],
                    cwd=SCRIPTS,
                    env=environment,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    # A group of its own, which ends as a whole.
                    start_new_session=True,
                )
            )
        return self

    def __exit__(self, *error):
        for process in self.started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        for file in self.files:
            file.close()

    def wait(self, seconds=300):
        """The exit status of each, all of which end in time."""
        end = time.monotonic() + seconds
        return [
            process.wait(max(0.1, end - time.monotonic()))
            for process in self.started
        ]

    def wait_for(self, file, seconds=200):
        """Until a file is there, while the processes run."""
        end = time.monotonic() + seconds
        while not file.exists():
            assert time.monotonic() < end, self.output()
            assert all(p.poll() is None for p in self.started), self.output()
            time.sleep(0.1)

    def output(self, index=None):
        """What one printed, or all of them."""
        chosen = range(len(self.files)) if index is None else [index]
        texts = [(self.folder / f"output_{i}.txt").read_text() for i in chosen]
        return "\n".join(texts)

    def workers(self):
        """Ids of the processes that train, in their order."""
        if len(self.started) > 1:
            return [process.pid for process in self.started]
        (launcher,) = self.started
        path = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children")
        return list(map(int, path.read_text().split()))


def results(script, folder, processes=1, *arguments):
    """`[{"logs", "weights"}]` of each process, and what they printed."""
    given = ("--folder", str(folder), *map(str, arguments))
    with Run(script, folder, processes, given) as run:
        statuses = run.wait()
        output = run.output()
    assert not any(statuses), output[-6000:]
    files = sorted(folder.glob("process_*.json"))
    return [json.loads(file.read_text()) for file in files], output


def assert_alike(received, expected):
    """Logs and weights of a run are those of another, to 1e-5."""
    assert set(received["logs"]) == set(expected["logs"])
    for key, values in expected["logs"].items():
        np.testing.assert_allclose(
            received["logs"][key], values, rtol=1e-5, atol=1e-6, err_msg=key
        )
    for ours, theirs in zip(
        received["weights"], expected["weights"], strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
