"""`TermTensorBoard`: what stands in the event files."""

import struct
import sys
from pathlib import Path

import keras
import pytest
from support.callback_models import Several
from support.callback_models import compiled_model
from support.callback_models import fit
from support.callback_models import with_metric
from tensorboardX.proto import event_pb2
from tensorboardX.proto import layout_pb2

from keras_losskit.callbacks import TermHistory
from keras_losskit.callbacks import TermTensorBoard


def events(folder):
    """The events of a folder, in the order of its files."""
    for path in sorted(Path(folder).glob("events.out.*")):
        content = path.read_bytes()
        while content:
            # length, its checksum, the record and its checksum
            (length,) = struct.unpack("<Q", content[:8])
            yield event_pb2.Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]


def scalars(folder):
    """`{tag: {step: value}}`."""
    found = {}
    for event in events(folder):
        for value in event.summary.value:
            if value.WhichOneof("value") == "simple_value":
                steps = found.setdefault(value.tag, {})
                steps[event.step] = value.simple_value
    return found


def charts(folder):
    """`{title: [patterns]}` of the custom scalars."""
    for event in events(folder):
        for value in event.summary.value:
            if value.metadata.plugin_data.plugin_name == "custom_scalars":
                layout = layout_pb2.Layout.FromString(
                    value.tensor.string_val[0]
                )
                (category,) = layout.category
                return {
                    chart.title: list(chart.multiline.tag)
                    for chart in category.chart
                }


def variable():
    return keras.Variable(0.5, name="beta", trainable=False)


def test_epochs_stand_under_their_kinds(tmp_path):
    history = fit(
        compiled_model(weight=variable()), [TermTensorBoard(tmp_path)]
    ).history
    tags = {
        "loss": "loss",
        "compiled/compiled_loss": "compiled_loss",
        "compiled/a_loss": "a_loss",
        "compiled/b_loss": "b_loss",
        "compiled/b_weight": "b_weight",
        "regularization/regularization_loss": "regularization_loss",
        "activity/activity_loss": "activity_loss",
    }
    for run, prefix in (("train", ""), ("validation", "val_")):
        found = scalars(tmp_path / run)
        for tag, key in tags.items():
            expected = dict(enumerate(history[prefix + key]))
            assert found.pop(tag) == pytest.approx(expected)
        assert set(found) == {
            "stacked/compiled_loss",
            "stacked/regularization_loss",
            "stacked/activity_loss",
        }
        # the top of the stack is the whole
        total = dict(enumerate(history[prefix + "loss"]))
        assert found["stacked/activity_loss"] == pytest.approx(total, rel=1e-5)
        first = dict(enumerate(history[prefix + "compiled_loss"]))
        assert found["stacked/compiled_loss"] == pytest.approx(first)


def test_charts_of_the_kinds(tmp_path):
    model = compiled_model(weight=variable(), log="all")
    fit(model, [TermTensorBoard(tmp_path)], epochs=1)
    assert charts(tmp_path / "train") == charts(tmp_path / "validation")
    assert charts(tmp_path / "train") == {
        "contributions, stacked": [
            "^stacked/compiled_loss$",
            "^stacked/regularization_loss$",
            "^stacked/activity_loss$",
            # the layers are Keras' own, but the model might add one
            "^stacked/added_loss$",
        ],
        "compiled: values": ["^compiled/a_loss$", "^compiled/b_loss$"],
        "compiled: contributions": [
            "^compiled/a_contribution$",
            "^compiled/b_contribution$",
        ],
        "regularization: contributions": [
            "^regularization/a/kernel_contribution$"
        ],
        "activity: contributions": ["^activity/b/activity_contribution$"],
        "weights": ["^compiled/b_weight$"],
    }
    # a chart shows what there is
    shown = {t for c in charts(tmp_path / "train").values() for t in c}
    tags = {f"^{tag}$" for tag in scalars(tmp_path / "train")}
    assert shown - tags == {"^stacked/added_loss$"}


def test_batches(tmp_path):
    board, terms = (
        TermTensorBoard(tmp_path, every=2),
        TermHistory(batches=True),
    )
    fit(compiled_model(), [board, terms], epochs=2, batch_size=2)
    found = scalars(tmp_path / "train")["batch/compiled/a_loss"]
    values = [row["a_loss"] for row in terms.batches]
    # four batches in an epoch: means of two, at the step of the second
    assert found == pytest.approx(
        {step: (values[step - 1] + values[step]) / 2 for step in (1, 3, 5, 7)},
        rel=1e-5,
    )
    assert len(scalars(tmp_path / "train")["compiled/a_loss"]) == 2


def test_batches_that_are_left_are_written_at_the_end_of_an_epoch(tmp_path):
    terms = TermHistory(batches=True)
    board = TermTensorBoard(tmp_path, every=3)
    fit(compiled_model(), [board, terms], epochs=1, batch_size=2)
    found = scalars(tmp_path / "train")["batch/compiled/a_loss"]
    values = [row["a_loss"] for row in terms.batches]
    expected = {2: sum(values[:3]) / 3, 3: values[3]}
    assert found == pytest.approx(expected, rel=1e-5)


def test_a_metric_of_several_values_is_left_out(tmp_path):
    fit(with_metric(Several(name="m")), [TermTensorBoard(tmp_path)])
    found = scalars(tmp_path / "train")
    assert sorted(found["loss"]) == [0, 1, 2]
    assert not any("a_m" in tag for tag in found)


def test_a_resumed_run_goes_on_in_the_folder(tmp_path):
    model = compiled_model()
    fit(model, [TermTensorBoard(tmp_path)], epochs=2)
    fit(model, [TermTensorBoard(tmp_path)], epochs=3, initial_epoch=2)
    assert sorted(scalars(tmp_path / "train")["loss"]) == [0, 1, 2]


def test_config_and_errors(monkeypatch):
    config = TermTensorBoard("there", every=3).get_config()
    assert TermTensorBoard.from_config(config).get_config() == config
    with pytest.raises(ValueError, match="`every`.*Received: 0"):
        TermTensorBoard(every=0)
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ImportError, match=r"keras_losskit\[tensorboard\]"):
        TermTensorBoard()


@pytest.mark.skipif(
    keras.config.backend() == "tensorflow", reason="TensorFlow is there"
)
def test_keras_own_callback_needs_tensorflow(tmp_path):
    # why there is one here; once this fails, the stock one may suffice
    callback = keras.callbacks.TensorBoard(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="tensorflow"):
        fit(compiled_model(), [callback])
