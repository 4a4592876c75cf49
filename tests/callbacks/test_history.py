"""`TermHistory`: the rows by value, in memory and in files."""

import copy
import csv
import json
import sys

import keras
import numpy as np
import pytest
from support.callback_models import KEYS
from support.callback_models import Several
from support.callback_models import compiled_model
from support.callback_models import data
from support.callback_models import fit
from support.callback_models import with_metric
from support.models import numpy_l2
from support.models import still

from keras_losskit.callbacks import TermHistory


@pytest.fixture(scope="module")
def trained():
    """A model, the callback and Keras' history of three epochs."""
    keras.utils.set_random_seed(0)
    model, terms = compiled_model(), TermHistory(batches=True)
    return model, terms, fit(model, [terms])


def test_epochs_are_the_history_of_keras(trained):
    _, terms, history = trained
    assert [row["epoch"] for row in terms.epochs] == [0, 1, 2]
    assert set(terms.history) == KEYS | {f"val_{key}" for key in KEYS}
    assert terms.history == {
        key: [float(value) for value in values]
        for key, values in history.history.items()
    }


@pytest.mark.parametrize("batch_size", [4, 5])
def test_batches_are_the_values_of_each_batch_by_itself(batch_size):
    terms = TermHistory(batches=True)
    fit(compiled_model(still()), [terms], epochs=2, batch_size=batch_size)
    x, y = data()
    expected = []
    for batch, start in enumerate(range(0, 8, batch_size)):
        part = slice(start, start + batch_size)
        y_pred = x[part].sum(axis=1, keepdims=True)
        a = np.mean((y_pred - y["a"][part]) ** 2)
        b = np.mean(np.abs(y_pred - y["b"][part]))
        row = {
            "batch": batch,
            "compiled_loss": a + 0.5 * b,
            "regularization_loss": numpy_l2(0.01, [1.0, 1.0]),
            "activity_loss": 0.01 * np.mean(np.abs(y_pred)),
            "a_loss": a,
            "b_loss": b,
        }
        row["loss"] = sum(row[f"{k}_loss"] for k in ("compiled", "activity"))
        row["loss"] += row["regularization_loss"]
        expected.append(row)
    expected = [{"epoch": e, **row} for e in (0, 1) for row in expected]
    assert terms.batches == [
        pytest.approx(row, rel=1e-5, abs=1e-6) for row in expected
    ]


@pytest.mark.skipif(
    keras.config.backend() == "torch", reason="refused by Keras on PyTorch"
)
def test_several_steps_per_execution_give_their_mean():
    one, two = TermHistory(batches=True), TermHistory(batches=True)
    fit(compiled_model(still()), [one], epochs=1)
    model = compiled_model(still())
    model.steps_per_execution = 2
    fit(model, [two], epochs=1)
    (row,) = two.batches
    for key in KEYS:
        mean = np.mean([row[key] for row in one.batches])
        assert row[key] == pytest.approx(mean, rel=1e-5)


def test_files_hold_the_rows(tmp_path):
    epochs, batches = tmp_path / "new/epochs.csv", tmp_path / "batches.json"
    terms = TermHistory(epochs_file=epochs, batches_file=batches)
    # validation in every second epoch: columns that are not in every row
    fit(compiled_model(), [terms], validation_freq=2)
    assert len(terms.batches) == 6
    for path, rows in ((epochs, terms.epochs), (batches, terms.batches)):
        if path.suffix == ".json":
            read = json.loads(path.read_text())
        else:
            with path.open(newline="") as file:
                read = [
                    {k: float(v) for k, v in row.items() if v != ""}
                    for row in csv.DictReader(file)
                ]
        assert read == rows
    assert terms.history["val_loss"][0] is None
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["new", batches.name]
    )


@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_a_metric_of_several_values_is_a_list(tmp_path, suffix):
    path = tmp_path / f"epochs.{suffix}"
    model = with_metric(Several(name="m"))
    fit(model, [TermHistory(epochs_file=path)], epochs=1)
    terms = TermHistory(epochs_file=path, append=True)
    fit(model, [terms], epochs=2, initial_epoch=1)
    # the first row was read from the file
    assert [row["epoch"] for row in terms.epochs] == [0, 1]
    for row in terms.epochs:
        assert row["a_m"] == pytest.approx([0.25, np.nan], nan_ok=True)
        assert isinstance(row["loss"], float)
    assert terms.to_frame().loc[0, "a_m"][0] == 0.25


def test_saves_afterwards(trained, tmp_path):
    _, terms, _ = trained
    terms.save(tmp_path / "rows.json", by="batch")
    assert json.loads((tmp_path / "rows.json").read_text()) == terms.batches
    with pytest.raises(ValueError, match="Expected `path` to end in '.csv'"):
        terms.save(tmp_path / "rows.txt")


def test_frames(trained):
    _, terms, _ = trained
    frame = terms.to_frame()
    assert list(frame.index) == [0, 1, 2]
    for key, values in terms.history.items():
        np.testing.assert_array_equal(frame[key], values)
    frame = terms.to_frame(by="batch")
    assert frame.index.names == ["epoch", "batch"]
    assert frame.loc[(2, 1), "a_loss"] == terms.batches[-1]["a_loss"]
    with pytest.raises(ValueError, match="Expected `by`.*Received: by='x'"):
        terms.to_frame(by="x")
    assert len(TermHistory().to_frame()) == 0


def test_a_frame_without_pandas_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        TermHistory().to_frame()


def test_another_fit_starts_anew(trained):
    model, _, _ = trained
    terms = TermHistory()
    fit(model, [terms], epochs=2)
    fit(model, [terms], epochs=1)
    assert len(terms.epochs) == 1
    assert terms.batches == []


def test_config_and_copy(tmp_path):
    terms = TermHistory(batches_file=tmp_path / "b.csv", append=True)
    config = terms.get_config()
    assert TermHistory.from_config(config).get_config() == config
    assert copy.deepcopy(terms).get_config() == config


def test_refuses_another_file_and_a_model_without_terms():
    with pytest.raises(ValueError, match="epochs_file.*Received.*terms.txt"):
        TermHistory(epochs_file="terms.txt")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"keras_losskit.wrap\(model\)"):
        x, y = data()
        model.fit(x, y["a"], verbose=0, callbacks=[TermHistory()])
