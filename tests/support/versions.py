"""Which Keras the tests run on."""

import keras

#: The lowest that the package allows: it lacks some of what later ones have.
IS_KERAS_3_14 = keras.__version__.startswith("3.14.")
