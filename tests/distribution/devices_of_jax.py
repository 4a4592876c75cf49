"""One training on one device, on eight, and on a mesh of two by four.

A script that prints, as JSON, what `fit` and `evaluate` logged, the weights
after it, and how many samples of a short batch each of eight computes. The last
batch of an epoch has 11 samples, that of validation 5, which none of these
devices divide.
"""

import json
import re

import jax
import keras
import numpy as np
from keras import ops

import keras_losskit as losskit
from keras_losskit import layers
from keras_losskit import losses
from keras_losskit import reductions
from keras_losskit import weighting


def on_eight():
    """Batches split in eight."""
    return keras.distribution.DataParallel(
        devices=keras.distribution.list_devices()
    )


def on_mesh():
    """Batches split in two, kernels in four."""
    mesh = keras.distribution.DeviceMesh(
        (2, 4), ("batch", "model"), keras.distribution.list_devices()
    )
    layout = keras.distribution.LayoutMap(mesh)
    layout["hidden/kernel"] = (None, "model")
    layout["hidden/bias"] = ("model",)
    layout["output/kernel"] = ("model", None)
    return keras.distribution.ModelParallel(
        layout_map=layout, batch_dim_name="batch"
    )


def compiled():
    """A model that has statistics of the batch, penalties and metrics."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((4,))
    hidden = layers.Dense(
        8,
        "tanh",
        name="hidden",
        kernel_regularizer="l2",
        activity_regularizer="l2",
    )(inputs)
    hidden = keras.layers.BatchNormalization(momentum=0.5)(hidden)
    hidden = layers.AddLoss(ops.square, name="size", weight=0.1)(hidden)
    model = losskit.Model(inputs, keras.layers.Dense(2, name="output")(hidden))
    model.compile(
        keras.optimizers.SGD(0.1),
        losskit.LossesContainer(
            [
                "mse",
                losses.MeanAbsoluteError(reduction="sum", name="mae"),
                losses.Huber(reduction=reductions.CVaR(alpha=0.7)),
            ],
            weighting=weighting.ReLoBRaLo(),
            log="all",
        ),
        metrics=["mae"],
        weighted_metrics=["mse"],
    )
    return model


def trained():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(43, 4)).astype("float32")
    y = rng.normal(size=(43, 2)).astype("float32")
    weights = rng.uniform(size=43).astype("float32")
    few = x[:21], y[:21], weights[:21]
    model = compiled()
    history = model.fit(
        x,
        y,
        sample_weight=weights,
        validation_data=few,
        batch_size=16,
        epochs=2,
        shuffle=False,
        verbose=0,
    ).history
    alone = model.evaluate(*few[:2], 16, 0, return_dict=True)
    history |= {f"alone_{key}": [value] for key, value in alone.items()}
    return model, history


def rows_per_device(model):
    """The leading sizes of what a device multiplies, of a batch of 11."""
    model.make_train_function(force=True)
    state = model._get_jax_state(
        trainable_variables=True,
        non_trainable_variables=True,
        optimizer_variables=True,
        metrics_variables=True,
    )
    batch = np.ones((11, 4), "float32"), np.ones((11, 2), "float32")
    program = jax.jit(model.train_step).lower(state, batch).compile()
    found = re.findall(r"f32\[(\d+),\d+\]\S* dot\(", program.as_text())
    return sorted(set(map(int, found)))


def main():
    results = {}
    for name, distribution in {
        "one": None,
        "eight": on_eight(),
        "mesh": on_mesh(),
    }.items():
        keras.distribution.set_distribution(distribution)
        model, history = trained()
        results[name] = {
            "logs": {key: list(map(float, v)) for key, v in history.items()},
            "weights": [
                np.asarray(v.value).tolist()
                for v in [*model.weights, *model.compiled_loss.variables]
            ],
            "rows": rows_per_device(model) if name == "eight" else None,
        }
    print("RESULT " + json.dumps(results), flush=True)


if __name__ == "__main__":
    main()
