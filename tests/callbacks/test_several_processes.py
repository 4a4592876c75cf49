"""Callbacks write and print in the first of several processes only."""

import keras
import numpy as np
import pytest

import keras_losskit as losskit
from keras_losskit import _backend
from keras_losskit import callbacks

pytestmark = pytest.mark.nightly("jax", "tensorflow")

X, Y = np.ones((4, 2), "float32"), np.ones((4, 1), "float32")
WRITING = {
    "LiveReport": lambda folder: callbacks.LiveReport(folder / "page.html"),
    "TermHistory": lambda folder: callbacks.TermHistory(
        epochs_file=folder / "epochs.csv", batches_file=folder / "batches.json"
    ),
    "SampleHistory": lambda folder: callbacks.SampleHistory(
        file=folder / "samples.npz"
    ),
    "TermTensorBoard": lambda folder: callbacks.TermTensorBoard(folder),
    "TermLogger": lambda _: callbacks.TermLogger(
        lambda values, step: print(step, values)
    ),
    "GradientReport": lambda _: callbacks.GradientReport(X, Y, verbose=True),
}


@pytest.mark.parametrize("first", [True, False], ids=["first", "other"])
@pytest.mark.parametrize("name", WRITING)
def test_writes_in_the_first_process(
    name, first, tmp_path, monkeypatch, capsys
):
    if name == "TermTensorBoard":
        pytest.importorskip("tensorboardX")
    monkeypatch.setattr(_backend, "is_first_process", lambda: first)
    inputs = keras.Input((2,))
    model = losskit.Model(inputs, keras.layers.Dense(1)(inputs))
    model.compile("sgd", ["mse", "mae"])
    callback = WRITING[name](tmp_path)
    x = losskit.with_ids(X) if name == "SampleHistory" else X
    model.fit(x, Y, verbose=0, callbacks=[callback])
    written = any(tmp_path.iterdir()) or bool(capsys.readouterr().out)
    assert written is first


def test_a_process_by_itself_is_the_first():
    assert _backend.is_first_process()
