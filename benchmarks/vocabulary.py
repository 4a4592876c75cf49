"""Memory and time of the crossentropy over a large output layer.

`KERAS_BACKEND=jax python -m benchmarks.vocabulary` runs the chunked
`losses.linear_cross_entropy` and the one of whole logits, forward and backward,
each in a process of its own, whose peak of resident memory is taken over what
it holds before the first call.
"""

import json
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
from keras_losskit import _backend
from keras_losskit import losses

WIDTH, CLASSES = 256, 50257
TOKENS = (2048, 4096, 8192)
ROUNDS = 5


def chunked(labels, features, kernel):
    """Ours."""
    return losses.linear_cross_entropy(labels, features, kernel)


def whole(labels, features, kernel):
    """Keras', of all logits."""
    return losses.sparse_categorical_crossentropy(
        labels, ops.matmul(features, kernel), from_logits=True
    )


WAYS = {"chunked": chunked, "whole": whole}


def gradients_by(way, labels):
    """A function of features and kernel, compiled where that is usual."""

    def gradients(features, kernel):
        return _backend.input_gradients(
            lambda inputs: ops.mean(WAYS[way](labels, *inputs)),
            [features, kernel],
        )

    # TensorFlow's `compiled` fixes the shapes, PyTorch's does nothing.
    arguments = [
        ops.zeros((labels.shape[0], WIDTH)),
        ops.zeros((WIDTH, CLASSES)),
    ]
    return _backend.compiled(gradients, arguments, batch=False)


def peak():
    """The peak of resident memory so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(way, tokens):
    """`{"MiB": ..., "ms": ...}` of one way, in this process."""
    random = np.random.default_rng(0)
    features = random.normal(size=(tokens, WIDTH)).astype("float32")
    kernel = 0.05 * random.normal(size=(WIDTH, CLASSES)).astype("float32")
    labels = ops.convert_to_tensor(random.integers(0, CLASSES, tokens))
    function = gradients_by(way, labels)
    arguments = [ops.convert_to_tensor(x) for x in (features, kernel)]
    before, taken = peak(), []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for gradient in function(*arguments):
            ops.convert_to_numpy(gradient)
        taken.append(1000 * (time.perf_counter() - start))
    return {"MiB": peak() - before, "ms": statistics.median(taken)}


def main():
    """Run every way in a process of its own, and write a table."""
    backend, rows = keras.config.backend(), []
    for tokens in TOKENS:
        found = {}
        for way in WAYS:
            command = [sys.executable, "-m", __spec__.name, way, str(tokens)]
            output = subprocess.run(command, check=True, capture_output=True)
            found[way] = json.loads(output.stdout.splitlines()[-1])
        ours, theirs = found["chunked"], found["whole"]
        rows.append(
            {
                "case": f"{tokens} tokens",
                "MiB": round(ours["MiB"]),
                "whole MiB": round(theirs["MiB"]),
                "of its memory": round(ours["MiB"] / theirs["MiB"], 3),
                "ms": round(ours["ms"]),
                "whole ms": round(theirs["ms"]),
                "of its time": round(ours["ms"] / theirs["ms"], 2),
            }
        )
        print(rows[-1], flush=True)
    facts = about(backend, width=WIDTH, classes=CLASSES, rounds=ROUNDS)
    write(
        f"vocabulary-{backend}-cpu",
        f"Crossentropy over a large output layer on {backend}",
        facts,
        rows,
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
    else:
        main()
