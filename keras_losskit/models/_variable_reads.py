"""Variables that a step reads and the model does not have.

JAX would keep the value that they have when the step is compiled, for ever; so
the trainer is told of them before that.
"""

import contextlib
import warnings

import keras

from keras_losskit import _backend
from keras_losskit import _keras
from keras_losskit import _keras_hooks
from keras_losskit import _origin
from keras_losskit._scoped import Scoped
from keras_losskit._support.scopes import VariableReads
from keras_losskit.layers import AddLoss

#: The variables that the step under way has read, `{id: variable}`, if
#: somebody asks.
_read = Scoped("keras_losskit.variables_read")


@contextlib.contextmanager
def noting_reads():
    """Around a part of a step, in whatever scope the trainer runs it."""
    noted = _read.get()
    if noted is None:
        yield
        return
    with VariableReads() as reads:
        yield
    noted.update((id(variable), variable) for variable in reads.variables)


@contextlib.contextmanager
def adopting_reads(model, *batch):
    """Around a `compute_loss` of the trainer, which tells what the loss reads.

    Args:
        model: The model.
        *batch: Inputs, labels and sample weights.
    """
    if model.compiled_loss is None or not _keras.in_symbolic_scope():
        with noting_reads():
            yield
        return
    with VariableReads() as reads:
        yield
    adopted = adopt(model, reads.variables)
    warn_of_trainable(adopted, reads.readers)
    model._losskit_state.batch = keras.tree.map_structure(spec_of, batch)


def adopt_reads_of_step(model):
    """Take on what extra terms and custom layers read as well.

    While shapes are inferred an extra term has nothing to look into, and the
    forward pass is over when the loss is computed. So the step is traced once
    as it will be, where that makes a difference.
    """
    state = model._losskit_state
    batch, state.batch = state.batch, None
    if batch is None or not reads_more(model):
        return
    # In training a gradient-based weighting has a step of its own.
    training = not (state.evaluates or model.compiled_loss.weighs_gradients)
    optimizer = model.optimizer

    def step(*state_and_batch):
        return model.compute_loss_and_updates(
            *state_and_batch[:-1],
            training=training,
            optimizer_variables=state_and_batch[-1],
        )

    noted = {}
    _read.run(
        noted,
        _backend.run_abstractly,
        step,
        [v.value for v in model.trainable_variables],
        [v.value for v in model.non_trainable_variables],
        [v.value for v in model.metrics_variables],
        *batch,
        [v.value for v in optimizer.variables] if optimizer else [],
    )
    adopt(model, noted.values())


def adopt(model, variables):
    """Make those of `variables` that nobody else carries the loss' own.

    Returns:
        A list of them.
    """
    losses = model.compiled_loss.built_losses
    known = [*model.variables, *model.metrics_variables]
    known += [*losses.variables, *losses.clock.variables]
    if model.optimizer is not None:
        known += model.optimizer.variables
    known = {id(variable) for variable in known}
    adopted = [v for v in variables if id(v) not in known]
    losses.adopt(adopted)
    return adopted


def warn_of_trainable(variables, readers):
    """Warn of variables that look as if they were trained, and are not.

    Args:
        variables: What the loss reads and the model does not have.
        readers: `{id: names of the terms}` of those whose reader is known.
    """
    untrained = [v for v in variables if v.trainable and id(v) in readers]
    if not untrained:
        return
    terms = ", ".join(dict.fromkeys(readers[id(v)] for v in untrained))
    names = [v.path for v in untrained]
    further = f" and {len(names) - 3} more" if len(names) > 3 else ""
    warnings.warn(
        f"Expected what a loss reads to be a weight of the model, or not "
        f"trainable. Received: {names[:3]}{further}, trainable variables that "
        f"the loss of {terms} reads and that training leaves as they are. To "
        "train one, make it an attribute of the model before `compile`: "
        "`model.scale = variable`. To keep it as it is, say "
        "`variable.trainable = False`, or that of the layer it belongs to.",
        stacklevel=2,
    )


def reads_more(model):
    """Whether a step may read variables that the loss alone does not."""
    return bool(model.compiled_loss.extra_terms) or any(
        map(runs_users_code, _keras.flatten_layers(model))
    )


def runs_users_code(layer):
    """Whether a call of `layer` runs a function that the user wrote."""
    regularizer = _keras_hooks.regularizer_of(layer)
    return (
        _origin.is_users_own(type(layer).call)
        or isinstance(layer, AddLoss | keras.layers.Lambda)
        or not (
            regularizer is None or _origin.is_keras_class(type(regularizer))
        )
    )


def spec_of(tensor):
    """Shape and dtype of a tensor of a batch, or None."""
    if tensor is None:
        return None
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    return keras.KerasTensor(tensor.shape, dtype)
