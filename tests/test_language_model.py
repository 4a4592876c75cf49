"""The GPT of the example learns alike with its logits and without them."""

import runpy
from pathlib import Path

import numpy as np
import pytest

from keras_losskit.callbacks import TermHistory

EXAMPLE = Path(__file__).parents[1] / "examples" / "language_model.py"
VOCABULARY, BATCH, STEPS = 400, 4, 200


@pytest.mark.slow
def test_the_loss_is_the_same_over_200_steps():
    example = runpy.run_path(str(EXAMPLE))
    length = example["LENGTH"]
    words = example["corpus"](VOCABULARY)[: STEPS * BATCH * (length + 1)]
    batches = words.reshape(STEPS * BATCH, length + 1)
    curves = {}
    for name, loss in example["LOSSES"].items():
        model = example["network"](VOCABULARY, width=32)
        model.compile("adam", loss=loss)
        terms = TermHistory(batches=True)
        model.fit(
            *(batches[:, :-1], batches[:, 1:], BATCH),
            shuffle=False,
            verbose=0,
            callbacks=[terms],
        )
        curves[name] = [row["loss"] for row in terms.batches]
    full, chunked = curves.values()
    assert len(full) == STEPS
    assert np.mean(full[-10:]) < 0.8 * full[0]
    np.testing.assert_allclose(chunked, full, rtol=1e-4)
