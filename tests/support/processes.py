"""Tests that want a process of their own."""

import concurrent.futures
import multiprocessing
import os
import sys


def fresh_processes(workers):
    """An executor whose every task runs in a new process."""
    return concurrent.futures.ProcessPoolExecutor(
        max_workers=workers,
        mp_context=multiprocessing.get_context("spawn"),
        max_tasks_per_child=1,
    )


def with_own_paths():
    """The environment of a process that imports what this one can."""
    paths = os.pathsep.join(path for path in sys.path if path)
    return {**os.environ, "PYTHONPATH": paths}
