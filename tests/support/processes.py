"""Tests that want a process of their own."""

import concurrent.futures
import multiprocessing


def fresh_processes(workers):
    """An executor whose every task runs in a new process."""
    return concurrent.futures.ProcessPoolExecutor(
        max_workers=workers,
        mp_context=multiprocessing.get_context("spawn"),
        max_tasks_per_child=1,
    )
