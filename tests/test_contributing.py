"""The recipes of CONTRIBUTING.md run, and lead to what they promise."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import pytest

import keras_losskit

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
#: What the conformance kit calls the subject of each recipe.
RECIPES = ("loss", "weighting", "reduction", "layer")

#: The kit compiles each several times.
slow_if_compiled = pytest.mark.slow if keras.config.backend() != "torch" else ()


def section(title):
    """The text below a heading, up to the next of its level."""
    (text,) = re.findall(
        rf"^## {title}\n(.*?)(?=^## |\Z)", TEXT, re.DOTALL | re.MULTILINE
    )
    return text


def blocks(recipe):
    """`(language, path or None, code)` of the blocks of a recipe, in order.

    The path is the last file that the paragraph above the block names.
    """
    block = re.compile(r"(.*?)```(\w+)\n(.*?)```", re.DOTALL)
    for text, language, code in block.findall(section(f"Add a {recipe}")):
        paragraph = text.strip().split("\n\n")[-1]
        named = re.findall(r"`([\w./]+\.(?:py|md))`", paragraph)
        yield language, named[-1] if named else None, code


def hunks(diff):
    """`(old, new)` of each hunk of a diff."""
    for hunk in re.split(r"^@@\n", diff, flags=re.MULTILINE):
        lines = hunk.splitlines(keepends=True)
        yield tuple(
            "".join(line[1:] for line in lines if line[0] != other)
            for other in "+-"
        )


@pytest.fixture
def registered_only_here():
    """Take from Keras' registry what a recipe puts there."""
    objects = keras.saving.get_custom_objects()
    before = dict(objects)
    yield
    objects.clear()
    objects.update(before)


def imported(name, file):
    spec = importlib.util.spec_from_file_location(name, file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "recipe", [pytest.param(r, marks=slow_if_compiled) for r in RECIPES]
)
def test_code_of_a_recipe_conforms(
    recipe, tmp_path, monkeypatch, registered_only_here
):
    python = [b for b in blocks(recipe) if b[0] == "python"]
    assert sum(f"check_{recipe}(" in code for _, _, code in python) >= 1
    for number, (_, path, code) in enumerate(python):
        # A file, since TensorFlow reads the source of functions.
        file = tmp_path / f"block_{number}.py"
        file.write_text(code, encoding="utf-8")
        name = f"block_{number}"
        if path and path.startswith("keras_losskit/"):
            name = path.removesuffix(".py").replace("/", ".")
            assert not (ROOT / path).exists()
        monkeypatch.setitem(sys.modules, name, None)  # and back afterwards
        module = imported(name, file)
        for attribute, value in vars(module).items():
            if attribute.startswith("test_"):
                value()


def applied(recipe, tree):
    """Follow a recipe in a copy of the project."""
    for language, path, code in blocks(recipe):
        if path is None:
            continue
        file = tree / path
        if language == "python":
            assert not file.exists()
            file.write_text(code, encoding="utf-8")
            continue
        text = file.read_text(encoding="utf-8")
        for old, new in hunks(code):
            assert text.count(old) == 1, f"{path} has not once:\n{old}"
            text = text.replace(old, new)
        file.write_text(text, encoding="utf-8")


@pytest.fixture
def copy(tmp_path):
    """A copy of the project."""
    ignored = (".git", ".nox", ".venv", "__pycache__", "_build", ".*_cache")
    tree = tmp_path / "copy"
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*ignored))
    return tree


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_place_that_a_recipe_changes_is_there(recipe, copy):
    applied(recipe, copy)


#: Where a recipe's class is tested, and which of the tests there are on it.
TESTED = {
    "loss": (
        "losses",
        "cauchy or Cauchy or further_loss or heavy_tailed or every_loss",
    ),
    "weighting": ("weighting", "running or RunningScale or learned"),
    "reduction": ("reductions", "clipp or ClippedMean or registry"),
    "layer": ("layers", "anchor or Anchor or subclass"),
}


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_what_a_recipe_leads_to_passes_the_tests(recipe, copy):
    applied(recipe, copy)
    folder, select = TESTED[recipe]
    files = ("project", "docstrings", "typing", "docs")
    result = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *("-k", f"{select} or only or public or signature or choosing"),
            *(f"tests/{folder}", "tests/testing"),
            *(f"tests/test_{name}.py" for name in files),
        ],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stdout[-4000:]


def test_every_room_has_its_tests_in_the_table():
    table = section("What covers what")
    rows = re.findall(r"^\| (.*?) \| (.*?) \|$", table, re.MULTILINE)[1:]
    rooms = {
        path.name if path.suffix else f"{path.name}/"
        for path in Path(keras_losskit.__file__).parent.iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    named = {room for left, _ in rows for room in re.findall(r"`(.*?)`", left)}
    assert rooms - {"__init__.py"} <= named
    for _, right in rows:
        for path in right.strip("`").split():
            assert (ROOT / "tests" / path).exists(), path
