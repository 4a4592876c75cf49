"""Which Keras the tests run on."""

import keras

#: The lowest that the package allows: it lacks some of what later ones have.
IS_KERAS_3_14 = keras.__version__.startswith("3.14.")

#: It has Tversky's weights the right way round, and refuses more.
IS_KERAS_3_16 = tuple(map(int, keras.__version__.split(".")[:2])) >= (3, 16)
