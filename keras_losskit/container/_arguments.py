"""The arguments of a `LossesContainer`: written, copied and saved."""

from collections.abc import Mapping

import keras

from keras_losskit import _notebook
from keras_losskit import _weights as weights_lib
from keras_losskit import losses as losses_lib
from keras_losskit._support.output_structure import map_leaves
from keras_losskit._types import Config
from keras_losskit.losses._core.composition import parts_of
from keras_losskit.penalties.collect import PENALTY_KINDS

CONFIG_VERSION = 1


def config_of(container):
    """The config of a container: its arguments, serialized."""
    serialize = keras.saving.serialize_keras_object
    by_sample = {}
    if container.sample_weighting:  # of which earlier versions do not know
        by_sample["sample_weighting"] = serialize(
            list(container.sample_weighting)
        )
    return {
        "version": CONFIG_VERSION,
        "losses": map_leaves(losses_lib.serialize, container.losses),
        "loss_weights": map_leaves(
            weights_lib.serialize_weight, container.loss_weights
        ),
        "output_names": container.output_names,
        "total_loss_mean": serialize(container.total_loss_mean),
        **{k: serialize(p) for k, p in container.penalties.items()},
        "extra_terms": serialize(container.extra_terms),
        "weighting": serialize(container.weighting),
        **by_sample,
        "log": container.log,
        "name": container.name,
    }


def arguments_of(config: Config) -> Config:
    """The arguments that a config holds.

    Raises:
        ValueError: for a config of a later version of the package.
    """
    arguments = dict(config)
    version = arguments.pop("version", CONFIG_VERSION)
    if version > CONFIG_VERSION:
        raise ValueError(
            "Expected the config of a LossesContainer to be of version "
            f"{CONFIG_VERSION} or earlier. Received: version={version}. "
            "Load it with the version of keras_losskit that saved it."
        )
    arguments["losses"] = map_leaves(
        losses_lib.deserialize, arguments["losses"]
    )
    arguments["loss_weights"] = map_leaves(
        weights_lib.deserialize_weight,
        arguments["loss_weights"],
        is_leaf=weights_lib.is_variable_config,
    )
    for key in (
        "total_loss_mean",
        *PENALTY_KINDS,
        "extra_terms",
        "weighting",
        "sample_weighting",
    ):
        if key in arguments:
            given = arguments[key]
            arguments[key] = keras.saving.deserialize_keras_object(given)
    return arguments


def formula_of(container):
    """How a container is written."""
    parts = [f"losses={container.losses!r}"]
    if container.loss_weights is not None:
        parts.append(f"loss_weights={container.loss_weights!r}")
    for kind, penalty in container.penalties.items():
        parts.append(f"{kind}={penalty!r}")
    if container.extra_terms:
        parts.append(f"extra_terms={container.extra_terms!r}")
    if container.weighting is not None:
        parts.append(f"weighting={container.weighting!r}")
    if container.sample_weighting:
        parts.append(f"sample_weighting={container.sample_weighting!r}")
    return f"LossesContainer({', '.join(parts)})"


def html_of(container) -> str:
    """A row per loss, weight, penalty and extra term, for notebooks."""
    given = {
        "losses": container.losses,
        "loss_weights": container.loss_weights,
        **container.penalties,
        "extra_terms": container.extra_terms or None,
        "weighting": container.weighting,
        "sample_weighting": container.sample_weighting or None,
    }
    rows = []
    for argument, value in given.items():
        if isinstance(value, Mapping):
            parts = list(value.items())
        elif isinstance(value, list | tuple):
            parts = list(enumerate(value))
        else:
            parts = [("", value)]
        shown = value is not None or argument in container.penalties
        rows += [[argument, str(p), repr(v)] for p, v in parts if shown]
    head = ["argument", "of", "is"]
    return _notebook.table(head, rows, caption=container.name)


def weights_beyond_compiled(container):
    """The weights of penalties and extra terms."""
    weights = []
    for penalty in container.penalties.values():
        weights += penalty.weights if penalty is not None else []
    return weights + [term.weight for term in container.extra_terms.values()]


def weight_variables(container):
    """The variables among all weights, in the order of the arguments.

    One that is given twice comes twice, as it does after loading.
    """
    weights, losses = [], []
    map_leaves(weights.append, container.loss_weights)
    map_leaves(losses.append, container.losses)
    for loss in losses:
        if isinstance(loss, keras.losses.Loss):  # no name, no function
            weights += [part.weight for part in parts_of(loss)]
    weights += weights_beyond_compiled(container)
    return [v for w in weights for v in weights_lib.weight_variables(w)]


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
