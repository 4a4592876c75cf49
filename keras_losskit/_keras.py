"""The only place that touches a private name of Keras.

Each function says which private names it uses and the versions of Keras that
were tried; `tests/test_keras_private.py` says which of them broke.
"""

import contextlib
import operator
import sys

import keras
from keras.src import backend
from keras.src import tree
from keras.src.backend.common import global_state
from keras.src.backend.common.masking import get_keras_mask as get_keras_mask
from keras.src.backend.common.masking import set_keras_mask as set_keras_mask
from keras.src.backend.common.stateless_scope import (
    in_stateless_scope as in_stateless_scope,
)
from keras.src.backend.common.symbolic_scope import (
    in_symbolic_scope as in_symbolic_scope,
)
from keras.src.models.functional import Functional as Functional
from keras.src.saving.keras_saveable import KerasSaveable
from keras.src.trainers.compile_utils import CompileMetrics
from keras.src.trainers.trainer import Trainer as Trainer
from keras.src.utils import python_utils
from keras.src.utils.tracking import DotNotTrackScope

from keras_losskit.origin import overrides


def register_tree_node_class(cls):
    """Let `keras.tree` look into `cls`. `keras.src.tree`, 3.14 to 3.15."""
    tree.register_tree_node_class(cls)


def flatten_layers(model):
    """`model` and all layers below it, each once, in the order of `losses`.

    `Layer._flatten_layers`, 3.14 to 3.15.
    """
    return model._flatten_layers()


def own_losses(layer):
    """What the layer itself added in the last pass, sublayers left out.

    `Layer._get_own_losses`, 3.14 to 3.15.
    """
    return list(layer._get_own_losses())


def clear_losses_override(model):
    """Drop the losses that the JAX trainer lends to `compute_loss`.

    `Layer._losses_override`, 3.14 to 3.15: after an exception Keras leaves dead
    tracers there, which every later step would add.
    """
    model._losses_override.clear()


def reset_trainer(model):
    """Make `model` uncompiled, and its list of losses its own.

    The backend's `Trainer.__init__` and `Layer._losses`, `_loss_ids`,
    `_losses_override`, 3.14 to 3.15.
    """
    with DotNotTrackScope():
        keras.Model.__mro__[1].__init__(model)
        model._losses = []
        model._loss_ids = set()
        model._losses_override = []


def unpickle_model(buffer):
    """The model that `Model.__reduce__` saved. `_unpickle_model`, 3.14 to 3.15.

    A function of this module, where Keras names a method of the model's class:
    a class that was made at run time cannot be found by its name.
    """
    return keras.Model._unpickle_model(buffer)


class TrainerSeams:
    """Private methods of Keras' trainer that hand over to public ones here.

    `Trainer._compute_loss` and `_flatten_metrics_in_order`,
    `JAXTrainer._get_jax_state` and `_jax_state`,
    `TensorFlowTrainer._maybe_symbolic_build`, 3.14 to 3.15.
    """

    if keras.config.backend() == "jax":

        def __setattr__(self, name, value):
            # The trainer sets it in every step, and Keras would look through
            # all of it for layers and variables, of which it has none.
            if name == "_jax_state":
                self.__dict__[name] = value
            else:
                super().__setattr__(name, value)

    def __reduce__(self):
        return unpickle_model, super().__reduce__()[1]

    def _compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        with self.total_tracked_by_trainer():
            total = super()._compute_loss(
                x, y, y_pred, sample_weight=sample_weight, training=training
            )
        if overrides(self, "compute_loss"):
            batch = y_pred if x is None else x
            self.account_for(total, batch, training)
        return total

    def _flatten_metrics_in_order(self, logs):
        names = []
        for metric in self.metrics:
            if isinstance(metric, CompileMetrics):
                names += [part.name for part in metric.metrics]
            else:
                names += self.names_in_list(metric)
        own = self.names_after_list()
        rest = sorted(set(logs) - set(names) - set(own))
        results = [logs[name] for name in [*names, *rest, *own] if name in logs]
        return results[0] if len(results) == 1 else results

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        # Keras on TensorFlow leaves building to the first step unless the step
        # is distributed. Errors are to come before it, as on other backends.
        if self._distribute_strategy is not None:
            super()._maybe_symbolic_build(iterator, data_batch)
            return
        if self._compile_loss is not None and self._compile_loss.built:
            return  # `train_on_batch` comes by here at every step
        if self.run_eagerly or overrides(self, "train_step"):
            return  # what runs there need not be a graph
        if iterator is not None:
            data_batch = batch_spec(iterator)
        if all(is_dense(x) for x in tree.flatten(data_batch) if x is not None):
            # RuntimeError: a model that Keras cannot build without values.
            with contextlib.suppress(RuntimeError):
                self._symbolic_build(data_batch=data_batch)

    def _get_jax_state(self, purge_model_variables=False, **wanted):
        # Keras empties the variables before the first step and fills them after
        # it: a step that raises would cost the model its weights.
        variables = [
            operator.attrgetter(attribute)(self)
            for kind, attribute in JAX_STATE.items()
            if wanted.get(kind)
        ]
        state = super()._get_jax_state(
            purge_model_variables=purge_model_variables, **wanted
        )
        if purge_model_variables:
            self._jax_state = None
            self.__dict__["_purged"] = [
                pair
                for owned, values in zip(variables, state, strict=True)
                for pair in zip(owned, values, strict=True)
            ]
        return state


def batch_spec(epoch_iterator):
    """Shapes and dtypes of a batch on TensorFlow, with its size where known.

    `TFEpochIterator._distributed_dataset` and `data_adapter`, 3.14 to 3.15. No
    batch is drawn: a generator has no way to take it back.
    """
    adapter = epoch_iterator.data_adapter
    size = adapter.batch_size
    if adapter.num_batches == 1 and adapter.has_partial_batch:
        size = adapter.partial_batch_size

    def sized(spec):
        if type(spec).__name__ == "NoneTensorSpec":
            return None
        known = not is_dense(spec) or spec.shape[:1] != [None]
        return (
            spec if known else type(spec)((size, *spec.shape[1:]), spec.dtype)
        )

    dataset = epoch_iterator._distributed_dataset
    return tree.map_structure(sized, dataset.element_spec)


def is_dense(tensor_or_spec):
    """Whether a `KerasTensor` can stand for it: no ragged or optional one."""
    name = type(tensor_or_spec).__name__
    ragged = name.startswith(("Ragged", "Sparse"))
    return hasattr(tensor_or_spec, "shape") and not ragged


#: What a step on JAX carries along, in the order of its state.
JAX_STATE = {
    "trainable_variables": "trainable_variables",
    "non_trainable_variables": "non_trainable_variables",
    "optimizer_variables": "optimizer.variables",
    "metrics_variables": "metrics_variables",
}


@contextlib.contextmanager
def variables_kept(model):
    """Around `fit` and the like: an exception leaves the variables filled.

    `JAXTrainer.jax_state_sync`, `Variable._value`, 3.14 to 3.15. A step that
    failed after it had begun to run has given its buffers away, however.
    """
    try:
        yield
    except BaseException:
        if hasattr(model, "jax_state_sync"):
            model.jax_state_sync()
        for variable, value in model.__dict__.get("_purged", ()):
            if variable._value is None and not value.is_deleted():
                variable._value = value
        raise
    finally:
        model.__dict__.pop("_purged", None)


class CompileLossSlot:
    """What stands where Keras' trainer keeps its `CompileLoss`.

    `Trainer._compile_loss` and its `built`, `metrics`, `variables`, 3.14 to
    3.15. Until it is built, the trainer runs `compute_loss` symbolically before
    the first step, which is where the terms are named.
    """

    def __init__(self, container, callable_model=True):
        self.container = container
        self.callable_model = callable_model

    @property
    def built(self):
        """Whether the container knows the model's outputs, if there are any."""
        return self.container.built or not self.callable_model

    @property
    def metrics(self):
        """The one metric of all terms."""
        tracker = self.container.tracker
        return [] if tracker is None else [tracker]

    @property
    def variables(self):
        """The state of the metric."""
        return [v for metric in self.metrics for v in metric.variables]

    def __call__(self, y_true, y_pred, sample_weight=None):
        """The compiled losses, for code that calls the slot itself."""
        return self.container(y_true, y_pred, sample_weight)


def install_loss(model, container):
    """Make `container` the compiled loss of `model`.

    `Trainer._compile_loss` and `_loss_tracker`, `keras.src.utils.tracking`,
    3.14 to 3.15.
    """
    # A GAN has a `train_step` over its parts, and no `call`.
    callable_model = type(model).call is not keras.Model.call
    with DotNotTrackScope():
        model._compile_loss = CompileLossSlot(container, callable_model)
        model.loss = container
    container.loss_tracker = model._loss_tracker


def compiled_loss(model):
    """The container that `install_loss` installed, or None."""
    slot = getattr(model, "_compile_loss", None)
    return slot.container if isinstance(slot, CompileLossSlot) else None


def compile_config(model):
    """What `compile` was called with, not yet serialized.

    `Trainer._compile_config`, 3.14 to 3.15.
    """
    return dict(model._compile_config.config)


def seed_generators(model):
    """All seed generators of a model, in the order of its layers.

    `Layer._seed_generators`, 3.14 to 3.15.
    """
    return [
        g for layer in flatten_layers(model) for g in layer._seed_generators
    ]


def function_arguments(loss):
    """The arguments that a Keras loss hands to its function, by name.

    `LossFunctionWrapper._fn_kwargs`, 3.14 to 3.15: the only place that keeps
    `delta` of `Huber` and `axis` of `CosineSimilarity`.
    """
    return dict(getattr(loss, "_fn_kwargs", {}))


def update_jax_metrics(model, metrics, total, x, y, y_pred, sample_weight):
    """`(logs, metrics)` after a step of the JAX trainer.

    `JAXTrainer._update_metrics_variables`, 3.14 to 3.15.
    """
    return model._update_metrics_variables(
        metrics, total, x, y, y_pred, sample_weight
    )


def trainer_loss(model, x, y, y_pred, sample_weight):
    """`compute_loss` in training, as the trainers call it.

    `Trainer._compute_loss`, 3.14 to 3.15.
    """
    return model._compute_loss(x, y, y_pred, sample_weight, training=True)


def is_called_by_compile_loss():
    """Whether the function that asks was called by Keras' trainer as a loss.

    `keras.src.trainers.compile_utils`, 3.14 to 3.15.
    """
    caller = sys._getframe(2)
    return caller.f_globals.get("__name__") == CompileMetrics.__module__


def track_total(model, total, batch_size):
    """Update what is logged as `loss`.

    `Trainer._loss_tracker`, 3.14 to 3.15.
    """
    model._loss_tracker.update_state(total, sample_weight=batch_size)


def takes_training(model):
    """Whether `call` has `training`. `_call_has_training_arg`, 3.14 to 3.15."""
    return model._call_has_training_arg


def loses_losses_in_loop(layer):
    """Whether `layer` is an RNN that leaves a cell's losses in its loop.

    `RNN.inner_loop`, 3.14 to 3.15. It runs inside the backend's own loop, out
    of which no tensor that it does not carry can be had.
    """
    return (
        isinstance(layer, keras.layers.RNN)
        and not layer.unroll
        and not getattr(layer, "carries_losses", False)
    )


def rnn(*args, **kwargs):
    """The backend's loop over time. `keras.src.backend.rnn`, 3.14 to 3.15."""
    return backend.rnn(*args, **kwargs)


def in_call():
    """Whether a layer is being called, or a model in a stateless scope.

    The global attribute `current_call_ctx`, 3.14 to 3.15.
    """
    return in_stateless_scope() or (
        global_state.get_global_attribute("current_call_ctx") is not None
    )


def derived_config(get_config):
    """Mark a `get_config` as one that Keras derives from the constructor.

    `keras.src.utils.python_utils.default`, 3.14 to 3.15: a subclass that does
    not write its own gets its constructor's arguments saved.
    """
    return python_utils.default(get_config)


class Saveable(KerasSaveable):
    """Base of what `model.save` looks into for weights, as it does for losses.

    `KerasSaveable` of `keras.src.saving.keras_saveable` and `_obj_type`, 3.14
    to 3.15.
    """

    def _obj_type(self):
        return "Loss"


class LayerSeams:
    """Private steps of `Layer.__call__` and `build` that call public ones here.

    `Layer._maybe_build` and `_post_build`, 3.14 to 3.15.
    """

    def _maybe_build(self, call_spec):
        super()._maybe_build(call_spec)
        self.before_call()

    def _post_build(self):
        super()._post_build()
        self.after_build()
