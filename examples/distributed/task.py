"""What the scripts of this folder train, and what they leave behind.

By itself it trains on one device: `KERAS_BACKEND=jax python task.py`. All
scripts take the same arguments, `--help` lists them.
"""

import argparse
import json
import os
import pathlib

import keras
import numpy as np

import keras_losskit as losskit
from keras_losskit import layers
from keras_losskit import losses
from keras_losskit import reductions

BATCH = 16


def arguments():
    """Those of the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument(
        "--weighting", help="a class of keras_losskit.weighting, such as UPGrad"
    )
    parser.add_argument(
        "--samples", type=int, default=40, help="the last batch may be short"
    )
    parser.add_argument(
        "--folder",
        type=pathlib.Path,
        help="for a checkpoint after each epoch, with which another run goes "
        "on, and for the results of each process",
    )
    return parser.parse_args()


def data(samples):
    """`x` and `y` of a trunk with two tasks."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(samples, 4)).astype("float32")
    y = {
        "value": x @ rng.normal(size=(4, 2)).astype("float32"),
        "label": (x[:, 0] > 0).astype("int32"),
    }
    return x, y


def model(options):
    """The model, compiled; as the checkpoint has it if there is one.

    Penalties, a mean over the hardest of the whole batch and a weighting: what
    has to be the same on any number of devices.
    """
    # In all processes alike, even if what is drawn is then replaced.
    keras.utils.set_random_seed(1)
    file = checkpoint(options)
    if file is not None and file.exists():
        return keras.models.load_model(file)
    inputs = keras.Input((4,))
    x = layers.Dense(
        16,
        "tanh",
        name="hidden",
        kernel_regularizer="l2",
        activity_regularizer="l2",
    )(inputs)
    outputs = {
        "value": keras.layers.Dense(2, name="value")(x),
        "label": keras.layers.Dense(2, name="label")(x),
    }
    found = losskit.Model(inputs, outputs)
    method = options.weighting and getattr(losskit.weighting, options.weighting)
    hardest = reductions.TopK(fraction=0.5, over="batch")
    found.compile(
        keras.optimizers.Adam(0.01),
        losskit.LossesContainer(
            {
                "value": [
                    "mse",
                    losses.MeanAbsoluteError(reduction=hardest, name="hardest"),
                ],
                "label": losses.SparseCategoricalCrossentropy(from_logits=True),
            },
            weighting=method and method(),
        ),
        jit_compile=keras.config.backend() == "jax",
    )
    return found


def part(arrays, start, process=0, count=1):
    """A process' part of the batch that starts somewhere: every n-th sample."""
    samples = slice(start + process, start + BATCH, count)
    return keras.tree.map_structure(lambda array: array[samples], arrays)


def checkpoint(options):
    """Where it is written, or None."""
    return options.folder and options.folder / "checkpoint.keras"


def save(found, options, process=0):
    """Write the checkpoint, which one process leaves in its place.

    On JAX all processes have to save, as Keras makes variables on the way.
    """
    file = checkpoint(options)
    if file is None:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"part_{process}.keras")
    found.save(part)
    if process == 0:
        # As a whole: who is killed leaves the last one.
        os.replace(part, file)
    else:
        part.unlink()


class Saving(keras.callbacks.Callback):
    """Calls `save` after every epoch of `fit`."""

    def __init__(self, options, process=0):
        super().__init__()
        self.options, self.process = options, process

    def on_epoch_end(self, epoch, logs=None):
        save(self.model, self.options, self.process)


def finish(found, history, options, process=0):
    """Show the logs once, and keep the results of each process.

    Args:
        found: The model.
        history: `{key: [value, ...]}` of the epochs.
        options: The arguments.
        process: The number of this process.
    """
    if process == 0:
        for epoch in range(len(history["loss"])):
            values = [f"{key} {v[epoch]:.4f}" for key, v in history.items()]
            print(f"epoch {epoch + 1}:", ", ".join(values), flush=True)
    if options.folder is not None:
        method = found.compiled_loss.weighting
        weights = [*found.weights, *(method.variables if method else ())]
        result = {
            "logs": {key: list(map(float, v)) for key, v in history.items()},
            "weights": [
                keras.ops.convert_to_numpy(weight).tolist()
                for weight in weights
            ],
        }
        options.folder.mkdir(parents=True, exist_ok=True)
        file = options.folder / f"process_{process}.json"
        file.write_text(json.dumps(result))


def steps_of(options):
    """The number of batches of an epoch."""
    return -(-options.samples // BATCH)


def epochs_to_come(found, options):
    """The numbers of the epochs that a checkpoint has not."""
    done = int(found.optimizer.iterations.numpy()) // steps_of(options)
    return range(done, options.epochs)


def main():
    options = arguments()
    found = model(options)
    x, y = data(options.samples)
    epochs = epochs_to_come(found, options)
    history = found.fit(
        x,
        y,
        batch_size=BATCH,
        initial_epoch=epochs.start,
        epochs=epochs.stop,
        shuffle=False,
        verbose=0,
        callbacks=[Saving(options)],
    ).history
    finish(found, history, options)


if __name__ == "__main__":
    main()
