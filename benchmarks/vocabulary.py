"""Memory and time of the crossentropy over a large output layer.

`KERAS_BACKEND=jax python -m benchmarks.vocabulary` runs the chunked
`losses.linear_cross_entropy`, the one of whole logits and, where there is one,
that of another package, forward and backward. Each has a process of its own
and works while the others wait. The peak of resident memory is taken over what
the process holds with the inputs in place, and, since it is not that of the
compiler, after a first run. Where the logits are too many for the machine, the
chunked one runs alone. The peak is read as Linux gives it.
"""

import ctypes
import gc
import importlib.util
import pathlib
import statistics
import sys
import time

import keras
import numpy as np
from keras import ops

from benchmarks.contestant import Contestant
from benchmarks.contestant import serve
from benchmarks.report import about
from benchmarks.report import write
from benchmarks.timing import in_turn
from keras_losskit import _backend
from keras_losskit import losses

WIDTH = 256
#: Tokens, classes and rounds, and whether all ways take part: alone ours shows
#: how its memory grows, and that of logits that fit into no memory here.
CASES = (
    (4096, 50257, 5, True),
    (2048, 50257, 1, False),
    (8192, 50257, 1, False),
    (32768, 50257, 1, False),
    (4096, 256000, 1, False),
)


def chunked(labels, features, kernel):
    """Ours."""
    return ops.mean(losses.linear_cross_entropy(labels, features, kernel))


def whole(labels, features, kernel):
    """Keras', of all logits."""
    values = losses.sparse_categorical_crossentropy(
        labels, ops.matmul(features, kernel), from_logits=True
    )
    return ops.mean(values)


def of_torch(labels, features, kernel):
    """PyTorch's own, in chunks."""
    import torch

    return torch.nn.functional.linear_cross_entropy(
        features,
        kernel.mT,
        labels,
        options=torch.nn.LinearCrossEntropyOptions(),
    )


def of_jax_cce(labels, features, kernel):
    """That of the package jax-cce."""
    import jax_cce

    return jax_cce.linear_cross_entropy(features, kernel.T, labels)


WAYS = {"chunked": chunked, "whole": whole}
if keras.config.backend() == "torch":
    WAYS["torch"] = of_torch
elif importlib.util.find_spec("jax_cce"):
    WAYS["jax-cce"] = of_jax_cce


def gradients_by(way, labels):
    """A function of features and kernel, compiled where that is usual."""

    def gradients(features, kernel):
        return _backend.input_gradients(
            lambda inputs: WAYS[way](labels, *inputs), [features, kernel]
        )

    backend = keras.config.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        # As `fit` does.
        jit_compile = bool(tf.config.list_physical_devices("GPU"))
        return tf.function(gradients, jit_compile=jit_compile)
    if backend == "jax":
        import jax

        return jax.jit(gradients)
    return gradients


def memory(key):
    """Resident memory, MiB: `"VmRSS"` now, `"VmHWM"` at its peak."""
    status = pathlib.Path("/proc/self/status").read_text()
    lines = dict(line.split(":", 1) for line in status.splitlines())
    return int(lines[key].split()[0]) / 1024


def forget_peak():
    """Let the peak begin at what is held now, without what was freed."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    pathlib.Path("/proc/self/clear_refs").write_text("5")


def rounds_of(way, tokens, classes):
    """A function that runs a round: MiB over the inputs, MiB in all, and ms."""
    random = np.random.default_rng(0)
    arguments = [
        ops.convert_to_tensor(scale * random.standard_normal(shape, "float32"))
        for scale, shape in ((1.0, (tokens, WIDTH)), (0.05, (WIDTH, classes)))
    ]
    labels = ops.convert_to_tensor(random.integers(0, classes, tokens))
    function = gradients_by(way, labels)

    def run():
        start = time.perf_counter()
        for gradient in function(*arguments):
            ops.convert_to_numpy(gradient[:1])  # waits for all of it
        taken = 1000 * (time.perf_counter() - start)
        peak = memory("VmHWM")
        return peak - before, peak, taken

    before = 0.0
    run()  # tracing and compiling
    forget_peak()
    before = memory("VmRSS")
    return run


def compare(tokens, classes, rounds, ways):
    """A row for each way."""
    case = [str(tokens), str(classes)]
    contestants = {
        way: Contestant(["-m", __spec__.name, way, *case]) for way in ways
    }
    for contestant in contestants.values():
        contestant.wait()
    taken = {way: [] for way in ways}
    for index in range(rounds):
        for way in in_turn(contestants, index):
            taken[way].append(contestants[way].run())
    for contestant in contestants.values():
        contestant.close()
    # Of the peak so far the last one is the highest.
    peaks = {way: results[-1][:2] for way, results in taken.items()}
    times = {
        way: statistics.median(ms for *_, ms in results)
        for way, results in taken.items()
    }
    for way, (over, total) in peaks.items():
        yield {
            "case": f"{tokens} tokens, {classes} classes, {way}",
            "MiB over the inputs": round(over),
            "in all": round(total),
            "chunked, of its memory": round(peaks["chunked"][0] / over, 3),
            "ms": round(times[way]),
            "chunked, of its time": round(times["chunked"] / times[way], 2),
        }


def main():
    """Run all and write a table."""
    backend, rows = keras.config.backend(), []
    for *case, all_ways in CASES:
        for row in compare(*case, WAYS if all_ways else ["chunked"]):
            print(row, flush=True)
            rows.append(row)
    write(
        f"vocabulary-{backend}-cpu",
        f"Crossentropy over a large output layer on {backend}",
        about(
            backend,
            width=WIDTH,
            rounds="median of 5, in turn; 1 where ours is alone",
        ),
        rows,
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        serve(rounds_of(sys.argv[1], *map(int, sys.argv[2:])))
    else:
        main()
