"""The page of `LiveReport` while `fit` runs, and after it was killed."""

import subprocess
import sys

import keras
import pytest
from support.callback_models import Several
from support.callback_models import compiled_model
from support.callback_models import fit
from support.callback_models import with_metric
from support.pages import data_of
from support.pages import pictures
from support.processes import with_own_paths

import keras_losskit as losskit
from keras_losskit.callbacks import LiveReport


class Reads(keras.callbacks.Callback):
    """Reads a page after every batch."""

    def __init__(self, path):
        super().__init__()
        self.path, self.pages = path, []

    def on_train_batch_end(self, batch, logs=None):
        if self.path.exists():
            self.pages.append(data_of(self.path.read_text("utf-8")))


def test_the_page_is_whole_while_it_trains_and_complete_at_the_end(
    tmp_path, monkeypatch
):
    # Written after every epoch, however long that takes.
    monkeypatch.setattr("keras_losskit.callbacks.live_report.SHARE", 1e9)
    path = tmp_path / "live.html"
    reads = Reads(path)
    history = fit(compiled_model(), [LiveReport(path), reads], epochs=11)
    assert len(reads.pages) == 20  # two batches an epoch, but for the first
    for index, page in enumerate(reads.pages):
        assert page["live"] == 2.0
        loss = pictures(page["sections"][0])[
            "Contributions to the loss, training"
        ]
        epochs = 1 + index // 2
        assert loss["loss", False]["y"] == history.history["loss"][:epochs]
    final = data_of(path.read_text("utf-8"))
    assert final["live"] is None
    whole = losskit.report(history, tmp_path / "report.html")
    assert final["sections"] == data_of(whole.html)["sections"]


def test_a_metric_of_several_values_is_on_the_page(tmp_path):
    path = tmp_path / "live.html"
    fit(with_metric(Several(name="several")), [LiveReport(path)], epochs=2)
    (section,) = data_of(path.read_text("utf-8"))["sections"]
    metrics = pictures(section)["Metrics"]
    assert metrics["a_several[0]", False]["y"] == [0.25] * 2
    assert metrics["a_several[1]", True]["y"] == ["NaN"] * 2


class Clock(keras.callbacks.Callback):
    """Stands for `time`: a second for each look, and some for each epoch."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch, self.now = epoch, 0.0

    def perf_counter(self):
        self.now += 1.0
        return self.now

    def on_epoch_begin(self, epoch, logs=None):
        self.now += self.epoch


# A page is written in a second, which 0.5% of 200 seconds are.
@pytest.mark.nightly("jax", "tensorflow")
@pytest.mark.parametrize(("seconds", "count"), [(10, 1), (150, 2), (250, 3)])
def test_it_is_written_as_often_as_its_share_of_the_time_allows(
    seconds, count, tmp_path, monkeypatch
):
    path = tmp_path / "live.html"
    clock = Clock(seconds)
    monkeypatch.setattr("keras_losskit.callbacks.live_report.time", clock)
    reads = Reads(path)
    fit(compiled_model(), [clock, LiveReport(path), reads], epochs=4)
    # The page of the last epoch is read no more.
    assert len({page["written"] for page in reads.pages}) == count
    assert data_of(path.read_text("utf-8"))["live"] is None


WRITES = """
import sys, pathlib
from keras_losskit.web.page import page_of, sections, write_whole
path, k = pathlib.Path(sys.argv[1]), 1
while True:
    history = {"loss": [1.0] * 1000 * (1 + k % 3)}
    write_whole(page_of(sections(history), 2.0), path)
    k += 1
    print(k, flush=True)
"""


@pytest.mark.nightly("jax", "tensorflow")
def test_a_killed_process_leaves_a_whole_page(tmp_path):
    path = tmp_path / "live.html"
    command = [sys.executable, "-c", WRITES, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        for _ in range(20):
            process.stdout.readline()
        process.kill()
    page = path.read_text("utf-8")
    assert page.endswith("</html>\n")
    assert data_of(page)["live"] == 2.0


TRAINS = """
import sys
import keras
from support.callback_models import compiled_model, fit
from keras_losskit.callbacks import LiveReport, live_report

live_report.SHARE = 1e9
say = keras.callbacks.LambdaCallback(
    on_epoch_end=lambda epoch, logs: print("epoch", epoch, flush=True))
fit(compiled_model(), [LiveReport(sys.argv[1]), say], epochs=10**6)
"""


@pytest.mark.nightly("jax", "tensorflow")
def test_a_killed_training_leaves_a_whole_page(tmp_path):
    path = tmp_path / "live.html"
    command = [sys.executable, "-c", TRAINS, str(path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=with_own_paths()
    ) as process:
        for line in process.stdout:
            if line == "epoch 20\n":
                process.kill()
    page = path.read_text("utf-8")
    assert page.endswith("</html>\n")
    (first, *_) = pictures(data_of(page)["sections"][0]).values()
    (line, *_) = first.values()
    assert len(line["y"]) >= 20


def test_what_cannot_be_used_is_refused(tmp_path):
    with pytest.raises(TypeError, match="`path` of LiveReport"):
        LiveReport(5)
    with pytest.raises(ValueError, match="`refresh` of LiveReport"):
        LiveReport(tmp_path / "a.html", refresh=0.0)
    with pytest.raises(ValueError, match="a file. Received: .* is a folder"):
        LiveReport(tmp_path)


def test_config_gives_the_callback_back(tmp_path):
    live = LiveReport(tmp_path / "a.html", refresh=3.0)
    config = live.get_config()
    assert LiveReport.from_config(config).get_config() == config
