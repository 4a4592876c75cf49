"""Four ways to weigh two tasks that share a trunk, over five seeds.

Which digit is it, and how much ink is in the picture: a class and a number.
Fixed equal weights are the method to beat, and the last lines say where a
method beats them in more than the seeds differ by.
"""

import os
import sys

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import keras_losskit as losskit
from keras_losskit import losses
from keras_losskit import weighting

EPOCHS = int(sys.argv[1]) if len(sys.argv) > 1 else 12
SEEDS = int(sys.argv[2]) if len(sys.argv) > 2 else 5
METHODS = {
    "fixed, equal": lambda: None,
    "Uncertainty": weighting.Uncertainty,
    # The last layer that both tasks share, as in the paper.
    "GradNorm": lambda: weighting.GradNorm(wrt="shared/.*"),
    "PCGrad": lambda: weighting.PCGrad(seed=0),
}

images, labels = load_digits(return_X_y=True)
images = images.astype("float32") / 16
ink = images.sum(axis=1, keepdims=True) / 10  # about 2
train_x, test_x, *split = train_test_split(
    images, labels, ink, test_size=600, random_state=0
)
train_y = {"digit": split[0], "ink": split[2]}
test_y = {"digit": split[1], "ink": split[3]}


def trained(method, seed):
    """The test accuracy and the mean error of the ink, after training."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((64,))
    x = keras.layers.Dense(32, "relu", name="shared")(inputs)
    model = losskit.Model(
        inputs,
        {
            "digit": keras.layers.Dense(10, name="digit")(x),
            "ink": keras.layers.Dense(1, name="ink")(x),
        },
    )
    ce = losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(
        keras.optimizers.Adam(1e-2),
        loss=losskit.LossesContainer(
            {"digit": ce, "ink": "mse"}, weighting=method
        ),
    )
    model.fit(train_x, train_y, epochs=EPOCHS, batch_size=100, verbose=0)
    found = model.predict_on_batch(test_x)
    accuracy = np.mean(found["digit"].argmax(axis=1) == test_y["digit"])
    return accuracy, np.mean(np.abs(found["ink"] - test_y["ink"]))


print(f"mean of {SEEDS} seeds ± standard deviation, {EPOCHS} epochs")
print(f"{'':14}  digit accuracy    error of ink")
results = {}
for name, make in METHODS.items():
    runs = np.array([trained(make(), seed) for seed in range(SEEDS)])
    results[name] = runs
    (accuracy, error), (a, e) = runs.mean(axis=0), runs.std(axis=0)
    print(f"{name:14}  {accuracy:.3f} ± {a:.3f}     {error:.3f} ± {e:.3f}")

equal = results.pop("fixed, equal")
for index, task, sign in ((0, "digit", 1), (1, "ink", -1)):
    # Each seed starts from the same network under every method.
    gains = {n: sign * (r - equal)[:, index] for n, r in results.items()}
    better = [n for n, gain in gains.items() if gain.mean() > 2 * gain.std()]
    worse = [n for n, gain in gains.items() if -gain.mean() > 2 * gain.std()]
    print(
        f"{task}, beyond the spread of the seeds: better than equal weights: "
        f"{', '.join(better) or 'none'}; worse: {', '.join(worse) or 'none'}"
    )
