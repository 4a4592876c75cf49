"""Each private name of Keras that `_keras.py` relies on is still there.

When a new Keras breaks one, the name of the test says which.
"""

import ast
import importlib
import inspect
import re
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_losskit import _keras
from keras_losskit import _keras_hooks

ATTRIBUTES = [
    ("keras.src.backend", "rnn"),
    ("keras.src.backend.common.global_state", "get_global_attribute"),
    ("keras.src.backend.common.masking", "get_keras_mask"),
    ("keras.src.backend.common.masking", "set_keras_mask"),
    ("keras.src.backend.common.stateless_scope", "get_stateless_scope"),
    ("keras.src.backend.common.stateless_scope", "in_stateless_scope"),
    ("keras.src.backend.common.symbolic_scope", "in_symbolic_scope"),
    ("keras.src.models.functional", "Functional"),
    ("keras.src.saving.keras_saveable", "KerasSaveable"),
    ("keras.src.saving.object_registration", "GLOBAL_CUSTOM_NAMES"),
    ("keras.src.trainers.compile_utils", "CompileMetrics"),
    ("keras.src.trainers.compile_utils", "MetricsList"),
    ("keras.src.backend", "compute_output_spec"),
    ("keras.src.tree", "register_tree_node_class"),
    ("keras.src.utils.python_utils", "default"),
]
LAYER = [
    "_flatten_layers",
    "_get_own_losses",
    "_losses",
    "_loss_ids",
    "_losses_override",
    "_seed_generators",
    "_post_build",
]
TRAINER = [
    "_compute_loss",
    "_flatten_metrics_in_order",
    "_symbolic_build",
    "_unpickle_model",
]
TF_TRAINER = ["_maybe_symbolic_build", "distribute_strategy"]
JAX_TRAINER = ["_get_jax_state", "jax_state_sync"]
#: Names that a test of their own below looks at.
BY_THEMSELVES = [
    "_compile_config",
    "_compile_loss",
    "_compile_metrics",
    "_distribute_strategy",
    "_distributed_dataset",
    "_flat_metrics",
    "_flat_weighted_metrics",
    "_flatten_y",
    "_fn_kwargs",
    "_get_iterator",
    "_getframe",
    "_jax_state",
    "_loss_tracker",
    "_obj_type",
    "_outbound_nodes",
    "_trainable_variables",
    "_value",
]


def names_used():
    """`(private attributes, modules of keras.src and names)` of `_keras`."""
    folder = Path(inspect.getfile(_keras)).parent
    sources = [path.read_text() for path in sorted(folder.glob("*.py"))]
    attributes, imports = set(), set()
    for node in ast.walk(ast.parse("\n".join(sources))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "private":
            module, name = (argument.value for argument in node.args)
            imports.add((f"keras.src.{module}", name))
        elif isinstance(node, ast.Attribute):
            attributes.add(node.attr)
        elif isinstance(node, ast.FunctionDef):
            attributes.add(node.name)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            attributes.add(node.value)
    private = {
        name
        for name in attributes
        if name.isidentifier()
        and name.startswith("_")
        and not name.startswith(("__", "_losskit_"))
    }
    return private, imports


def test_every_private_attribute_has_a_test_here():
    private, _ = names_used()
    tested = {*LAYER, *TRAINER, *TF_TRAINER, *JAX_TRAINER, *BY_THEMSELVES}
    assert private - tested == set()


def test_every_name_of_keras_src_has_a_test_here():
    _, imports = names_used()
    assert imports == set(ATTRIBUTES)


def test_the_page_lists_every_private_name():
    private, imports = names_used()
    page = Path(__file__).parents[1] / "docs" / "keras_versions.md"
    rows = page.read_text(encoding="utf-8").partition("## Private names")[2]
    cells = [row.split("|")[1] for row in rows.splitlines() if "| `" in row]
    listed = {
        name.rpartition(".")[2]
        for cell in cells
        for name in re.findall(r"`([\w.]+)`", cell)
    }
    used = private | {name for _, name in imports}
    assert listed == used - {"_getframe"}  # which is Python's


@pytest.mark.parametrize(("module", "name"), ATTRIBUTES)
def test_module_has(module, name):
    assert hasattr(importlib.import_module(module), name)


@pytest.mark.parametrize("name", LAYER)
def test_layer_has(name):
    assert hasattr(keras.layers.Dense(1), name)


@pytest.mark.parametrize("name", TRAINER)
def test_trainer_has(name):
    assert hasattr(keras.Model, name)


def test_trainer_keeps_its_loss_and_tracker_in_place():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    assert model._compile_loss is None
    model.compile("sgd", "mse")
    assert model._compile_loss.built is False
    assert model._compile_loss.metrics == []
    assert model._loss_tracker.name == "loss"
    assert "loss" in model._compile_config.config


def test_model_inherits_the_backends_trainer_first():
    trainer = keras.Model.__mro__[1]
    assert trainer.__module__.startswith("keras.src.backend")
    assert "train_step" in vars(trainer)


@pytest.mark.parametrize("eager", [False, True])
def test_a_loss_knows_that_the_trainer_calls_it(eager):
    answers = []

    class Asks(keras.losses.Loss):
        def __call__(self, y_true, y_pred, sample_weight=None):
            answers.append(_keras.is_called_by_compile_loss())
            return keras.ops.mean(y_pred - y_true)

    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", Asks(), run_eagerly=eager)
    model.fit(np.ones((2, 1)), np.ones((2, 1)), verbose=0)
    assert answers
    assert all(answers)
    Asks()(np.ones((2, 1)), np.ones((2, 1)))
    assert not answers[-1]


def test_a_layer_knows_whether_another_was_called_on_what_it_returned():
    first, second = keras.layers.Dense(1), keras.layers.Dense(1)
    second(first(keras.Input((2,))))
    assert len(first._outbound_nodes) == 1
    assert second._outbound_nodes == []


def test_compiled_metrics_are_kept_by_output():
    inputs = keras.Input((2,))
    heads = {name: keras.layers.Dense(1, name=name)(inputs) for name in "ba"}
    model = keras.Model(inputs, heads)
    model.compile(
        "sgd", "mse", metrics={"b": ["mae"]}, weighted_metrics={"a": ["mse"]}
    )
    compiled, y = model._compile_metrics, {"a": np.ones(2), "b": np.zeros(2)}
    compiled.build(y, model(np.ones((2, 2))))
    flat = compiled._flatten_y(y)
    place = [float(labels[0]) for labels in flat].index(0.0)
    assert [m and len(m.metrics) for m in compiled._flat_metrics] == [
        1 if index == place else None for index in range(2)
    ]
    (weighted,) = (m for m in compiled._flat_weighted_metrics if m)
    assert compiled._flat_weighted_metrics.index(weighted) != place


def test_losses_keep_the_arguments_of_their_function():
    loss = keras.losses.Huber(delta=2.0)
    assert loss._fn_kwargs["delta"] == 2.0


def test_a_variable_keeps_its_value_in_place():
    variable = keras.Variable(1.0)
    assert variable._value is not None


def test_what_is_saved_says_of_what_type_it_is():
    assert keras.losses.MeanSquaredError()._obj_type() == "Loss"


def test_a_call_leaves_its_context_where_it_is_looked_for():
    found = []

    class Looking(keras.layers.Layer):
        def call(self, x):
            found.append(_keras.in_call())
            return x

    assert not _keras.in_call()
    Looking()(keras.ops.ones((1, 1)))
    assert found == [True]


def test_an_rnn_has_its_loop_in_a_method_of_its_own():
    assert callable(keras.layers.RNN.inner_loop)


@pytest.mark.parametrize(
    ("cls", "name"),
    [
        (cls, name)
        for cls, name, _ in _keras_hooks.HOOKS
        if name != "activity_regularizer"
    ],
)
def test_a_class_defines_what_is_hooked_itself(cls, name):
    assert callable(vars(cls)[name])


def test_an_optimizer_knows_what_it_was_built_for():
    known, other = keras.Variable(1.0), keras.Variable(2.0)
    inner = keras.optimizers.Adam()
    for optimizer in (inner, keras.optimizers.LossScaleOptimizer(inner)):
        assert not _keras.is_built_without(optimizer, [other])
        optimizer.build([known])
        assert _keras.is_built_without(optimizer, [known, other])
        assert not _keras.is_built_without(optimizer, [known])
        inner.built = False


@pytest.mark.parametrize("hooked", [False, True])
def test_a_layer_asks_for_its_regularizer_between_its_two_calls(hooked):
    """Once, where it finds none, after `Operation.__call__` is over."""
    events = []
    if hooked:
        _keras_hooks.install()

    class Looking(keras.layers.Layer):
        @property
        def activity_regularizer(self):
            events.append("asked")

        @activity_regularizer.setter
        def activity_regularizer(self, value):
            pass

        def __call__(self, x):
            outputs = super().__call__(x)
            events.append("called")
            return outputs

        def call(self, x):
            events.append("computed")
            return x

    layer = Looking()
    x = keras.ops.ones((1, 1))
    layer(x)
    events.clear()
    layer(x)
    assert events == ["computed", "asked", "called"]


def test_a_layer_keeps_its_regularizer_in_its_dictionary():
    layer = keras.layers.Dense(1, activity_regularizer="l2")
    kept = vars(layer)["activity_regularizer"]
    assert isinstance(kept, keras.regularizers.L2)


def test_a_watcher_hears_of_every_step_of_a_call():
    heard = []

    class Hears(_keras_hooks.Watcher):
        def computed(self, layer):
            heard.append(("computed", layer))

        def leaves_regularizer_to_keras(self, layer):
            heard.append(("asked", layer))
            return False

        def called(self, layer, outputs):
            heard.append(("called", layer))

    _keras_hooks.install()
    layer = keras.layers.Dense(1, activity_regularizer="l2")
    x = keras.ops.ones((1, 1))
    layer(x)
    Hears().run(layer, x)
    assert heard == [("computed", layer), ("asked", layer), ("called", layer)]
    assert layer.losses == []
    layer(x)
    assert len(heard) == 3
    assert len(layer.losses) == 1


def test_a_derived_config_is_marked():
    def get_config(self):
        return {}

    assert _keras.derived_config(get_config)._is_default


on_tensorflow = pytest.mark.skipif(
    keras.config.backend() != "tensorflow", reason="the TensorFlow trainer's"
)


@on_tensorflow
@pytest.mark.parametrize("name", TF_TRAINER)
def test_tensorflow_trainer_has(name):
    assert hasattr(keras.Model, name)


@on_tensorflow
def test_tensorflow_trainer_hands_over_an_iterator_of_a_dataset():
    parameters = inspect.signature(keras.Model._maybe_symbolic_build).parameters
    assert list(parameters) == ["self", "iterator", "data_batch"]
    module = importlib.import_module("keras.src.backend.tensorflow.trainer")
    x = np.zeros((5, 2), "float32")
    model = keras.Sequential([keras.layers.Dense(1)])
    assert model._distribute_strategy is None
    iterator = module.TFEpochIterator(
        x=x, y=x, batch_size=4, distribute_strategy=model.distribute_strategy
    )
    spec, _ = iterator._distributed_dataset.element_spec
    assert tuple(spec.shape) == (None, 2)
    assert iterator.data_adapter.batch_size == 4


on_jax = pytest.mark.skipif(
    keras.config.backend() != "jax", reason="the JAX trainer's"
)


@on_jax
@pytest.mark.parametrize("name", JAX_TRAINER)
def test_jax_trainer_has(name):
    assert hasattr(keras.Model, name)


@on_jax
def test_an_epoch_draws_its_batches_from_get_iterator():
    module = importlib.import_module("keras.src.backend.jax.trainer")
    x = np.ones((4, 2), "float32")
    iterator = module.JAXEpochIterator(x=x, y=x, batch_size=4)
    assert iterator.data_adapter.get_jax_iterator
    iterator._get_iterator = lambda: iter(["batch"])
    assert [next(batches) for _, _, batches in iterator] == ["batch"]


@on_jax
def test_jax_trainer_keeps_its_state_in_place():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    found = []

    class Looking(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            found.append(self._model._jax_state)

    x = keras.ops.ones((1, 1))
    model.fit(x, x, verbose=0, callbacks=[Looking()])
    assert "trainable_variables" in found[0]


@pytest.mark.parametrize(
    "use",
    [
        lambda: _keras.private("backend.common.nowhere", "name"),
        lambda: _keras.private("backend", "no_such_name"),
        lambda: _keras.check_methods(keras.Model, "_compute_loss", "_gone"),
    ],
)
def test_a_name_that_is_gone_says_which_keras_to_install(use):
    with pytest.raises(
        ImportError, match="Expected Keras 3.14.*Received: Keras.*pip install"
    ):
        use()


def test_methods_that_are_there_pass():
    assert _keras.check_methods(keras.Model, "_compute_loss") is None
