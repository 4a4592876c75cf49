"""Every example runs, and what it prints is true; so does the README."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import pytest

import keras_losskit

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
KINDS = ("compiled", "regularization", "activity", "added", "weighting")
BACKEND = keras.config.backend()


def run(arguments, folder):
    """What a Python process prints that starts in `folder`."""
    result = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "KERAS_BACKEND": BACKEND},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    return result.stdout


def log_lines(text):
    """The logs of every epoch in what `fit(verbose=2)` printed."""
    lines = re.sub(r"\s+- ", " - ", text).splitlines()
    logs = [
        dict(re.findall(r" - (\w+): ([-\d.e]+)", line))
        for line in lines
        if "/step - " in line
    ]
    return [{key: float(v) for key, v in log.items()} for log in logs]


def assert_kinds_sum_to_loss(log):
    """Train and validation keys of a log that shows four decimals."""
    for prefix in ("", "val_"):
        keys = [
            f"{prefix}{k}_loss" for k in KINDS if f"{prefix}{k}_loss" in log
        ]
        assert len(keys) > 1
        total = sum(log[key] for key in keys)
        assert total == pytest.approx(log[f"{prefix}loss"], abs=2.1e-4)


def assert_sums_are_right(text, count):
    """Every printed `loss 0.5 = 0.4 + 0.1`, names among the parts or not."""
    lines = re.findall(r"loss ([\d.]+) = (.*)", text)
    assert len(lines) == count
    for total, parts in lines:
        parts = [float(part) for part in re.findall(r"\d+\.\d+", parts)]
        assert len(parts) == 3
        assert sum(parts) == pytest.approx(float(total), abs=2.1e-4)


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quickstart")
    return folder, run([EXAMPLES / "quickstart.py"], folder)


def test_quickstart_logs_kinds_that_sum_to_the_loss(quickstart):
    _, text = quickstart
    logs = log_lines(text)
    assert len(logs) == 5
    for log in logs:
        assert_kinds_sum_to_loss(log)
        # 0.7 * ce + 0.3 * focal is the digit's loss, half the parity's on top
        digit = 0.7 * log["digit_ce_loss"] + 0.3 * log["digit_focal_loss"]
        assert digit == pytest.approx(log["digit_loss"], abs=2e-4)
        compiled = log["digit_loss"] + 0.5 * log["parity_loss"]
        assert compiled == pytest.approx(log["compiled_loss"], abs=2e-4)
    assert logs[-1]["val_loss"] < 0.5 * logs[0]["val_loss"]
    assert_sums_are_right(text, count=2)


def test_quickstart_saves_the_table_it_prints(quickstart):
    folder, text = quickstart
    table = (folder / "loss_summary.txt").read_text(encoding="utf-8")
    assert table in text
    rows = {
        line.split()[0]: line.split()[1:]
        for line in table.splitlines()
        if line.strip()
    }
    total = float(rows["loss"][0])
    assert total == pytest.approx(log_lines(text)[-1]["val_loss"], abs=1e-4)
    kinds = [float(rows[kind][0]) for kind in KINDS if kind in rows]
    assert len(kinds) == 3
    assert sum(kinds) == pytest.approx(total, abs=2.1e-4)
    terms = [
        float(row[-2])
        for row in rows.values()
        if {"output", "variable", "layer"} & set(row)
    ]
    assert len(terms) == 5
    assert sum(terms) == pytest.approx(total, abs=3e-4)


def test_custom_loop_shows_kinds_that_sum_to_the_loss(tmp_path):
    text = run([EXAMPLES / f"custom_loop_{BACKEND}.py"], tmp_path)
    assert_sums_are_right(text, count=3)
    names = re.findall(r"^  (\S+): \d", text, flags=re.MULTILINE)
    assert names == 3 * [
        "digit_ce",
        "digit_focal",
        "parity",
        "features/kernel",
        "features/activity",
    ]
    losses = [float(x) for x in re.findall(r"loss ([\d.]+) =", text)]
    assert losses[-1] < losses[0]


# ------------------------------------------------------------- code in Markdown


def sections(path):
    """`(heading, code)` of every section of a Markdown file with Python."""
    text = path.read_text(encoding="utf-8")
    for section in re.split(r"^## ", text, flags=re.MULTILINE):
        blocks = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
        if blocks:
            yield section.splitlines()[0], "\n".join(blocks)


def run_code(code, folder):
    file = folder / "snippet.py"
    file.write_text(code, encoding="utf-8")
    return run([file], folder)


def runs_here(code):
    """Whether what a piece of code imports belongs to this leg."""
    imported = re.findall(
        r"^import (jax|tensorflow|torch|tf_keras)\b", code, re.M
    )
    needed = {"tensorflow" if n == "tf_keras" else n for n in imported}
    return needed <= {BACKEND} and all(map(importlib.util.find_spec, imported))


MIGRATION = [
    pytest.param(code, id=heading)
    for heading, code in sections(EXAMPLES / "migrate_from_tf_keras.md")
]


@pytest.mark.nightly("jax")
@pytest.mark.parametrize("code", MIGRATION)
def test_code_of_the_migration_guide_runs(code, tmp_path):
    if not runs_here(code):
        pytest.skip("for another backend")
    run_code(code, tmp_path)


@pytest.mark.nightly("jax", "tensorflow")
def test_code_of_the_readme_runs(tmp_path):
    blocks = [code for _, code in sections(ROOT / "README.md")]
    run_code("\n".join(blocks), tmp_path)
    # What `unwrap` saved loads without this package.
    run_code(
        "import sys, keras\n"
        "keras.saving.load_model('plain.keras')\n"
        "assert 'keras_losskit' not in sys.modules",
        tmp_path,
    )


def test_a_newcomer_draws_a_picture_in_under_ten_lines(tmp_path):
    code = dict(sections(ROOT / "README.md"))["Install"]
    assert len([line for line in code.splitlines() if line]) < 10
    run_code(code, tmp_path)
    assert (tmp_path / "terms.png").read_bytes().startswith(b"\x89PNG")


def test_the_readme_shows_what_quickstart_prints(quickstart):
    _, text = quickstart
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (shown,), logged = log_lines(readme), log_lines(text)[-1]
    assert shown.keys() == logged.keys()
    assert_kinds_sum_to_loss(shown)
    assert_sums_are_right(readme, count=2)
    # Backends and machines differ in the random numbers they start from.
    assert shown["loss"] == pytest.approx(logged["loss"], rel=0.2)
    table = text[text.index("Where the loss") : text.index("Saved")]
    for line in table.splitlines()[1:]:
        # All but the numbers, which differ likewise.
        name = re.split(r"\s+[-\d]", line)[0].rstrip()
        assert f"\n{name}" in readme


def test_the_readme_links_to_every_example_and_no_other_file():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    linked = set(re.findall(r"\]\((?!https?:)([^)#]+)\)", readme))
    assert {path for path in linked if not (ROOT / path).exists()} == set()
    examples = {f"examples/{path.name}" for path in EXAMPLES.glob("*.*")}
    assert examples <= linked


def test_the_architecture_lists_every_room():
    layout = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    package = Path(keras_losskit.__file__).parent
    names = {
        path.name if path.suffix else f"{path.name}/"
        for path in package.iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    private = {"__init__.py"}
    missing = {name for name in names - private if name not in layout}
    assert not missing, "Name them in docs/architecture.md."


def test_files_that_the_architecture_names_are_there():
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    package = Path(keras_losskit.__file__).parent
    named = set(re.findall(r"`((?:\w+/)*\w+\.py|(?:\w+/)+)`", text))
    # In the list, the files of a package are indented below it.
    folder = None
    for line in text[text.index("```text") :].splitlines()[1:-1]:
        name = line.split()[0]
        if not line.startswith(" "):
            folder = name
        elif re.match(r"    \w", line):
            named.add(folder + (name if name[-1] == "/" else f"{name}.py"))
    assert len(named) > 30
    missing = sorted(
        n for n in named - {"keras_losskit/"} if not (package / n).exists()
    )
    assert not missing
