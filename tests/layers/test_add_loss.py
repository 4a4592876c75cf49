"""`add_loss` with a name, a weight and a reduction."""

import keras
import numpy as np
import pytest
from keras import ops
from support.frameworks import jitted

import keras_losskit as losskit
from keras_losskit import layers
from keras_losskit import schedules


def numbers(*shape, seed=0):
    values = np.random.default_rng(seed).normal(size=shape)
    return values.astype("float32")


def value(loss):
    return float(ops.convert_to_numpy(loss))


class Added(layers.Layer):
    """Adds `fn(x)` with the given arguments and passes `x` on."""

    def __init__(self, fn, layer_name="added", **arguments):
        super().__init__(name=layer_name)
        self.supports_masking = True
        self.fn = fn
        self.arguments = arguments

    def call(self, x):
        self.add_loss(self.fn(x), **self.arguments)
        return x

    def compute_output_shape(self, shape):
        return shape


class OfSamples(keras.layers.Layer):
    """A script of Keras': `add_loss` of a value per sample."""

    def call(self, x):
        self.add_loss(ops.sum(ops.square(x), axis=-1))
        return x


@pytest.mark.parametrize("model_class", [keras.Model, losskit.Model])
@pytest.mark.parametrize("of", ["layer", "model"])
def test_values_of_samples_without_a_name_are_summed_as_by_keras(
    model_class, of
):
    x = numbers(6, 3)

    class OurOwn(OfSamples, layers.Layer):
        pass

    class Subclassed(model_class):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(1, kernel_initializer="zeros")

        def call(self, inputs):
            self.add_loss(ops.sum(ops.square(inputs), axis=-1))
            return self.dense(inputs)

    if of == "model":
        model = Subclassed()
    else:
        inputs = keras.Input((3,))
        dense = keras.layers.Dense(1, kernel_initializer="zeros")
        model = model_class(inputs, dense(OurOwn()(inputs)))
    model.compile("sgd", "mse", run_eagerly=True)
    result = model.evaluate(x, np.zeros((6, 1)), verbose=0)
    assert result == pytest.approx(np.sum(x**2), rel=1e-5)


def model_with(*middle, features=3, model_class=losskit.Model, steps=None):
    """A model that passes its input through `middle`; its output is x @ 1."""
    shape = (features,) if steps is None else (steps, features)
    x = inputs = keras.Input(shape)
    for layer in middle:
        x = layer(x)
    outputs = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")(
        x
    )
    return model_class(inputs, outputs)


def one_epoch(model, x, loss="mse", batch_size=4, **compile_arguments):
    """The logs of an epoch that changes nothing, and the total by hand."""
    model.compile(keras.optimizers.SGD(0.0), loss, **compile_arguments)
    y = np.zeros((*x.shape[:-1], 1), "float32")
    history = model.fit(
        x, y, batch_size=batch_size, shuffle=False, verbose=0
    ).history
    return {key: values[0] for key, values in history.items()}


# Each value by NumPy; per-sample values are reduced, scalars stay.
VALUES = {
    "scalar": (lambda x: ops.sum(x**2), {}, lambda x: np.sum(x**2)),
    "per sample": (
        lambda x: ops.sum(x**2, axis=-1),
        {},
        lambda x: np.mean(np.sum(x**2, axis=-1)),
    ),
    "per element": (lambda x: ops.abs(x), {}, lambda x: np.mean(np.abs(x))),
    "sum": (
        lambda x: ops.abs(x),
        {"reduction": "sum"},
        lambda x: np.sum(np.abs(x)),
    ),
    "number": (lambda x: 2.5, {}, lambda x: 2.5),
    "integers": (lambda x: ops.cast(x * 0 + 3, "int32"), {}, lambda x: 3.0),
    "half": (
        lambda x: ops.cast(ops.ones_like(x) * 60000.0, "float16"),
        {"reduction": "sum"},
        lambda x: np.float32(np.float16(60000.0)) * x.size,
    ),
    "list": (
        lambda x: [ops.sum(x), ops.sum(x**2)],
        {},
        lambda x: np.sum(x) + np.sum(x**2),
    ),
}


@pytest.mark.parametrize("case", VALUES)
def test_value_eager(case):
    fn, arguments, by_hand = VALUES[case]
    layer, x = Added(fn, name="t", **arguments), numbers(5, 3)
    layer(x)
    total = sum(value(loss) for loss in layer.added_losses)
    np.testing.assert_allclose(total, by_hand(x), rtol=1e-5)


@pytest.mark.parametrize("case", VALUES)
def test_value_in_fit_with_a_short_last_batch(case):
    fn, arguments, by_hand = VALUES[case]
    x = numbers(6, 3)
    logs = one_epoch(model_with(Added(fn, name="t", **arguments)), x)
    # batches of 4 and 2, weighted by their size
    expected = (4 * by_hand(x[:4]) + 2 * by_hand(x[4:])) / 6
    np.testing.assert_allclose(logs["t_loss"], expected, rtol=1e-5)
    np.testing.assert_allclose(logs["added_loss"], expected, rtol=1e-5)
    mse = np.mean(np.sum(x, axis=-1) ** 2)
    np.testing.assert_allclose(logs["loss"], mse + expected, rtol=1e-5)


@pytest.mark.parametrize("arguments", [{}, {"run_eagerly": True}])
def test_weight_multiplies_the_total_and_not_the_log(arguments):
    x = numbers(4, 3)
    layer = Added(lambda x: ops.sum(x**2), name="size", weight=0.25)
    model = model_with(layer)
    if keras.config.backend() != "torch":
        arguments = arguments or {"jit_compile": True}
    logs = one_epoch(model, x, **arguments)
    size, mse = np.sum(x**2), np.mean(np.sum(x, axis=-1) ** 2)
    np.testing.assert_allclose(logs["size_loss"], size, rtol=1e-5)
    np.testing.assert_allclose(logs["added_loss"], size / 4, rtol=1e-5)
    np.testing.assert_allclose(logs["loss"], mse + size / 4, rtol=1e-5)


def test_weight_in_a_plain_model_is_applied_as_keras_adds():
    layer = Added(lambda x: ops.sum(x**2), name="size", weight=0.25)
    model, x = model_with(layer, model_class=keras.Model), numbers(4, 3)
    logs = one_epoch(model, x)
    expected = np.mean(np.sum(x, axis=-1) ** 2) + np.sum(x**2) / 4
    np.testing.assert_allclose(logs["loss"], expected, rtol=1e-5)
    model(x)
    (loss,) = model.losses
    np.testing.assert_allclose(value(loss), np.sum(x**2) / 4, rtol=1e-5)


def test_losses_of_our_model_are_weighted_and_its_terms_are_not():
    layer = Added(lambda x: ops.sum(x**2), name="size", weight=0.25)
    model, x = model_with(layer), numbers(4, 3)
    model(x)
    size = np.sum(x**2)
    np.testing.assert_allclose(value(model.losses[0]), size / 4, rtol=1e-5)
    (term,) = losskit.collect_losses(model)
    assert (term.name, term.kind, term.label) == ("added/size", "added", "size")
    np.testing.assert_allclose(value(term.value), size, rtol=1e-5)
    assert term.weight == 0.25


def test_weight_may_be_a_schedule_and_is_logged():
    layer = Added(
        lambda x: 1.0, name="one", weight=schedules.Linear(0.0, 1.0, steps=4)
    )
    model = model_with(layer)
    logs = one_epoch(model, np.zeros((4, 3), "float32"), batch_size=1)
    # weights 0, 1/4, 2/4, 3/4 at the four steps
    np.testing.assert_allclose(logs["one_weight"], 0.375, rtol=1e-6)
    np.testing.assert_allclose(logs["loss"], 0.375, rtol=1e-6)
    np.testing.assert_allclose(logs["one_loss"], 1.0, rtol=1e-6)


def test_weight_may_be_a_variable_that_a_callback_assigns():
    beta = keras.Variable(0.0, trainable=False, name="beta")
    model = model_with(Added(lambda x: 1.0, name="one", weight=beta))
    model.compile(keras.optimizers.SGD(0.0), "mse")
    grow = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: beta.assign(epoch + 1.0)
    )
    x, y = np.zeros((4, 3), "float32"), np.zeros((4, 1), "float32")
    history = model.fit(x, y, epochs=3, verbose=0, callbacks=[grow]).history
    np.testing.assert_allclose(history["loss"], [0.0, 1.0, 2.0])


def test_one_name_in_two_layers_is_one_log():
    x = numbers(4, 3)
    first = Added(lambda x: ops.sum(x**2), "first", name="t")
    second = Added(lambda x: ops.sum(x**2), "second", name="t")
    logs = one_epoch(model_with(first, second), x)
    np.testing.assert_allclose(logs["t_loss"], 2 * np.sum(x**2), rtol=1e-5)


def test_shared_layer_counts_once_per_call():
    layer, x = Added(lambda x: ops.sum(x**2), name="t"), numbers(4, 3)
    logs = one_epoch(model_with(layer, layer, layer), x)
    np.testing.assert_allclose(logs["t_loss"], 3 * np.sum(x**2), rtol=1e-5)


def test_nested_model_has_the_same_value():
    x = numbers(4, 3)
    inputs = keras.Input((3,))
    inner = losskit.Model(inputs, Added(lambda x: ops.sum(x), name="t")(inputs))
    logs = one_epoch(model_with(inner), x)
    np.testing.assert_allclose(logs["t_loss"], np.sum(x), rtol=1e-5)


def test_time_distributed_sums_over_steps():
    x = numbers(4, 5, 3)
    inner = Added(lambda x: ops.sum(x**2, axis=-1), name="t")
    model = model_with(keras.layers.TimeDistributed(inner), steps=5)
    logs = one_epoch(model, x)
    # the mean over the batch of each of the five steps
    np.testing.assert_allclose(
        logs["t_loss"], np.sum(np.mean(np.sum(x**2, -1), 0)), rtol=1e-5
    )


def test_subclassed_model_adds_a_named_loss_itself():
    class Noisy(losskit.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(1, kernel_initializer="ones")

        def call(self, x):
            self.add_loss(ops.sum(x**2), name="size", weight=0.5)
            return self.dense(x)

    x = numbers(4, 3)
    logs = one_epoch(Noisy(), x)
    np.testing.assert_allclose(logs["size_loss"], np.sum(x**2), rtol=1e-5)
    np.testing.assert_allclose(logs["added_loss"], np.sum(x**2) / 2, rtol=1e-5)


def test_calls_in_a_row_do_not_accumulate():
    layer = Added(lambda x: ops.sum(x**2), name="t")
    model = model_with(layer)
    for seed in range(3):
        x = numbers(4, 3, seed=seed)
        for owner in (model, layer):
            owner(x)
            (loss,) = owner.added_losses
            np.testing.assert_allclose(value(loss), np.sum(x**2), rtol=1e-5)
    retrace = [numbers(n, 3, seed=n) for n in range(1, 6)]
    call = jitted(lambda x: model(x))
    for x in retrace:
        call(ops.convert_to_tensor(x))
        model(x)
        (loss,) = model.added_losses
        np.testing.assert_allclose(value(loss), np.sum(x**2), rtol=1e-5)


def test_exception_inside_call_leaves_layer_and_model_usable():
    class Fragile(layers.Layer):
        fails = True

        def call(self, x):
            self.add_loss(ops.sum(x), name="t")
            if self.fails:
                raise RuntimeError("broken on purpose")
            return x

        def compute_output_shape(self, shape):
            return shape

    layer = Fragile(activity_regularizer="l1", activity_reduction="sum")
    model, x = model_with(layer), numbers(4, 3)
    for call in (layer, model, lambda x: one_epoch(model, x)):
        layer.fails = True
        with pytest.raises(RuntimeError, match="broken on purpose"):
            call(x)
        layer.fails = False
        assert layer.activity_regularizer is not None
        model(x)
        np.testing.assert_allclose(
            value(model.added_losses[0]), np.sum(x), rtol=1e-5
        )
        assert len(model.losses) == 2
    logs = one_epoch(model, x)
    np.testing.assert_allclose(logs["t_loss"], np.sum(x), rtol=1e-5)


@pytest.mark.parametrize(
    "bad",
    [None, "1.0", True, float("nan"), float("inf"), 1j, object()],
    ids=lambda bad: f"{type(bad).__name__} {str(bad)[:4]}",
)
def test_bad_value_is_refused_and_names_the_layer(bad):
    with pytest.raises(ValueError, match="layer 'added'"):
        Added(lambda x: [bad])(numbers(2, 3))


@pytest.mark.parametrize(
    "arguments",
    [
        {"name": 3},
        {"name": "a/b"},
        {"weight": "heavy"},
        {"weight": float("nan")},
        {"reduction": "average"},
    ],
    ids=repr,
)
def test_bad_argument_is_refused(arguments):
    with pytest.raises((TypeError, ValueError)) as error:
        Added(lambda x: ops.sum(x, axis=-1), **arguments)(numbers(2, 3))
    assert "added" in str(error.value) or "average" in str(error.value)


def test_model_add_loss_outside_of_call_names_add_loss_layer():
    # Stock Keras discards the first in `fit` and raises oddly on the others.
    model = model_with()
    for loss in (ops.ones(()), model.output, 1.0):
        with pytest.raises(ValueError, match="layers.AddLoss"):
            model.add_loss(loss)


def test_symbolic_loss_of_a_layer_names_add_loss_layer():
    layer = Added(lambda x: x)
    with pytest.raises(ValueError, match="layers.AddLoss"):
        layer.add_loss(keras.Input((3,)))


# ------------------------------------------------------------------- AddLoss


@keras.saving.register_keras_serializable("tests")
def kl(mean, log_var):
    return -0.5 * ops.sum(1 + log_var - mean**2 - ops.exp(log_var), axis=-1)


def kl_by_hand(mean, log_var):
    return np.mean(
        np.sum(-0.5 * (1 + log_var - mean**2 - np.exp(log_var)), axis=-1)
    )


def add_loss_model(nest):
    inputs = keras.Input((3,))
    parts = nest(inputs)
    out = layers.AddLoss(kl, name="kl", weight=0.1)(parts)
    first = keras.tree.flatten(out)
    output = keras.layers.Dense(1, use_bias=False)(first[0] + first[1])
    return losskit.Model(inputs, output)


@pytest.mark.parametrize(
    "nest",
    [
        lambda x: [x, 0.5 * x],
        lambda x: (x, 0.5 * x),
        lambda x: {"mean": x, "log_var": 0.5 * x},
    ],
    ids=["list", "tuple", "dict"],
)
def test_add_loss_layer_of_several_inputs(nest):
    x = numbers(4, 3)
    logs = one_epoch(add_loss_model(nest), x)
    expected = kl_by_hand(x, 0.5 * x)
    np.testing.assert_allclose(logs["kl_loss"], expected, rtol=1e-5)
    np.testing.assert_allclose(logs["added_loss"], 0.1 * expected, rtol=1e-5)


def test_add_loss_layer_passes_its_inputs_and_their_dtype_on():
    keras.config.set_dtype_policy("mixed_float16")
    x = {"a": ops.arange(3), "b": ops.ones((2,), "float32")}
    seen = {}

    def look(a, b):
        seen.update(a=a.dtype, b=b.dtype)
        return ops.sum(ops.cast(b, "float16") * 60000)

    layer = layers.AddLoss(look, name="t")
    y = layer(x)
    for key in x:
        np.testing.assert_array_equal(
            ops.convert_to_numpy(x[key]), ops.convert_to_numpy(y[key])
        )
        assert y[key].dtype == x[key].dtype == seen[key]


def test_add_loss_layer_saves_and_loads(tmp_path):
    x = numbers(4, 3)
    model = add_loss_model(lambda x: [x, 0.5 * x])
    logs = one_epoch(model, x)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    results = loaded.evaluate(
        x, np.zeros((4, 1), "float32"), verbose=0, return_dict=True
    )
    np.testing.assert_allclose(results["kl_loss"], logs["kl_loss"], rtol=1e-5)
    np.testing.assert_allclose(results["loss"], logs["loss"], rtol=1e-5)


def test_add_loss_layer_refuses_what_is_no_function():
    with pytest.raises(TypeError, match="AddLoss"):
        layers.AddLoss(3.0)


def branching(side, name="side"):
    """The inputs and outputs of a model, and a layer called beside them."""
    inputs = keras.Input((2,))
    hidden = keras.layers.Dense(2)(inputs)
    add = (
        layers.ActivityRegularization(l2=0.5, name=name)
        if side == "regularization"
        else layers.AddLoss(ops.mean, name=name)
    )
    return inputs, add(hidden), keras.layers.Dense(1)(hidden)


def fit_once(model):
    model.compile("sgd", "mse")
    return model.fit(numbers(4, 2), numbers(4, 1), verbose=0).history


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("side", ["loss", "regularization"])
def test_a_side_branch_is_refused_before_training(side, wrapped):
    inputs, _, outputs = branching(side)
    if wrapped:
        model = losskit.wrap(keras.Model(inputs, outputs))
    else:
        model = losskit.Model(inputs, outputs)
    weights = model.get_weights()
    with pytest.raises(
        ValueError, match=r"\['side'\].*lead to an output.*x = "
    ):
        fit_once(model)
    for one, other in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_loss_of_another_model_is_no_side_branch():
    inputs, added, outputs = branching("loss")
    whole = losskit.Model(inputs, {"o": outputs, "added": added})
    part = losskit.Model(inputs, outputs)
    assert "side_loss" not in fit_once(part)
    whole.compile("sgd", {"o": "mse"})
    logs = whole.fit(numbers(4, 2), {"o": numbers(4, 1)}, verbose=0).history
    assert "added_loss" in logs
    # Used on the way to an output of another, not yet made.
    inputs, added, outputs = branching("loss")
    further = keras.layers.Dense(1)(added)
    assert "loss" in fit_once(losskit.Model(inputs, outputs))
    assert "added_loss" in fit_once(losskit.Model(inputs, further))
    # Of other inputs.
    branching("loss")
    inputs, _, outputs = branching("loss", name="of_this")
    with pytest.raises(ValueError, match=r"Expected what \['of_this'\]"):
        fit_once(losskit.Model(inputs, outputs))


def test_name_of_an_output_and_of_a_loss_clash():
    inputs = keras.Input((3,))
    x = layers.AddLoss(ops.sum, name="t")(inputs)
    outputs = {"t": keras.layers.Dense(1)(x), "u": keras.layers.Dense(1)(x)}
    model = losskit.Model(inputs, outputs)
    model.compile("sgd", {"t": "mse", "u": "mse"})
    y = np.zeros((4, 1), "float32")
    with pytest.raises(ValueError, match="t_loss"):
        model.fit(numbers(4, 3), {"t": y, "u": y}, verbose=0)


class AddedIn(layers.Layer):
    """Adds the mean of its input in one mode only, and passes it on."""

    def __init__(self, mode, weight=1.0):
        super().__init__()
        self.mode = mode
        self.weight = weight

    def call(self, x, training=False):
        if training == (self.mode == "training"):
            self.add_loss(ops.mean(x), name=self.mode, weight=self.weight)
        return x


@pytest.mark.parametrize("eager", [False, True])
def test_a_loss_of_one_mode_is_logged_and_its_schedule_moves(eager):
    model = model_with(
        AddedIn("training", schedules.Linear(0.0, 1.0, steps=4)),
        AddedIn("evaluation", 2.0),
    )
    model.compile(keras.optimizers.SGD(0.0), "mse", run_eagerly=eager)
    x = 3.0 * np.ones((6, 3), "float32")
    history = model.fit(
        *(x, np.zeros((6, 1))),
        validation_data=(x, np.zeros((6, 1))),
        batch_size=4,
        epochs=3,
        verbose=0,
    ).history
    # Batches of 4 and 2 samples: the weights are 0 and 1/4, and so on.
    weights = [1 / 12, 0.5 + 1 / 12, 1.0]
    assert history["training_weight"] == pytest.approx(weights)
    assert history["training_loss"] == pytest.approx([3.0] * 3)
    added = [3.0 * weight for weight in weights]
    assert history["added_loss"] == pytest.approx(added)
    assert history["val_evaluation_loss"] == pytest.approx([3.0] * 3)
    assert history["val_added_loss"] == pytest.approx([6.0] * 3)
    assert "evaluation_loss" not in history
    assert "val_training_loss" not in history
    parts = np.add(history["compiled_loss"], history["added_loss"])
    np.testing.assert_allclose(history["loss"], parts, rtol=1e-6)


class AddedInBoth(layers.Layer):
    """Adds its mean as `size`, in evaluation with a weight of 1."""

    def __init__(self, weight):
        super().__init__()
        self.weight = weight

    def call(self, x, training=False):
        weight = self.weight if training else 1.0
        self.add_loss(ops.mean(x), name="size", weight=weight)
        return x


@pytest.mark.parametrize("log", ["terms", "all"])
def test_a_weight_of_training_moves_where_evaluation_has_another(log):
    ramp = schedules.Linear(0.0, 1.0, steps=2)
    model = model_with(AddedInBoth(ramp))
    x, y = np.ones((4, 3), "float32"), np.zeros((4, 1))
    model.compile(
        keras.optimizers.SGD(0.0), losskit.LossesContainer("mse", log=log)
    )
    history = model.fit(
        x, y, validation_data=(x, y), epochs=3, verbose=0
    ).history
    assert history["added_loss"] == [0.0, 0.5, 1.0]
    assert history["size_weight"] == [0.0, 0.5, 1.0]
    assert history["val_added_loss"] == [1.0] * 3
    assert len([key for key in history if "contribution" in key]) == (
        4 if log == "all" else 0
    )


def test_a_schedule_moves_in_a_loop_of_ones_own():
    ramp = schedules.Linear(0.0, 1.0, steps=2)
    model = model_with(Added(lambda x: ops.mean(x), name="size", weight=ramp))
    x, y = np.ones((4, 3), "float32"), 3.0 * np.ones((4, 1), "float32")
    container = losskit.LossesContainer("mse")
    totals = [
        value(
            container(
                y, model(x, training=True), regularization_losses=model.losses
            )
        )
        for _ in range(4)
    ]
    assert totals == [0.0, 0.5, 1.0, 1.0]
    logs = {m.name: value(m.result()) for m in container.metrics}
    assert logs["size_loss"] == 1.0
    assert logs["size_weight"] == logs["added_loss"] == 0.625


def test_a_schedule_that_nobody_counts_is_refused():
    ramp = schedules.Linear(0.0, 1.0, steps=2)
    model = model_with(Added(lambda x: ops.mean(x), name="size", weight=ramp))
    x, y = np.ones((4, 3), "float32"), 3.0 * np.ones((4, 1), "float32")
    container = losskit.LossesContainer("mse")
    y_pred = model(x)
    with pytest.raises(ValueError, match="container.build"):
        container.stateless_compute([], y, y_pred, None, model.losses)
    container.build(y, y_pred, model.losses)
    state, totals = [v.value for v in container.variables], []
    for _ in range(3):
        terms, state = container.stateless_compute(
            state, y, y_pred, None, model.losses
        )
        totals.append(value(terms.total))
    assert totals == [0.0, 0.5, 1.0]


def test_a_loss_of_training_with_a_variable_for_weight_follows_it():
    weight = keras.Variable(0.5, name="weight")
    model = model_with(AddedIn("training", weight))
    model.compile(keras.optimizers.SGD(0.0), "mse")
    x = np.ones((4, 3), "float32")
    model.fit(x, np.zeros((4, 1)), verbose=0)
    weight.assign(4.0)
    history = model.fit(x, np.zeros((4, 1)), verbose=0).history
    assert history["training_weight"] == [4.0]
    assert history["added_loss"] == [4.0]


@pytest.mark.parametrize(
    ("reduction", "want"), [("sum_over_batch_size", 2.0), ("sum", 4.0)]
)
def test_steps_that_are_masked_are_left_out(reduction, want):
    inputs = keras.Input((4,), dtype="int32")
    x = keras.layers.Embedding(
        3, 2, mask_zero=True, embeddings_initializer="ones"
    )(inputs)
    add = layers.AddLoss(
        lambda x: ops.sum(x, axis=-1), name="size", reduction=reduction
    )
    model = losskit.Model(inputs, ops.mean(add(x), axis=-1))
    model.compile(keras.optimizers.SGD(0.0), "mse")
    tokens, zeros = np.array([[1, 2, 0, 0]]), np.zeros((1, 4))
    logs = model.fit(tokens, zeros, verbose=0).history
    assert logs["size_loss"] == [want]


def test_weights_of_one_name_that_differ_are_logged_one_by_one():
    ramp = schedules.Linear(0.0, 1.0, epochs=4)
    middle = [
        Added(ops.mean, "first", name="kl", weight=ramp),
        Added(ops.mean, "second", name="kl", weight=0.5),
    ]
    logs = trained(middle)
    assert logs["first/kl_weight"] == pytest.approx([0.0, 0.25])
    assert logs["second/kl_weight"] == pytest.approx([0.5, 0.5])
    assert "kl_weight" not in logs
    assert logs["kl_loss"] == pytest.approx([2.0, 2.0])
    assert logs["added_loss"] == pytest.approx([0.5, 0.75])


def test_equal_weights_of_one_name_are_one_log():
    def ramp():
        return schedules.Linear(0.0, 1.0, epochs=4)

    middle = [Added(ops.mean, n, name="kl", weight=ramp()) for n in "ab"]
    logs = trained(middle)
    assert logs["kl_weight"] == pytest.approx([0.0, 0.25])
    assert logs["added_loss"] == pytest.approx([0.0, 0.5])


def trained(middle, model_class=losskit.Model):
    """The history of two epochs on ones."""
    model = model_with(*middle, model_class=model_class)
    model.compile(keras.optimizers.SGD(0.0), "mse")
    x = np.ones((4, 3), "float32")
    return model.fit(x, np.ones((4, 1)), epochs=2, verbose=0).history


def test_a_schedule_in_a_plain_model_is_refused():
    ramp = schedules.Linear(0.0, 1.0, epochs=4)
    middle = [Added(ops.mean, weight=ramp)]
    with pytest.raises(ValueError, match="'added'.*Linear.*keras_losskit.wrap"):
        trained(middle, keras.Model)
    assert trained(middle)["added_loss"] == pytest.approx([0.0, 0.25])
    # And a plain model of other layers is trained as before.
    assert trained([Added(ops.mean)], keras.Model)["loss"]


def test_a_function_of_weights_is_told_of_regularizers():
    model = model_with(Added(ops.mean))
    with pytest.raises(ValueError, match="a regularizer, or.*FromWeights"):
        model.add_loss(lambda: ops.sum(model.weights[0]))
