"""What is compared: each case builds the contestants of one comparison."""

import dataclasses
from collections.abc import Callable

import keras

import keras_losskit as losskit
from benchmarks import networks
from benchmarks import segmentation
from benchmarks.networks import training
from benchmarks.others import other_packages

#: A perceptron whose loss has each kind of term: two compiled, weight penalties
#: and an activity penalty.
FOUR_TERMS = {
    "depth": 2,
    "width": 64,
    "outputs": {"a": 8, "b": 1},
    "regularizer": "l2",
    "activity": "l1",
}
SEGMENTATION_GOAL = {"tensorflow": 1.00, "jax": 1.00, "torch": 0.80}


@dataclasses.dataclass(frozen=True)
class Case:
    """One comparison.

    Args:
        name: Name in the table.
        contestants: `{name: () -> run}`, with `run()` the steps of a round; the
            first is what the others are compared with.
        goal: Highest ratio of medians per backend; one that is not named has
            none.
    """

    name: str
    contestants: dict[str, Callable]
    goal: dict[str, float] = dataclasses.field(default_factory=dict)


def cases(steps):
    """All cases, with `steps` training steps per round."""
    deep = {
        "depth": 200,
        "width": 32,
        "outputs": {"a": 1},
        "regularizer": "l2",
    }
    return [
        against_keras(
            "small MLP, 4 terms",
            lambda model: training(model, steps, **FOUR_TERMS),
            {"tensorflow": 1.03, "jax": 1.00, "torch": 1.00},
        ),
        against_keras(
            "32 outputs",
            lambda model: training(model, steps, **heads(32)),
            {"tensorflow": 1.05, "jax": 1.02, "torch": 1.05},
        ),
        Case(
            "16 terms by hand",
            {
                "a Mean per term": networks.training_by_hand(
                    steps, **heads(16)
                ),
                "losskit": training(losskit.Model, steps, **heads(16)),
            },
            {"tensorflow": 0.95, "jax": 1.00, "torch": 0.80},
        ),
        against_keras(
            "200 regularised layers",
            lambda model: training(model, steps, **deep),
            {"tensorflow": 0.97, "jax": 1.00, "torch": 0.80},
        ),
        against_keras(
            "ResNet50 with L2",
            lambda model: networks.classifying(
                networks.resnet50, model, max(steps // 15, 2), (32, 32, 3), 16
            ),
            {"tensorflow": 1.00, "jax": 1.00, "torch": 0.97},
        ),
        against_keras(
            "transformer encoder with L2",
            lambda model: networks.classifying(
                networks.transformer, model, max(steps // 3, 2), (32, 64), 32
            ),
        ),
        *(
            against_keras(
                f"{count} regularised layers",
                lambda model, count=count: training(
                    model,
                    max(50 * steps // count, 2),
                    **deep | {"depth": count},
                ),
            )
            for count in (10, 50, 1000)
        ),
        *(
            against_keras(
                f"{count} terms",
                lambda model, count=count: training(
                    model, steps, **heads(count)
                ),
            )
            for count in (2, 8, 128)
        ),
        Case(
            "segmentation loss, forward and backward",
            segmentation.contestants(max(steps // 20, 1)),
            SEGMENTATION_GOAL,
        ),
        *(
            Case(name, contestants)
            for name, contestants in other_packages(steps, FOUR_TERMS).items()
        ),
    ]


def against_keras(name, build, goal=None):
    """Our model in the place of Keras', with nothing else changed."""
    return Case(
        name,
        {
            "plain Keras": build(keras.Model),
            "losskit": build(losskit.Model),
        },
        goal or {},
    )


def heads(count):
    """A perceptron of two layers with `count` outputs of one unit."""
    return {
        "depth": 2,
        "width": 64,
        "outputs": {f"o{index}": 1 for index in range(count)},
    }
