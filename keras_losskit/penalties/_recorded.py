"""What is noted of a forward pass."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class RecordedLoss:
    """A loss that a layer added.

    Args:
        layer: Its owner.
        kind: `"activity"` or `"added"`.
        value: Its value, unweighted: a scalar; inside the loop of an RNN also
            each sample's share of it, `(batch, 1)`.
        name: The name the user gave it.
        weight: The weight the user gave it.
    """

    layer: Any
    kind: str
    value: Any
    name: str | None = None
    weight: Any = 1.0


@dataclasses.dataclass(frozen=True)
class LoggedValue:
    """A value that a layer logged.

    Args:
        layer: The layer.
        name: The key in the logs.
        value: A scalar; None while shapes are inferred.
    """

    layer: Any
    name: str
    value: Any
