"""Keras' own tests on this package's classes, beside Keras' own classes.

`KERAS_BACKEND=jax python -m benchmarks.keras_tests` runs each file of tests
twice in one process and writes `keras-tests-<keras>-<backend>.md` to the
results. `--only PART` runs the files whose path contains a part, and writes
nothing. Where the installed Keras ships no tests, `LOSSKIT_KERAS_TESTS` names
the folder `keras/src` of a version that does.

Some tests need packages that ours does not: the other frameworks, scikit-learn,
orbax-checkpoint, grain, onnx, onnxruntime and onnxscript. Without them they
fail or are not found, with Keras' classes as with ours.
"""

import argparse
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import keras  # noqa: E402
from support.keras_files import SOURCE  # noqa: E402
from support.keras_files import cases_of  # noqa: E402
from support.keras_files import loaded  # noqa: E402
from support.keras_files import outcome  # noqa: E402
from support.keras_names import LEFT_OUT  # noqa: E402
from support.keras_names import instead_in  # noqa: E402

#: What is run: where our classes have a part to play.
PATTERNS = (
    "trainers/*_test.py",
    "models/*_test.py",
    "losses/*_test.py",
    "layers/layer_test.py",
    *(
        f"layers/{folder}/*_test.py"
        for folder in (
            *("activations", "attention", "convolutional", "core"),
            *("merging", "normalization", "regularization", "rnn"),
        )
    ),
    "saving/*_test.py",
    "callbacks/*_test.py",
    "quantizers/*_test.py",
    "dtype_policies/*_test.py",
    "distillation/*_test.py",
    "legacy/saving/*_test.py",
    "export/*_test.py",
    "utils/summary_utils_test.py",
    "wrappers/*_test.py",
)


def files(parts=()):
    """The files of tests whose path contains one of `parts`, if any."""
    found = [
        path.relative_to(SOURCE).as_posix()
        for pattern in PATTERNS
        for path in sorted(SOURCE.glob(pattern))
    ]
    return [
        file for file in found if not parts or any(p in file for p in parts)
    ]


def outcomes(file, instead=None):
    """`{test: "passed", "skipped" or its traceback}`, and the seconds."""
    start = time.perf_counter()
    try:
        tests = cases_of(loaded(file, instead))
    except BaseException as error:  # a package that is not installed
        if isinstance(error, KeyboardInterrupt):
            raise
        tests = {}
    found = {name: outcome(test) for name, test in tests.items()}
    return found, time.perf_counter() - start


def cells(found, seconds):
    """How many passed, were skipped and failed, as cells of a table."""
    values = list(found.values())
    passed, skipped = values.count("passed"), values.count("skipped")
    failed = len(values) - passed - skipped
    return f"{passed} | {skipped} | {failed} | {seconds:.0f}"


def differing(file, theirs, ours):
    """`(test, outcome)` of what passes with Keras' classes only."""
    return [
        (f"{file}: {test}", ours.get(test, "it is not there"))
        for test, found in theirs.items()
        if found == "passed" and ours.get(test) != "passed"
    ]


HEAD = """\
| file | Keras: passed | skipped | failed | s | ours: passed | skipped \
| failed | s |
|---|---|---|---|---|---|---|---|---|"""


def report(rows, differ):
    """The table of all files, and what differs."""
    lines = [
        f"# Keras' own tests, Keras {keras.__version__}",
        "",
        f"Backend {keras.config.backend()}; passed, skipped and failed with "
        "Keras' classes, then with ours. A file of zeros needs a package that "
        "is not installed.",
        "",
        HEAD,
        *rows,
        "",
        "Passed by Keras' classes and not by ours:",
        "",
    ]
    for test, found in differ:
        last = found.splitlines()[-1]
        reason = LEFT_OUT.get(test, f"NOT EXPLAINED: {last}")
        lines.append(f"- `{test}`: {reason}")
    return "\n".join([*lines, "" if differ else "nothing.\n"])


def main():
    """Run every file, print the report and write it to the results."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="+", default=(), metavar="PART")
    parser.add_argument("--verbose", action="store_true")
    arguments = parser.parse_args()
    if keras.config.backend() == "torch":
        import torch

        # TorchInductor takes minutes, for Keras' classes and ours alike.
        torch.compile = lambda step, **_: step
    rows, differ = [], []
    print(HEAD)
    for file in files(arguments.only):
        theirs, ours = outcomes(file), outcomes(file, instead_in(file))
        rows.append(f"| {file} | {cells(*theirs)} | {cells(*ours)} |")
        print(rows[-1], flush=True)
        new = differing(file, theirs[0], ours[0])
        for test, found in new if arguments.verbose else ():
            print(test, found, sep="\n", flush=True)
        differ += new
    text = report(rows, differ)
    print(text[text.index("Passed by") :])
    if not arguments.only:
        version = ".".join(keras.__version__.split(".")[:2])
        file = f"keras-tests-{version}-{keras.config.backend()}.md"
        results = ROOT / "benchmarks" / "results" / file
        results.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
