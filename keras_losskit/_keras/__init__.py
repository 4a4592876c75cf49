"""The only place that touches a private name of Keras.

Each function says which private names it uses and what they are for. All were
tried on the versions in `SUPPORTED`; `tests/test_keras_private.py` says which
of them a later Keras breaks. Where versions differ, the presence of a name
decides, not the version's number.
"""

from keras_losskit._keras._batches import spread
from keras_losskit._keras._layers import LayerHooks
from keras_losskit._keras._layers import Saveable
from keras_losskit._keras._layers import become
from keras_losskit._keras._layers import clear_losses_override
from keras_losskit._keras._layers import derived_config
from keras_losskit._keras._layers import flatten_layers
from keras_losskit._keras._layers import forget_registered_name
from keras_losskit._keras._layers import function_arguments
from keras_losskit._keras._layers import in_call
from keras_losskit._keras._layers import is_consumed
from keras_losskit._keras._layers import keep_registered_name
from keras_losskit._keras._layers import own_losses
from keras_losskit._keras._layers import register_tree_node_class
from keras_losskit._keras._layers import rnn
from keras_losskit._keras._layers import seed_generators
from keras_losskit._keras._layers import set_untracked
from keras_losskit._keras._metrics import compiled_metrics
from keras_losskit._keras._metrics import metrics_at
from keras_losskit._keras._metrics import update_metrics
from keras_losskit._keras._names import CompileMetrics
from keras_losskit._keras._names import Functional
from keras_losskit._keras._names import check_methods
from keras_losskit._keras._names import compute_output_spec
from keras_losskit._keras._names import get_keras_mask
from keras_losskit._keras._names import get_stateless_scope
from keras_losskit._keras._names import in_stateless_scope
from keras_losskit._keras._names import in_symbolic_scope
from keras_losskit._keras._names import private
from keras_losskit._keras._names import set_keras_mask
from keras_losskit._keras._trainer import Falling
from keras_losskit._keras._trainer import MonitoredMetrics
from keras_losskit._keras._trainer import TrainerHooks
from keras_losskit._keras._trainer import compile_config
from keras_losskit._keras._trainer import compiled_loss
from keras_losskit._keras._trainer import install_loss
from keras_losskit._keras._trainer import is_built_without
from keras_losskit._keras._trainer import is_called_by_compile_loss
from keras_losskit._keras._trainer import process_group
from keras_losskit._keras._trainer import reset_trainer
from keras_losskit._keras._trainer import track_total
from keras_losskit._keras._trainer import trainer_loss
from keras_losskit._keras._trainer import variables_kept

__all__ = [
    "CompileMetrics",
    "Falling",
    "Functional",
    "LayerHooks",
    "MonitoredMetrics",
    "Saveable",
    "TrainerHooks",
    "become",
    "check_methods",
    "clear_losses_override",
    "compile_config",
    "compiled_loss",
    "compiled_metrics",
    "compute_output_spec",
    "derived_config",
    "flatten_layers",
    "forget_registered_name",
    "function_arguments",
    "get_keras_mask",
    "get_stateless_scope",
    "in_call",
    "in_stateless_scope",
    "in_symbolic_scope",
    "install_loss",
    "is_built_without",
    "is_called_by_compile_loss",
    "is_consumed",
    "keep_registered_name",
    "metrics_at",
    "own_losses",
    "private",
    "process_group",
    "register_tree_node_class",
    "reset_trainer",
    "rnn",
    "seed_generators",
    "set_keras_mask",
    "set_untracked",
    "spread",
    "track_total",
    "trainer_loss",
    "update_metrics",
    "variables_kept",
]
