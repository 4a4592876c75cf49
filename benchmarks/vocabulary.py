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
import subprocess
import sys
import time

import keras
import numpy as np
from keras import ops

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


def serve(way, tokens, classes):
    """Run one way for each line that comes; print its peak and its time."""
    random = np.random.default_rng(0)
    features = random.normal(size=(tokens, WIDTH)).astype("float32")
    kernel = 0.05 * random.normal(size=(WIDTH, classes)).astype("float32")
    labels = ops.convert_to_tensor(random.integers(0, classes, tokens))
    function = gradients_by(way, labels, classes)
    arguments = [ops.convert_to_tensor(x) for x in (features, kernel)]
    before = peak()
    for _ in sys.stdin:
        start = time.perf_counter()
        for gradient in function(*arguments):
            ops.convert_to_numpy(gradient)
        taken = 1000 * (time.perf_counter() - start)
        print("took", peak() - before, taken, flush=True)


class Contestant:
    """A process that runs one way when it is told to."""

    def __init__(self, way, tokens, classes):
        self.process = subprocess.Popen(
            [sys.executable, "-m", __spec__.name]
            + [way, str(tokens), str(classes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.peak, self.taken = 0.0, []
        self.run()  # tracing and compiling
        self.taken.clear()

    def run(self):
        """One round."""
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("took "):
                self.peak, taken = map(float, line.split()[1:])
                self.taken.append(taken)
                return
        raise RuntimeError("Expected a time. Received: the process ended.")

    def close(self):
        """End the process."""
        self.process.stdin.close()
        self.process.wait()


def compare(tokens, classes, ways):
    """A row for each way."""
    contestants = {way: Contestant(way, tokens, classes) for way in ways}
    for index in range(ROUNDS):
        for way in in_turn(contestants, index):
            contestants[way].run()
    for contestant in contestants.values():
        contestant.close()
    ours = contestants["chunked"]
    for way, one in contestants.items():
        ms = statistics.median(one.taken)
        yield {
            "tokens": tokens,
            "classes": classes,
            "way": way,
            "MiB": round(one.peak),
            "chunked, of its memory": round(ours.peak / one.peak, 3),
            "ms": round(ms),
            "chunked, of its time": round(
                statistics.median(ours.taken) / ms, 2
            ),
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
        serve(sys.argv[1], *map(int, sys.argv[2:]))
    else:
        main()
