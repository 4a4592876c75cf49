"""Time the cases on the current backend and write what came out."""

import argparse
import os
import sys


def parse():
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--backend", help="sets KERAS_BACKEND")
    parser.add_argument("--device", choices=["cpu", "gpu"], default="cpu")
    parser.add_argument("--only", help="part of a case's name")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--dry-run", action="store_true", help="write nothing")
    parser.add_argument(
        "--guard",
        type=float,
        help="fail where a ratio is over its goal times this factor",
    )
    return parser.parse_args()


def main():
    """Run, print and write; return the exit status."""
    arguments = parse()
    if arguments.backend:
        os.environ["KERAS_BACKEND"] = arguments.backend
    if arguments.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
        os.environ["JAX_PLATFORMS"] = "cpu"
    # After the backend and the device are chosen.
    import keras

    from benchmarks import report
    from benchmarks.cases import cases
    from benchmarks.gradient_cases import gradient_cases
    from benchmarks.timing import time_case
    from benchmarks.watching_cases import watching_cases

    backend = keras.config.backend()
    facts = report.about(
        backend,
        arguments.device,
        clock=arguments.clock,
        milliseconds="per round: median ± half the interquartile range",
    )
    stem = f"steps-{backend}-{arguments.device}"
    rows = []
    made = (cases, gradient_cases, watching_cases)
    for case in (case for make in made for case in make(arguments.steps)):
        if arguments.only and arguments.only not in case.name:
            continue
        timings = time_case(
            case, rounds=arguments.rounds, clock=arguments.clock
        )
        for row in compared(case, timings, case.goal.get(backend)):
            print(report.as_line(row.values()), flush=True)
            rows.append(row)
        if not arguments.dry_run:
            report.write(stem, f"Step times on {backend}", facts, rows)
    slow = [row["case"] for row in rows if over(row, arguments.guard)]
    if slow:
        print(f"Expected ratios up to their goals. Received more for: {slow}")
    return 1 if slow else 0


def compared(case, timings, goal):
    """A row for each contestant after the first: milliseconds, ratio, goal."""
    reference, *others = timings
    for timing in others:
        yield {
            "case": case.name,
            "against": reference.name,
            "ms": f"{timing.median:.3f} ± {timing.spread:.3f}",
            "its ms": f"{reference.median:.3f} ± {reference.spread:.3f}",
            "ratio": round(timing.median / reference.median, 3),
            "goal": "" if goal is None else goal,
            "rounds": len(timing.rounds),
        }


def over(row, factor):
    """Whether a row misses its goal by more than the guard's factor."""
    return factor and row["goal"] and row["ratio"] > factor * row["goal"]


if __name__ == "__main__":
    sys.exit(main())
