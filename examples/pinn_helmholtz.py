"""A physics-informed network for the Helmholtz equation, fixed or balanced.

`u_xx + u_yy + u = q` on [-1, 1]^2 with `u = 0` on the boundary, where `q` is
such that `u = sin(pi x) sin(2 pi y)`. The residual holds second derivatives, so
that its gradient is far larger than that of the boundary, which equal weights
then neglect. `LearningRateAnnealing` brings the boundary's gradient to the norm
of the residual's. The derivatives are central differences, so that the same
code runs on every backend.
"""

import os
import sys

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np

import keras_losskit as losskit
from keras_losskit import layers
from keras_losskit import weighting

EPOCHS = int(sys.argv[1]) if len(sys.argv) > 1 else 60
STEP = 0.02
SHIFTS = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]], "float32") * STEP


def solution(points):
    x, y = np.pi * points[:, :1], np.pi * points[:, 1:]
    return np.sin(x) * np.sin(2 * y)


class Helmholtz(losskit.Model):
    """Gives the left side of the equation inside, and `u` on the boundary."""

    def __init__(self):
        super().__init__()
        self.hidden = [layers.Dense(32, "tanh") for _ in range(3)]
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


rng = np.random.default_rng(0)
inside = rng.uniform(-1, 1, (2000, 2)).astype("float32")
boundary = rng.uniform(-1, 1, (2000, 2)).astype("float32")
side = rng.integers(2, size=2000)
boundary[np.arange(2000), side] = np.sign(boundary[np.arange(2000), side])
q = (1 - 5 * np.pi**2) * solution(inside)
grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 41)] * 2), -1).reshape(-1, 2)

for name, method in {
    "equal weights": None,
    "LearningRateAnnealing": weighting.LearningRateAnnealing(
        reference=1,  # the residual: terms are in order of their names
        every=5,
    ),
}.items():
    keras.utils.set_random_seed(0)
    model = Helmholtz()
    model.compile(
        keras.optimizers.Adam(3e-3),
        loss=losskit.LossesContainer(
            {"residual": "mse", "boundary": "mse"}, weighting=method
        ),
    )
    history = model.fit(
        {"inside": inside, "boundary": boundary},
        {"residual": q, "boundary": 0 * q},
        epochs=EPOCHS,
        batch_size=100,
        verbose=0,
    ).history
    found = keras.ops.convert_to_numpy(model.solve(grid.astype("float32")))
    error = np.linalg.norm(found - solution(grid))
    error /= np.linalg.norm(solution(grid))
    weight = history.get("boundary_weight", [1.0])[-1]
    print(
        f"{name}: residual {history['residual_loss'][-1]:.3f}, boundary "
        f"{history['boundary_loss'][-1]:.5f} with weight {weight:.1f}, "
        f"relative error of u {error:.3f}"
    )
