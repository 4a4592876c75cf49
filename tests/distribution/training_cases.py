"""Small trainings, the same on one device and on several.

Run as a script it prints what `fit` logged and the weights after it, as JSON,
for every case: `python training_cases.py WAY`, one of `WAYS`. `fit` and
`fit_inside` are `fit` in PyTorch processes, by itself and inside
`data_parallel`.
"""

import contextlib
import dataclasses
import json
import os
import sys
from typing import Any

import keras
import numpy as np
from keras import ops

import keras_losskit as losskit
from keras_losskit import layers
from keras_losskit import losses
from keras_losskit import reductions
from keras_losskit import weighting

BACKEND = keras.config.backend()
BATCH, STEPS, TOKENS = 16, 3, 32
#: The last batch of "short" has 11 samples, which two devices, or eight, share
#: unevenly.
SAMPLES = {"even": 48, "short": 43}

#: Reductions that are a sum, or a sum over a count, of single values.
SUMS_AND_MEANS = {
    "mean": "sum_over_batch_size",
    "sum": "sum",
    "weighted": "mean_with_sample_weight",
    "non_zero": reductions.MeanNonZero(),
    "threshold": reductions.Threshold(low=0.05, high=4.0),
    "classes": reductions.ClassWeighted(weights=[1.0, 3.0]),
}

#: Those that rank the values of all replicas.
RANKINGS = {
    "top": reductions.TopK(fraction=0.3, over="batch"),
    "hardest": reductions.TopK(k=5, over="batch"),
    "trimmed": reductions.TrimmedMean(fraction=0.2, over="batch"),
    "median": reductions.Quantile(q=0.5, over="batch"),
    "worst": reductions.CVaR(alpha=0.73, over="batch"),
    "tilted": reductions.Tilted(t=0.5, over="batch"),
}

VALUES = (
    weighting.DynamicWeightAverage,
    weighting.GeometricMean,
    weighting.IMTLLoss,
    weighting.RandomLossWeighting,
    weighting.ReLoBRaLo,
    weighting.SoftAdapt,
    weighting.Uncertainty,
)
GRADIENTS = (
    weighting.AlignedMTL,
    weighting.CAGrad,
    weighting.GradNorm,
    weighting.IMTLGradient,
    weighting.LearningRateAnnealing,
    weighting.MGDA,
    weighting.PCGrad,
    weighting.UPGrad,
)
SEEDED = (weighting.RandomLossWeighting, weighting.PCGrad)


@dataclasses.dataclass(frozen=True)
class Case:
    """What a training is made of; `settings` are those of a container."""

    losses: Any
    samples: str = "short"
    masks: bool = False
    weights: bool = False
    eager: bool = True
    tokens: bool = False
    validates: bool = False
    ids: bool = False
    settings: dict = dataclasses.field(default_factory=dict)


def each_reduction():
    """An output for each reduction, with a composite of two losses."""
    found = {
        name: 0.7 * losses.MeanSquaredError(reduction=reduction, name="mse")
        + 0.3 * losses.Huber(reduction=reduction, name="huber")
        for name, reduction in SUMS_AND_MEANS.items()
        if name != "classes"
    }
    found["classes"] = losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction=SUMS_AND_MEANS["classes"]
    )
    return found


def cases():
    """`{name: Case}`."""
    found = {
        "reductions": Case(
            each_reduction(),
            samples="even",
            validates=True,
            settings={"log": "all"},
        ),
        "reductions_short": Case(each_reduction(), eager=False, weights=True),
        "rankings_short": Case(
            {
                name: losses.MeanSquaredError(reduction=reduction, name="mse")
                for name, reduction in RANKINGS.items()
            },
            weights=True,
            eager=False,
        ),
        "rankings_weighed": Case(
            {
                "top": losses.MeanSquaredError(reduction=RANKINGS["top"]),
                "tilted": losses.MeanAbsoluteError(
                    reduction=RANKINGS["tilted"]
                ),
            },
            settings={"weighting": weighting.UPGrad()},
        ),
        "masks_short": Case(each_reduction(), masks=True, weights=True),
        "extra_terms": Case(
            {"mean": "mse", "sum": losses.MeanAbsoluteError(reduction="sum")},
            settings={
                "loss_weights": {
                    "sum": losskit.schedules.Linear(0.0, 0.1, steps=4)
                },
                "extra_terms": {
                    "flat": losskit.extra.FromLayer(
                        "mean", ops.square, weight=0.1
                    ),
                    "robust": losskit.extra.FGSM(epsilon=0.1, weight=0.2),
                    "steep": losskit.extra.GradientPenalty(
                        at="real", output="mean", target=0.1, weight=0.1
                    ),
                    "mean_teacher": losskit.extra.EMATeacher(
                        "mse", momentum=0.5, weight=0.1
                    ),
                },
                "penalties": {"reduction": "mean"},
            },
        ),
    }
    for method in (*VALUES, *GRADIENTS):
        seed = {"seed": 3} if method in SEEDED else {}
        found[method.__name__] = Case(
            {"mean": "mse", "weighted": "mae"},
            settings={"weighting": method(**seed)},
        )
    found["vocabulary"] = Case(
        losses.LinearCrossEntropy("head", z_loss=0.01), tokens=True
    )
    samples = SAMPLES["short"]
    found["samples"] = Case(
        {"mean": "mse", "sum": "mae", "weighted": "mse"},
        weights=True,
        eager=False,
        ids=True,
        settings={
            "sample_weighting": [
                weighting.ResidualBasedAttention(
                    samples, learning_rate=0.2, initial=0.5, terms="mean"
                ),
                weighting.GroupDRO(
                    np.arange(samples) % 3, step_size=0.1, terms="sum"
                ),
                weighting.SmallLoss(0.4, warmup=1, terms="weighted"),
            ]
        },
    )
    found["MGDA_of_trunk"] = Case(
        {"mean": "mse", "weighted": "mae"},
        settings={"weighting": weighting.MGDA(wrt="hidden/.*", every=2)},
    )
    return found


class Logs(layers.Layer):
    """Passes its input on and logs how large it is."""

    def call(self, x):
        self.log("mean_size", ops.abs(x))
        return x


def model_of(case):
    """An output of shape (steps, 2) for each loss, and penalties."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((STEPS, 4))
    x = keras.layers.Masking(0.0)(inputs) if case.masks else inputs
    hidden = layers.Dense(
        8,
        "tanh",
        name="hidden",
        kernel_regularizer="l2",
        activity_regularizer="l2",
    )(x)
    hidden = layers.AddLoss(ops.square, name="size", weight=0.1)(hidden)
    hidden = Logs()(hidden)
    outputs = {
        name: keras.layers.Dense(2, name=name, activity_regularizer="l1")(
            hidden
        )
        for name in case.losses
    }
    return losskit.Model(inputs, outputs)


def token_model():
    """A table of tokens, a hidden layer and a head, whose logits are left out.

    `model_of` a case of tokens.
    """
    keras.utils.set_random_seed(1)
    inputs = keras.Input((STEPS,), dtype="int32")
    x = keras.layers.Embedding(TOKENS, 8, name="table")(inputs)
    x = layers.Dense(16, "tanh", name="hidden", kernel_regularizer="l2")(x)
    return losskit.Model(inputs, keras.layers.Dense(TOKENS, name="head")(x))


def data_of(case):
    """`(x, y, sample_weight)`."""
    rng = np.random.default_rng(0)
    samples = SAMPLES[case.samples]
    if case.tokens:
        x, y = rng.integers(0, TOKENS, (2, samples, STEPS))
        return x, y, None
    x = rng.normal(size=(samples, STEPS, 4)).astype("float32")
    if case.masks:
        x[rng.random((samples, STEPS)) < 0.3] = 0.0
    y = {
        name: rng.normal(size=(samples, STEPS, 2)).astype("float32")
        for name in case.losses
    }
    if "classes" in y:
        y["classes"] = rng.integers(0, 2, (samples, STEPS))
    weights = None
    if case.weights:
        choice = rng.choice([0.0, 0.5, 1.0, 2.0], samples).astype("float32")
        weights = {name: choice for name in y}
    return losskit.with_ids(x) if case.ids else x, y, weights


def compiled(case):
    """The model of a case, ready for `fit`."""
    model = token_model() if case.tokens else model_of(case)
    settings = dict(case.settings)
    penalty = losskit.Penalty(**settings.pop("penalties", {}))
    model.compile(
        keras.optimizers.SGD(0.01),
        loss=losskit.LossesContainer(
            case.losses, regularization=penalty, activity=penalty, **settings
        ),
        jit_compile=False,
        run_eagerly=case.eager and BACKEND == "tensorflow",
    )
    return model


def trained(case, data=None, batch_size=BATCH):
    """What an epoch of `fit` logs, and the weights after it."""
    x, y, weights = data or data_of(case)
    model = compiled(case)
    history = model.fit(
        x,
        y,
        sample_weight=weights,
        validation_data=(x, y) if case.validates else None,
        batch_size=batch_size,
        epochs=epochs_of(case),
        shuffle=False,
        verbose=0,
    ).history
    return result_of(history, model)


def epochs_of(case):
    """Two where the last batch is short, so that logs tell what it led to."""
    return 2 if case.samples == "short" else 1


def result_of(history, model):
    """Logs by key, and all weights with the state of a weighting."""
    state = [*model.weights, *model.compiled_loss.variables]
    return {
        "logs": {key: list(map(float, v)) for key, v in history.items()},
        "weights": [np.asarray(v.numpy()).tolist() for v in state],
    }


# ------------------------------------------------------------ several devices


def two_cpus():
    """The training under TensorFlow's strategy over two logical devices."""
    import tensorflow as tf

    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 2
    )
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])

    def train(case):
        with strategy.scope():
            return trained(case)

    return train


def eight_cpus():
    """The training with batches split over what `XLA_FLAGS` asks for."""
    devices = keras.distribution.list_devices()
    assert len(devices) == 8
    keras.distribution.set_distribution(
        keras.distribution.DataParallel(devices=devices)
    )
    return trained


def mesh_of_eight():
    """The training with weights split in four, batches in two."""
    mesh = keras.distribution.DeviceMesh(
        (2, 4), ("batch", "model"), keras.distribution.list_devices()
    )
    layout = keras.distribution.LayoutMap(mesh)
    layout["hidden/kernel"] = layout["head/kernel"] = (None, "model")
    layout["hidden/bias"] = layout["head/bias"] = ("model",)
    layout["table/embeddings"] = ("model", None)
    layout["(mean|sum|weighted)/kernel"] = ("model", None)
    keras.distribution.set_distribution(
        keras.distribution.ModelParallel(
            layout_map=layout, batch_dim_name="batch"
        )
    )
    return trained


def one_of_two_processes():
    """The training in a loop of a process that has every other sample.

    `DistributedDataParallel` averages the gradients; the step of a weighting of
    gradients does so by itself.
    """
    import torch

    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()

    def steps(model, case):
        parallel = torch.nn.parallel.DistributedDataParallel(model)
        data = data_of(case)
        for start in range(0, SAMPLES[case.samples], BATCH):
            part = slice(start + rank, start + BATCH, 2)
            x, y, weights = (
                keras.tree.map_structure(
                    lambda values, part=part: torch.as_tensor(values[part]),
                    values,
                )
                if values is not None
                else None
                for values in data
            )
            if model.compiled_loss.weighs_gradients:
                with losskit.data_parallel():
                    model.train_step((x, y, weights))
                continue
            model.zero_grad()
            y_pred = parallel(x, training=True)
            with losskit.data_parallel():
                loss = model.compute_loss(x, y, y_pred, weights)
            loss.backward()
            with torch.no_grad():
                model.optimizer.apply(
                    [v.value.grad for v in model.trainable_variables],
                    model.trainable_variables,
                )

    def train(case):
        model = compiled(case)
        history = {}
        for epoch in range(epochs_of(case)):
            if epoch:
                model.compiled_loss.on_epoch_end()
            model.reset_metrics()
            steps(model, case)
            for key, value in model.get_metrics_result().items():
                history.setdefault(key, []).append(value)
        # As `fit` leaves it: the epoch is over, and the next has not begun.
        model.compiled_loss.clock.epoch_over.assign(1)
        # Which a loop of one's own does not log.
        history.pop("loss")
        return result_of(history, model)

    return train


def fit_of_two_processes(inside=contextlib.nullcontext):
    """`fit` in a process that has every other sample of each batch.

    From Keras 3.16 on its PyTorch trainer averages the gradients and adds up
    the metrics.
    """
    import torch

    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()

    def part(values):
        batches = np.split(values, range(BATCH, len(values), BATCH))
        return np.concatenate([batch[rank::2] for batch in batches])

    def train(case):
        data = data_of(case)
        x, y, weights = (
            values and keras.tree.map_structure(part, values)
            if not isinstance(values, np.ndarray)
            else part(values)
            for values in data
        )
        with inside():
            return trained(case, (x, y, weights), BATCH // 2)

    return train


REPLICAS = {
    "jax": eight_cpus,
    "tensorflow": two_cpus,
    "torch": one_of_two_processes,
}
WAYS = {
    "single": lambda: trained,
    "replicas": REPLICAS[BACKEND],
    "mesh": mesh_of_eight,
    "fit": fit_of_two_processes,
    "fit_inside": lambda: fit_of_two_processes(losskit.data_parallel),
}


def main(where, *names):
    train = WAYS[where]()
    results = {
        name: train(case)
        for name, case in cases().items()
        if not names or name in names
    }
    print("RESULT " + json.dumps(results), flush=True)
    if BACKEND == "torch" and where != "single":
        # Threads of gloo outlive the interpreter, which then aborts at times.
        os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
