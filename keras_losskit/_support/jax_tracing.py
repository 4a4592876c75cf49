"""What JAX may not trace: what is built, and what keeps the running means."""

import keras
from keras import ops

from keras_losskit import _backend
from keras_losskit import _keras

#: For those who write a `train_step` for JAX as Keras' guide does.
BARE_TRACE = (
    "Expected `compute_loss` inside `jax.grad` to run in a "
    "`keras.StatelessScope` that holds the model's variables and metrics, as "
    "in `self.compute_loss_and_updates(trainable_variables, "
    "non_trainable_variables, metrics_variables, x, y, sample_weight, "
    "training=True, optimizer_variables=optimizer_variables)`, which returns "
    "`(loss, (loss, y_pred, non_trainable_variables, metrics_variables))`."
)


def refuse_tracers(tensors):
    """Refuse a bare transformation, before anything is built or moved in it."""
    if is_bare_trace(tensors):
        raise RuntimeError(
            "Expected `LossesContainer.__call__` to run outside of a "
            "transformation, since it updates metrics. Received: a tracer. "
            "Use `container.compute(...)` or `stateless_compute(...)` inside "
            "`jax.jit` and `jax.grad`."
        )


def refuse_to_build(weighting, tensors):
    """Refuse a transformation, which would leave tracers in the weighting."""
    if _keras.in_symbolic_scope():
        return  # Keras builds there
    # A new tensor is a tracer under `jax.jit` even if no argument is.
    if has_tracer((tensors, ops.zeros(()))):
        raise RuntimeError(
            f"Expected {weighting!r} to be built before a transformation. "
            "Received: one that is not built, inside `jax.jit` or `jax.grad`. "
            "Call `container.build(y_true, y_pred)` first."
        )


def is_bare_trace(tensors):
    """Whether JAX traces `tensors` with no scope that carries state along."""
    return has_tracer(tensors) and not _keras.in_stateless_scope()


def has_tracer(tensors):
    """Whether JAX traces any of `tensors`."""
    # Only JAX has any, and this is asked in every step.
    return keras.config.backend() == "jax" and any(
        _backend.is_tracer(leaf) for leaf in keras.tree.flatten(tensors)
    )
