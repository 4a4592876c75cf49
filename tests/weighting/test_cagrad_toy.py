"""The two-objective toy of Liu et al., NeurIPS 2021, figure 1.

With `c1 = max(tanh(x2 / 2), 0)` and `c2 = max(tanh(-x2 / 2), 0)`,
`L1 = c1 f1 + c2 q1` and `L2 = c1 f2 + c2 q2`, where
`f1 = log(max(|(-x1 - 7) / 2 - tanh(-x2)|, 5e-6)) + 6`,
`f2 = log(max(|(-x1 + 3) / 2 + tanh(-x2) + 2|, 5e-6)) + 6` and
`q1, q2 = ((x1 -+ 7)^2 + (x2 + 8)^2 / 10) / 10 - 20`.
"""

import keras
import numpy as np
import pytest

from keras_losskit.weighting.cagrad import cagrad

if keras.config.backend() != "jax":
    pytest.skip("100,000 steps want a compiled loop", allow_module_level=True)

STARTS = [(-8.5, 7.5), (-8.5, -5.0), (9.0, 9.0)]


def losses(x):
    import jax.numpy as jnp

    x1, x2 = x
    first = jnp.abs((-x1 - 7.0) / 2.0 - jnp.tanh(-x2))
    second = jnp.abs((-x1 + 3.0) / 2.0 + jnp.tanh(-x2) + 2.0)
    valleys = jnp.log(jnp.maximum(jnp.stack([first, second]), 5e-6)) + 6.0
    centers = jnp.array([7.0, -7.0])
    bowls = ((x1 - centers) ** 2 + 0.1 * (x2 + 8.0) ** 2) / 10.0 - 20.0
    up = jnp.maximum(jnp.tanh(0.5 * x2), 0.0)
    down = jnp.maximum(jnp.tanh(-0.5 * x2), 0.0)
    return valleys * up + bowls * down


def mean_loss_after_adam(weigh, start, steps=100_000):
    """Mean loss where Adam (1e-3) ends on `sum_k(w_k * g_k)`."""
    import jax
    import jax.numpy as jnp

    def step(i, state):
        x, first, second = state
        jacobian = jax.jacrev(losses)(x)
        gradient = weigh(jacobian @ jacobian.T) @ jacobian
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        unbiased = first / (1.0 - 0.9 ** (i + 1.0))
        scale = jnp.sqrt(second / (1.0 - 0.999 ** (i + 1.0))) + 1e-8
        return x - 1e-3 * unbiased / scale, first, second

    x = jnp.array(start, "float64")
    state = (x, jnp.zeros_like(x), jnp.zeros_like(x))
    run = jax.jit(lambda state: jax.lax.fori_loop(0, steps, step, state))
    x = run(state)[0]
    return np.asarray(x), float(losses(x).mean())


@pytest.mark.slow
@pytest.mark.parametrize("start", STARTS)
def test_cagrad_reaches_the_optimum_from_every_start(start):
    import jax

    with jax.enable_x64(True):
        x, loss = mean_loss_after_adam(lambda g: cagrad(g, c=0.5), start)
    # (4.9 + (x2 + 8)^2 / 100 - 20) * tanh(-x2 / 2) at (0, -8.355) = -15.092
    np.testing.assert_allclose(x, [0.0, -8.355], atol=0.02)
    assert loss == pytest.approx(-15.092, abs=1e-3)


@pytest.mark.slow
def test_the_mean_gradient_does_not():
    import jax
    import jax.numpy as jnp

    with jax.enable_x64(True):
        stuck = [
            mean_loss_after_adam(lambda g: jnp.full(2, 0.5), start)[1] > 0.0
            for start in STARTS
        ]
    assert sum(stuck) == 2
