"""What a notebook shows: tables, formulas, and hostile names as text."""

import html.parser
import io

import keras
import numpy as np
import pytest
from keras import ops
from rich.console import Console
from support.frameworks import jitted

import keras_losskit as losskit
from keras_losskit import LossTerm
from keras_losskit import LossTerms
from keras_losskit import losses

SCRIPT = "</script><img src=x onerror=alert(1)>"
HOSTILE = [
    SCRIPT,
    "x" * 10_000,
    "\u05d0\u05d1\u05d2 \u202eevil",
    "[red]a[/] [/nope]",
    "a & <b>\\",
]


class Reader(html.parser.HTMLParser):
    """The rows of a table, and every tag of the page."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.rows, self.words = set(), [], ""
        self.in_cell = False
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self.in_cell = True

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.in_cell = False

    def handle_data(self, data):
        self.words += data
        if self.in_cell:
            self.rows[-1][-1] += data


def shown(what):
    """What IPython takes: the bundle if there is one, as `rich` makes it."""
    if hasattr(what, "_repr_mimebundle_"):
        return Reader(what._repr_mimebundle_(None, None)["text/html"])
    return Reader(what._repr_html_())


def test_terms_are_a_row_each():
    terms = LossTerms(
        [
            LossTerm("mse", "compiled", ops.convert_to_tensor(4.0), 0.5),
            LossTerm("dense/kernel", "regularization", ops.ones(())),
        ]
    )
    assert shown(terms).rows == [
        ["term", "kind", "weight", "value", "contribution"],
        ["mse", "compiled", "0.5000", "4.0000", "2.0000"],
        ["dense/kernel", "regularization", "1.0000", "1.0000", "1.0000"],
        ["total", "", "", "", "3.0000"],  # 0.5 * 4 + 1
    ]


def test_terms_in_a_trace_have_no_numbers_yet():
    found = []

    def step(x):
        terms = LossTerms([LossTerm("mse", "compiled", x)])
        found.append(shown(terms).rows[1])
        return terms.total

    assert float(jitted(step)(2.0)) == 2.0
    assert found[0][:2] == ["mse", "compiled"]


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: name[:12])
def test_a_name_is_text(name):
    reader = shown(LossTerms([LossTerm(name, "compiled", 1.0)]))
    assert reader.rows[1][0] == name
    assert reader.tags == {
        *("table", "thead", "tbody", "tr", "th", "td", "bdi"),
    }


def test_a_composite_is_its_formula():
    loss = 0.7 * losses.MeanSquaredError(name="a<b") + 0.3 * (
        losses.MeanAbsoluteError(name="mae")
    )
    reader = shown(loss)
    assert reader.words == "0.7 * a<b + 0.3 * mae"
    assert reader.tags == {"code", "bdi"}


def test_a_container_is_a_row_per_argument():
    ce, focal = losses.Poisson(name="ce"), losses.Tversky(name="focal")
    container = losskit.LossesContainer(
        {"digit": ce + 2 * focal, "<i>": "mse"},
        loss_weights=[1.0, 0.5],
        extra_terms={"robust": losskit.extra.FGSM(epsilon=0.1)},
        activity=None,
    )
    assert shown(container).rows == [
        ["argument", "of", "is"],
        ["losses", "digit", "ce + 2 * focal"],
        ["losses", "<i>", "'mse'"],
        ["loss_weights", "0", "1.0"],
        ["loss_weights", "1", "0.5"],
        ["regularization", "", repr(losskit.Penalty())],
        ["activity", "", "None"],
        ["added", "", repr(losskit.Penalty())],
        ["extra_terms", "robust", repr(container.extra_terms["robust"])],
    ]


@pytest.fixture(scope="module")
def model():
    inputs = keras.Input((1,))
    out = keras.layers.Dense(1, kernel_initializer="ones", name="out")(inputs)
    model = losskit.Model(inputs, out)
    # No `Loss`: its name opens a scope, for which there are rules.
    model.compile(
        loss=losskit.LossesContainer(
            extra_terms={
                SCRIPT: losskit.extra.FromLayer("out", ops.square),
                "[/nope]": losskit.extra.FromLayer("out", ops.abs, weight=3.0),
            }
        )
    )
    return model


X, Y = np.ones((2, 1), "float32"), np.zeros((2, 1), "float32")


def test_a_summary_is_a_table_with_its_names_as_text(model):
    file = io.StringIO()
    table = losskit.summary(model, X, Y, console=Console(file=file))
    assert SCRIPT in file.getvalue() and "[/nope]" in file.getvalue()
    reader = shown(table)
    assert "img" not in reader.tags and "script" not in reader.tags
    rows = {row[0].strip(): row[1:] for row in reader.rows}
    # (1 - 0) ** 2, and 3 * |1 - 0|
    assert rows[SCRIPT][2:] == ["1.0000", "1.0000", "1.0000", "25.0%"]
    assert rows["[/nope]"][2:] == ["3.0000", "1.0000", "3.0000", "75.0%"]
    assert rows["loss"] == ["", "", "", "", "4.0000", "100.0%"]


def test_a_gradient_report_is_a_table_with_its_names_as_text(model):
    report = losskit.gradient_report(model, X, Y)
    assert SCRIPT in str(report)
    reader = shown(report)
    assert "img" not in reader.tags
    assert reader.rows[0] == [
        *("term", "norm", "share", f"cos {SCRIPT}", "cos [/nope]"),
    ]
    # The gradients by weight and bias: (2, 2), and 3 * (1, 1).
    assert reader.rows[1] == [SCRIPT, "2.83", "40.0%", "+1.00", "+1.00"]
    assert reader.rows[2] == ["[/nope]", "4.24", "60.0%", "+1.00", "+1.00"]
    assert "conflict rate 0%" in reader.words
