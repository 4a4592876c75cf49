"""The only place that touches a private name of Keras.

Each function says which private names it uses and what they are for. All were
tried on the versions in `SUPPORTED`; `tests/test_keras_private.py` says which
of them a later Keras breaks. Where versions differ, the presence of a name
decides, not the version's number.
"""

import contextlib
import importlib
import operator
import sys
from typing import Any

import keras

from keras_losskit._origin import overrides

#: The versions of Keras that every name here was tried with.
SUPPORTED = "Keras 3.14, 3.15 or the pre-release of 3.16 of October 2026"


def unsupported(name):
    """The error for a Keras that lacks the private `name`."""
    return ImportError(
        f"Expected {SUPPORTED}. Received: Keras {keras.__version__}, which has "
        f"no `{name}`. Install one that this keras_losskit supports, "
        '`pip install "keras>=3.14,<3.16"`, or a newer keras_losskit.'
    )


def private(module, name) -> Any:
    """The object that `keras.src.<module>` has by this name.

    Raises:
        ImportError: if the installed Keras has none, saying which have it.
    """
    try:
        return getattr(importlib.import_module(f"keras.src.{module}"), name)
    except (ImportError, AttributeError) as error:
        raise unsupported(f"keras.src.{module}.{name}") from error


def check_methods(cls, *names):
    """Refuse a Keras whose `cls` lacks a private method that is called here."""
    for name in names:
        if not hasattr(cls, name):
            raise unsupported(f"{cls.__name__}.{name}")


#: Runs a function of tensors on specs of them, to infer shapes.
compute_output_spec = private("backend", "compute_output_spec")
get_global_attribute = private(
    "backend.common.global_state", "get_global_attribute"
)
get_keras_mask = private("backend.common.masking", "get_keras_mask")
set_keras_mask = private("backend.common.masking", "set_keras_mask")
in_stateless_scope = private(
    "backend.common.stateless_scope", "in_stateless_scope"
)
in_symbolic_scope = private(
    "backend.common.symbolic_scope", "in_symbolic_scope"
)
Functional = private("models.functional", "Functional")
KerasSaveable: Any = private("saving.keras_saveable", "KerasSaveable")
GLOBAL_CUSTOM_NAMES: Any = private(
    "saving.object_registration", "GLOBAL_CUSTOM_NAMES"
)
CompileMetrics = private("trainers.compile_utils", "CompileMetrics")
MetricsList: Any = private("trainers.compile_utils", "MetricsList")
default = private("utils.python_utils", "default")

check_methods(
    keras.Model,
    "_compute_loss",
    "_flatten_layers",
    "_flatten_metrics_in_order",
    "_get_own_losses",
    "_post_build",
    "_symbolic_build",
    "_unpickle_model",
)
if keras.config.backend() == "jax":
    check_methods(keras.Model, "_get_jax_state", "jax_state_sync")
if keras.config.backend() == "tensorflow":
    check_methods(keras.Model, "_maybe_symbolic_build")


def register_tree_node_class(cls):
    """Let `keras.tree` look into `cls`. `keras.src.tree`."""
    private("tree", "register_tree_node_class")(cls)


def flatten_layers(model):
    """`model` and all layers below it, each once, in the order of `losses`.

    `Layer._flatten_layers`.
    """
    return model._flatten_layers()


def own_losses(layer):
    """What the layer itself added in the last pass, sublayers left out.

    `Layer._get_own_losses`.
    """
    return list(layer._get_own_losses())


def clear_losses_override(model):
    """Drop the losses that the JAX trainer lends to `compute_loss`.

    `Layer._losses_override`: after an exception Keras leaves dead
    tracers there, which every later step would add.
    """
    model._losses_override.clear()


def reset_trainer(model):
    """Make `model` uncompiled, and its list of losses its own.

    The backend's `Trainer.__init__` and `Layer._losses`, `_loss_ids`,
    `_losses_override`.
    """
    keras.Model.__mro__[1].__init__(model)
    for name, value in (
        ("_losses", []),
        ("_loss_ids", set()),
        ("_losses_override", []),
    ):
        set_untracked(model, name, value)


def set_untracked(layer, name, value):
    """Set an attribute that neither Keras nor PyTorch looks into."""
    object.__setattr__(layer, name, value)


def unpickle_model(buffer):
    """The model that `Model.__reduce__` saved. `_unpickle_model`.

    A function of this module, where Keras names a method of the model's class:
    a class that was made at run time cannot be found by its name.
    """
    return keras.Model._unpickle_model(buffer)


class TrainerHooks:
    """Private methods of Keras' trainer that hand over to public ones here.

    `Trainer._compute_loss`, `_flatten_metrics_in_order` and `_symbolic_build`;
    on JAX `_get_jax_state` and `_jax_state`, on TensorFlow
    `_maybe_symbolic_build`.
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
        with self._losskit_total_tracked_by_trainer():
            total = super()._compute_loss(
                x, y, y_pred, sample_weight=sample_weight, training=training
            )
        if overrides(self, "compute_loss"):
            batch = y_pred if x is None else x
            self._losskit_account_for(total, batch, training)
        return total

    def _flatten_metrics_in_order(self, logs):
        names = self._losskit_names_in_list()
        rest = sorted(set(logs) - set(names) - self._losskit_term_names())
        results = [logs[name] for name in [*names, *rest] if name in logs]
        return results[0] if len(results) == 1 else results

    def _symbolic_build(self, iterator=None, data_batch=None):
        # Keras draws a batch where it has layers, metrics or a loss to build.
        compiled = [m for m in self.metrics if isinstance(m, CompileMetrics)]
        draws = not all(
            part.built for part in [*flatten_layers(self), *compiled]
        )
        with self._losskit_building(draws):
            super()._symbolic_build(iterator, data_batch)

    if keras.config.backend() == "tensorflow":

        def _maybe_symbolic_build(self, iterator=None, data_batch=None):
            # Keras on TensorFlow leaves building to the first step unless the
            # step is distributed. Errors are to come before it, as elsewhere.
            if self._distribute_strategy is not None:
                super()._maybe_symbolic_build(iterator, data_batch)
                return
            if self._compile_loss is not None and self._compile_loss.built:
                return  # `train_on_batch` comes by here at every step
            if self.run_eagerly or overrides(self, "train_step"):
                return  # what runs there need not be a graph
            if iterator is not None:
                data_batch = batch_spec(iterator)
            if all(
                is_dense(x)
                for x in keras.tree.flatten(data_batch)
                if x is not None
            ):
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
            self._losskit_kept_of_pass().purged = [
                pair
                for owned, values in zip(variables, state, strict=True)
                for pair in zip(owned, values, strict=True)
            ]
        return state


def batch_spec(epoch_iterator):
    """Shapes and dtypes of a batch on TensorFlow, with its size where known.

    `TFEpochIterator._distributed_dataset` and `data_adapter`. No
    batch is drawn: a generator has no way to take it back.
    """
    adapter = epoch_iterator.data_adapter
    size = adapter.batch_size  # None where batches come as they are
    if size and adapter.num_batches == 1 and adapter.has_partial_batch:
        size = adapter.partial_batch_size

    def sized(spec):
        if type(spec).__name__ == "NoneTensorSpec":
            return None
        known = not is_dense(spec) or spec.shape[:1] != [None]
        return (
            spec if known else type(spec)((size, *spec.shape[1:]), spec.dtype)
        )

    dataset = epoch_iterator._distributed_dataset
    return keras.tree.map_structure(sized, dataset.element_spec)


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

    `JAXTrainer.jax_state_sync`, `Variable._value`. A step that
    failed after it had begun to run has given its buffers away, however.
    """
    try:
        yield
    except BaseException:
        if hasattr(model, "jax_state_sync"):
            model.jax_state_sync()
        for variable, value in model._losskit_kept_of_pass().purged:
            if variable._value is None and not value.is_deleted():
                variable._value = value
        raise
    finally:
        model._losskit_kept_of_pass().purged = []


class CompileLossSlot:
    """What stands where Keras' trainer keeps its `CompileLoss`.

    `Trainer._compile_loss` and its `built`, `metrics`, `variables`. Until it is
    built, the trainer runs `compute_loss` symbolically before the first step,
    which is where the terms are named.
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

    `Trainer._compile_loss` and `_loss_tracker`.
    """
    # A GAN has a `train_step` over its parts, and no `call`.
    callable_model = type(model).call is not keras.Model.call
    slot = CompileLossSlot(container, callable_model)
    set_untracked(model, "_compile_loss", slot)
    set_untracked(model, "loss", container)
    container.bind(model._loss_tracker)


def compiled_loss(model):
    """The container that `install_loss` installed, or None."""
    slot = getattr(model, "_compile_loss", None)
    return slot.container if isinstance(slot, CompileLossSlot) else None


def compile_config(model):
    """What `compile` was called with, not yet serialized.

    `Trainer._compile_config`.
    """
    return dict(model._compile_config.config)


def seed_generators(model):
    """All seed generators of a model, in the order of its layers.

    `Layer._seed_generators`.
    """
    return [
        g for layer in flatten_layers(model) for g in layer._seed_generators
    ]


class MonitoredMetrics(MetricsList):
    """A metric among whose `metrics` callbacks look for the one they monitor.

    `compile_utils.MetricsList`, from which `MonitorCallback` reads, without
    `mode`, whether a value is to rise or to fall.
    """

    def __init__(self, name, dtype):
        keras.metrics.Metric.__init__(self, name=name, dtype=dtype)

    def reset_state(self):
        """Its own state; it is no list of others."""
        keras.metrics.Metric.reset_state(self)


class Falling:
    """Mixin for a metric that is better the lower it is. `_direction`."""

    _direction = "down"


def function_arguments(loss):
    """The arguments that a Keras loss hands to its function, by name.

    `LossFunctionWrapper._fn_kwargs`: the only place that keeps
    `delta` of `Huber` and `axis` of `CosineSimilarity`.
    """
    return dict(getattr(loss, "_fn_kwargs", {}))


def trainer_loss(model, x, y, y_pred, sample_weight):
    """`compute_loss` in training, as the trainers call it.

    `Trainer._compute_loss`.
    """
    return model._compute_loss(x, y, y_pred, sample_weight, training=True)


def is_built_without(optimizer, variables):
    """Whether an optimizer that is built knows none or not all of `variables`.

    `Optimizer._trainable_variables`.
    """
    if optimizer is None or not optimizer.built:
        return False
    known = {id(variable) for variable in optimizer._trainable_variables}
    return any(id(variable) not in known for variable in variables)


def process_group(model):
    """The processes that Keras' PyTorch trainer splits a batch over, or None.

    `ddp_model`: from Keras 3.16 on `fit` wraps the model in
    `DistributedDataParallel` where `torch.distributed` is initialized.
    """
    parallel = getattr(model, "ddp_model", None)
    return None if parallel is None else parallel.process_group


def is_called_by_compile_loss():
    """Whether the function that asks was called by Keras' trainer as a loss.

    `keras.src.trainers.compile_utils`.
    """
    caller = sys._getframe(2)
    return caller.f_globals.get("__name__") == CompileMetrics.__module__


def track_total(model, total, batch_size):
    """Update what is logged as `loss`.

    `Trainer._loss_tracker`.
    """
    model._loss_tracker.update_state(total, sample_weight=batch_size)


def rnn(*args, **kwargs):
    """The backend's loop over time.

    `keras.src.backend.rnn`, a function in 3.14 and 3.15, in 3.16 a module that
    has it.
    """
    loop = private("backend", "rnn")
    return getattr(loop, "rnn", loop)(*args, **kwargs)


def in_call():
    """Whether a layer is being called, or a model in a stateless scope.

    The global attribute `current_call_ctx`.
    """
    return in_stateless_scope() or (
        get_global_attribute("current_call_ctx") is not None
    )


def keep_registered_name(cls, origin):
    """Save `cls` by the name that `origin` is registered by.

    `keras.src.saving.object_registration.GLOBAL_CUSTOM_NAMES`.
    """
    GLOBAL_CUSTOM_NAMES[cls] = keras.saving.get_registered_name(origin)


def forget_registered_name(cls):
    """Undo `keep_registered_name`, so that the class may be freed."""
    GLOBAL_CUSTOM_NAMES.pop(cls, None)


def derived_config(get_config):
    """Mark a `get_config` as one that Keras derives from the constructor.

    `keras.src.utils.python_utils.default`: a subclass that does
    not write its own gets its constructor's arguments saved.
    """
    return default(get_config)


class Saveable(KerasSaveable):
    """Base of what `model.save` looks into for weights, as it does for losses.

    `KerasSaveable` of `keras.src.saving.keras_saveable` and `_obj_type`.
    """

    def _obj_type(self):
        return "Loss"


class LayerHooks:
    """A private step of `Layer.build` that calls a public one here.

    `Layer._post_build`.
    """

    def _post_build(self):
        super()._post_build()
        self._losskit_after_build()
