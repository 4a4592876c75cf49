"""Residual-based attention beside equal weights, for the Allen-Cahn equation.

`u_t = 1e-4 u_xx - 5 u^3 + 5 u` for x in [-1, 1], periodic, and t in [0, 1],
from `u = x^2 cos(pi x)`. The network is periodic in x and right at t = 0, so
that all there is to learn is the equation. Each point has a weight of its own,
which remembers how large its residual was (Anagnostopoulos et al., CMAME 2024);
with equal weights training settles on a solution that stands still too early.
"""

import os
import sys
import time

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np
from keras import ops

import keras_losskit as losskit
from keras_losskit import layers
from keras_losskit import weighting

STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 4000
SEED = int(sys.argv[2]) if len(sys.argv) > 2 else 0
POINTS, WIDTH, DEPTH = 2048, 48, 3
IN_X, IN_T = np.float32([[0.01, 0.0]]), np.float32([[0.0, 0.002]])


def start_of(x, cos):
    return x**2 * cos(np.pi * x)


class AllenCahn(losskit.Model):
    """Gives the residual of the equation at points `(x, t)`."""

    def __init__(self):
        super().__init__()
        self.hidden = [layers.Dense(WIDTH, "tanh") for _ in range(DEPTH)]
        self.out = layers.Dense(1)

    def solve(self, points):
        x, t = ops.split(points, 2, axis=-1)
        waves = [f(np.pi * k * x) for k in (1, 2) for f in (ops.cos, ops.sin)]
        values = ops.concatenate([t, *waves], axis=-1)
        for layer in self.hidden:
            values = layer(values)
        return start_of(x, ops.cos) + t * self.out(values)

    def call(self, points):
        u = self.solve(points)
        later, earlier = self.solve(points + IN_T), self.solve(points - IN_T)
        right, left = self.solve(points + IN_X), self.solve(points - IN_X)
        u_t = (later - earlier) / (2 * IN_T[0, 1])
        u_xx = (right - 2 * u + left) / IN_X[0, 0] ** 2
        return u_t - 1e-4 * u_xx + 5 * u**3 - 5 * u


def reference(places=512, steps=10_000, every=500):
    """The solution: diffusion by Fourier and reaction exactly, in turn."""
    x = np.linspace(-1, 1, places, endpoint=False)
    waves = np.pi * np.fft.fftfreq(places, 1 / places)
    half = np.exp(-1e-4 * waves**2 / steps / 2)
    u, found = start_of(x, np.cos), []
    for step in range(steps + 1):
        if step % every == 0:
            found.append(u)
        u = np.fft.ifft(half * np.fft.fft(u)).real
        u = u / np.sqrt(u**2 + (1 - u**2) * np.exp(-10 / steps))
        u = np.fft.ifft(half * np.fft.fft(u)).real
    t = np.linspace(0, 1, len(found))
    return np.stack(np.meshgrid(x, t), -1).reshape(-1, 2), np.ravel(found)


points = np.random.default_rng(SEED).uniform([-1, 0], 1, (POINTS, 2))
grid, solution = reference()
for name, method in {
    "equal weights": None,
    "residual-based attention": weighting.ResidualBasedAttention(POINTS),
}.items():
    keras.utils.set_random_seed(SEED)
    model = AllenCahn()
    rate = keras.optimizers.schedules.ExponentialDecay(1e-2, 1000, 0.6)
    model.compile(
        keras.optimizers.Adam(rate),
        losskit.LossesContainer("mse", sample_weighting=method),
    )
    start = time.perf_counter()
    model.fit(
        losskit.with_ids(points.astype("float32")),
        np.zeros((POINTS, 1), "float32"),
        epochs=STEPS,
        batch_size=POINTS,
        verbose=0,
    )
    seconds = time.perf_counter() - start
    found = ops.convert_to_numpy(model.solve(grid.astype("float32")))[:, 0]
    error = np.linalg.norm(found - solution) / np.linalg.norm(solution)
    print(f"{name}: relative error of u {error:.4f} in {seconds:.0f} s")
