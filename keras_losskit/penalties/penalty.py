"""`Penalty`: how the terms of one kind are combined and weighted."""

import dataclasses
from collections.abc import Mapping
from typing import Any
from typing import Literal
from typing import Self

import keras

from keras_losskit import _weights as weights_lib
from keras_losskit._support.checks import checked_choice
from keras_losskit._support.checks import checked_list
from keras_losskit._support.checks import checked_mapping
from keras_losskit._support.checks import checked_pattern
from keras_losskit._support.paths import path_matches
from keras_losskit._types import Config
from keras_losskit._types import Weight
from keras_losskit.terms import LossTerm
from keras_losskit.terms import checked_term_name
from keras_losskit.terms import multiply


@keras.saving.register_keras_serializable("keras_losskit")
class Penalty:
    """How the terms of one kind are combined and weighted.

    `contribution = weight * sum(values)`, or `weight * mean(values)`.

    Args:
        weight: The factor of the kind: a number, a `keras.Variable` or a
            schedule.
        reduction: `"sum"` over the terms, as Keras, or `"mean"`.
        groups: `{name: (pattern, weight)}`: the terms whose path matches the
            regular expression get that weight in place of the kind's, and are
            logged as `<name>_loss`. A pattern is matched from the start of any
            component of the path to its end, so `"encoder/.*"` finds
            `model/encoder/dense/kernel`.

    Raises:
        ValueError: for an unknown reduction or a malformed group; when the
            terms are known, for a pattern that matches none of them and for a
            path that two patterns match.

    Example:
        >>> penalty = Penalty(weight=0.5)
        >>> terms = [LossTerm("dense/kernel", "regularization", 4.0)]
        >>> [term.contribution for term in penalty.apply(terms)]
        [2.0]
    """

    def __init__(
        self,
        weight: Weight = 1.0,
        reduction: Literal["sum", "mean"] = "sum",
        groups: Mapping[str, tuple[str, Weight]] | None = None,
    ):
        self.weight = weights_lib.check_weight(weight, name="Penalty")
        self.reduction = checked_choice(
            reduction, ("sum", "mean"), "`reduction` of a Penalty"
        )
        if groups is None:
            groups = {}
        self.groups = {
            name: checked_group(name, group)
            for name, group in checked_mapping(
                groups, "`groups` of a Penalty", "{name: (pattern, weight)}"
            ).items()
        }

    def __repr__(self) -> str:
        arguments = [f"weight={self.weight!r}"]
        if self.reduction != "sum":
            arguments.append(f"reduction={self.reduction!r}")
        if self.groups:
            arguments.append(f"groups={self.groups!r}")
        return f"Penalty({', '.join(arguments)})"

    def apply(
        self, terms: list[LossTerm], clock: tuple[Any, Any] = (0, 0)
    ) -> list[LossTerm]:
        """The terms with the weight at which they enter the total.

        Args:
            terms: List of `LossTerm` of one kind.
            clock: `(step, epoch)` for weights that move.
        """
        if not terms:
            return []
        groups = self.members(terms)
        weighted = []
        for term in terms:
            name = groups.get(term.name)
            weight = self.groups[name][1] if name else self.weight
            weight = weights_lib.weight_value(weight, *clock)
            own = weights_lib.weight_value(term.weight, *clock)
            if self.reduction == "mean":
                siblings = [g for g in groups.values() if g == name]
                own = own / (
                    len(siblings) if name else len(terms) - len(groups)
                )
            weighted.append(
                dataclasses.replace(term, weight=multiply(weight, own))
            )
        return weighted

    def weights_of(self, term: LossTerm) -> list[Weight]:
        """The factors of a term's weight: the penalty's, and its own."""
        group = self.members([term]).get(term.name)
        return [self.groups[group][1] if group else self.weight, term.weight]

    def members(self, terms: list[LossTerm]) -> dict[str, str]:
        """`{term name: group name}` of the terms that a group matches."""
        found = {}
        for term in terms:
            names = [
                name
                for name, (pattern, _) in self.groups.items()
                if path_matches(pattern, term.path or term.name)
            ]
            if len(names) > 1:
                raise ValueError(
                    f"Expected one group of a Penalty to match the path "
                    f"'{term.path}'. Received: {names}. Narrow their patterns."
                )
            if names:
                found[term.name] = names[0]
        return found

    def check_patterns(self, terms: list[LossTerm]) -> None:
        """Refuse a pattern that matches no term.

        Args:
            terms: All the terms of the kind that the model can produce.
        """
        dead = sorted(set(self.groups) - set(self.members(terms).values()))
        if dead:
            paths = [term.path for term in terms]
            raise ValueError(
                f"Expected every group of a Penalty to match a path. Received: "
                f"{[(name, self.groups[name][0]) for name in dead]}, which "
                f"match none of {paths}"
            )

    @property
    def weights(self) -> list[Weight]:
        """All weights of the penalty, the groups' by name."""
        return [self.weight, *(weight for _, weight in self.groups.values())]

    def get_config(self) -> Config:
        """Everything needed to build the penalty again."""
        return {
            "weight": weights_lib.serialize_weight(self.weight),
            "reduction": self.reduction,
            "groups": {
                name: [pattern, weights_lib.serialize_weight(weight)]
                for name, (pattern, weight) in self.groups.items()
            },
        }

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """The penalty of a config."""
        config = dict(config)
        config["groups"] = {
            name: (pattern, weights_lib.deserialize_weight(weight))
            for name, (pattern, weight) in config["groups"].items()
        }
        config["weight"] = weights_lib.deserialize_weight(config["weight"])
        return cls(**config)


def checked_group(name, group):
    """`(pattern, weight)` of a group, refused with its name if malformed."""
    checked_term_name(name, "the name of a group of a Penalty")
    what = f"group '{name}' of a Penalty"
    pattern, weight = checked_list(group, what, "(pattern, weight)", length=2)
    checked_pattern(pattern, f"the pattern of {what}")
    return pattern, weights_lib.check_weight(weight, name=name)
