"""Time the cases on the current backend and write what came out."""

import argparse
import json
import os
import pathlib
import platform

RESULTS = pathlib.Path(__file__).parent / "results"


def parse():
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--backend", help="sets KERAS_BACKEND")
    parser.add_argument("--only", help="part of a case's name")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--dry-run", action="store_true", help="write nothing")
    return parser.parse_args()


def main():
    """Run, print and write."""
    arguments = parse()
    if arguments.backend:
        os.environ["KERAS_BACKEND"] = arguments.backend
    # After the backend is chosen.
    import keras

    from benchmarks.cases import cases
    from benchmarks.timing import time_case

    backend = keras.config.backend()
    rows = []
    for case in cases(arguments.steps):
        if arguments.only and arguments.only not in case.name:
            continue
        reference, *others = time_case(
            case,
            rounds=arguments.rounds,
            steps=arguments.steps,
            clock=arguments.clock,
        )
        for timing in others:
            rows.append(
                {
                    "case": case.name,
                    "against": reference.name,
                    "ms": round(timing.median, 3),
                    "ms_spread": round(timing.spread, 3),
                    "against_ms": round(reference.median, 3),
                    "against_ms_spread": round(reference.spread, 3),
                    "ratio": round(timing.median / reference.median, 3),
                    "goal": case.goal[backend],
                }
            )
            print(as_markdown([rows[-1]]).splitlines()[-1], flush=True)
    if not arguments.dry_run:
        write(backend, arguments, rows)


def write(backend, arguments, rows):
    """Write JSON and Markdown with versions and hardware."""
    import importlib.metadata

    RESULTS.mkdir(exist_ok=True)
    about = {
        "backend": backend,
        "keras": importlib.metadata.version("keras"),
        backend: importlib.metadata.version(backend),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "rounds": arguments.rounds,
        "steps": arguments.steps,
        "clock": arguments.clock,
    }
    stem = RESULTS / f"steps-{backend}-cpu"
    stem.with_suffix(".json").write_text(
        json.dumps({"about": about, "rows": rows}, indent=2) + "\n"
    )
    lines = [f"# Step times on {backend}", ""]
    lines += [f"- {key}: {value}" for key, value in about.items()]
    stem.with_suffix(".md").write_text(
        "\n".join(lines) + "\n\n" + as_markdown(rows) + "\n"
    )


def as_markdown(rows):
    """A table of the rows: medians, half the interquartile range, ratio."""
    lines = [
        "| case | against | ms/step | its ms/step | ratio | goal |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['case']} | {row['against']} "
            f"| {row['ms']} ± {row['ms_spread']} "
            f"| {row['against_ms']} ± {row['against_ms_spread']} "
            f"| {row['ratio']} | {row['goal']} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
