"""A small GPT, trained with all of its logits and without them.

It learns to predict the next word of Python's own standard library. Both runs
start from the same weights and see the same batches, each in a process of its
own, so that the peak of its memory can be read.
"""

import os
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np

import keras_losskit as losskit
from keras_losskit import layers
from keras_losskit import losses

LENGTH = 64  # tokens of a sequence
LOSSES = {
    "with logits": losses.SparseCategoricalCrossentropy(from_logits=True),
    "without logits": losses.LinearCrossEntropy("words"),
}


def corpus(vocabulary):
    """The words of the standard library's modules, as numbers."""
    folder = Path(os.__file__).parent
    text = "".join(
        path.read_text(encoding="utf-8", errors="ignore")
        for path in sorted(folder.glob("*.py"))
    )
    words = re.findall(r"\w+|[^\w\s]", text)
    common = Counter(words).most_common(vocabulary - 1)
    numbers = {word: i for i, (word, _) in enumerate(common, start=1)}
    return np.array([numbers.get(word, 0) for word in words], "int32")


def network(vocabulary, width=64, blocks=1):
    """A GPT whose output layer is its embedding, called in reverse."""
    keras.utils.set_random_seed(0)
    tokens = keras.Input((LENGTH,), dtype="int32")
    words = layers.ReversibleEmbedding(vocabulary, width, name="words")
    places = keras.ops.cumsum(keras.ops.ones_like(tokens), axis=1) - 1
    x = words(tokens) + layers.Embedding(LENGTH, width)(places)
    for _ in range(blocks):
        y = layers.LayerNormalization()(x)
        attention = layers.MultiHeadAttention(4, width // 4)
        x = x + attention(y, y, use_causal_mask=True)
        y = layers.LayerNormalization()(x)
        y = layers.Dense(4 * width, "gelu")(y)
        x = x + layers.Dense(width)(y)
    x = layers.LayerNormalization()(x)
    return losskit.Model(tokens, words(x, reverse=True))


def peak():
    """The largest resident memory of this process so far, in MiB."""
    import resource

    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size / 2 ** (20 if sys.platform == "darwin" else 10)


def train(loss, steps, vocabulary=16384, batch_size=32):
    """Print tokens per second, the peak of memory, and the loss."""
    model = network(vocabulary)
    model.compile("adam", loss=LOSSES[loss], metrics=["accuracy"])
    words = corpus(vocabulary)
    starts = np.random.default_rng(0).integers(
        0, len(words) - LENGTH - 1, (steps + 1) * batch_size
    )
    batches = words[starts[:, None] + np.arange(LENGTH + 1)]
    x, y = batches[:, :-1], batches[:, 1:]
    model.train_on_batch(x[:batch_size], y[:batch_size])  # compiles
    start = time.perf_counter()
    history = model.fit(
        x[batch_size:], y[batch_size:], batch_size, shuffle=False, verbose=0
    ).history
    seconds = time.perf_counter() - start
    print(
        f"{loss}: {steps * batch_size * LENGTH / seconds:,.0f} tokens/s, peak "
        f"{peak():,.0f} MiB, loss {history['loss'][0]:.4f}, "
        f"accuracy {history['accuracy'][0]:.4f}"
    )


if __name__ == "__main__":
    steps = sys.argv[1] if len(sys.argv) > 1 else "20"
    if len(sys.argv) > 2:
        train(sys.argv[2], int(steps))
    else:
        for loss in LOSSES:
            subprocess.run([sys.executable, __file__, steps, loss], check=True)
