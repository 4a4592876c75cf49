"""Jacobians of every shape and scale, and what is asked of their updates."""

import keras
import numpy as np
from hypothesis import strategies as st
from keras import ops

from keras_losskit.weighting import Weighting

# On JAX, float64 is float32 unless the process was started otherwise.
DTYPES = ["float32", "float64"]
# JAX also compiles every operation anew for every number of terms.
TERMS = [2, 3, 4, 5, 6, 7, 8]
if keras.config.backend() == "jax":
    DTYPES = ["float32"]
    TERMS = [2, 3, 8]
# Rounding of a Gramian, and its square root: of what cancels in it.
TOLERANCE = {"float32": 1e-3, "float64": 1e-6}


class Case:
    """A Jacobian, the update that a method makes of it, and their rounding."""

    def __init__(self, jacobian, dtype="float32"):
        self.jacobian = np.asarray(jacobian, "float64")
        self.dtype = dtype
        self.terms = len(self.jacobian)
        self.norms = np.linalg.norm(self.jacobian, axis=1)
        self.gramian = self.jacobian @ self.jacobian.T
        self.tolerance = TOLERANCE[dtype]

    def weights(self, method, **more):
        if getattr(method, "takes_values", False):
            more.setdefault("values", ops.ones(self.terms))
        if isinstance(method, Weighting):
            more.setdefault("training", True)
        weights = method(ops.array(self.gramian, self.dtype), **more)
        return ops.convert_to_numpy(weights).astype("float64")

    def update(self, method, **more):
        return self.weights(method, **more) @ self.jacobian

    def projections(self, update):
        """Components of an update along the gradients that are not zero."""
        some = self.norms > 0
        return (self.jacobian @ update)[some] / self.norms[some]

    def size(self, weights):
        """What the rounding of an update is relative to."""
        return np.abs(weights) @ self.norms


SHAPES = ["random", "parallel", "opposite", "aligned", "zero", "singular"]


@st.composite
def cases(draw, shapes=SHAPES, scales=(0.0, 1e-12, 1e-6, 1.0, 1e6, 1e12)):
    terms = draw(st.sampled_from(TERMS))
    shape = draw(st.sampled_from(shapes))
    random = np.random.default_rng(draw(st.integers(0, 2**31)))
    width = int(random.integers(terms, 2 * terms + 1))
    jacobian = random.normal(size=(terms, width))
    if shape == "parallel":
        jacobian[1] = 3.0 * jacobian[0]
    elif shape == "opposite":
        jacobian[1] = -3.0 * jacobian[0]
    elif shape == "aligned":
        jacobian = np.abs(jacobian)
    elif shape == "zero":
        jacobian[0] = 0.0
    elif shape == "singular":
        jacobian = jacobian[:, : max(1, terms // 2)]
    scale = draw(st.sampled_from(scales))
    return Case(scale * jacobian, draw(st.sampled_from(DTYPES)))
