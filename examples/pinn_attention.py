"""Residual-based attention beside equal weights, for the Helmholtz equation.

`u_xx + u_yy + u = q` on [-1, 1]^2 with `u = 0` on the boundary, where `q` is
such that `u = sin(pi x) sin(4 pi y)`. Each point inside has a weight of its
own, which remembers how large its residual was (Anagnostopoulos et al., CMAME
2024).
"""

import os
import sys
import time

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np

import keras_losskit as losskit
from keras_losskit import layers
from keras_losskit import weighting

EPOCHS = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
SEED = int(sys.argv[2]) if len(sys.argv) > 2 else 0
STEP = 0.01
SHIFTS = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]], "float32") * STEP
POINTS = 1024


def solution(points):
    x, y = np.pi * points[:, :1], np.pi * points[:, 1:]
    return np.sin(x) * np.sin(4 * y)


class Helmholtz(losskit.Model):
    """Gives the left side of the equation inside, and `u` on the boundary."""

    def __init__(self):
        super().__init__()
        self.hidden = [layers.Dense(48, "tanh") for _ in range(3)]
        self.out = layers.Dense(1)

    def solve(self, points):
        for layer in self.hidden:
            points = layer(points)
        return self.out(points)

    def call(self, inputs):
        inside = inputs["inside"]
        u = self.solve(inside)
        around = sum(self.solve(inside + shift) for shift in SHIFTS)
        laplacian = (around - 4.0 * u) / STEP**2
        edge = self.solve(inputs["boundary"])
        return {"residual": laplacian + u, "boundary": edge}


rng = np.random.default_rng(SEED)
inside = rng.uniform(-1, 1, (POINTS, 2)).astype("float32")
boundary = rng.uniform(-1, 1, (POINTS, 2)).astype("float32")
side = rng.integers(2, size=POINTS)
at = np.arange(POINTS), side
boundary[at] = np.sign(boundary[at])
q = (1 - 17 * np.pi**2) * solution(inside)
grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 51)] * 2), -1).reshape(-1, 2)

for name, method in {
    "equal weights": None,
    "residual-based attention": weighting.ResidualBasedAttention(
        POINTS, terms="residual"
    ),
}.items():
    keras.utils.set_random_seed(SEED)
    model = Helmholtz()
    model.compile(
        keras.optimizers.Adam(
            keras.optimizers.schedules.ExponentialDecay(5e-3, 500, 0.8)
        ),
        losskit.LossesContainer(
            {"residual": "mse", "boundary": "mse"},
            loss_weights={"residual": 1.0, "boundary": 100.0},
            sample_weighting=method,
        ),
    )
    start = time.perf_counter()
    history = model.fit(
        losskit.with_ids({"inside": inside, "boundary": boundary}),
        {"residual": q, "boundary": 0 * q},
        epochs=EPOCHS,
        batch_size=POINTS,
        verbose=0,
    ).history
    seconds = time.perf_counter() - start
    found = keras.ops.convert_to_numpy(model.solve(grid.astype("float32")))
    error = np.linalg.norm(found - solution(grid))
    error /= np.linalg.norm(solution(grid))
    print(f"{name}: relative error of u {error:.4f} in {seconds:.0f} s")
