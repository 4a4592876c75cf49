"""`gradient_noise_scale` against NumPy, and its callback."""

import keras
import numpy as np
import pytest

import keras_losskit as losskit

RNG = np.random.default_rng(0)
X = RNG.normal(size=(22, 3)).astype("float32")
Y = (X @ np.array([[1.0], [-2.0], [0.5]]) + 0.3).astype("float32")
Y += RNG.normal(size=Y.shape).astype("float32")


def linear_model(rate=0.0):
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(1, use_bias=False, name="out")]
    )
    model.compile(keras.optimizers.SGD(rate), "mse")
    return model


def gradients(kernel, size):
    """Gradient of the mean square of each whole batch, NumPy."""
    error = X @ kernel - Y
    each = 2.0 * error * X
    count = len(X) // size
    return each[: count * size].reshape(count, size, 3).mean(1)


@pytest.mark.parametrize("size", [1, 4])
def test_estimates_against_numpy(size):
    model = linear_model()
    found = losskit.gradient_noise_scale(model, X, Y, batch_size=size)
    parts = gradients(model.get_weights()[0], size)
    count = len(parts)
    small, large = (parts**2).sum(1).mean(), (parts.mean(0) ** 2).sum()
    samples = size * count
    signal = (samples * large - size * small) / (samples - size)
    noise = (small - large) / (1.0 / size - 1.0 / samples)
    np.testing.assert_allclose(
        [found.signal, found.noise, found.scale],
        [signal, noise, noise / signal],
        rtol=1e-5,
    )
    assert (found.batch_size, found.batches) == (size, count)


def test_single_samples_give_the_unbiased_variance():
    """With batches of 1, `noise` is the sum of the sample variances."""
    model = linear_model()
    found = losskit.gradient_noise_scale(model, X, Y, batch_size=1)
    variances = gradients(model.get_weights()[0], 1).var(0, ddof=1)
    assert found.noise == pytest.approx(variances.sum(), rel=1e-5)


def test_a_layer_may_be_picked_and_weights_count():
    inputs = keras.Input((3,))
    hidden = keras.layers.Dense(2, name="hidden")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(1, name="out")(hidden))
    model.compile(loss="mse")
    weight = np.ones(22)
    weight[::2] = 0.0
    found = losskit.gradient_noise_scale(
        model, X, Y, weight, batch_size=2, wrt="out/.*"
    )
    features = keras.Model(inputs, hidden).predict(X, verbose=0)
    error = model.predict(X, verbose=0) - Y
    each = np.concatenate([2 * error * features, 2 * error], axis=1)
    parts = (each * weight[:, None]).reshape(11, 2, 3).mean(1)
    small, large = (parts**2).sum(1).mean(), (parts.mean(0) ** 2).sum()
    assert found.noise == pytest.approx((small - large) * 22 / 10, rel=1e-4)


def test_an_infinite_scale_where_there_is_no_signal():
    assert losskit.NoiseScale(-1.0, 2.0, 1, 2).scale == float("inf")


def test_the_callback_averages_both_estimates():
    watch = losskit.callbacks.GradientNoiseScale(
        X, Y, batch_size=2, every=2, momentum=0.5
    )
    model = linear_model(0.1)
    logs = model.fit(X, Y, epochs=5, verbose=0, callbacks=[watch]).history
    assert [epoch for epoch, _ in watch.history] == [1, 3]
    (_, first), (_, second) = watch.history
    assert first.signal != second.signal
    # The first epoch has none yet, the others have the last one.
    averaged = (first.noise + second.noise) / (first.signal + second.signal)
    np.testing.assert_allclose(
        logs["gradient_noise_scale"],
        [first.scale, first.scale, averaged, averaged],
        rtol=1e-6,
    )


def test_too_little_data_is_refused():
    with pytest.raises(ValueError, match="two whole batches of 16"):
        losskit.gradient_noise_scale(linear_model(), X, Y, batch_size=16)


def test_a_generator_cannot_be_read_again():
    with pytest.raises(TypeError, match="read again.*Received: <generator"):
        losskit.callbacks.GradientNoiseScale(pair for pair in [(X, Y)])
