"""What stands on the page of `report`, compared with the history."""

import json
import math
from pathlib import Path

import keras
import numpy as np
import pytest
from support.callback_models import Several
from support.callback_models import compiled_model
from support.callback_models import data
from support.callback_models import fit
from support.callback_models import with_metric
from support.pages import HOSTILE
from support.pages import data_of
from support.pages import hostile_history
from support.pages import pictures
from support.pages import tables

import keras_losskit as losskit
from keras_losskit import web
from keras_losskit.callbacks import TermHistory

ASSETS = Path(web.__file__).parent / "assets"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def trained(folder):
    """Keras' history, ours, and the model."""
    keras.utils.set_random_seed(0)
    beta = losskit.schedules.Linear(0.5, 1.0, epochs=3)
    model = compiled_model(weight=beta, log="all")
    callbacks = [
        TermHistory(epochs_file=folder / "ours.json"),
        keras.callbacks.CSVLogger(str(folder / "deep.csv"), separator=";"),
    ]
    return fit(model, callbacks, epochs=4, validation_freq=2), callbacks, model


def sections(tmp_path, *args, **kwargs):
    page = losskit.report(*args, path=tmp_path / "report.html", **kwargs)
    assert page.path.read_text("utf-8") == page.html
    return data_of(page.html)["sections"]


def test_numbers_are_those_of_the_history(trained, tmp_path):
    history, (ours, _), _ = trained
    (section,) = sections(tmp_path, history)
    drawn = pictures(section)
    assert list(drawn) == [
        "Contributions to the loss, training",
        "Contributions, validation",
        "Shares of the loss",
        "Values of the terms",
        "Weights of the terms",
    ]
    values = drawn["Values of the terms"]
    assert set(values) == {(n, d) for n in "ab" for d in (False, True)}
    for label in "ab":
        line = values[label, False]
        assert (line["x"], line["y"]) == (
            [0, 1, 2, 3],
            history.history[f"{label}_loss"],
        )
        first, second = history.history[f"val_{label}_loss"]
        assert values[label, True]["y"] == [None, first, None, second]
        assert values[label, True]["colour"] == line["colour"]
    weight = drawn["Weights of the terms"]["b", False]
    assert weight["y"] == history.history["b_weight"]
    logged = tables(section)["All that is logged"]
    for key, (train, validation, *_) in logged.items():
        assert train == history.history[key][-1]
        assert validation == history.history[f"val_{key}"][-1]
    assert {f"val_{key}" for key in logged} | set(logged) == set(
        history.history
    )
    (same,) = sections(tmp_path, ours)
    assert pictures(same) == drawn


def test_areas_lie_on_one_another_up_to_the_loss(trained, tmp_path):
    history, _, _ = trained
    (section,) = sections(tmp_path, history)
    for title, prefix in (
        ("Contributions to the loss, training", ""),
        ("Contributions, validation", "val_"),
    ):
        drawn = pictures(section)[title]
        below = np.zeros(len(history.history[f"{prefix}loss"]))
        for (label, _), line in drawn.items():
            if label == "loss":
                break
            np.testing.assert_allclose(line["low"], below, rtol=1e-5)
            height = np.subtract(line["high"], line["low"])
            values = history.history[f"{prefix}{label}_contribution"]
            np.testing.assert_allclose(height, values, rtol=1e-3, atol=1e-5)
            below = np.array(line["high"])
        np.testing.assert_allclose(
            below, history.history[f"{prefix}loss"], rtol=1e-5
        )
    shares = pictures(section)["Shares of the loss"]
    total = sum(np.array(line["y"]) for line in shares.values())
    np.testing.assert_allclose(total, 1.0, rtol=1e-5)


def test_kinds_are_stacked_where_no_contribution_is_logged(tmp_path):
    history = {
        "loss": [3.0, 2.0],
        "compiled_loss": [4.0, 2.5],
        "added_loss": [-1.0, -0.5],
        "accuracy": [0.5, 0.75],
        "f1": [[0.1, 0.2], [0.3, 0.4]],
        "f1[0]": [0.9, 0.9],
        "recall": np.linspace(0.0, 1.0, 40).reshape(2, 20),
    }
    (section,) = sections(tmp_path, history)
    drawn = pictures(section)
    stack = drawn["Contributions to the loss"]
    added = stack["added", False]
    assert (added["low"], added["high"]) == ([-1.0, -0.5], [0.0, 0.0])
    assert drawn["Shares of the loss"]["added", False]["y"] == [-1 / 3, -0.25]
    assert drawn["Metrics"]["accuracy", False]["y"] == [0.5, 0.75]
    for index, values in enumerate(([0.1, 0.3], [0.2, 0.4])):
        assert drawn["Metrics"][f"f1[{index}]", False]["y"] == values
    assert drawn["Metrics"]["f1, mean", False]["y"] == pytest.approx(
        [0.15, 0.35]
    )
    means = drawn["Metrics"]["recall, mean", False]["y"]
    np.testing.assert_allclose(means, [9.5 / 39, 29.5 / 39])
    assert [name for name, _ in drawn["Metrics"]] == [
        *("accuracy", "f1[0]", "f1[1]", "f1, mean", "f1[0]_2", "recall, mean")
    ]
    assert "Values of the terms" not in drawn


def test_a_value_that_is_not_finite_is_named(tmp_path):
    (section,) = sections(tmp_path, hostile_history())
    line = pictures(section)["Values of the terms"][HOSTILE[0], False]
    assert line["y"][3] == "Infinity" and line["y"][5] == "NaN"
    assert all(isinstance(line["y"][k], float) for k in (0, 1, 2, 4, 6))


def test_a_loss_that_is_all_nan_has_a_page(tmp_path):
    history = {"loss": [math.nan] * 2, "compiled_loss": [math.nan] * 2}
    (section,) = sections(tmp_path, history | {"added_loss": [math.nan] * 2})
    stack = pictures(section)["Contributions to the loss"]
    assert stack["compiled", False]["low"] == ["NaN", "NaN"]


def test_hostile_names_leave_the_script(tmp_path):
    page = losskit.report(hostile_history(), tmp_path / "report.html")
    assert page.html.count("</script>") == 3  # the data, uPlot, ours
    assert "<img" not in page.html
    labels = {label for label, _ in pictures(data_of(page.html)["sections"][0])[
        "Values of the terms"
    ]}  # fmt: skip
    assert labels == set(HOSTILE)
    assert page._repr_html_().count("<") == 2  # a frame; its page is escaped


def test_files_are_read_as_the_history_is(trained, folder, tmp_path):
    history, _, _ = trained
    (whole,) = sections(tmp_path, history)
    compared, *runs = sections(tmp_path, folder)
    assert [run["title"] for run in runs] == ["deep", "ours"]
    for run in runs:
        drawn, expected = pictures(run), pictures(whole)
        assert list(drawn) == list(expected)
        for title, lines in expected.items():
            assert set(drawn[title]) == set(lines)
            for name, line in lines.items():
                found = drawn[title][name]
                assert (found["x"], found["y"]) == (line["x"], line["y"])
    loss = pictures(compared)["loss"]
    for name in ("deep", "ours"):
        assert loss[name, False]["y"] == history.history["loss"]
        assert loss[name, True]["y"][1::2] == history.history["val_loss"]
    last = tables(compared)["Last values"]
    assert last["a_loss"][0] == history.history["a_loss"][-1]


@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_a_file_of_batches_is_no_run(suffix, tmp_path):
    runs, target = tmp_path / "runs", tmp_path / "report.html"
    epochs, batches = (runs / f"{n}.{suffix}" for n in ("epochs", "batches"))
    terms = TermHistory(epochs_file=epochs, batches_file=batches)
    history = fit(compiled_model(), [terms]).history
    (only,) = sections(tmp_path, runs)
    drawn = pictures(only)["Contributions to the loss, training"]
    assert drawn["loss", False]["y"] == history["loss"]
    with pytest.raises(ValueError, match=r"each epoch\. Received: .* 'batch'"):
        losskit.report(batches, target)
    epochs.unlink()
    with pytest.raises(ValueError, match="Expected the folder .* each epoch"):
        losskit.report(runs, target)


@pytest.mark.parametrize("of", ["history", "logger", "csv", "json"])
def test_each_value_of_a_metric_of_several_is_drawn(of, tmp_path):
    """Each has a place in the pictures, from whatever it is read."""
    if of == "logger" and keras.__version__ < "3.15":
        pytest.skip("Keras writes what a tensor prints")
    files = {of: tmp_path / f"log.{of}" for of in ("csv", "json")}
    logger = keras.callbacks.CSVLogger(str(tmp_path / "log.csv"))
    history = fit(
        with_metric(Several(name="several")),
        [TermHistory(epochs_file=files[of]) if of in files else logger],
        epochs=2,
    )
    given = {"history": history, "logger": tmp_path / "log.csv"} | files
    (section,) = sections(tmp_path, given[of])
    metrics = pictures(section)["Metrics"]
    for dashed in (False, True):
        assert metrics["a_several[0]", dashed]["y"] == [0.25] * 2
        assert metrics["a_several[1]", dashed]["y"] == ["NaN"] * 2
        assert metrics["a_several, mean", dashed]["y"] == [0.25] * 2
    assert "a_several[1]" in tables(section)["All that is logged"]


def test_rows_that_differ_in_length_are_read(tmp_path):
    """A training was resumed with a metric more, or one class more."""
    path = tmp_path / "log.csv"
    path.write_text(
        'epoch,loss,f1\n0,2,0.5,9\n1,1,"[0.5, 1.0]"\n2,1,"[1, 2, 3]"\n'
    )
    for given in (path, tmp_path):
        (run,) = sections(tmp_path, given)
        metrics = pictures(run)["Metrics"]
        assert metrics["f1[0]", False]["y"] == [0.5, 0.5, 1.0]
        assert metrics["f1[1]", False]["y"] == ["NaN", 1.0, 2.0]
        assert metrics["f1, mean", False]["y"] == [0.5, 0.75, 2.0]


def test_trainings_in_one_file_follow_one_another(tmp_path):
    path = tmp_path / "log.csv"
    loss = []
    for _ in range(2):
        csv = keras.callbacks.CSVLogger(str(path), append=True)
        loss += fit(compiled_model(), [csv], epochs=3).history["loss"]
    # epochs 0, 1, 2, 0, 1, 2: that in which another begins is 3
    compared, run, _ = sections(tmp_path, [path, {"loss": [1.0]}])
    title = "Contributions to the loss, training"
    for drawn in (pictures(run)[title]["loss", False],
                  pictures(compared)["loss"]["log", False]):  # fmt: skip
        assert (drawn["x"], drawn["y"]) == (list(range(6)), loss)
    # resumed in epoch 1, so that it and 2 give way
    path.write_text("epoch,loss\n0,9\n1,8\n2,7\n1,6\n2,5\n3,4\n")
    (run,) = sections(tmp_path, path)
    drawn = pictures(run)["Contributions to the loss"]["loss", False]
    assert (drawn["x"], drawn["y"]) == ([0, 1, 2, 3], [9.0, 6.0, 5.0, 4.0])


def test_names_of_files_differ(tmp_path):
    for name in ("a/log.csv", "b/log.csv", "b/log.json", "b/eval.csv"):
        file = tmp_path / "runs" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        rows = '[{"epoch": 0, "loss": 1.0}]'
        file.write_text(rows if "json" in name else "epoch,loss\n0,1.0\n")
    a, b = tmp_path / "runs/a", tmp_path / "runs/b"
    for given, names in (
        ([b / "eval.csv", b / "log.csv"], ["eval", "log"]),
        ([a / "log.csv", b / "log.csv"], ["a/log", "b/log"]),
        ([str(a), b / "log.csv"], ["a/log", "b/log"]),
        ([b / "log.csv", b / "log.json"], ["log.csv", "log.json"]),
        ([a, a, {"loss": [1.0]}], ["log.csv (1)", "log.csv (2)", "run 3"]),
        (a.parent, ["a/log.csv", "b/eval.csv", "b/log.csv", "b/log.json"]),
    ):
        compared, *runs = sections(tmp_path, given)
        assert [run["title"] for run in runs] == names
        assert [n for n, _ in pictures(compared)["loss"]] == names
    with pytest.raises(ValueError, match="differ from one another. Received"):
        sections(tmp_path, [a, b / "log.csv"], names=["one", "one"])


def test_a_file_from_a_spreadsheet_is_read(tmp_path):
    path = tmp_path / "runs" / "LOG.CSV"
    path.parent.mkdir()
    path.write_bytes(b"\xef\xbb\xbfepoch;loss\r\n0;2.0\r\n1;1.5\r\n")
    for given in (path, path.parent):
        (run,) = sections(tmp_path, given)
        drawn = pictures(run)["Contributions to the loss"]["loss", False]
        assert (drawn["x"], drawn["y"]) == ([0, 1], [2.0, 1.5])


def test_a_history_without_loss_is_drawn_as_metrics(tmp_path):
    path = tmp_path / "gan.csv"
    path.write_text("epoch,d_loss,g_loss\n0,2,3\n1,1,4\n")
    for given in (path, tmp_path, {"d_loss": [2.0, 1.0], "g_loss": [3, 4]}):
        (run,) = sections(tmp_path, given)
        (drawn,) = pictures(run).items()
        values = {label: line["y"] for (label, _), line in drawn[1].items()}
        assert (drawn[0], values) == ("Metrics", {"d": [2, 1], "g": [3, 4]})
        assert tables(run)["All that is logged"]["g_loss"] == [4, "3 (0)"]
    compared, *_ = sections(tmp_path, [path, {"loss": [1.0, 2.0]}])
    assert list(pictures(compared)) == ["d_loss", "g_loss", "loss"]
    # `test_step` may be Keras' own
    (run,) = sections(tmp_path, {"d_loss": [2.0], "val_loss": [0.5]})
    drawn = pictures(run)
    assert list(drawn) == ["Contributions, validation", "Metrics"]
    assert drawn["Contributions, validation"]["loss", False]["y"] == [0.5]
    (run,) = sections(tmp_path, {"loss": [2.0], "val_fid": [0.5]})
    assert pictures(run)["Metrics"]["fid", True]["y"] == [0.5]


def test_runs_of_other_lengths_and_terms_are_compared(tmp_path):
    runs = [{"loss": [1.0, 0.5]}, {"loss": [2.0], "kl_loss": [0.25]}]
    compared, *_ = sections(tmp_path, runs, names=["one", "two"])
    drawn = pictures(compared)
    assert drawn["loss"]["two", False]["y"] == [2.0, None]
    assert list(drawn["kl_loss"]) == [("two", False)]
    assert tables(compared)["Last values"] == {
        "loss": [0.5, 2.0],
        "kl_loss": [None, 0.25],
    }


def test_a_model_and_a_batch_add_terms_and_gradients(trained, tmp_path):
    history, _, model = trained
    x, y = data()
    *_, section = sections(tmp_path, history, model=model, data=(x, y))
    found = tables(section)
    report = losskit.gradient_report(model, x, y)
    gradients = found["Gradients of the terms"]
    assert list(gradients) == report.names
    norms = [row[0] for row in gradients.values()]
    np.testing.assert_allclose(norms, report.norms, rtol=1e-5)
    cosines = list(found["Conflicts: cosines of the gradients"].values())
    np.testing.assert_allclose(cosines, report.cosines, rtol=1e-4, atol=1e-5)
    samples = losskit.sample_report(model, x, y)
    shown = found["Samples with the largest shares of the loss"]
    assert list(shown) == [str(name) for name in samples.ids]
    totals = [row[0] for row in shown.values()]
    np.testing.assert_allclose(totals, samples.total, rtol=1e-5)
    loss = model.evaluate(x, y, verbose=0, return_dict=True)["loss"]
    shown = found["Where the loss comes from"]["loss"][-2]
    assert float(shown) == pytest.approx(loss, abs=1e-4)
    *_, listed = sections(tmp_path, history, model=model)
    assert list(tables(listed)) == ["Where the loss comes from"]


def test_what_is_no_history_is_refused(tmp_path):
    target = tmp_path / "report.html"
    with pytest.raises(TypeError, match="Expected `history`"):
        losskit.report(5, target)
    with pytest.raises(ValueError, match="Expected a history of numbers"):
        losskit.report({"loss": [None]}, target)
    with pytest.raises(ValueError, match="an epoch or more. Received: none"):
        losskit.report({"loss": []}, target)
    with pytest.raises(ValueError, match="`path` of report to be a file. Rec"):
        losskit.report({"loss": [1.0]}, tmp_path)
    assert not list(tmp_path.parent.glob("*.part"))
    with pytest.raises(ValueError, match="Expected the folder .* CSVLogger"):
        losskit.report(tmp_path, target)
    with pytest.raises(ValueError, match="a name for each run, 2"):
        losskit.report([{"loss": [1.0]}] * 2, target, names=["one"])
    with pytest.raises(ValueError, match="Expected `model` beside `data`"):
        losskit.report({"loss": [1.0]}, target, data=([1.0], [1.0]))
    (tmp_path / "run.txt").write_text("epoch,loss")
    with pytest.raises(ValueError, match="which ends in one of"):
        losskit.report(tmp_path / "run.txt", target)
    (tmp_path / "run.csv").write_text("loss\n1.0\n")
    with pytest.raises(ValueError, match="an epoch in each row"):
        losskit.report(tmp_path / "run.csv", target)
    assert not target.exists()


def test_a_page_weighs_less_than_two_megabytes(tmp_path):
    epochs = np.linspace(2.0, 1.0, 200)
    history = {
        f"{prefix}term{k}_{what}": (epochs * (k + 1) / 3).tolist()
        for k in range(20)
        for prefix in ("", "val_")
        for what in ("loss", "contribution")
    }
    history |= {"loss": epochs.tolist(), "val_loss": epochs.tolist()}
    large = len(losskit.report(history, tmp_path / "large.html").html)
    small = len(losskit.report({"loss": [1.0]}, tmp_path / "small.html").html)
    assert small < 100_000
    assert large < 2_000_000


def test_the_bundle_is_the_version_that_its_name_says():
    (bundle,) = ASSETS.glob("uplot-*.min.js")
    version = bundle.name.removeprefix("uplot-").removesuffix(".min.js")
    assert f"uPlot (v{version})" in bundle.read_text("utf-8")[:80]
    assert "MIT License" in (ASSETS / "uplot-LICENSE.txt").read_text("utf-8")
    page = web.page.page_of([])
    assert f"uPlot (v{version})" in page and "The MIT License" in page


def test_json_has_no_number_that_json_has_not():
    text = web.page.as_json([math.nan, -math.inf, {"a": (1.5, None)}])
    assert json.loads(text) == ["NaN", "-Infinity", {"a": [1.5, None]}]
