"""What the pictures show, read off the figures."""

import sys
import types

import keras
import matplotlib as mpl
import numpy as np
import pytest
from support.callback_models import compiled_model
from support.callback_models import data
from support.callback_models import fit

import keras_losskit as losskit
from keras_losskit.callbacks import TermHistory
from keras_losskit.plotting import _drawing

mpl.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402

pytestmark = pytest.mark.nightly("jax", "tensorflow")


@pytest.fixture(autouse=True)
def closed_afterwards():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def trained():
    """`(Keras' history, ours)` of a model with three kinds of terms."""
    keras.utils.set_random_seed(0)
    beta = losskit.schedules.Linear(0.5, 1.0, epochs=3)
    model = compiled_model(weight=beta, log="all")
    terms = TermHistory()
    return fit(model, [terms], epochs=4, validation_freq=2), terms


def axes_of(figure):
    """`{title: axes}`, after the figure was drawn."""
    figure.canvas.draw()
    return {ax.get_title(): ax for ax in figure.axes}


def heights(area):
    """Height of an area over each of its abscissas."""
    x, y = area.get_paths()[0].vertices.T
    return np.array([np.ptp(y[x == value]) for value in np.unique(x)])


def areas(ax):
    """`{label: heights}`."""
    return {a.get_label(): heights(a) for a in ax.collections}


def lines(ax):
    """`{label: (epochs, values)}`."""
    return {line.get_label(): line.get_data() for line in ax.lines}


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


@pytest.mark.parametrize("which", [0, 1], ids=["History", "TermHistory"])
def test_kinds_are_stacked_to_the_loss(trained, which):
    history = trained[0].history
    axes = axes_of(losskit.plot_terms(trained[which]))
    kinds = ["compiled", "regularization", "activity"]
    for title, prefix in (
        ("Contributions to the loss, training", ""),
        ("validation", "val_"),
    ):
        drawn = areas(axes[title])
        assert list(drawn) == kinds
        for kind in kinds:
            expected = history[f"{prefix}{kind}_loss"]
            np.testing.assert_allclose(drawn[kind], expected, rtol=1e-5)
        np.testing.assert_allclose(
            sum(drawn.values()), history[f"{prefix}loss"], rtol=1e-5
        )
        epochs, loss = lines(axes[title])["loss"]
        # validation in every second epoch
        assert list(epochs) == ([1, 3] if prefix else [0, 1, 2, 3])
        np.testing.assert_array_equal(loss, history[f"{prefix}loss"])
    training = axes["Contributions to the loss, training"]
    assert legend(training) == [*kinds, "loss"]
    assert training.get_ylim() == axes["validation"].get_ylim()


def test_values_are_lines_dashed_in_validation(trained):
    history = trained[0].history
    ax = axes_of(losskit.plot_terms(trained[0]))[
        "Values of the terms, validation dashed"
    ]
    drawn = lines(ax)
    assert list(drawn) == ["a", "b", "_a", "_b"]
    for name in ("a", "b"):
        for label, prefix in ((name, ""), (f"_{name}", "val_")):
            values = history[f"{prefix}{name}_loss"]
            np.testing.assert_array_equal(drawn[label][1], values)
    styles = {line.get_label(): line.get_linestyle() for line in ax.lines}
    assert styles == {"a": "-", "b": "-", "_a": "--", "_b": "--"}
    colours = {line.get_label(): line.get_color() for line in ax.lines}
    assert colours["a"] == colours["_a"] != colours["b"] == colours["_b"]
    assert legend(ax) == ["a", "b"]
    assert ax.get_xlabel() == "epoch"


@pytest.mark.parametrize(
    ("epochs", "frequency", "expected"),
    [(3, 2, [1]), (8, 3, [2, 5]), (10, [1, 2, 10], [0, 1, 9])],
)
def test_validation_is_drawn_at_its_epochs(epochs, frequency, expected):
    history = fit(compiled_model(), epochs=epochs, validation_freq=frequency)
    axes = axes_of(losskit.plot_terms(history))
    drawn = lines(axes["Values of the terms, validation dashed"])
    assert list(drawn["a"][0]) == list(range(epochs))
    assert list(drawn["_a"][0]) == expected
    np.testing.assert_array_equal(drawn["_a"][1], history.history["val_a_loss"])


def test_terms_are_stacked_to_the_loss(trained):
    history = trained[0].history
    axes = axes_of(losskit.plot_terms(trained[0], stack="terms"))
    drawn = areas(axes["Contributions to the loss, training"])
    assert set(drawn) == {"a", "b", "a/kernel", "b/activity"}
    np.testing.assert_allclose(sum(drawn.values()), history["loss"], rtol=1e-5)
    np.testing.assert_allclose(drawn["b"], history["b_contribution"], rtol=1e-5)


def test_on_a_log_scale_contributions_are_lines(trained):
    axes = axes_of(losskit.plot_terms(trained[0], log_scale=True))
    ax = axes["Contributions to the loss, training"]
    assert not ax.collections
    assert list(lines(ax)) == [
        "compiled",
        "regularization",
        "activity",
        "loss",
    ]
    assert {ax.get_yscale() for ax in axes.values()} == {"log"}
    history = {"loss": [1.0, -1.0], "a_loss": [2.0, 3.0], "b_loss": [1.0, 1.0]}
    axes = axes_of(losskit.plot_terms(history, log_scale=True))
    assert axes["Contributions to the loss"].get_yscale() == "symlog"
    assert axes["Values of the terms"].get_yscale() == "log"


def test_negative_contributions_hang_below_zero():
    history = {
        "loss": [1.0, 2.0],
        "compiled_loss": [3.0, 2.5],
        "weighting_loss": [-2.0, -0.5],
    }
    (ax,) = axes_of(losskit.plot_terms(history)).values()
    compiled, weighting = ax.collections
    assert compiled.get_paths()[0].vertices[:, 1].min() == 0.0
    assert weighting.get_paths()[0].vertices[:, 1].max() == 0.0
    assert list(areas(ax)["weighting"]) == [2.0, 0.5]


def test_an_output_may_bear_the_name_of_a_kind():
    history = {
        "loss": [3.0],
        "total_activity_loss": [1.0],
        "compiled_loss": [2.0],
        "activity_loss": [5.0],
    }
    axes = axes_of(losskit.plot_terms(history))
    drawn = areas(axes["Contributions to the loss"])
    assert {name: h[0] for name, h in drawn.items()} == {
        "compiled": 2.0,
        "total_activity": 1.0,
    }
    assert list(lines(axes["Values of the terms"])) == ["activity"]


class AddsIn(losskit.layers.Layer):
    """Adds a loss in training only, or in evaluation only."""

    def __init__(self, phase):
        super().__init__()
        self.phase = phase

    def call(self, x, training=False):
        if bool(training) == (self.phase == "training"):
            self.add_loss(keras.ops.mean(x**2), name="size")
        return x


@pytest.mark.parametrize("log_scale", [False, True])
@pytest.mark.parametrize("phase", ["training", "evaluation"])
def test_a_loss_may_be_added_in_one_phase_only(phase, log_scale):
    inputs = keras.Input((2,))
    outputs = keras.layers.Dense(1)(AddsIn(phase)(inputs))
    model = losskit.Model(inputs, outputs)
    model.compile("sgd", "mse")
    x, y = data()
    history = model.fit(
        x, y["a"], epochs=2, verbose=0, validation_data=(x, y["a"])
    )
    prefix, title = "", "Contributions to the loss, training"
    other = "validation"
    if phase == "evaluation":
        prefix, title, other = "val_", other, title
    figure = losskit.plot_terms(history, log_scale=log_scale)
    axes = axes_of(figure)
    drawn = {ax.get_title(): [*areas(ax), *lines(ax)] for ax in axes.values()}
    # the other phase has one kind, which is its loss
    assert drawn[title] == ["compiled", "added", "loss"]
    assert set(drawn[other]) == {"loss"}
    (line,) = axes["Values of the terms, validation dashed"].lines
    values = history.history[f"{prefix}size_loss"]
    np.testing.assert_array_equal(line.get_data(), [[0, 1], values])
    assert line.get_linestyle() == ("--" if prefix else "-")
    assert legend(line.axes) == ["size"]
    training = axes["Contributions to the loss, training"]
    assert set(legend(training)) == {"compiled", "added", "loss"}


def test_a_kind_may_come_up_late():
    history = types.SimpleNamespace(
        history={
            "loss": [1.0, 3.0, 2.0],
            "compiled_loss": [1.0, 1.0],
            "added_loss": [2.0, 1.0],
        },
        epoch=[0, 1, 2],
        epochs_by_key={"compiled_loss": [1, 2], "added_loss": [1, 2]},
    )
    axes = axes_of(losskit.plot_terms(history))
    drawn = areas(axes["Contributions to the loss"])
    assert {key: list(h) for key, h in drawn.items()} == {"loss": [1, 3, 2]}
    drawn = lines(axes["Values of the terms"])
    assert {key: list(e) for key, (e, _) in drawn.items()} == {
        "compiled": [1, 2],
        "added": [1, 2],
    }


def test_one_term_and_one_epoch_can_be_seen():
    (ax,) = axes_of(losskit.plot_terms({"loss": [2.0]})).values()
    (area,) = ax.collections
    assert list(heights(area)) == [2.0, 2.0]
    assert np.ptp(area.get_paths()[0].vertices[:, 0]) == 1.0
    (line,) = ax.lines
    assert line.get_marker() == "o"


def marks(ax):
    """`{label: epochs}` of what marks values that are not finite."""
    return {
        line.get_label(): list(line.get_xdata())
        for line in ax.lines
        if line.get_gid() == _drawing.NOT_FINITE
    }


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("log_scale", [False, True])
def test_values_that_are_not_finite_leave_a_gap_and_a_mark(value, log_scale):
    history = {
        "loss": [2.0, 2.0, value, 2.0],
        "compiled_loss": [1.0, 1.0, value, 1.0],
        "activity_loss": [1.0, 1.0, 1.0, 1.0],
        "a_loss": [1.0, 1.0, value, 1.0],
        "b_loss": [1.0, 2.0, 3.0, 4.0],
    }
    figure = losskit.plot_terms(history, log_scale=log_scale)
    above, below = axes_of(figure).values()
    if not log_scale:
        (area,) = [x for x in above.collections if x.get_label() == "compiled"]
        drawn = np.unique(
            np.concatenate([p.vertices[:, 0] for p in area.get_paths()])
        )
        assert 2.0 not in drawn
        assert list(areas(above)["activity"]) == [1.0] * 4
        # as high as what is left
        assert 2.0 <= above.get_ylim()[1] < 2.5
    assert marks(above) == {"compiled not finite": [2]}
    assert marks(below) == {"a not finite": [2]}
    colour = {line.get_label(): line.get_color() for line in below.lines}
    assert colour["a not finite"] == colour["a"] != colour["b"]
    assert "compiled not finite" in legend(above)


def test_a_term_has_one_colour_in_both_panels():
    history = {
        "loss": [6.0, 3.0],
        "b_loss": [1.0, 1.0],
        "a_loss": [2.0, 2.0],
        "c_contribution": [1.0, 1.0],
        "a_contribution": [2.0, 1.0],
        "b_contribution": [3.0, 1.0],
    }
    figure = losskit.plot_terms(history, stack="terms")
    above, below = axes_of(figure).values()
    areas_of = {x.get_label(): x.get_facecolor()[0] for x in above.collections}
    lines_of = {x.get_label(): x.get_color() for x in below.lines}
    for name in ("a", "b"):
        area = mpl.colors.to_hex(areas_of[name])
        assert area == lines_of[name].lower()
    assert len({mpl.colors.to_hex(x) for x in areas_of.values()}) == 3


def test_lines_that_coincide_are_seen_beside_one_another():
    history = {
        "loss": [3.0, 2.0, 1.0],
        "a_loss": [3.0, 2.0, 1.0],
        "b_loss": [3.0, 2.0, 1.0001],
        "c_loss": [3.0, 2.0, 4.0],
        "val_loss": [3.0, 2.0, 1.0],
        "val_a_loss": [3.0, 2.0, 1.0],
        "val_b_loss": [1.0, 1.0, 1.0],
        "val_c_loss": [1.0, 1.0, 1.0],
    }
    ax = axes_of(losskit.plot_terms(history))[
        "Values of the terms, validation dashed"
    ]
    widths = {line.get_label(): line.get_linewidth() for line in ax.lines}
    # "a" lies under "b" and under its own validation
    assert widths["a"] > widths["b"] == widths["c"] == widths["_a"]
    assert widths["a"] == _drawing.LINE + 2 * _drawing.BAND
    assert widths["_b"] > widths["_c"]


@pytest.mark.parametrize("log_scale", [False, True])
def test_a_single_series_is_named_once(log_scale):
    history = {"loss": [2.0, 1.0]}
    figure = losskit.plot_terms(history, log_scale=log_scale)
    (ax,) = axes_of(figure).values()
    assert legend(ax) == ["loss"]


def test_weights(trained):
    ax = losskit.plot_weights(trained[0])
    ax.figure.canvas.draw()
    epochs, values = lines(ax)["b"]
    assert list(epochs) == [0, 1, 2, 3]
    assert values == pytest.approx([0.5, 2 / 3, 5 / 6, 1.0])
    assert legend(ax) == ["b"]
    given = plt.subplots()[1]
    assert losskit.plot_weights(trained[1], ax=given) is given
    with pytest.raises(ValueError, match="Expected weights.*Received.*'loss'"):
        losskit.plot_weights({"loss": [1.0]})


def test_gradient_conflicts():
    cosines = np.array([[1.0, 0.25, -1.0], [0.25, 1.0, 0.0], [-1.0, 0.0, 1.0]])
    report = types.SimpleNamespace(names=["a", "b", "c"], cosines=cosines)
    ax = losskit.plot_gradient_conflicts(report)
    ax.figure.canvas.draw()
    (image,) = ax.images
    np.testing.assert_array_equal(image.get_array(), cosines)
    assert image.get_clim() == (-1.0, 1.0)
    for labels in (ax.get_xticklabels(), ax.get_yticklabels()):
        assert [label.get_text() for label in labels] == ["a", "b", "c"]
    texts = {text.get_position(): text.get_text() for text in ax.texts}
    # (column, row)
    assert texts[(2, 0)] == "-1.00"
    assert texts[(1, 0)] == "0.25"
    # a conflict is red, agreement blue, neither of them white
    red, white, blue = (image.to_rgba(value) for value in (-1.0, 0.0, 1.0))
    assert red[0] > red[2]
    assert blue[2] > blue[0]
    assert min(white[:3]) > 0.95
    report.cosines = cosines[:2]
    with pytest.raises(ValueError, match=r"\(3, 3\).*Received: shape \(2, 3\)"):
        losskit.plot_gradient_conflicts(report)


def test_all_of_it_is_inside_800_pixels(trained):
    names = ["encoder/some_block/dense/kernel", "decoder/another/dense/kernel"]
    history = {f"{name}_contribution": [1.0, 1.0] for name in names}
    history |= {"loss": [2.0, 2.0], "x_loss": [1.0, 1.0]}
    figures = [
        losskit.plot_terms(history, stack="terms"),
        losskit.plot_terms(trained[0]),
        losskit.plot_weights(trained[0]).figure,
        losskit.plot_gradient_conflicts(
            types.SimpleNamespace(names=names, cosines=np.eye(2))
        ).figure,
    ]
    for figure in figures:
        figure.canvas.draw()
        assert figure.canvas.get_width_height()[0] == 800
        box = figure.get_tightbbox()
        assert 0 <= box.x0
        assert box.x1 <= _drawing.WIDTH
        assert 0 <= box.y0
        # text of 8 points at least
        for ax in figure.axes:
            texts = [*ax.get_xticklabels(), *ax.get_yticklabels(), ax.title]
            texts += ax.get_legend().get_texts() if ax.get_legend() else []
            assert min(text.get_fontsize() for text in texts) >= 8


def contrast(one, other):
    """Contrast of two colours by the formula of the WCAG."""

    def luminance(colour):
        rgb = np.array(mpl.colors.to_rgb(colour))
        linear = np.where(
            rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4
        )
        return linear @ [0.2126, 0.7152, 0.0722]

    light, dark = sorted([luminance(one), luminance(other)], reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_series_differ_in_colour_or_else_in_marker_and_hatch():
    count = 2 * len(_drawing.COLOURS)
    history = {f"{i}_loss": [1.0, 2.0] for i in range(count)}
    history |= {f"{i}_contribution": [1.0, 2.0] for i in range(count)}
    history["loss"] = [count, 2 * count]
    axes = axes_of(losskit.plot_terms(history, stack="terms"))
    looks = {
        (line.get_color(), line.get_marker())
        for line in axes["Values of the terms"].lines
    }
    assert len(looks) == count
    stack = axes["Contributions to the loss"].collections
    assert len({(*a.get_facecolor()[0], a.get_hatch()) for a in stack}) == count
    # the first ones stand out from white
    assert all(contrast(c, "white") > 2 for c in _drawing.COLOURS[:5])


def test_shows_nothing(monkeypatch):
    monkeypatch.setattr(plt, "show", lambda: pytest.fail("shown"))
    losskit.plot_terms({"loss": [1.0]})


def test_errors(monkeypatch):
    with pytest.raises(ValueError, match="key 'loss'.*Received: keys"):
        losskit.plot_terms({"accuracy": [1.0]})
    with pytest.raises(ValueError, match="an epoch or more. Received: none"):
        losskit.plot_terms({"loss": []})
    with pytest.raises(ValueError, match="Received: keys \\['a_loss'\\]"):
        losskit.plot_terms({"loss": [], "a_loss": [1.0]})
    with pytest.raises(ValueError, match="`stack`.*Received: 'all'"):
        losskit.plot_terms({"loss": [1.0]}, stack="all")
    with pytest.raises(ValueError, match='log="all"'):
        losskit.plot_terms({"loss": [1.0]}, stack="terms")
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"pip install keras_losskit\[plot\]"):
        losskit.plot_terms({"loss": [1.0]})
