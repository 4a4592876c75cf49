"""What trackers of experiments store of a run, read back: the History.

Each with the real package, without a network. `nox -s trackers` installs them.
"""

import json
import struct
import subprocess
import sys

import numpy as np
import pytest
from support.callback_models import compiled_model
from support.callback_models import fit
from support.processes import with_own_paths

from keras_losskit.callbacks import TermLogger

EPOCHS = 3


def same_as_history(stored, history):
    """Whether `{key: [value, ...]}` has every value of a History."""
    assert set(history.history) <= set(stored)
    for key, values in history.history.items():
        np.testing.assert_allclose(
            np.float32(stored[key]), np.float32(values), rtol=1e-6
        )


def wandb_records(path):
    """The records of a `.wandb` file: LevelDB's log behind a header."""
    from wandb.proto import wandb_internal_pb2

    content = path.read_bytes()
    position, whole = 7, b""
    while position + 7 <= len(content):
        left = -position % 32768 or 32768
        if left < 7:  # what is left of a block
            position += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, position)
        position += 7
        whole += content[position : position + length]
        position += length
        if kind in (1, 4):  # whole, or the last part
            yield wandb_internal_pb2.Record.FromString(whole)
            whole = b""


def test_weights_and_biases(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    with wandb.init(project="terms", dir=tmp_path) as run:
        history = fit(compiled_model(), [TermLogger(run.log)], epochs=EPOCHS)
    (path,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    rows = [
        {
            item.key or "/".join(item.nested_key): json.loads(item.value_json)
            for item in record.history.item
        }
        for record in wandb_records(path)
        if record.WhichOneof("record_type") == "history"
    ]
    assert [row["_step"] for row in rows] == list(range(EPOCHS))
    stored = {key: [row[key] for row in rows] for key in rows[0]}
    same_as_history(stored, history)


def mlflow_run(mlflow, tmp_path, make_callback):
    """What MLflow stores of a run with this callback, and the History."""
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'runs.db'}")
    where = (tmp_path / "artifacts").as_uri()
    experiment = mlflow.create_experiment("terms", artifact_location=where)
    with mlflow.start_run(experiment_id=experiment) as run:
        history = fit(compiled_model(), [make_callback()], epochs=EPOCHS)
    mlflow.flush_async_logging()
    client = mlflow.MlflowClient()
    stored = {}
    for key in client.get_run(run.info.run_id).data.metrics:
        found = client.get_metric_history(run.info.run_id, key)
        found.sort(key=lambda metric: metric.step)
        stored[key] = [metric.value for metric in found]
    return stored, history


def test_mlflow(tmp_path):
    mlflow = pytest.importorskip("mlflow")
    stored, history = mlflow_run(
        mlflow, tmp_path, lambda: TermLogger(mlflow.log_metrics)
    )
    same_as_history(stored, history)


def test_the_callback_of_mlflow(tmp_path):
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("mlflow.keras")
    stored, history = mlflow_run(
        mlflow, tmp_path, lambda: mlflow.keras.MlflowCallback()
    )
    same_as_history(stored, history)


def test_the_callback_of_keras_for_tensorboard(tmp_path):
    tensorflow = pytest.importorskip("tensorflow")
    pytest.importorskip("tensorboard")
    import keras

    board = keras.callbacks.TensorBoard(tmp_path, write_graph=False)
    history = fit(compiled_model(), [board], epochs=EPOCHS)
    stored = {}
    for run, prefix in (("train", ""), ("validation", "val_")):
        for path in (tmp_path / run).glob("events.out.*"):
            for event in tensorflow.compat.v1.train.summary_iterator(str(path)):
                for value in event.summary.value:
                    key = prefix + value.tag.removeprefix("epoch_")
                    number = tensorflow.make_ndarray(value.tensor)
                    if value.tag.startswith("epoch_"):
                        stored.setdefault(key, []).append(float(number))
    same_as_history(stored, history)


#: In a process of its own: where trackio writes is read on import.
TRACKIO = """
import json, sys
import trackio
from support.callback_models import compiled_model, fit
from keras_losskit.callbacks import TermLogger

trackio.init(project="terms", name="run", embed=False)
history = fit(compiled_model(), [TermLogger(trackio.log)], epochs=3)
trackio.finish()
from trackio.sqlite_storage import SQLiteStorage
(run,) = trackio.Api().runs("terms")
rows = SQLiteStorage.get_logs("terms", "run", run_id=run.id)
print("STORED", json.dumps([history.history, rows], default=str))
"""


def test_trackio(tmp_path, monkeypatch):
    pytest.importorskip("trackio")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", TRACKIO],
        env=with_own_paths(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (line,) = (x for x in done.stdout.splitlines() if x.startswith("STORED"))
    history, rows = json.loads(line.removeprefix("STORED"))
    assert [row["step"] for row in rows] == list(range(EPOCHS))
    for key, values in history.items():
        np.testing.assert_allclose(
            np.float32([row[key] for row in rows]), values, rtol=1e-6
        )
