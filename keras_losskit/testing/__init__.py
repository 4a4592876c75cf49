"""A conformance kit: what this package holds its classes to, for yours.

Each function runs a series of checks on one object and raises an
`AssertionError` that says what was expected and what was received. They need no
test runner; under pytest they are called from a test.
"""

from keras_losskit.testing.layers import check_layer
from keras_losskit.testing.losses import check_loss
from keras_losskit.testing.reductions import check_reduction
from keras_losskit.testing.weightings import check_weighting

__all__ = ["check_layer", "check_loss", "check_reduction", "check_weighting"]
