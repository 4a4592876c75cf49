"""What a recurrent cell adds leaves the loop as a sum over steps."""

import keras
import numpy as np
import pytest
from keras import ops
from support.frameworks import jitted

import keras_losskit as losskit
from keras_losskit import layers

STEPS, FEATURES = 5, 3


def numbers(*shape, seed=0):
    values = np.random.default_rng(seed).normal(size=shape)
    return values.astype("float32")


def value(loss):
    return float(ops.convert_to_numpy(loss))


class KerasCell(keras.layers.SimpleRNNCell):
    """A cell that adds a scalar as Keras does."""

    def call(self, x, states, training=False):
        self.add_loss(ops.mean(x**2))
        return super().call(x, states, training=training)


class NamedCell(layers.SimpleRNNCell):
    """A cell that adds a named loss, one value per sample."""

    def call(self, x, states, training=False):
        self.add_loss(ops.mean(x**2, axis=-1), name="energy", weight=0.5)
        return super().call(x, states, training=training)


class StateCell(layers.SimpleRNNCell):
    """A cell whose loss depends on its weights through the state."""

    def call(self, x, states, training=False):
        output, states = super().call(x, states, training=training)
        self.add_loss(ops.sum(output**2, axis=-1), name="state")
        return output, states


def model_of(rnn, model_class=losskit.Model, masked=False):
    inputs = keras.Input((STEPS, FEATURES))
    x = keras.layers.Masking()(inputs) if masked else inputs
    outputs = keras.layers.Dense(1, kernel_initializer="zeros")(rnn(x))
    return model_class(inputs, outputs)


def one_epoch(model, x, **arguments):
    model.compile(keras.optimizers.SGD(0.0), "mse", **arguments)
    y = np.zeros((len(x), 1), "float32")
    history = model.fit(x, y, batch_size=4, shuffle=False, verbose=0).history
    return {key: values[0] for key, values in history.items()}


def cells(kind):
    if kind == "stacked":
        return keras.layers.StackedRNNCells(
            [NamedCell(FEATURES), keras.layers.LSTMCell(2)]
        )
    return {"keras": KerasCell, "named": NamedCell}[kind](2)


@pytest.mark.parametrize("unroll", [False, True])
@pytest.mark.parametrize("kind", ["keras", "named", "stacked"])
def test_sum_over_steps_in_fit(kind, unroll):
    x = numbers(6, STEPS, FEATURES)
    logs = one_epoch(model_of(layers.RNN(cells(kind), unroll=unroll)), x)
    # each step adds the mean over batch and features
    expected = STEPS * np.mean(x**2)
    if kind == "keras":
        np.testing.assert_allclose(logs["added_loss"], expected, rtol=1e-5)
    else:
        np.testing.assert_allclose(logs["energy_loss"], expected, rtol=1e-5)
        np.testing.assert_allclose(logs["added_loss"], expected / 2, rtol=1e-5)


@pytest.mark.parametrize("kind", ["keras", "named", "stacked"])
def test_sum_over_steps_eager_and_compiled(kind):
    layer, x = layers.RNN(cells(kind)), numbers(4, STEPS, FEATURES)
    model = model_of(layer)
    expected = STEPS * np.mean(x**2)
    model(x)
    (term,) = losskit.collect_losses(model)
    np.testing.assert_allclose(value(term.value), expected, rtol=1e-5)

    def total(x):
        model(x)
        return model.losses[0]

    weight = 1.0 if kind == "keras" else 0.5
    result = jitted(total)(ops.convert_to_tensor(x))
    np.testing.assert_allclose(value(result), weight * expected, rtol=1e-5)


def test_layer_by_itself_and_in_a_plain_model():
    layer, x = layers.RNN(NamedCell(2)), numbers(4, STEPS, FEATURES)
    layer(x)
    (loss,) = layer.added_losses
    np.testing.assert_allclose(
        value(loss), 0.5 * STEPS * np.mean(x**2), rtol=1e-5
    )
    logs = one_epoch(model_of(layers.RNN(KerasCell(2)), keras.Model), x)
    np.testing.assert_allclose(logs["loss"], STEPS * np.mean(x**2), rtol=1e-5)


def padded(x):
    """Samples of lengths 5, 3, 1 and 4: zeros are masked."""
    x, lengths = x.copy(), [5, 3, 1, 4]
    for row, length in zip(x, lengths, strict=True):
        row[length:] = 0.0
    valid = np.arange(STEPS) < np.array(lengths)[:, None]
    return x, valid


@pytest.mark.parametrize("unroll", [False, True])
@pytest.mark.parametrize("return_sequences", [False, True])
@pytest.mark.parametrize("kind", ["named", "stacked"])
def test_masked_steps_do_not_count(kind, return_sequences, unroll):
    class Constant(layers.SimpleRNNCell):
        def call(self, x, states, training=False):
            self.add_loss(ops.ones_like(x[:, 0]), name="one")
            return super().call(x, states, training=training)

    cell = Constant(FEATURES)
    if kind == "stacked":
        cell = keras.layers.StackedRNNCells([cell, Constant(2)])
    x, valid = padded(numbers(4, STEPS, FEATURES))
    layer = layers.RNN(cell, return_sequences=return_sequences, unroll=unroll)
    inputs = keras.layers.Masking()(ops.convert_to_tensor(x))
    layer(inputs)
    for loss in layer.added_losses:
        # a masked step leaves its sample's share out of the mean
        np.testing.assert_allclose(value(loss), valid.sum() / 4, rtol=1e-6)
    assert len(layer.added_losses) == (2 if kind == "stacked" else 1)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("stacked", [False, True])
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"return_sequences": True},
        {"return_state": True},
        {"go_backwards": True},
        {"return_sequences": True, "zero_output_for_mask": True},
    ],
    ids=repr,
)
def test_outputs_and_states_are_those_of_keras(arguments, stacked, masked):
    def cell(module):
        made = module.SimpleRNNCell if module is keras.layers else NamedCell
        first = made(FEATURES)
        if not stacked:
            return first
        return keras.layers.StackedRNNCells([first, made(2)])

    x, _ = padded(numbers(4, STEPS, FEATURES))
    x = ops.convert_to_tensor(x)
    if masked:
        x = keras.layers.Masking()(x)
    ours = layers.RNN(cell(layers), **arguments)
    theirs = keras.layers.RNN(cell(keras.layers), **arguments)
    ours(x), theirs(x)
    theirs.set_weights(ours.get_weights())
    outputs, expected = ours(x), theirs(x)
    assert keras.tree.map_structure(lambda t: tuple(t.shape), outputs) == (
        keras.tree.map_structure(lambda t: tuple(t.shape), expected)
    )
    for a, b in zip(
        keras.tree.flatten(outputs), keras.tree.flatten(expected), strict=True
    ):
        np.testing.assert_allclose(
            ops.convert_to_numpy(a), ops.convert_to_numpy(b), rtol=1e-6
        )


def test_gradient_flows_through_every_step():
    x = numbers(4, STEPS, FEATURES)
    weights = []
    for unroll in (False, True):
        keras.utils.set_random_seed(1)
        model = model_of(layers.RNN(StateCell(2), unroll=unroll))
        model.compile(keras.optimizers.SGD(0.1), "mse")
        before = model.get_weights()
        model.fit(x, np.zeros((4, 1)), verbose=0, shuffle=False)
        weights.append(model.get_weights())
        assert not np.allclose(before[0], weights[-1][0])
        assert not np.allclose(before[1], weights[-1][1])
    for looped, unrolled in zip(*weights, strict=True):
        np.testing.assert_allclose(looped, unrolled, rtol=1e-5, atol=1e-6)


def test_activity_regularizer_of_a_cell_is_an_activity_term():
    cell = layers.SimpleRNNCell(
        2, activity_regularizer="l1", kernel_initializer="ones"
    )
    x = numbers(4, STEPS, FEATURES)
    model = model_of(layers.RNN(cell, return_sequences=True))
    one_epoch(model, x)
    rnn = layers.RNN(cell, return_sequences=True)
    outputs = ops.convert_to_numpy(rnn(x))
    # Keras penalizes a cell's output and its state, which are the same here.
    expected = 2 * 0.01 * np.sum(np.abs(outputs)) / 4
    total = sum(value(loss) for loss in rnn.activity_losses)
    np.testing.assert_allclose(total, expected, rtol=1e-5)


def test_bidirectional_carries_both_directions():
    x = numbers(4, STEPS, FEATURES)
    with keras.saving.custom_object_scope({"NamedCell": NamedCell}):
        layer = keras.layers.Bidirectional(layers.RNN(NamedCell(2)))
    logs = one_epoch(model_of(layer), x)
    np.testing.assert_allclose(
        logs["energy_loss"], 2 * STEPS * np.mean(x**2), rtol=1e-5
    )


def test_stateful_layer_keeps_its_state_and_carries():
    x = numbers(4, STEPS, FEATURES)
    layer = layers.RNN(NamedCell(2), stateful=True)
    for _ in range(3):
        layer(x)
        (loss,) = layer.added_losses
        np.testing.assert_allclose(
            value(loss), 0.5 * STEPS * np.mean(x**2), rtol=1e-5
        )
    assert len(layer.states) == 1


@pytest.mark.parametrize("cell", [KerasCell, NamedCell])
def test_vanilla_rnn_is_refused_and_names_both_before_training(cell):
    # Stock Keras: JAX 1.0, PyTorch 4.0, TensorFlow an error of the graph.
    rnn = keras.layers.RNN(cell(2, name="inner"), name="outer")
    model, x = model_of(rnn), numbers(4, STEPS, FEATURES)
    before = model.get_weights()
    with pytest.raises(ValueError, match="'inner'.*'outer'.*unroll"):
        one_epoch(model, x)
    with pytest.raises(ValueError, match="'inner'.*'outer'.*unroll"):
        model(x)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("cell", [KerasCell, NamedCell])
def test_vanilla_unrolled_rnn_sums_over_steps(cell):
    x = numbers(4, STEPS, FEATURES)
    logs = one_epoch(model_of(keras.layers.RNN(cell(2), unroll=True)), x)
    weight = 1.0 if cell is KerasCell else 0.5
    np.testing.assert_allclose(
        logs["added_loss"], weight * STEPS * np.mean(x**2), rtol=1e-5
    )


def test_losses_that_change_from_step_to_step_are_refused():
    class Fickle(layers.SimpleRNNCell):
        count = 0

        def call(self, x, states, training=False):
            self.count += 1
            self.add_loss(ops.sum(x), name=f"t{self.count}")
            return super().call(x, states, training=training)

    with pytest.raises(ValueError, match="same losses at every step"):
        layers.RNN(Fickle(2))(numbers(4, STEPS, FEATURES))
