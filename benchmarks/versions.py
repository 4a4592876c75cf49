"""Time this version of the package against another checkout, in turn.

    KERAS_BACKEND=jax python -m benchmarks.versions PATH [CASE...]

Each version runs in a process of its own, with the cases of its checkout, and
waits while the other one works. `CASE` is part of a case's name.
"""

import argparse
import os
import pathlib
import sys
import time

HERE = pathlib.Path(__file__).resolve().parents[1]
CASES = ("small MLP, 4 terms", "32 outputs", "200 regularised layers")


def serve(name, steps):
    """Run rounds of a case of this package, one for each line that comes.

    The first builds, traces and compiles as well. The protocol is that of
    `benchmarks.contestant`, which another checkout need not have.
    """
    from benchmarks.cases import cases

    (case,) = (case for case in cases(steps) if case.name == name)
    *_, build = case.contestants.values()
    run = None
    for _ in sys.stdin:
        start = time.process_time()
        run = run or build()
        run()
        print("took", 1000 * (time.process_time() - start), flush=True)


def compare(other, name, rounds, steps):
    """A row: both medians of processor time, and their ratio."""
    from benchmarks.contestant import Contestant
    from benchmarks.timing import Timing
    from benchmarks.timing import in_turn

    checkouts = {"before": pathlib.Path(other).resolve(), "now": HERE}
    contestants = {
        version: Contestant(
            # As a script: another checkout need not have this module.
            [__file__, "--serve", name, "--steps", str(steps), str(checkout)],
            cwd=checkout,
            env={**os.environ, "PYTHONPATH": str(checkout)},
        )
        for version, checkout in checkouts.items()
    }
    firsts = [contestant.run()[0] for contestant in contestants.values()]
    taken = {version: [] for version in contestants}
    for index in range(rounds):
        for version in in_turn(contestants, index):
            taken[version] += contestants[version].run()
    before, now = (Timing(v, tuple(ms)) for v, ms in taken.items())
    for contestant in contestants.values():
        contestant.close()
    return {
        "case": name,
        "ms before": f"{before.median:.1f} ± {before.spread:.1f}",
        "ms now": f"{now.median:.1f} ± {now.spread:.1f}",
        "ratio": round(now.median / before.median, 3),
        "first round before": round(firsts[0]),
        "first round now": round(firsts[1]),
        "rounds": rounds,
    }


def main():
    """Compare and print; write what came out."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.versions")
    parser.add_argument("checkout", help="of the version to compare with")
    parser.add_argument("cases", nargs="*", default=CASES)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.serve, arguments.steps)
        return
    import keras

    from benchmarks import report

    backend = keras.config.backend()
    facts = report.about(
        backend,
        clock="processor time",
        milliseconds="per round: median ± half the interquartile range",
        first_round="with building, tracing and compiling, ms",
    )
    rows = []
    for name in arguments.cases:
        rows.append(
            compare(arguments.checkout, name, arguments.rounds, arguments.steps)
        )
        print(report.as_line(rows[-1].values()), flush=True)
        report.write(
            f"versions-{backend}-cpu",
            f"Against 0.1.0 on {backend}",
            facts,
            rows,
        )


if __name__ == "__main__":
    main()
