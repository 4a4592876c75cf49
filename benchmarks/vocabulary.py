"""Memory and time of the crossentropy over a large output layer.

`KERAS_BACKEND=jax python -m benchmarks.vocabulary` runs the chunked
`losses.linear_cross_entropy`, the one of whole logits and, where there is one,
that of another package, forward and backward. Each has a process of its own,
whose peak of resident memory is taken over what it holds before the first call,
and works while the others wait. Where the logits are too many for a machine,
the chunked one runs alone.
"""

import importlib.util
import resource
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
#: Tokens and classes, and whether the logits fit into memory.
CASES = (
    (2048, 50257, True),
    (4096, 50257, True),
    (8192, 50257, True),
    (32768, 50257, False),
    (4096, 256000, False),
)
ROUNDS = 5


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


def gradients_by(way, labels, classes):
    """A function of features and kernel, compiled where that is usual."""

    def gradients(features, kernel):
        return _backend.input_gradients(
            lambda inputs: WAYS[way](labels, *inputs), [features, kernel]
        )

    # TensorFlow's `compiled` fixes the shapes, PyTorch's does nothing.
    arguments = [
        ops.zeros((labels.shape[0], WIDTH)),
        ops.zeros((WIDTH, classes)),
    ]
    return _backend.compiled(gradients, arguments, batch=False)


def peak():
    """The peak of resident memory so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def rounds_of(way, tokens, classes):
    """A function that runs a round of one way: its peak, and its time."""
    random = np.random.default_rng(0)
    features = random.normal(size=(tokens, WIDTH)).astype("float32")
    kernel = 0.05 * random.normal(size=(WIDTH, classes)).astype("float32")
    labels = ops.convert_to_tensor(random.integers(0, classes, tokens))
    function = gradients_by(way, labels, classes)
    arguments = [ops.convert_to_tensor(x) for x in (features, kernel)]
    before = peak()

    def run():
        start = time.perf_counter()
        for gradient in function(*arguments):
            ops.convert_to_numpy(gradient)
        return peak() - before, 1000 * (time.perf_counter() - start)

    return run


def compare(tokens, classes, ways):
    """A row for each way."""
    case = [str(tokens), str(classes)]
    contestants = {
        way: Contestant(["-m", __spec__.name, way, *case]) for way in ways
    }
    for contestant in contestants.values():
        contestant.run()  # tracing and compiling
    taken = {way: [] for way in ways}
    for index in range(ROUNDS):
        for way in in_turn(contestants, index):
            taken[way].append(contestants[way].run())
    for contestant in contestants.values():
        contestant.close()
    # Of the peak so far the last one is the highest.
    peaks = {way: rounds[-1][0] for way, rounds in taken.items()}
    times = {
        way: statistics.median(ms for _, ms in rounds)
        for way, rounds in taken.items()
    }
    for way in ways:
        yield {
            "case": f"{tokens} tokens, {classes} classes, {way}",
            "MiB": round(peaks[way]),
            "chunked, of its memory": round(peaks["chunked"] / peaks[way], 3),
            "ms": round(times[way]),
            "chunked, of its time": round(times["chunked"] / times[way], 2),
        }


def main():
    """Run all and write a table."""
    backend, rows = keras.config.backend(), []
    for tokens, classes, fits in CASES:
        for row in compare(tokens, classes, WAYS if fits else ["chunked"]):
            print(row, flush=True)
            rows.append(row)
    write(
        f"vocabulary-{backend}-cpu",
        f"Crossentropy over a large output layer on {backend}",
        about(backend, width=WIDTH, rounds=ROUNDS),
        rows,
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        serve(rounds_of(sys.argv[1], *map(int, sys.argv[2:])))
    else:
        main()
