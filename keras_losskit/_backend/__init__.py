"""What differs between the frameworks, one small file for each.

The only place that imports tensorflow, jax or torch. Every file offers the same
functions; `docs` of each are in `jax.py`.
"""

import importlib

import keras

_NAME = keras.config.backend()
_FRAMEWORKS = ("jax", "tensorflow", "torch")

if _NAME not in _FRAMEWORKS:
    raise ImportError(
        f"Expected the Keras backend to be one of {_FRAMEWORKS}. "
        f"Received: {_NAME!r}. Set KERAS_BACKEND before importing keras."
    )

_module = importlib.import_module(f"{__name__}.{_NAME}")

Pullback = _module.Pullback
apply_gradients = _module.apply_gradients
gathered = _module.gathered
is_concrete_on_cpu = _module.is_concrete_on_cpu
compiled = _module.compiled
data_parallel = _module.data_parallel
FUSES_PENALTIES = _module.FUSES_PENALTIES
owned = _module.owned
promote = _module.promote
input_gradients = _module.input_gradients
is_first_process = _module.is_first_process
is_out_of_scope = _module.is_out_of_scope
is_tracer = _module.is_tracer
num_processes = _module.num_processes
num_replicas = _module.num_replicas
random_state_kept = _module.random_state_kept
register_pytree = _module.register_pytree
run_abstractly = _module.run_abstractly
stack_scalars = _module.stack_scalars
sum_of_powers = _module.sum_of_powers
sum_over_replicas = _module.sum_over_replicas
trace_state = _module.trace_state
value_now = _module.value_now
with_gradients = _module.with_gradients
LOGITS_AT_A_TIME = _module.LOGITS_AT_A_TIME
CHECKS_INDICES = _module.CHECKS_INDICES
scan = _module.scan
add_at = _module.add_at
assign_rows = _module.assign_rows
add_product = _module.add_product
