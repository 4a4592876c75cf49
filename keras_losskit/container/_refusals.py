"""What a `LossesContainer` refuses: arguments, and whom it cannot serve."""

from keras_losskit import _weights as weights_lib
from keras_losskit.penalties.penalty import Penalty

LOGS = ("kinds", "terms", "all")

PLAIN_MODEL_HINT = (
    "A container over several outputs, or in which something moves, trains a "
    "`keras_losskit.Model`, or any model through `keras_losskit.wrap(model)`; "
    "a plain `keras.Model` calls it on each output by itself."
)


def checked_log(log):
    """`log`, refused if it is none of the words."""
    if log not in LOGS:
        raise ValueError(
            f"Expected `log` to be one of {LOGS}. Received: log={log!r}"
        )
    return log


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
