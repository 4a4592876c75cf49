"""A process that runs rounds of a benchmark when it is told to."""

import subprocess
import sys


def serve(run):
    """Answer each line of the input with the numbers that `run()` returns."""
    print("ready", flush=True)
    for _ in sys.stdin:
        print("took", *run(), flush=True)


class Contestant:
    """A process that serves, and waits while others work.

    Args:
        arguments: What Python runs: a process that calls `serve`.
        **kwargs: As `subprocess.Popen`.
    """

    def __init__(self, arguments, **kwargs):
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            **kwargs,
        )

    def wait(self):
        """Return when the process is ready for its first round."""
        self._answer("ready")

    def run(self):
        """The numbers of one round."""
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return [float(number) for number in self._answer("took")]

    def _answer(self, word):
        for line in self.process.stdout:
            if line.split()[:1] == [word]:
                return line.split()[1:]
        raise RuntimeError(f"Expected {word!r}. Received: the process ended.")

    def close(self):
        """End the process."""
        self.process.stdin.close()
        self.process.wait()
