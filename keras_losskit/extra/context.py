"""What a term over the inside of the model may look at."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Context:
    """The batch of a step and the model it went through.

    Args:
        model: The model.
        x: Inputs.
        y_true: Labels.
        y_pred: Predictions.
        sample_weight: Sample weights.
        training: Whether this is a training step.
    """

    model: Any = None
    x: Any = None
    y_true: Any = None
    y_pred: Any = None
    sample_weight: Any = None
    training: bool = True
