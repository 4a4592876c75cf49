"""Interleaved rounds of each contestant, and what becomes of the figures."""

import dataclasses
import statistics
import time


@dataclasses.dataclass(frozen=True)
class Timing:
    """Milliseconds per round of one contestant, over all rounds."""

    name: str
    rounds: tuple

    @property
    def median(self):
        """Median over the rounds."""
        return statistics.median(self.rounds)

    @property
    def spread(self):
        """Half the interquartile range over the rounds."""
        low, _, high = statistics.quantiles(self.rounds, n=4)
        return (high - low) / 2


def time_case(case, *, rounds, clock="wall"):
    """Time all contestants of a case in turn.

    The order is turned round at every round, so that none always runs on a
    machine that another has just warmed or slowed.

    Args:
        case: A `Case`.
        rounds: Number of rounds.
        clock: `"wall"`, or `"cpu"` for the processor time of the process, which
            other work on the machine disturbs less.

    Returns:
        A list of `Timing`, in the order of the contestants.
    """
    built = {name: build() for name, build in case.contestants.items()}
    for run in built.values():
        run()  # tracing and compiling
    now = time.process_time if clock == "cpu" else time.perf_counter
    taken = {name: [] for name in built}
    for index in range(rounds):
        for name in in_turn(built, index):
            start = now()
            built[name]()
            seconds = now() - start
            taken[name].append(1000 * seconds)
    return [Timing(name, tuple(taken[name])) for name in built]


def in_turn(names, index):
    """The names, the other way round in every second round.

    So that none always runs on a machine that another has just warmed or
    slowed.
    """
    return list(names) if index % 2 else list(reversed(names))
