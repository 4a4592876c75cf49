"""Penalties: the terms that come from a model's layers and variables."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any
from typing import Literal
from typing import Self

import keras
from keras import ops

from keras_losskit import _backend
from keras_losskit import _keras
from keras_losskit import origin
from keras_losskit import weights as weights_lib
from keras_losskit.paths import path_matches
from keras_losskit.recording import Recorded
from keras_losskit.recording import at_least_float32
from keras_losskit.recording import reports_activity
from keras_losskit.terms import LossTerm
from keras_losskit.terms import numbered
from keras_losskit.terms import weigh
from keras_losskit.typing import Config
from keras_losskit.typing import Weight

#: The kinds that a forward pass and the variables of a model produce.
PENALTY_KINDS = ("regularization", "activity", "added")


class PenaltyList(list):
    """A plain list of scalars, as `model.losses`, that knows its terms.

    The scalars are weighted by what the layer gave to `add_loss`, a schedule at
    its first step; the terms keep value and weight apart.

    Registered as a pytree whose leaves are the scalars, as those of a list: it
    may be returned from `jax.jit`, out of which the terms come with their
    weights applied.

    Args:
        terms: List of `LossTerm`.
    """

    def __init__(self, terms=()):
        self.terms = list(terms)
        super().__init__(
            weigh(term.value, weights_lib.weight_value(term.weight, 0, 0))
            for term in self.terms
        )
        self._made = tuple(self)

    def knows_its_terms(self):
        """Whether the scalars are still those of the terms."""
        return len(self) == len(self._made) and all(
            value is made for value, made in zip(self, self._made, strict=True)
        )

    def tree_flatten(self):
        """Children and static part of the pytree."""
        if not self.knows_its_terms():
            return tuple(self), None
        static = tuple(
            (t.name, t.kind, t.path, t.output, t.label) for t in self.terms
        )
        return tuple(self), static

    @classmethod
    def tree_unflatten(cls, static, children):
        """Inverse of `tree_flatten`; a plain list where no terms are known."""
        if static is None:
            return list(children)
        return cls(
            LossTerm(name, kind, value, path=path, output=output, label=label)
            for (name, kind, path, output, label), value in zip(
                static, children, strict=True
            )
        )


_backend.register_pytree(PenaltyList)
_keras.register_tree_node_class(PenaltyList)


def collect_losses(model: keras.layers.Layer) -> list[LossTerm]:
    """The terms beyond the compiled ones of any Keras model.

    Call it after a forward pass. The terms come in the order and with the
    values of `model.losses`, except that sums are taken in float32 at least.
    Inside `keras.layers.TimeDistributed` Keras never applies the inner layer's
    activity regularizer, and frozen variables carry no penalty: neither has a
    term.

    Args:
        model: A `keras.Model` or layer that was called.

    Returns:
        A list of `LossTerm` of the kinds regularization, activity and added,
        named by the path of their layer or variable.

    Raises:
        ValueError: for a plain Keras model with a layer that has an activity
            regularizer and adds losses of its own: which is which is known only
            to a model that is wrapped.

    Example:
        >>> dense = keras.layers.Dense(
        ...     1, kernel_regularizer="l2", kernel_initializer="ones",
        ...     name="dense")
        >>> model = keras.Sequential([keras.Input((2,)), dense], name="net")
        >>> [(term.name, round(float(term.value), 4))
        ...  for term in collect_losses(model)]
        [('net/dense/kernel', 0.02)]
    """
    terms = getattr(model, "penalty_terms", None)
    if terms is not None:
        return terms()
    return layer_terms(model, recorded=None) + variable_terms(
        regularized_variables(model)
    )


def layer_terms(model, recorded):
    """Terms for what the layers added during the last forward pass.

    Args:
        model: The model.
        recorded: The `Recorder` of the pass, or None to tell losses apart by
            what the layers still hold, as it is done for layers that were made
            during the pass.
    """
    found = []
    for layer in _keras.flatten_layers(model):
        if recorded is not None and recorded.watches(layer):
            found += recorded.of_layer(layer)
        else:
            found += held_losses(layer)
    names = numbered(
        f"{layer_path(loss.layer)}/{loss.name or loss.kind}" for loss in found
    )
    return [
        LossTerm(
            name,
            loss.kind,
            as_scalar(loss.value),
            weight=loss.weight,
            path=layer_path(loss.layer),
            label=loss.name,
        )
        for name, loss in zip(names, found, strict=True)
    ]


def held_losses(layer):
    """The losses a layer holds after a pass that nobody recorded."""
    if reports_activity(layer):
        return layer.held_losses()
    losses = _keras.own_losses(layer)
    if layer.activity_regularizer is None:
        return [Recorded(layer, "added", value) for value in losses]
    if len(losses) > 1 and not origin.is_keras_class(type(layer)):
        raise ValueError(
            f"Expected layer '{layer_path(layer)}' either to have an "
            "activity regularizer or to call `add_loss`: afterwards the two "
            f"cannot be told apart. Received: {len(losses)} losses. Use "
            "`keras_losskit.wrap(model)`, which records them as they come."
        )
    return [Recorded(layer, "activity", value) for value in losses]


def regularized_variables(model):
    """The variables with a regularizer, frozen ones left out, as Keras."""
    return [
        variable
        for variable in model.trainable_weights
        if getattr(variable, "regularizer", None) is not None
    ]


def variable_terms(variables):
    """Terms for the weight regularizers, in the order of the variables."""
    names = numbered(variable.path for variable in variables)
    return [
        LossTerm(
            name,
            "regularization",
            as_scalar(variable.regularizer(at_least_float32(variable.value))),
            path=variable.path,
        )
        for name, variable in zip(names, variables, strict=True)
    ]


def layer_path(layer):
    """The path of a layer; its name while it is not built."""
    return layer.path or layer.name


def as_scalar(value):
    """The sum of a loss, in float32 at least, as Keras adds it up.

    0 for a loss that was recorded while shapes were inferred.
    """
    if value is None:
        return ops.zeros(())
    value = at_least_float32(value)
    return ops.sum(value) if len(value.shape) else value


def as_terms(losses, kind):
    """Losses in any form a caller may have them in, as terms.

    Args:
        losses: None, a scalar, a list of scalars or of `LossTerm`, or what
            `model.losses` returned, whose terms keep the kinds they came with.
        kind: The kind of those that do not know theirs.
    """
    if losses is None:
        return []
    if isinstance(losses, PenaltyList) and losses.knows_its_terms():
        return losses.terms
    terms = []
    for loss in keras.tree.flatten(losses):
        if not isinstance(loss, LossTerm):
            value = as_scalar(ops.convert_to_tensor(loss))
            loss = LossTerm(f"{kind}_{len(terms) + 1}", kind, value)
        terms.append(loss)
    return terms


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
        if reduction not in ("sum", "mean"):
            raise ValueError(
                'Expected `reduction` of a Penalty to be "sum" or "mean". '
                f"Received: reduction={reduction!r}"
            )
        self.reduction = reduction
        self.groups = {
            name: checked_group(name, group)
            for name, group in (groups or {}).items()
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
                dataclasses.replace(term, weight=weigh(weight, own))
            )
        return weighted

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
    try:
        pattern, weight = group
        re.compile(pattern)
    except (TypeError, ValueError, re.error) as error:
        raise ValueError(
            f"Expected group '{name}' of a Penalty to be (pattern, weight) "
            f"with a regular expression. Received: {group!r} ({error})"
        ) from None
    return pattern, weights_lib.check_weight(weight, name=name)
