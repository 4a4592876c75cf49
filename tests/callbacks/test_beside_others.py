"""Keras' own callbacks, and keras-tuner, on names of terms."""

import csv

import keras
import keras_tuner
import numpy as np
import pytest
from support.callback_models import KEYS
from support.callback_models import Interrupt
from support.callback_models import compiled_model
from support.callback_models import data
from support.callback_models import fit
from support.models import ones_dense

import keras_losskit as losskit
from keras_losskit.callbacks import SetLossWeight
from keras_losskit.callbacks import TermHistory
from keras_losskit.callbacks import TerminateOnNonFiniteTerm
from keras_losskit.callbacks import TermTensorBoard

pytestmark = pytest.mark.nightly("tensorflow")


def ours(tmp_path):
    """All callbacks of this package, of which one at most gets in the way."""
    return [
        SetLossWeight("beta", lambda epoch: 1.0 + epoch),
        TermHistory(batches=True, epochs_file=tmp_path / "terms.csv"),
        TermTensorBoard(tmp_path / "logs", every=1),
        TerminateOnNonFiniteTerm(),
    ]


def weight():
    return keras.Variable(0.5, name="beta", trainable=False)


def shrinking():
    """A model whose penalty falls and whose fit gets worse all the while."""
    inputs = keras.Input((1,))
    dense = ones_dense(1, name="out", kernel_regularizer="l2")
    model = losskit.Model(inputs, dense(inputs))
    model.compile(
        keras.optimizers.SGD(0.1),
        losskit.LossesContainer(
            "mse",
            loss_weights=weight(),
            regularization=losskit.Penalty(weight=300.0),
        ),
    )
    # y = 1.1 x, and the kernel goes from 1 to 0
    x = np.ones((4, 1), "float32")
    return model, (x, np.float32(1.1) * x)


def test_early_stopping_on_a_kind(tmp_path):
    model, (x, y) = shrinking()
    stop = keras.callbacks.EarlyStopping(
        monitor="val_compiled_loss",
        patience=2,
        restore_best_weights=True,
    )
    history = model.fit(
        x,
        y,
        epochs=9,
        verbose=0,
        validation_data=(x, y),
        callbacks=[*ours(tmp_path)[1:], stop],
    ).history
    assert len(history["loss"]) == 3
    assert np.all(np.diff(history["val_compiled_loss"]) > 0)
    assert np.all(np.diff(history["val_loss"]) < 0)
    # 1 - 0.1 * (0.5 * 2 * (1 - 1.1) + 300 * 0.01 * 2) after the best epoch
    assert model.get_weights()[0] == pytest.approx(0.41, rel=1e-5)


def test_checkpoint_of_the_best_epoch_of_a_term(tmp_path):
    path = tmp_path / "best.keras"
    keep = keras.callbacks.ModelCheckpoint(
        path, monitor="val_b_loss", mode="min", save_best_only=True
    )
    model = compiled_model(keras.optimizers.SGD(0.3), weight())
    history = fit(model, [*ours(tmp_path), keep], epochs=5).history
    restored = keras.saving.load_model(path)
    x, y = data()
    logs = restored.evaluate(x, y, batch_size=4, verbose=0, return_dict=True)
    best = int(np.argmin(history["val_b_loss"]))
    assert 0 < best
    for key in KEYS | {"b_weight"}:
        assert logs[key] == pytest.approx(history[f"val_{key}"][best], rel=1e-5)


def test_csv_logger_has_every_term(tmp_path):
    logger = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    callbacks = ours(tmp_path)
    fit(compiled_model(weight=weight()), [*callbacks, logger])
    with (tmp_path / "log.csv").open(newline="") as file:
        rows = [
            {key: float(value) for key, value in row.items()}
            for row in csv.DictReader(file)
        ]
    keys = KEYS | {"b_weight"}
    assert set(rows[0]) == {"epoch"} | keys | {f"val_{key}" for key in keys}
    assert rows == [pytest.approx(row) for row in callbacks[1].epochs]


def test_backup_and_restore_goes_on_as_if_nothing_had_been(tmp_path):
    def run(name, *more):
        """The rows of `TermHistory`, and the weights at the end."""
        folder = tmp_path / name
        keras.utils.set_random_seed(0)
        model = compiled_model("adam", weight())
        terms = TermHistory(
            epochs_file=folder / "epochs.csv",
            batches_file=folder / "batches.json",
            append=True,
        )
        callbacks = [
            SetLossWeight("beta", lambda step: 0.1 * step, by="step"),
            terms,
            TermTensorBoard(folder / "logs"),
            TerminateOnNonFiniteTerm(restore_weights=True),
            keras.callbacks.BackupAndRestore(folder / "backup"),
        ]
        fit(model, [*callbacks, *more], epochs=4)
        return [*terms.epochs, *terms.batches], model.get_weights()

    whole, expected = run("whole")
    with pytest.raises(KeyboardInterrupt):
        run("parts", Interrupt(2))
    parts, weights = run("parts")
    assert len(whole) == 4 + 8
    assert parts == [pytest.approx(row, rel=1e-5) for row in whole]
    for value, other in zip(weights, expected, strict=True):
        np.testing.assert_allclose(value, other, rtol=1e-5)


def test_tuner_finds_the_best_trial_of_a_term(tmp_path):
    def build(hp):
        scale = hp.Choice("weight", [0.0, 10.0])
        return compiled_model(keras.optimizers.SGD(0.05), scale)

    tuner = keras_tuner.GridSearch(
        build,
        objective=keras_tuner.Objective("val_b_loss", direction="min"),
        directory=tmp_path,
        project_name="terms",
    )
    x, y = data()
    terms = TermHistory()
    tuner.search(
        x,
        y,
        epochs=3,
        verbose=0,
        validation_data=(x, y),
        callbacks=[terms, TerminateOnNonFiniteTerm()],
    )
    trials = tuner.oracle.get_best_trials(2)
    # what is weighted is learned
    assert [trial.hyperparameters["weight"] for trial in trials] == [10.0, 0.0]
    for trial in trials:
        assert KEYS <= set(trial.metrics.metrics)
        assert trial.score == trial.metrics.get_best_value("val_b_loss")


def test_a_callback_list_of_ones_own():
    linear = losskit.schedules.Linear(0.0, 1.0, epochs=8)
    model = compiled_model(weight=linear)
    terms = TermHistory()
    callbacks = keras.callbacks.CallbackList(
        [terms], add_history=True, model=model
    )
    x, y = data()
    model.fit(x, y, epochs=2, verbose=0, callbacks=callbacks)
    assert terms.history["b_weight"] == pytest.approx([0.0, 1 / 8])
    # given again, it counts no epoch twice
    model.fit(x, y, epochs=2, verbose=0, callbacks=callbacks)
    assert terms.history["b_weight"] == pytest.approx([2 / 8, 3 / 8])
