"""Long trainings: memory stays flat and nothing is traced or kept again."""

import gc
import weakref
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops
from support.processes import fresh_processes
from support.results import record

import keras_losskit as losskit

BACKEND = keras.config.backend()
rng = np.random.default_rng(0)
X = rng.normal(size=(50, 8)).astype("float32")
Y = {
    "a": rng.normal(size=(50, 3)).astype("float32"),
    "b": rng.normal(size=(50, 1)).astype("float32"),
}


def model_of():
    inputs = keras.Input((8,))
    hidden = layers.Dense(
        16, "relu", kernel_regularizer="l2", activity_regularizer="l1"
    )(inputs)
    outputs = {
        name: layers.Dense(Y[name].shape[1], name=name)(hidden) for name in Y
    }
    return losskit.Model(inputs, outputs)


class Counted:
    """A loss that counts how often its Python code runs."""

    def __init__(self):
        self.calls = 0

    def __call__(self, y_true, y_pred):
        self.calls += 1
        return ops.mean(ops.square(y_true - y_pred), axis=-1)


def compile_with(model, loss="mse", method=losskit.weighting.Uncertainty):
    model.compile(
        keras.optimizers.SGD(0.01),
        losskit.LossesContainer(
            {"a": [loss, "mae"], "b": "mae"},
            loss_weights={"b": losskit.schedules.Linear(0.0, 1.0, epochs=9)},
            weighting=method and method(),
        ),
        jit_compile=False if BACKEND == "torch" else "auto",
    )


def fit(model, epochs=1, callbacks=()):
    # 16 divides 48 of the samples: the last batch is short.
    return model.fit(
        X,
        Y,
        batch_size=16,
        epochs=epochs,
        validation_data=(X, Y),
        callbacks=list(callbacks),
        verbose=0,
    )


def resident():
    """Bytes of memory of this process."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * 4096


class Watch(keras.callbacks.Callback):
    """Memory and calls of the loss after every epoch."""

    def __init__(self, loss):
        super().__init__()
        self.loss = loss
        self.memory = []
        self.calls = []

    def on_epoch_end(self, epoch, logs=None):
        gc.collect()
        self.memory.append(resident())
        self.calls.append(self.loss.calls)


def traced_no_more(calls):
    """Whether the loss ran no more often in any epoch after the first."""
    per_epoch = np.diff(calls)
    # PyTorch runs what others trace: as often in each epoch.
    return len(set(per_epoch)) == 1 and (
        BACKEND == "torch" or not per_epoch.any()
    )


@pytest.mark.parametrize(
    "method",
    [
        losskit.weighting.Uncertainty,
        pytest.param(losskit.weighting.MGDA, marks=pytest.mark.slow),
    ],
    ids=["values", "gradients"],
)
def test_later_epochs_trace_nothing(method):
    loss = Counted()
    model, watch = model_of(), Watch(loss)
    compile_with(model, loss, method)
    fit(model, epochs=4, callbacks=[watch])
    assert traced_no_more(watch.calls), watch.calls


def recompiled(times):
    """What a model has after each compile, and what outlives its compile.

    Returns:
        `(counts, alive)`: the set of the numbers of metrics and variables, and
        weak references to containers and trackers but the last ones.
    """
    model, left, counts = model_of(), [], set()
    for _ in range(times):
        compile_with(model)
        model.train_on_batch(X, Y)
        container = model.compiled_loss
        left += [weakref.ref(container), weakref.ref(container.tracker)]
        counts.add(
            (
                len(model.metrics),
                len(model.variables),
                len(model.trainable_variables),
            )
        )
    del container
    gc.collect()
    return counts, [ref for ref in left[:-2] if ref() is not None]


def test_recompiling_leaves_nothing_behind():
    counts, alive = recompiled(2)
    assert len(counts) == 1
    assert not alive


def soaked():
    """`(memory and calls of each epoch, what recompiling leaves)`."""
    loss = Counted()
    model, watch = model_of(), Watch(loss)
    compile_with(model, loss)
    fit(model, epochs=200, callbacks=[watch])
    counts, alive = recompiled(50)
    return watch.memory, watch.calls, len(counts), len(alive)


@pytest.mark.slow  # minutes of training
@pytest.mark.timeout(0)
def test_two_hundred_epochs_and_fifty_compiles():
    # What other tests left free would hide what this one takes.
    with fresh_processes(1) as processes:
        memory, calls, counts, alive = processes.submit(soaked).result()
    assert traced_no_more(calls)
    second, last = max(memory[50:100]), max(memory[150:])
    assert last < 1.05 * second
    assert (counts, alive) == (1, 0)
    record(
        "soak",
        "A long training",
        {
            "epochs": 200,
            "peak memory, second quarter": f"{second / 2**20:.1f} MiB",
            "peak memory, last quarter": f"{last / 2**20:.1f} MiB",
            "calls of the loss after the first epoch": (
                f"{calls[-1] - calls[0]}, "
                + ("one per step" if BACKEND == "torch" else "nothing traced")
            ),
            "containers and trackers left after 50 compiles": alive,
        },
    )
