"""tf.keras' own tests of losses, on Keras 3 and this package.

The wheel of tf_keras holds no tests. `LOSSKIT_TF_KERAS` names the folder
`tf_keras` in a checkout of github.com/keras-team/tf-keras, of which nothing is
copied; `KERAS_BACKEND=tensorflow python -m benchmarks.tf_keras_tests` runs its
files with what `tf_keras_shim` puts in the place of tf.keras, and writes
`tf-keras-tests.md` to the results. `--only PART` runs the files whose path
contains a part, and writes nothing.
"""

import argparse
import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402
from support.keras_files import cases_of  # noqa: E402
from support.keras_files import loaded_with  # noqa: E402
from support.keras_files import outcome  # noqa: E402

from benchmarks import tf_keras_shim  # noqa: E402

FILES = (
    "tests/add_loss_correctness_test.py",
    "tests/temporal_sample_weights_correctness_test.py",
    "engine/compile_utils_test.py",
)

#: `{test, or what its name begins with: why it is left out}`.
LEFT_OUT = {
    **dict.fromkeys(
        (
            "TestAddLossCorrectness.test_add_entropy_loss_on_functional_model",
            "TestAddLossCorrectness.test_loss_callable_on_model_",
            "TestAddLossCorrectness.test_loss_on_model_",
            "TestAddLossCorrectness.test_loss_with_sample_weight_on_model_",
        ),
        "`model.add_loss` outside of `call` is no more in Keras 3; the error "
        "names `AddLoss` or regularizers",
    ),
    "TestAddLossCorrectness.test_invalid_": (
        "it is refused, in other words, which name `AddLoss`"
    ),
    "TestAddLossCorrectness.test_loss_on_layer": (
        "Keras 3 keeps no losses of a symbolic call in `model.losses`"
    ),
    "TestAddLossCorrectness.test_loss_with_sample_weight_in_model_call": (
        "it counts `model.losses` after `fit`: tensors of a graph that is "
        "gone, which are not kept"
    ),
    **dict.fromkeys(
        (
            "LossesContainerTest.test_float_dtypes",
            "LossesContainerTest.test_integer_dtypes",
            "LossesContainerTest.test_mismatched_dtypes",
        ),
        "Keras 3 casts labels and predictions to the dtype of the loss",
    ),
    **dict.fromkeys(
        (
            "LossesContainerTest.test_loss_consistency8",
            "LossesContainerTest.test_loss_consistency9",
            "LossesContainerTest.test_ragged_tensor_output",
        ),
        "Keras 3 has no losses of tf.RaggedTensor",
    ),
    **dict.fromkeys(
        (
            "LossesContainerTest.test_loss_dict_with_nones",
            "LossesContainerTest.test_loss_partial_dict_with_output_names",
        ),
        "the loss of the only output that has one is `loss`, as in Keras 3",
    ),
}


def reason_for(test):
    """Why a test is left out, or None."""
    return next(
        (why for name, why in LEFT_OUT.items() if test.startswith(name)), None
    )


def main():
    """Run every file, print the report and write it to the results."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="+", default=[""], metavar="PART")
    parser.add_argument("--verbose", action="store_true")
    arguments = parser.parse_args()
    folder = Path(os.environ["LOSSKIT_TF_KERAS"])
    rows, differ = [], []
    for file in FILES:
        if not any(part in file for part in arguments.only):
            continue
        module = loaded_with(folder / file, "shimmed", tf_keras_shim.importing)
        found = {
            name: outcome(test)
            for name, test in cases_of(module).items()
            if not name.startswith("MetricsContainerTest.")
        }
        failed = {
            name: text
            for name, text in found.items()
            if text not in ("passed", "skipped")
        }
        passed = list(found.values()).count("passed")
        unexplained = [name for name in failed if reason_for(name) is None]
        left_out = len(failed) - len(unexplained)
        rows.append(f"| {file} | {passed} | {left_out} | {len(unexplained)} |")
        for name, text in failed.items():
            if arguments.verbose:
                print(name, text, sep="\n")
            last = text.splitlines()[-1]
            reason = reason_for(name) or f"NOT EXPLAINED: {last}"
            differ.append(f"- `{name}`: {reason}")
    text = "\n".join(
        [
            f"# tf.keras' own tests of losses, on Keras {keras.__version__}",
            "",
            f"With TensorFlow {tf.__version__}.",
            "",
            "| file | passed | left out | failed |",
            "|---|---|---|---|",
            *rows,
            "",
            "Left out:",
            "",
            *differ,
            "",
        ]
    )
    if arguments.only == [""]:
        results = ROOT / "benchmarks" / "results" / "tf-keras-tests.md"
        results.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
