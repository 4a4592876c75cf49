"""Draw the pictures of README and pages from runs of the examples.

`nox -s docs` runs it before it builds the pages.
"""

import os
import pathlib
import runpy
import tempfile

os.environ.setdefault("KERAS_BACKEND", "jax")

import matplotlib

matplotlib.use("Agg")

import keras_losskit as losskit

HERE = pathlib.Path(__file__).resolve().parent
os.chdir(tempfile.mkdtemp())  # examples write files where they run


def example(name):
    """The variables of an example after it ran."""
    path = HERE.parents[1] / "examples" / f"{name}.py"
    return runpy.run_path(str(path))


def save(figure, name):
    """Write a picture, without what changes from run to run."""
    figure.savefig(
        HERE / f"{name}.png",
        dpi=100,
        bbox_inches="tight",
        metadata={"Software": None},
    )


quickstart = example("quickstart")
batch = quickstart["test_x"], quickstart["test_y"]
save(losskit.plot_terms(quickstart["history"]), "terms")
report = losskit.sample_report(quickstart["model"], *batch, top=12)
save(report.plot().figure, "samples")
conflicts = losskit.gradient_report(quickstart["model"], *batch)
save(losskit.plot_gradient_conflicts(conflicts).figure, "conflicts")
annealed = example("vae_kl_annealing")["history"]
save(losskit.plot_weights(annealed).figure, "weights")
