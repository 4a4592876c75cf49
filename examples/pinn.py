"""A physics-informed network: `u'' = -u` on [0, 2], `u(0) = 0`, `u'(0) = 1`.

No labels: the loss is a residual term and a boundary term, each named. The
solution is `sin(x)`. The derivatives of the network are central differences, so
that the same code runs on every backend.
"""

import os
import sys

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np
from keras import ops

import keras_losskit as losskit
from keras_losskit import layers

EPOCHS = int(sys.argv[1]) if len(sys.argv) > 1 else 150
STEP = 0.05
keras.utils.set_random_seed(0)


class Solution(losskit.Model):
    """The network, which adds what is wrong with it to the loss."""

    def __init__(self):
        super().__init__()
        self.hidden = layers.Dense(32, "tanh")
        self.deeper = layers.Dense(32, "tanh")
        self.out = layers.Dense(1)

    def solve(self, x):
        return self.out(self.deeper(self.hidden(x)))

    def call(self, x):
        left, u, right = (self.solve(x + d) for d in (-STEP, 0.0, STEP))
        curvature = (left - 2.0 * u + right) / STEP**2
        self.add_loss((curvature + u) ** 2, name="residual")
        left, u_0, right = (
            self.solve(ops.full((1, 1), d)) for d in (-STEP, 0.0, STEP)
        )
        slope = (right - left) / (2.0 * STEP)
        boundary = u_0**2 + (slope - 1.0) ** 2
        self.add_loss(boundary, name="boundary", weight=10.0)
        return u


x = np.linspace(0, 2, 256, dtype="float32")[:, None]
model = Solution()
model.compile(keras.optimizers.Adam(5e-3))
history = model.fit(x, epochs=EPOCHS, batch_size=64, verbose=0).history
for epoch in sorted({0, EPOCHS // 2, EPOCHS - 1}):
    print(
        f"epoch {epoch:3d}: loss {history['loss'][epoch]:.5f}, "
        f"residual {history['residual_loss'][epoch]:.5f}, "
        f"boundary {history['boundary_loss'][epoch]:.5f}"
    )
error = np.abs(model.predict(x, verbose=0) - np.sin(x)).max()
print(f"largest error against sin(x): {error:.4f}")
