"""What the loss of a model is made of, before it has met a model."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Literal
from typing import Self

import keras

from keras_losskit import _weights as weights_lib
from keras_losskit import losses as losses_lib
from keras_losskit._support.output_structure import map_leaves
from keras_losskit._types import Config
from keras_losskit._types import KerasLoss
from keras_losskit._types import Losses
from keras_losskit._types import LossWeights
from keras_losskit._types import Weight
from keras_losskit.container._output_losses import OutputLosses
from keras_losskit.extra import ExtraTerm
from keras_losskit.losses._core.composition import parts_of
from keras_losskit.penalties.collect import PENALTY_KINDS
from keras_losskit.penalties.penalty import Penalty
from keras_losskit.schedules._step_counter import StepCounter
from keras_losskit.weighting import Weighting

CONFIG_VERSION = 1
LOGS = ("kinds", "terms", "all")


class LossRecipe(KerasLoss[keras.losses.Loss]):
    """The arguments of a `LossesContainer`: checked, copied and saved.

    See there for what each means.
    """

    def __init__(
        self,
        losses: Losses = None,
        loss_weights: LossWeights = None,
        output_names: Sequence[str] | None = None,
        total_loss_mean: keras.metrics.Metric | None = None,
        *,
        regularization: Penalty | None = Penalty(),
        activity: Penalty | None = Penalty(),
        added: Penalty | None = Penalty(),
        extra_terms: Mapping[str, ExtraTerm] | None = None,
        weighting: Weighting | None = None,
        log: Literal["kinds", "terms", "all"] = "terms",
        name: str = "losses_container",
    ):
        super().__init__(name=name)
        if log not in LOGS:
            raise ValueError(
                f"Expected `log` to be one of {LOGS}. Received: log={log!r}"
            )
        self.losses = losses
        self.loss_weights = loss_weights
        self.output_names = output_names
        self.total_loss_mean = total_loss_mean
        self.penalties = {
            "regularization": checked_penalty("regularization", regularization),
            "activity": checked_penalty("activity", activity),
            "added": checked_penalty("added", added),
        }
        self.extra_terms = dict(extra_terms or {})
        check_group_names(self.penalties.values(), self.extra_terms)
        self.weighting = weighting
        self.log = log
        self.clock = StepCounter()
        self._compiled = OutputLosses(losses, loss_weights, output_names)

    def __repr__(self) -> str:
        parts = [f"losses={self.losses!r}"]
        if self.loss_weights is not None:
            parts.append(f"loss_weights={self.loss_weights!r}")
        for kind, penalty in self.penalties.items():
            parts.append(f"{kind}={penalty!r}")
        if self.extra_terms:
            parts.append(f"extra_terms={self.extra_terms!r}")
        if self.weighting is not None:
            parts.append(f"weighting={self.weighting!r}")
        return f"LossesContainer({', '.join(parts)})"

    def copy(self, output_names: Sequence[str] | None = None) -> Self:
        """The same recipe with a state of its own.

        Args:
            output_names: Flat names of the outputs where the recipe has none.
        """
        return type(self)(
            self.losses,
            self.loss_weights,
            self.output_names or output_names,
            self.total_loss_mean,
            **self.penalties,
            extra_terms={n: t.copy() for n, t in self.extra_terms.items()},
            weighting=copy_weighting(self.weighting),
            log=self.log,
            name=self.name,
        )

    def weight_variables(self) -> list[keras.Variable]:
        """The variables among the weights, in the order of the arguments.

        One that is given twice comes twice, as it does after loading.
        """
        weights: list[Weight] = []
        map_leaves(weights.append, self.loss_weights)
        map_leaves(lambda loss: weights.extend(own_weights(loss)), self.losses)
        for penalty in self.penalties.values():
            weights += penalty.weights if penalty is not None else []
        weights += [term.weight for term in self.extra_terms.values()]
        return [v for w in weights for v in weights_lib.weight_variables(w)]

    def get_config(self) -> Config:
        """Everything needed to build the container again."""
        serialize = keras.saving.serialize_keras_object
        return {
            "version": CONFIG_VERSION,
            "losses": map_leaves(losses_lib.serialize, self.losses),
            "loss_weights": map_leaves(
                weights_lib.serialize_weight, self.loss_weights
            ),
            "output_names": self.output_names,
            "total_loss_mean": serialize(self.total_loss_mean),
            **{k: serialize(p) for k, p in self.penalties.items()},
            "extra_terms": serialize(self.extra_terms),
            "weighting": serialize(self.weighting),
            "log": self.log,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """The container of a config.

        Raises:
            ValueError: for a config of a later version of the package.
        """
        config = dict(config)
        version = config.pop("version", CONFIG_VERSION)
        if version > CONFIG_VERSION:
            raise ValueError(
                "Expected the config of a LossesContainer to be of version "
                f"{CONFIG_VERSION} or earlier. Received: version={version}. "
                "Load it with the version of keras_losskit that saved it."
            )
        deserialize = keras.saving.deserialize_keras_object
        config["losses"] = map_leaves(losses_lib.deserialize, config["losses"])
        config["loss_weights"] = map_leaves(
            weights_lib.deserialize_weight,
            config["loss_weights"],
            is_leaf=weights_lib.is_variable_config,
        )
        for key in (
            "total_loss_mean",
            *PENALTY_KINDS,
            "extra_terms",
            "weighting",
        ):
            config[key] = deserialize(config[key])
        return cls(**config)


def own_weights(loss):
    """The weights that a loss, given in any form, brings along."""
    if not isinstance(loss, keras.losses.Loss):
        return []
    return [part.weight for part in parts_of(loss)]


def checked_penalty(kind, penalty):
    """`penalty`, refused with its kind if it is neither Penalty nor None."""
    if penalty is not None and not isinstance(penalty, Penalty):
        raise ValueError(
            f"Expected `{kind}` to be a Penalty, or None to leave the kind out "
            f"of the total. Received: {penalty!r}"
        )
    return penalty


def check_group_names(penalties, extra_terms):
    """Refuse a penalty group of the name of an extra term: both are logged."""
    groups = {
        name for penalty in penalties if penalty for name in penalty.groups
    }
    clash = sorted(groups & set(extra_terms))
    if clash:
        raise ValueError(
            "Expected penalty groups and extra terms to have names of their "
            f"own. Received twice: {clash}. Rename one of them."
        )


def copy_weighting(weighting):
    """A weighting of the same kind that starts anew, built if that one is."""
    if weighting is None:
        return None
    copy = type(weighting).from_config(weighting.get_config())
    if weighting.wrt is not None:
        # The layers themselves: one that is not built yet has no path.
        copy.wrt = weighting.wrt
    if weighting.built:
        copy.build(weighting.num_terms)
    return copy
