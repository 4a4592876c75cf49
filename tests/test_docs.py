"""The code of every page of the documentation runs, in order, as it stands."""

import re
import runpy
from pathlib import Path

import keras
import pytest

DOCS = Path(__file__).parents[1] / "docs"
#: The guide from tf.keras is an example, which `test_examples` runs.
PAGES = sorted(
    path
    for path in DOCS.rglob("*.md")
    if "_build" not in path.parts and "```python" in path.read_text()
)


@pytest.fixture
def one_device():
    """Undo what a page says about devices."""
    yield
    keras.distribution.set_distribution(None)


@pytest.mark.nightly("jax", "tensorflow")
@pytest.mark.parametrize(
    "page", PAGES, ids=lambda path: str(path.relative_to(DOCS))
)
def test_code_of_a_page_runs(page, tmp_path, monkeypatch, one_device):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    # A file, since TensorFlow reads the source of functions.
    script = tmp_path / "page.py"
    script.write_text("\n".join(blocks))
    runpy.run_path(str(script))


def test_pages_are_found():
    assert len(PAGES) == 17


def test_every_page_is_in_a_table_of_contents():
    listed = re.findall(
        r"^(\w+(?:/\w+)?)$", (DOCS / "index.md").read_text(), re.M
    )
    pages = {
        str(path.relative_to(DOCS).with_suffix(""))
        for path in DOCS.rglob("*.md")
        if "_build" not in path.parts
    }
    assert set(listed) == pages - {"index"}
