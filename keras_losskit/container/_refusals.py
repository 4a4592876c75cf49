"""What a `LossesContainer` refuses: arguments, and whom it cannot serve."""

import keras

from keras_losskit import _weights as weights_lib
from keras_losskit._support.checks import checked_instance
from keras_losskit._support.checks import checked_list
from keras_losskit._support.checks import checked_mapping
from keras_losskit._support.checks import checked_name
from keras_losskit._support.output_structure import is_nest
from keras_losskit.extra import ExtraTerm
from keras_losskit.losses._core.check import check_loss
from keras_losskit.penalties.penalty import Penalty
from keras_losskit.terms import checked_term_name

LOGS = ("kinds", "terms", "all")

PLAIN_MODEL_HINT = (
    "A container over several outputs, or in which something moves, trains a "
    "`keras_losskit.Model`, or any model through `keras_losskit.wrap(model)`; "
    "a plain `keras.Model` calls it on each output by itself."
)


def check_losses(losses, names):
    """Refuse a nest of losses in which something is not a loss.

    Args:
        losses: The nest.
        names: Names of the outputs, for the error, or None.
    """
    for name, loss in named_leaves(losses, names):
        if name is None and names is not None and len(names) == 1:
            name = names[0]
        check_loss(loss, "" if name is None else f" for {name!r}")


def check_loss_weights(loss_weights, names):
    """Refuse a nest of weights in which something is not a weight.

    Args:
        loss_weights: The nest.
        names: Names of the outputs, for the error, or None.
    """
    for name, weight in named_leaves(loss_weights, names):
        if weight is not None:
            name = "loss_weights" if name is None else name
            weights_lib.check_weight(weight, name=name)


def named_leaves(structure, names, name=None):
    """Each leaf of a nest that goes with the outputs, with its output's name.

    Args:
        structure: The nest.
        names: Names of the outputs, or None.
        name: What the nest is of; None for all outputs.

    Yields:
        `(name, leaf)`; the name is the key, or the position, where it is not
        known, and None for a leaf that is not in a nest.
    """
    if not is_nest(structure):
        yield name, structure
        return
    if isinstance(structure, dict):
        keyed = structure.items()
    else:
        known = names is not None and len(names) == len(structure)
        keyed = zip(
            names if known else range(len(structure)), structure, strict=True
        )
    for key, entry in keyed:
        # Several of one output, in a list, are of that output.
        of_output = isinstance(key, int) and name is not None
        yield from named_leaves(entry, None, name if of_output else key)


def checked_output_names(names):
    """The names of outputs as a list, or None, refused if they are none."""
    if names is None:
        return None
    names = checked_list(names, "`output_names`", "a list of names")
    for name in names:
        checked_name(name, "each of `output_names`")
    return names


def checked_extra_terms(terms):
    """`{name: term}` as a dict, refused if it is none."""
    if terms is None:
        return {}
    terms = checked_mapping(terms, "`extra_terms`", "{name: term}")
    for name, term in terms.items():
        checked_term_name(name, "the name of an extra term")
        checked_instance(
            term,
            ExtraTerm,
            f"extra term '{name}'",
            "an object of keras_losskit.extra",
            "Make a function a subclass of keras_losskit.extra.ExtraTerm",
        )
    return terms


def checked_metric(metric):
    """The metric of the total, or None, refused if it is none."""
    if metric is None:
        return None
    return checked_instance(
        metric,
        keras.metrics.Metric,
        "`total_loss_mean`",
        "a metric, such as `keras.metrics.Mean()`",
    )


def checked_penalties(**penalties):
    """Penalties by kind, refused if one is neither Penalty nor None."""
    for kind, penalty in penalties.items():
        if penalty is not None and not isinstance(penalty, Penalty):
            raise ValueError(
                f"Expected `{kind}` to be a Penalty, or None to leave the kind "
                f"out of the total. Received: {penalty!r}"
            )
    return penalties


def refuse_group_names(penalties, extra_terms):
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


def refuse_names_of_parts(parts, extra_terms):
    """Refuse an extra term of the name of a compiled loss."""
    clash = sorted({part.name for part in parts} & set(extra_terms))
    if clash:
        raise ValueError(
            "Expected compiled losses and extra terms to have names of "
            f"their own. Received twice: {clash}. Rename one of them."
        )


def refuse_late_schedules(penalties):
    """Refuse weights that should follow a step which nobody counts."""
    late = [
        term.name
        for term in penalties
        if not isinstance(term.weight, float)
        and weights_lib.is_schedule(term.weight)
    ]
    if late:
        raise ValueError(
            "Expected the container to know of losses whose weights "
            "follow a schedule when it is built, to count the steps. "
            f"Received: {late}, not known then. Call "
            "`container.build(y_true, y_pred, model.losses)` after a "
            "forward pass, or build the model anew by `compile`."
        )


def refuse_gradient_weighting(weighting):
    """Refuse a training step that knows nothing of gradients of terms."""
    raise ValueError(
        f"Expected {weighting!r}, which weighs the terms' "
        "gradients, to be trained by `fit` of a `keras_losskit.Model` "
        "or of `keras_losskit.wrap(model)`. Received: a call of the "
        "container, whose total has the weights of the user only. In "
        "a `train_step` of your own call `super().train_step(...)`; in "
        "a loop of your own take the gradients of the terms of "
        "`container.compute(...)` and ask `weighting(gramian)`."
    )


def refuse_keras_trainer(container):
    """Refuse Keras' own trainer, which does not know what moves here.

    It would stand still on JAX, and elsewhere move in evaluation too.
    """
    raise ValueError(
        "Expected a loss in which nothing moves: no weight that is a "
        f"variable or schedule, no weighting. Received: {container!r}. "
        f"{PLAIN_MODEL_HINT}"
    )
