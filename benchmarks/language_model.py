"""Training a small GPT with the logits of its output layer and without them.

`python -m benchmarks.language_model`: rounds of `fit` of the model of
`examples/language_model.py` with a vocabulary of 50,257 words, each loss in a
process of its own, which waits while the other one works.
"""

import importlib.util
import pathlib
import statistics
import sys
import time

import keras
import numpy as np

from benchmarks.contestant import Contestant
from benchmarks.contestant import serve
from benchmarks.report import about
from benchmarks.report import write
from benchmarks.timing import in_turn

WORDS, WIDTH, BLOCKS, BATCH, STEPS, ROUNDS = 50257, 256, 2, 64, 2, 3


def example():
    """The module of the example."""
    root = pathlib.Path(__file__).resolve().parents[1]
    path = root / "examples" / "language_model.py"
    spec = importlib.util.spec_from_file_location("language_model", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rounds_of(loss):
    """A function that runs a round: MiB over the imports, ms, the loss."""
    gpt = example()
    model = gpt.network(WORDS, WIDTH, BLOCKS)
    model.compile("adam", loss=gpt.LOSSES[loss])
    random = np.random.default_rng(0)
    words = gpt.corpus(WORDS)
    before = gpt.peak()

    def run():
        starts = random.integers(0, len(words) - gpt.LENGTH - 1, STEPS * BATCH)
        batches = words[starts[:, None] + np.arange(gpt.LENGTH + 1)]
        start = time.perf_counter()
        history = model.fit(
            batches[:, :-1], batches[:, 1:], BATCH, shuffle=False, verbose=0
        )
        taken = 1000 * (time.perf_counter() - start)
        return (
            gpt.peak(),
            gpt.peak() - before,
            taken,
            history.history["loss"][0],
        )

    return run


def main():
    """Compare and print; write what came out."""
    gpt, backend = example(), keras.config.backend()
    contestants = {
        loss: Contestant(["-m", __spec__.name, loss]) for loss in gpt.LOSSES
    }
    for contestant in contestants.values():
        contestant.run()  # tracing and compiling
    rounds = {loss: [] for loss in contestants}
    for index in range(ROUNDS):
        for loss in in_turn(contestants, index):
            rounds[loss].append(contestants[loss].run())
    for contestant in contestants.values():
        contestant.close()
    rows = []
    for loss, numbers in rounds.items():
        peak, over, _, last = numbers[-1]
        ms = statistics.median(taken for _, _, taken, _ in numbers)
        rows.append(
            {
                "case": f"{BATCH * gpt.LENGTH} tokens, {loss}",
                "peak MiB": round(peak),
                "over the imports": round(over),
                "tokens/s": round(1000 * STEPS * BATCH * gpt.LENGTH / ms),
                "loss of the last round": round(last, 5),
            }
        )
        print(*rows[-1].values(), flush=True)
    facts = about(
        backend,
        model=f"{WORDS} words, width {WIDTH}, {BLOCKS} blocks",
        batch=f"of sequences of {gpt.LENGTH} tokens",
        rounds=f"median of {ROUNDS}, in turn",
    )
    write(
        f"language-model-{backend}-cpu",
        f"A small GPT with and without its logits on {backend}",
        facts,
        rows,
    )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        serve(rounds_of(sys.argv[1]))
    else:
        main()
