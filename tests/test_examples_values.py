"""The examples but the quickstart run, and print terms that add up."""

import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"

#: A process of its own, with a compiler to load, for each example.
pytestmark = pytest.mark.nightly("jax", "tensorflow")


def printed(name, epochs, folder, *more):
    result = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py", str(epochs), *more],
        cwd=folder,
        env={**os.environ, "KERAS_BACKEND": keras.config.backend()},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    return result.stdout


def number(text, name):
    """The last number printed after `name`."""
    return float(re.findall(rf"{name} +(-?[\d.]+\d)", text)[-1])


def test_sparse_autoencoder(tmp_path):
    text = printed("sparse_autoencoder", 2, tmp_path)
    parts = number(text, "reconstruction") + number(text, "sparsity")
    assert parts == pytest.approx(number(text, "loss"), abs=2e-5)
    assert number(text, "sparsity") > 0


def test_language_model(tmp_path):
    """Beside each other: the same losses, and less memory without logits."""
    text = printed("language_model", 2, tmp_path)
    rows = re.findall(
        r"^(with\w*) logits: .* peak ([\d,]+) MiB, loss ([\d.]+), "
        r"accuracy ([\d.]+)",
        text,
        flags=re.MULTILINE,
    )
    (_, full, *expected), (_, peak, *found) = rows
    assert [row[0] for row in rows] == ["with", "without"]
    assert [float(x) for x in found] == pytest.approx(
        [float(x) for x in expected], abs=2e-4
    )
    assert int(peak.replace(",", "")) < int(full.replace(",", ""))


def test_vae(tmp_path):
    text = printed("vae", 4, tmp_path)
    for line in text.splitlines():
        parts = number(line, "reconstruction") + number(line, "added")
        assert parts == pytest.approx(number(line, "loss"), abs=2e-3)
    first, *_, last = text.splitlines()
    assert number(first, "weight") < number(last, "weight") == 1.0
    assert number(last, "added") == pytest.approx(number(last, "kl"), abs=2e-3)


def test_adversarial_digits(tmp_path):
    text = printed("adversarial_digits", 15, tmp_path)
    plain, robust = text.splitlines()[1::2]
    assert "attack_loss" in text.splitlines()[2]
    assert number(plain, "accuracy") > 0.85
    assert number(robust, "accuracy") > 0.85
    assert number(robust, "attack") > number(plain, "attack") + 0.2


def test_distillation(tmp_path):
    text = printed("distillation", 2, tmp_path)
    student = text.splitlines()[1]
    labels, teacher = number(student, "labels"), number(student, r"\+ teacher")
    assert labels + teacher == pytest.approx(number(student, "loss"), abs=2e-4)
    unweighted = number(student, "unweighted")
    assert teacher == pytest.approx(0.2 * unweighted, abs=2e-4)


def test_orthogonal_regularization(tmp_path):
    text = printed("orthogonal_regularization", 5, tmp_path)
    ranges = [
        [float(x) for x in re.findall(r"[\d.]+\d", line)]
        for line in text.splitlines()[1::2]
    ]
    (plain_low, plain_high), (low, high) = ranges
    assert plain_low <= low <= high < plain_high - 0.1
    assert number(text, "ortho_loss") > 0


def test_pinn(tmp_path):
    text = printed("pinn", 8, tmp_path)
    for line in text.splitlines()[:-1]:
        total = number(line, "residual") + 10 * number(line, "boundary")
        assert total == pytest.approx(number(line, "loss"), abs=1e-4)
    first, *_, last, error = text.splitlines()
    assert number(last, "loss") < number(first, "loss")
    assert number(error, r"sin\(x\):") < 1.0


def test_multitask_digits(tmp_path):
    text = printed("multitask_digits", 2, tmp_path, "1")
    rows = re.findall(
        r"^(\S.*?)  +([\d.]+) ± [\d.]+ +([\d.]+) ±", text, flags=re.MULTILINE
    )
    names = [name for name, *_ in rows]
    assert names == ["fixed, equal", "Uncertainty", "GradNorm", "PCGrad"]
    for _, accuracy, error in rows:
        assert float(accuracy) > 0.3  # of ten digits
        assert float(error) < 1.0  # of about 2
    assert len(text.splitlines()) == 8


def test_vae_kl_annealing(tmp_path):
    text = printed("vae_kl_annealing", 2, tmp_path)
    lines = text.splitlines()
    assert [line.split()[0] for line in lines[::2]] == [
        "constant",
        "linear",
        "cyclical",
    ]
    for line in lines[1::2]:
        # The weight is 1 at the end, or was so in most of the last epoch.
        parts = number(line, "reconstruction") + number(line, "KL")
        assert parts == pytest.approx(number(line, "loss"), abs=2e-3)
    weights = [
        [float(weight) for weight in re.findall(r"\d\.\d\d", line)]
        for line in lines[::2]
    ]
    assert weights[0] == [1.0] * 2
    assert weights[1] == sorted(weights[1]) and weights[1][0] < 0.5
    assert weights[1][-1] == 1.0


def test_pinn_helmholtz(tmp_path):
    text = printed("pinn_helmholtz", 4, tmp_path)
    equal, annealed = text.splitlines()
    assert number(equal, "weight") == 1.0 < number(annealed, "weight")
    assert number(annealed, "boundary") < number(equal, "boundary")


def test_label_errors(tmp_path):
    text = printed("label_errors", 20, tmp_path)
    found = re.findall(r"margin: AUROC ([\d.]+)", text)
    assert float(found[0]) >= 0.95


def test_group_dro(tmp_path):
    text = printed("group_dro", 20, tmp_path)
    plain, fair = (float(x) for x in re.findall(r"group ([\d.]+)", text))
    assert fair > plain + 0.15


def test_pinn_attention(tmp_path):
    """A few steps only: that it runs, and what it prints."""
    text = printed("pinn_attention", 5, tmp_path)
    errors = [float(x) for x in re.findall(r"of u ([\d.]+)", text)]
    assert len(errors) == 2 and max(errors) < 2.0
