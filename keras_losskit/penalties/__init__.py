"""What the layers and variables of a model add to its loss."""

from keras_losskit.penalties.collect import collect_losses
from keras_losskit.penalties.penalty import Penalty

__all__ = [
    "Penalty",
    "collect_losses",
]
