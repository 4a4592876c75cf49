"""What a notebook shows, executed as Jupyter does."""

import ast
import html
import re

import pytest
from support.pages import data_of
from support.pages import pictures

pytestmark = pytest.mark.nightly("jax", "tensorflow")

CELLS = {
    "model": """
import numpy as np, keras, keras_losskit as losskit
from keras_losskit import callbacks, losses
inputs = keras.Input((2,))
dense = keras.layers.Dense(1, kernel_regularizer="l2")
model = losskit.Model(inputs, dense(inputs))
model.compile("sgd", ["mse", "mae"])
x, y = np.ones((4, 2)), np.zeros((4, 1))
""",
    "formula": """
0.7 * losses.MeanSquaredError(name="mse") + losses.MeanAbsoluteError(name="mae")
""",
    "summary": "losskit.summary(model, x, y)",
    "summary, kept": "table = losskit.summary(model, x, y)",
    "summary, later": "table",
    "gradients": "losskit.gradient_report(model, x, y)",
    "samples": "losskit.sample_report(model, x, y)",
    "live": """
live = callbacks.LiveReport("live.html", refresh=1e-3)
model.fit(x, y, epochs=5, callbacks=[live], verbose=0).history["mse_loss"]
""",
}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """`{cell: outputs}` of the notebook."""
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    from nbformat.v4 import new_code_cell
    from nbformat.v4 import new_notebook

    cells = [new_code_cell(source.strip()) for source in CELLS.values()]
    notebook = new_notebook(cells=cells)
    folder = str(tmp_path_factory.mktemp("notebook"))
    client = nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": folder}}
    )
    client.execute()
    return {
        name: [cell for cell in notebook_cell.outputs if "data" in cell]
        for name, notebook_cell in zip(CELLS, cells, strict=True)
    }


def html_of(outputs, cell):
    (output,) = outputs[cell]
    return output["data"]["text/html"]


@pytest.mark.parametrize(
    "cell",
    ["summary", "summary, kept", "summary, later", "gradients", "samples"],
)
def test_tables_are_shown_once(outputs, cell):
    table = html_of(outputs, cell)
    assert table.count("<table") == 1
    assert "mse" in table
    assert "mae" in table


def test_a_composite_is_its_formula(outputs):
    formula = re.sub("<[^>]*>", "", html_of(outputs, "formula"))
    assert formula == "0.7 * mse + mae"


def test_the_live_page_is_replaced_in_its_cell(outputs):
    page, loss = outputs["live"]
    assert page["output_type"] == "display_data"
    (framed,) = re.findall('srcdoc="([^"]*)"', page["data"]["text/html"])
    data = data_of(html.unescape(framed))
    assert data["live"] is None
    lines = pictures(data["sections"][0])["Values of the terms"]
    expected = ast.literal_eval(loss["data"]["text/plain"])
    assert lines["mse", False]["y"] == pytest.approx(expected)
