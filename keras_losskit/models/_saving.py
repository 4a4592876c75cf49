"""What the files of a model hold of its loss, and whether it can read one."""

import warnings
from typing import Any

import keras

from keras_losskit import _keras
from keras_losskit import _origin
from keras_losskit._types import Config
from keras_losskit._types import MixesIntoModel
from keras_losskit.container._arguments import copy_weighting
from keras_losskit.models._seed_state import SeedState
from keras_losskit.weighting.sample_weighting import SampleWeightings


class SavesLoss(MixesIntoModel):
    """Mixin for a Keras model: its loss, and its seeds, in files."""

    def get_compile_config(self) -> Config:
        """The arguments of `compile`, serialized."""
        container = _keras.compiled_loss(self)
        if container is None:
            return super().get_compile_config()
        try:
            loss = keras.saving.serialize_keras_object(container)
            return super().get_compile_config() | {"loss": loss}
        except (TypeError, ValueError) as error:
            warnings.warn(
                "The loss cannot be saved, so the file will hold the model "
                f"without its compile configuration: {error}",
                stacklevel=2,
            )
            return {}

    def compile_from_config(self, config: Config) -> None:
        """Compile with what `get_compile_config` returned.

        As in Keras a custom `compile` is not called, about which it warns.
        """
        if _origin.overrides(self, "compile"):
            super().compile_from_config(config)
            return
        config = keras.saving.deserialize_keras_object(config)
        self.compile(**config)
        container = _keras.compiled_loss(self)
        weighting = container and container.weighting
        if weighting and not weighting.built:
            return  # its variables are made before the first step
        if self.optimizer is not None and self.built:
            self.optimizer.build(self.trainable_variables)

    def load_weights(
        self, filepath: Any, skip_mismatch: bool = False, **kwargs: Any
    ) -> None:
        """As Keras does; the state of another weighting changes nothing.

        Raises:
            ValueError: if the file holds that.
        """
        container = _keras.compiled_loss(self)
        if container is not None:
            check_weighting_state(container, filepath, skip_mismatch)
        super().load_weights(filepath, skip_mismatch, **kwargs)

    @property
    def seed_state(self) -> SeedState:
        """The seeds of the model, in a form that `save` writes to the file."""
        state = self._losskit_state
        if state.seeds is None:
            state.seeds = SeedState(self)
        return state.seeds


def check_weighting_state(container, path, skip_mismatch):
    """Refuse a file with state that the weighting of a model cannot take.

    A copy of the weighting reads it first, alone. Keras itself reads the rest
    of a model all the same, and forgets the error of what it finds by two
    names, as it does a loss.

    Args:
        container: A `LossesContainer`.
        path: Path of the file.
        skip_mismatch: Whether to warn only.

    Raises:
        ValueError: if it has, and `skip_mismatch` is False.
    """
    named = str(path).endswith((".keras", ".weights.h5", ".weights.json"))
    if named and (container.weighting or container.sample_weighting):
        alone = OnlyWeighting(container)
        alone.load_weights(path, skip_mismatch=skip_mismatch)


class OnlyWeighting(keras.Model):
    """A model with weightings where a file has those of a model's loss.

    Args:
        container: A `LossesContainer`, whose weightings are copied.
    """

    def __init__(self, container):
        super().__init__()
        # Tracked, it would be found by two names here too.
        _keras.set_untracked(self, "compiled_loss", Shelf())
        self.compiled_loss.weighting = copy_weighting(container.weighting)
        self.compiled_loss.sample_weighting = SampleWeightings(
            [copy_weighting(each) for each in container.sample_weighting]
        )
        self.built = True

    def load_own_variables(self, store):
        """Leave what a model has itself in the file."""


class Shelf(_keras.Saveable):
    """Stands for a loss that has a weighting and nothing else."""
