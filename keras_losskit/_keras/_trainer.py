"""Private names of Keras' trainers."""

import contextlib
import functools
import operator
import sys

import keras

from keras_losskit._keras._batches import spread_short_batches
from keras_losskit._keras._layers import flatten_layers
from keras_losskit._keras._layers import set_untracked
from keras_losskit._keras._names import CompileMetrics
from keras_losskit._keras._names import MetricsList
from keras_losskit._origin import overrides


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
        compute = functools.partial(
            super()._compute_loss,
            x,
            y,
            y_pred,
            sample_weight=sample_weight,
            training=training,
        )
        batch = y_pred if x is None else x
        data = (x, y, sample_weight)
        return self._losskit_count_loss(compute, batch, training, data)

    def _flatten_metrics_in_order(self, logs):
        names = self._losskit_names_in_list()
        rest = sorted(set(logs) - set(names) - self._losskit_term_names())
        results = [logs[name] for name in [*names, *rest] if name in logs]
        return results[0] if len(results) == 1 else results

    def _symbolic_build(self, iterator=None, data_batch=None):
        if keras.config.backend() == "jax":
            spread_short_batches(iterator)
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
        state = without_shared_buffers(
            super()._get_jax_state(
                purge_model_variables=purge_model_variables, **wanted
            )
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


def without_shared_buffers(state):
    """The state of a step on JAX with an array of its own for each variable.

    `teacher.assign(student)` makes two variables share one, which the step
    cannot be given twice.
    """
    seen = set()

    def own(value):
        if id(value) in seen:
            return keras.ops.copy(value)
        seen.add(id(value))
        return value

    # A tuple, as Keras': another type would have the step traced again.
    return tuple([own(value) for value in values] for values in state)


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
        if keras.config.backend() == "jax":
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
        tracker = self.container.built_losses.tracker
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


def is_called_by_compile_loss(above=1):
    """Whether a function was called by Keras' trainer, as a loss.

    `keras.src.trainers.compile_utils`.

    Args:
        above: How many calls above this one the function is.
    """
    caller = sys._getframe(above + 1)
    return caller.f_globals.get("__name__") == CompileMetrics.__module__


def track_total(model, total, batch_size):
    """Update what is logged as `loss`.

    `Trainer._loss_tracker`.
    """
    model._loss_tracker.update_state(total, sample_weight=batch_size)
