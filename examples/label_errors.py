"""Wrong labels of digits, found in one training run.

A fifth of the labels are replaced by others. `SampleHistory` keeps the margin
of every sample in every epoch; its mean, the area under the margin (Pleiss et
al., NeurIPS 2020), is low for labels that the network resists. Beside it: the
cross-validated ranking of `cleanlab`, where that is installed.
"""

import os
import sys
import time

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold

import keras_losskit as losskit
from keras_losskit import layers
from keras_losskit import losses

EPOCHS = int(sys.argv[1]) if len(sys.argv) > 1 else 40
SEED = int(sys.argv[2]) if len(sys.argv) > 2 else 0

rng = np.random.default_rng(SEED)
x, right = load_digits(return_X_y=True)
x = (x / 16.0).astype("float32")
wrong = rng.random(len(x)) < 0.2
labels = np.where(wrong, (right + rng.integers(1, 10, len(x))) % 10, right)


def classifier():
    keras.utils.set_random_seed(SEED)
    model = losskit.Sequential(
        [
            keras.Input((64,)),
            layers.Dense(128, "relu"),
            layers.Dense(128, "relu"),
            layers.Dense(10),
        ]
    )
    loss = losses.SparseCategoricalCrossentropy(from_logits=True, name="ce")
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss)
    return model


start = time.perf_counter()
samples = losskit.callbacks.SampleHistory()
classifier().fit(
    losskit.with_ids(x),
    labels,
    epochs=EPOCHS,
    batch_size=64,
    verbose=0,
    callbacks=[samples],
)
margins = samples.statistics()["aum"]
print(
    f"area under the margin: AUROC {roc_auc_score(wrong, -margins):.4f} in "
    f"{time.perf_counter() - start:.1f} s"
)
suspects = np.argsort(margins)[: wrong.sum()]
print(
    f"of the lowest {wrong.sum()} labels {wrong[suspects].mean():.1%} are wrong"
)

try:
    from cleanlab.rank import get_label_quality_scores
except ImportError:
    print("pip install cleanlab for a ranking to compare with")
else:
    start = time.perf_counter()
    probabilities = np.zeros((len(x), 10))
    folds = StratifiedKFold(5, shuffle=True, random_state=SEED)
    for train, test in folds.split(x, labels):
        model = classifier()
        model.fit(
            x[train], labels[train], epochs=EPOCHS, batch_size=64, verbose=0
        )
        logits = model.predict(x[test], verbose=0)
        probabilities[test] = keras.ops.softmax(logits)
    scores = get_label_quality_scores(labels, probabilities)
    print(
        f"cleanlab, five folds: AUROC {roc_auc_score(wrong, -scores):.4f} in "
        f"{time.perf_counter() - start:.1f} s"
    )
