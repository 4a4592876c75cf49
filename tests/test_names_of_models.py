"""What the package's classes add to the names of Keras' classes."""

import keras
import pytest

import keras_losskit as losskit

#: What users call, by class. All else has a prefix of its own, so that neither
#: a user's attribute nor a later Keras can meet it.
PUBLIC = {
    losskit.Model: {
        *("activity_losses", "added_losses", "regularization_losses"),
        *("activity_reduction", "compiled_loss", "log"),
        "seed_state",  # files name it
        "compute_loss_and_updates",  # of Keras' trainer for JAX
    },
    losskit.layers.Dense: {
        *("activity_losses", "added_losses", "regularization_losses"),
        *("activity_reduction", "regularization_reduction", "log"),
    },
}
PUBLIC[losskit.layers.LSTM] = PUBLIC[losskit.layers.Dense]
PUBLIC[losskit.layers.MultiHeadAttention] = PUBLIC[losskit.layers.Dense]
#: Names that Keras looks for.
OF_KERAS = {"_get_jax_state", "_maybe_symbolic_build", "zero_grad"}


@pytest.mark.parametrize(
    ("cls", "base"),
    [
        (losskit.Model, keras.Model),
        (losskit.layers.Dense, keras.layers.Dense),
        (losskit.layers.LSTM, keras.layers.LSTM),
        (losskit.layers.MultiHeadAttention, keras.layers.MultiHeadAttention),
    ],
)
def test_a_name_that_is_not_public_has_the_prefix_of_the_package(cls, base):
    added = {name for name in dir(cls) if not name.startswith("__")}
    added -= set(dir(base))
    internal = {name for name in added if name.startswith("_losskit_")}
    assert internal
    assert added - internal - OF_KERAS <= PUBLIC[cls]


def test_keras_has_no_name_with_the_prefix_of_the_package():
    for cls in (keras.Model, keras.Sequential, keras.layers.RNN):
        assert not [name for name in dir(cls) if "losskit" in name]
