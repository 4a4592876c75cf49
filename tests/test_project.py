"""What the project promises of itself, whatever the package computes."""

import ast
import functools
import importlib
import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import keras
import pytest

import keras_losskit

ROOT = Path(__file__).parents[1]
PACKAGE = Path(keras_losskit.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
FRAMEWORKS = {"jax", "tensorflow", "torch"}
CLAIMED = os.environ.get("LOSSKIT_TEST_BACKEND")


def imported_modules(source):
    """Names of the modules that `source` imports, at any depth."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module
            yield from (f"{node.module}.{a.name}" for a in node.names)
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func).endswith("import_module")
            and node.args
            and isinstance(node.args[0], ast.Constant)
        ):
            yield node.args[0].value


def frameworks_imported(source):
    return {name.split(".")[0] for name in imported_modules(source)} & (
        FRAMEWORKS
    )


@functools.cache
def keras_private_names():
    """Private names that Keras' layers, models and trainers bear."""
    source = Path(keras.__file__).parent / "src"
    files = [
        source / "layers/layer.py",
        source / "losses/loss.py",
        source / "models/functional.py",
        source / "models/model.py",
        source / "models/sequential.py",
        source / "ops/operation.py",
        source / "trainers/compile_utils.py",
        source / "trainers/trainer.py",
    ]
    pattern = re.compile(r"\bself\.(_[a-z]\w*)")
    return {
        name for file in files for name in pattern.findall(file.read_text())
    }


def is_name(node, name):
    return isinstance(node, ast.Name) and node.id == name


def own_attributes(tree):
    """`self._x` in classes without a base: their own, whatever its name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and not node.bases:
            for part in ast.walk(node):
                if isinstance(part, ast.Attribute) and is_name(
                    part.value, "self"
                ):
                    yield part


def private_names_used(source):
    """Private Keras names in `source`, as attributes, strings or methods."""
    names = {m for m in imported_modules(source) if m.startswith("keras.src")}
    tree = ast.parse(source)
    own = set(own_attributes(tree))
    for node in ast.walk(tree):
        if node in own:
            continue
        if isinstance(node, ast.Attribute):
            names.add(node.attr)
            if node.attr == "src" and is_name(node.value, "keras"):
                names.add("keras.src")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names.add(node.value)
        elif isinstance(node, ast.FunctionDef):
            names.add(node.name)
    private = keras_private_names()
    return {n for n in names if n in private or n.startswith("keras.src")}


def python(*args, **env):
    return subprocess.run(
        [sys.executable, *args],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=300,
    )


# Keras imports matplotlib where it finds it, so it is forgotten in between:
# whatever is there afterwards was imported by keras_losskit.
IMPORT_AND_LOOK = """
import sys
import keras

optional = {"matplotlib", "pandas", "sklearn"}
heavy = optional | {"jax", "tensorflow", "torch"}
for name in list(sys.modules):
    if name.split(".")[0] in optional:
        del sys.modules[name]
before = set(sys.modules)
import keras_losskit

print(heavy & (set(sys.modules) - before))
"""


def test_import_is_light():
    result = python("-c", IMPORT_AND_LOOK)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "set()"


IMPORT_AND_ASK = """
import importlib
import pkgutil
import sys
import keras
import keras_losskit

def registered():
    return set(keras.saving.get_custom_objects())

def loaded(package):
    return f"keras_losskit.{package}" in sys.modules

later = ("callbacks", "plotting", "reports", "testing")
print([package for package in later if loaded(package)])
print(set(keras_losskit.__all__) - set(dir(keras_losskit)))
before = registered()
for name in keras_losskit.__all__:
    getattr(keras_losskit, name)
print([package for package in later if not loaded(package)])
prefix = "keras_losskit."
for module in pkgutil.walk_packages(keras_losskit.__path__, prefix):
    if "_backend" not in module.name:
        importlib.import_module(module.name)
names = keras_losskit.callbacks.__all__
print(registered() - before - {f"keras_losskit>{name}" for name in names})
"""


def test_what_only_looks_at_a_loss_is_imported_when_asked_for():
    result = python("-c", IMPORT_AND_ASK)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split("\n")[:4] == ["[]", "set()", "[]", "set()"]


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = keras_losskit.nothing


@pytest.mark.skipif(CLAIMED is None, reason="no leg: no backend is claimed")
def test_a_leg_has_only_the_framework_it_claims():
    assert keras.config.backend() == CLAIMED
    others = FRAMEWORKS - {CLAIMED}
    assert not {name for name in others if importlib.util.find_spec(name)}


def test_a_leg_on_another_backend_than_it_claims_fails():
    result = python(
        *("-m", "pytest", "--collect-only", "-p", "no:cacheprovider"),
        *("--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml"), __file__),
        LOSSKIT_TEST_BACKEND="another",
    )
    assert result.returncode == 1
    assert "Expected the backend 'another'" in result.stdout + result.stderr


def test_changelog_has_a_section_for_this_version():
    version = keras_losskit.__version__
    changelog = (ROOT / "CHANGELOG.md").read_text()
    section = "Unreleased" if "dev" in version else version
    assert f"\n## [{section}]" in changelog


def test_ci_runs_the_command_of_the_readme():
    command = (ROOT / ".ci/run").read_text().splitlines()[-1]
    assert "nox" in command
    assert command in (ROOT / "README.md").read_text().splitlines()


def test_ci_runs_every_version_of_python_that_is_claimed_but_those_between():
    with open(ROOT / "pyproject.toml", "rb") as file:
        project = tomllib.load(file)["project"]
    named = " ".join(project["classifiers"])
    claimed = re.findall(r"Python :: (3\.\d+)", named)
    workflow = (ROOT / ".github/workflows/ci.yml").read_text()
    (run,) = re.findall(r"^ +python: \[(.*)\]$", workflow, re.MULTILINE)
    run = re.findall(r"3\.\d+", run)
    assert [run[0], run[-1]] == [claimed[0], claimed[-1]]
    assert project["requires-python"] == f">={claimed[0]}"


@pytest.mark.parametrize(
    "source",
    [
        "import torch",
        "def f():\n    import torch.nn as nn",
        "from torch.func import vmap",
        "importlib.import_module('torch.func')",
    ],
)
def test_framework_scan_sees(source):
    assert frameworks_imported(source) == {"torch"}


@pytest.mark.parametrize(
    "source",
    [
        "import keras.src",
        "from keras.src import backend",
        "from keras import src",
        "keras.src.backend",
        "layer._losses",
        "self._loss_ids.clear()",
        "getattr(model, '_compile_loss')",
        "class M(Model):\n    def _flatten_layers(self): ...",
        "class M(Model):\n    def f(self):\n        return self._losses",
        "class M:\n    def f(self, layer):\n        return layer._losses",
    ],
)
def test_private_name_scan_sees(source):
    assert private_names_used(source)


def test_private_name_scan_leaves_a_class_its_own_attributes():
    source = "class M:\n    def f(self):\n        return self._losses"
    assert not private_names_used(source)


#: What a native reader stumbles over, and what to write.
STUMBLING_BLOCKS = {
    r"of (one|your|the user|a user)('s)? own\b|\bone's own\b": "custom",
    r"\b(number|that|which) (is|are) (?-i:none)\b": "is not a number, ...",
    r"\b(weighting|method|one)s? (over|of) gradients\b": "gradient-based",
    r"\b(weighting|method|one)s? over (the )?Gramian\b": "gradient-based",
    r"\b(weighting|method|one)s? over values\b": "loss-based",
    r"\ball else\b": "everything else",
    r"\b(its|their) kin\b": "name them",
    r"\binto your hands\b": "gives you control of",
    r"\bdeaf to\b": "ignores",
    r"see `LossLayer`": "a name that is exported",
}


def stumbles(text):
    """What in `text` a reader stumbles over, with what to write instead."""
    words = " ".join(text.split())
    for pattern, instead in STUMBLING_BLOCKS.items():
        for found in re.finditer(pattern, words, re.IGNORECASE):
            before = words[max(found.start() - 30, 0) : found.start()]
            yield f"{before}[{found[0]}]: {instead}"


def docstrings(source):
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            yield ast.get_docstring(node) or ""


@pytest.mark.parametrize(
    "text",
    [
        "a loop of your\nown",
        "TypeError: if a number is none.",
        "All else is so",
    ],
)
def test_the_scan_for_stumbling_blocks_sees(text):
    assert list(stumbles(text))


def test_pages_have_no_stumbling_blocks():
    pages = [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "examples").glob("*.md"),
    ]
    assert len(pages) > 20
    found = {p.name: list(stumbles(p.read_text("utf-8"))) for p in pages}
    assert not any(found.values()), {k: v for k, v in found.items() if v}


def test_docstrings_have_no_stumbling_blocks():
    found = {
        str(path.relative_to(PACKAGE)): [
            what
            for text in docstrings(path.read_text("utf-8"))
            for what in stumbles(text)
        ]
        for path in SOURCES
    }
    assert not any(found.values()), {k: v for k, v in found.items() if v}


def test_tests_that_the_results_name_are_there():
    page = (ROOT / "benchmarks/results/drop-in.md").read_text("utf-8")
    named = re.findall(r"`(tests/\S+\.py)::(test_\w+)`", page)
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    assert len(named) == len(rows) - 1 > 38  # a test for each but the head
    for file, test in named:
        assert f"def {test}(" in (ROOT / file).read_text("utf-8"), test


def module_of(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return importlib.import_module(".".join(parts).removesuffix(".__init__"))


def names_defined(source):
    """Names that `source` defines at its top level, imports left out."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from map(ast.unparse, node.targets)


def defines_what_is_public(path):
    """Whether a room around the module exports a name that it defines."""
    module = module_of(path)
    if path.name == "__init__.py":
        return bool(module.__all__)
    for folder in path.relative_to(PACKAGE).parents:
        room = module_of(PACKAGE / folder / "__init__.py")
        exported = set(getattr(room, "__all__", ()))
        for name in exported.intersection(names_defined(path.read_text())):
            if getattr(room, name) is getattr(module, name):
                return True
    return False


def test_a_module_that_defines_nothing_public_begins_with_an_underscore():
    named_public = [
        path
        for path in SOURCES
        if not any(
            part.startswith("_") and part != "__init__.py"
            for part in path.relative_to(PACKAGE).parts
        )
    ]
    assert len(named_public) > 70
    assert not [p for p in named_public if not defines_what_is_public(p)]


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.name)
def test_only_backend_imports_a_framework(path):
    if path.parent.name != "_backend":
        found = frameworks_imported(path.read_text())
        assert found == set()


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.name)
def test_only_one_folder_touches_private_keras_names(path):
    if path.parent.name != "_keras":
        found = private_names_used(path.read_text())
        assert found == set()
