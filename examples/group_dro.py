"""Group DRO on a small table: the group that a mean forgets.

The label follows a weak cause; a strong cue agrees with it in nine of ten
samples. A model that minimises the mean takes the cue, and is wrong where cue
and label disagree. `GroupDRO` minimises the loss of the worst of the four
groups.
"""

import os
import sys

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np

import keras_losskit as losskit
from keras_losskit import layers
from keras_losskit import losses
from keras_losskit import weighting

EPOCHS = int(sys.argv[1]) if len(sys.argv) > 1 else 60


def table(rng, count, agreement):
    """Columns of cause and cue, labels, and the group of each row."""
    y = rng.integers(0, 2, count)
    cue = np.where(rng.random(count) < agreement, y, 1 - y)
    cause = rng.normal(2 * y[:, None] - 1, 1.5, (count, 3))
    signal = rng.normal(2 * cue[:, None] - 1, 0.3, (count, 1))
    x = np.concatenate([cause, signal], axis=1).astype("float32")
    return x, y, 2 * y + cue


rng = np.random.default_rng(0)
x, y, groups = table(rng, 4000, agreement=0.9)
x_test, y_test, groups_test = table(rng, 4000, agreement=0.5)

for name, method in {
    "equal weights": None,
    "group DRO": weighting.GroupDRO(groups, step_size=0.05),
}.items():
    keras.utils.set_random_seed(0)
    model = losskit.Sequential([keras.Input((4,)), layers.Dense(1)])
    model.compile(
        keras.optimizers.Adam(0.01),
        losskit.LossesContainer(
            losses.BinaryCrossentropy(from_logits=True, name="bce"),
            sample_weighting=method,
        ),
    )
    model.fit(losskit.with_ids(x), y, epochs=EPOCHS, batch_size=100, verbose=0)
    right = (model.predict(x_test, verbose=0)[:, 0] > 0) == y_test
    accuracies = [right[groups_test == group].mean() for group in range(4)]
    print(
        f"{name}: mean accuracy {right.mean():.3f}, worst group "
        f"{min(accuracies):.3f}"
    )
