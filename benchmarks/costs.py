"""What a step costs besides time, and what comes before the first step.

`python -m benchmarks.costs --backend jax` compares with plain Keras: import
time; the first `fit`; tracing and compiling the step, and its floating-point
operations (JAX); peak memory of the segmentation loss.
"""

import argparse
import compileall
import functools
import importlib.util
import os
import resource
import statistics
import subprocess
import sys
import time

from benchmarks.timing import in_turn

ROUNDS = 15
STEPS = ("losskit", "plain Keras")


def parse():
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.costs")
    parser.add_argument("--backend", help="sets KERAS_BACKEND")
    parser.add_argument("--only", help="part of a figure's name")
    parser.add_argument("--dry-run", action="store_true", help="write nothing")
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)
    return parser.parse_args()


def main():
    """Run all, print and write."""
    arguments = parse()
    if arguments.backend:
        os.environ["KERAS_BACKEND"] = arguments.backend
    if arguments.peak_of:
        print(peak_of(arguments.peak_of))
        return
    import keras

    from benchmarks import report

    backend = keras.config.backend()
    figures = {
        "import": import_time,
        "memory": memory,
        "first fit": first_fit,
        "trace": tracing if backend == "jax" else None,
        "operations": operations if backend == "jax" else None,
    }
    rows = [
        figure()
        for name, figure in figures.items()
        if figure and (arguments.only or name) in name
    ]
    print(*report.as_markdown(rows), sep="\n")
    if not arguments.dry_run:
        facts = report.about(backend, rounds=ROUNDS)
        report.write(f"costs-{backend}-cpu", f"Costs on {backend}", facts, rows)


def row(case, unit, ours, plain, goal=""):
    """One line of the table."""
    return {
        "case": case,
        "unit": unit,
        "losskit": round(ours, 3),
        "plain Keras": round(plain, 3),
        "ratio": round(ours / plain, 4),
        "goal": goal,
    }


def import_time():
    """Seconds to import Keras, and this package on top of it."""
    # As pip leaves it: with its bytecode.
    package = importlib.util.find_spec("keras_losskit")
    compileall.compile_dir(*package.submodule_search_locations, quiet=1)
    timed = (
        "import time; start = time.perf_counter(); import keras;"
        "first = time.perf_counter(); import keras_losskit;"
        "print(first - start, time.perf_counter() - first)"
    )
    taken = [output_of("-c", timed) for _ in range(ROUNDS)]
    # Of each round apart: seconds of Keras scatter by more than we add.
    plain, added = (
        statistics.median(map(float, seconds))
        for seconds in zip(*taken, strict=True)
    )
    more = f"at most {1 + 0.04 / plain:.3f}: 40 ms more"
    return row("import", "s", plain + added, plain, more)


def output_of(*arguments):
    """What another Python process prints in its last line, word by word."""
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()[-1].split()


def memory():
    """Peak resident MiB of the segmentation loss, over that before it."""
    peaks = [
        statistics.median(
            float(*output_of("-m", "benchmarks.costs", "--peak-of", name))
            for _ in range(3)
        )
        for name in ("losskit", "keras.losses by hand")
    ]
    import keras

    from benchmarks.cases import SEGMENTATION_GOAL

    goal = SEGMENTATION_GOAL[keras.config.backend()]
    return row("peak memory, segmentation loss", "MiB", *peaks, goal)


def peak_of(name):
    """Peak resident MiB that one contestant adds in this process."""
    from benchmarks import segmentation

    # Maps beyond 32 MiB, which malloc gives back as soon as they are freed:
    # with smaller ones one measures how it scatters what it keeps.
    run = segmentation.contestants(1, batch=32)[name]()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(3):
        run()
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (after - before) / 1024


def first_fit():
    """Seconds of the first `fit` of a new model of four terms."""
    import keras

    import keras_losskit as losskit
    from benchmarks.cases import FOUR_TERMS
    from benchmarks.networks import training

    taken = {losskit.Model: [], keras.Model: []}
    for index in range(ROUNDS):
        for model_class in in_turn(taken, index):
            run = training(model_class, 1, **FOUR_TERMS)()
            start = time.perf_counter()
            run()
            taken[model_class].append(time.perf_counter() - start)
            keras.utils.clear_session()
    ours, plain = (statistics.median(seconds) for seconds in taken.values())
    return row("first fit", "s", ours, plain)


def tracing():
    """Seconds to trace and compile the step of a new model, on JAX."""
    taken = {name: [] for name in STEPS}
    for index in range(ROUNDS):
        for name in in_turn(taken, index):
            lowered = lowered_step(name)
            start = time.perf_counter()
            lowered().compile()
            taken[name].append(time.perf_counter() - start)
    ours, plain = map(statistics.median, taken.values())
    return row("trace and compile the step", "s", ours, plain, 1.05)


def operations():
    """Floating-point operations of the compiled step, on JAX."""
    counts = [
        lowered_step(name)().compile().cost_analysis()["flops"]
        for name in STEPS
    ]
    return row("operations of the compiled step", "", *counts, 1.001)


def lowered_step(name):
    """`() -> the traced training step` of a new model, on JAX."""
    import jax
    import keras

    import keras_losskit as losskit
    from benchmarks.cases import FOUR_TERMS
    from benchmarks.networks import draws
    from benchmarks.networks import training

    x, y = draws(1, (32,), FOUR_TERMS["outputs"])
    model_class = losskit.Model if name == "losskit" else keras.Model
    run = training(model_class, 1, **FOUR_TERMS)()
    run()  # builds the model, its optimizer and its metrics
    model = run.func.__self__
    state = tuple(
        [variable.value for variable in variables]
        for variables in (
            model.trainable_variables,
            model.non_trainable_variables,
            model.optimizer.variables,
            model.metrics_variables,
        )
    )
    step = jax.jit(model.train_step, donate_argnums=0)
    return functools.partial(step.lower, state, (x, y, None))


if __name__ == "__main__":
    main()
