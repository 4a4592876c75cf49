"""Keras' own tests on this package's classes, beside Keras' own classes.

`KERAS_BACKEND=jax python -m benchmarks.keras_tests` runs each file of tests
twice in one process and writes `keras-tests-<keras>-<backend>.md` to the
results. Where the installed Keras ships no tests, `LOSSKIT_KERAS_TESTS` names
the folder `keras/src` of a version that does.
"""

import importlib.util
import sys
import unittest
import warnings
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import keras  # noqa: E402
import test_keras_own_tests as own  # noqa: E402
from losses import test_keras_suite as losses_suite  # noqa: E402
from support.keras_files import SOURCE  # noqa: E402
from support.keras_files import loaded  # noqa: E402


def stock(name):
    """A file of Keras' tests as it is."""
    path = SOURCE / name
    if path.stem != "trainer_test":
        return loaded(path, "stock")
    with own.trainer_replaced(keras.Model.__mro__[1]):
        return loaded(path, "stock")


def ours_of_losses(name):
    """A file of Keras' tests of losses, on ours."""
    module = loaded(SOURCE / name, "ours")
    losses_suite.replace_losses(module, setattr)
    return module


#: `{file: its module with our classes in place of Keras'}`.
FILES = {
    "trainers/trainer_test.py": lambda: own.trainer,
    "trainers/compile_utils_test.py": lambda: own.compile_utils,
    "models/model_test.py": lambda: own.model,
    "losses/losses_test.py": lambda: ours_of_losses("losses/losses_test.py"),
    "losses/loss_test.py": lambda: ours_of_losses("losses/loss_test.py"),
}

REASONS = {test: reason for test, (_, reason) in own.LEFT_OUT.items()}
REASONS |= losses_suite.LEFT_OUT
#: Parts of names of tests whose packages are not installed.
MISSING = [
    part
    for part, needed in own.NEEDS.items()
    if importlib.util.find_spec(needed) is None
]


def outcomes(module):
    """`{test: "passed", "skipped" or the last line of its failure}`."""
    found = {}
    for suite in unittest.defaultTestLoader.loadTestsFromModule(module):
        for test in suite:
            name = test._testMethodName
            if not name.startswith("test"):
                continue
            key = f"{type(test).__name__}.{name}"
            if any(part in name for part in MISSING):
                found[key] = "skipped"
                continue
            result = unittest.TestResult()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                test.run(result)
            problems = result.errors + result.failures
            if problems:
                found[key] = problems[0][1].strip().splitlines()[-1]
            else:
                found[key] = "skipped" if result.skipped else "passed"
    return found


def counted(found):
    """How many passed, were skipped and failed, as cells of a table."""
    values = list(found.values())
    passed, skipped = values.count("passed"), values.count("skipped")
    return f"{passed} | {skipped} | {len(values) - passed - skipped}"


def report(rows):
    """The table of `rows`, `[(file, of Keras, of ours)]`, and what differs."""
    lines = [
        f"# Keras' own tests, Keras {keras.__version__}",
        "",
        f"Backend {keras.config.backend()}; passed, skipped and failed with "
        "Keras' classes, then with ours.",
        "",
        "| file | Keras: passed | skipped | failed | ours: passed | skipped "
        "| failed |",
        "|---|---|---|---|---|---|---|",
    ]
    differ = []
    for name, theirs, ours in rows:
        lines.append(f"| {name} | {counted(theirs)} | {counted(ours)} |")
        differ += [
            (test, outcome)
            for test, outcome in ours.items()
            if outcome not in ("passed", "skipped")
            and theirs.get(test) == "passed"
        ]
    lines += ["", "Passed by Keras' classes and not by ours:", ""]
    for test, outcome in differ:
        reason = REASONS.get(test) or REASONS.get(test.rpartition(".")[2])
        lines.append(f"- `{test}`: {reason or 'NOT EXPLAINED: ' + outcome}")
    return "\n".join([*lines, ""])


def main():
    """Run every file, print the report and write it to the results."""
    if keras.config.backend() == "torch":
        import torch

        # TorchInductor takes minutes, for Keras' classes and ours alike.
        torch.compile = lambda step, **_: step
    rows = [
        (name, outcomes(stock(name)), outcomes(ours()))
        for name, ours in FILES.items()
    ]
    text = report(rows)
    version = ".".join(keras.__version__.split(".")[:2])
    file = f"keras-tests-{version}-{keras.config.backend()}.md"
    (ROOT / "benchmarks" / "results" / file).write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
