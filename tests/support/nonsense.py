"""Values that most arguments cannot use, and how they are refused."""

import math

import keras
import numpy as np
import pytest

from keras_losskit import extra
from keras_losskit import reductions
from keras_losskit import schedules

NONSENSE = {
    "None": None,
    "True": True,
    "zero": 0,
    "minus one": -1,
    "minus a half": -0.5,
    "a half": 0.5,
    "NaN": math.nan,
    "infinity": math.inf,
    "1e40": 1e40,
    "a complex number": 1j,
    "no characters": "",
    "a word": "nonsense",
    "half a pattern": "(",
    "bytes": b"x",
    "an empty list": [],
    "a list": [None],
    "an empty dict": {},
    "a dict": {"nonsense": None},
    "a set": {1.0},
    "an object": object(),
    "a class": dict,
    "a function of nothing": lambda: 1.0,
    "a vector": np.ones((2,), "float32"),
    "a schedule": schedules.Linear(0.0, 1.0, epochs=2),
    "a reduction": reductions.TopK(k=1),
    "a term": extra.FGSM(epsilon=0.1),
    "a layer": keras.layers.Dense(1, name="nonsense"),
}

NUMBERS = {"zero", "minus one", "minus a half", "a half"}


def refusal(constructor, arguments):
    """What a constructor says of these arguments; None where it takes them."""
    try:
        constructor(**arguments)
    except ImportError:
        pytest.skip("needs a package that is optional")
    except (TypeError, ValueError) as error:
        return str(error)
    return None


def in_words_of_the_user(message):
    return "xpected" in message and "Received" in message
