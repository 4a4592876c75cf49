"""Classes that are made in a loop are freed with their last instance."""

import gc
import weakref

import keras
import numpy as np
import pytest
from support.models import ones_dense

import keras_losskit as losskit


def wrapped():
    class Made(keras.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense = ones_dense(1)

        def call(self, x):
            return self.dense(x)

    plain = Made()
    return losskit.wrap(plain), Made


def functional():
    class Made(losskit.Model):
        pass

    inputs = keras.Input((2,))
    return Made(inputs, ones_dense(1)(inputs)), Made


@pytest.mark.parametrize("make", [wrapped, functional])
def test_a_class_is_freed_with_its_last_instance(make):
    model, made = make()
    classes = [weakref.ref(made), weakref.ref(type(model))]
    second = losskit.wrap(model)
    del model, made
    gc.collect()
    # As long as there is an instance, the class is there and can be saved.
    assert type(second) is classes[1]()
    saved = keras.saving.serialize_keras_object(second)
    assert saved["registered_name"].startswith("keras_losskit>") == (
        make is wrapped
    )
    assert second.predict(np.ones((1, 2)), verbose=0) == 2.0
    del second
    keras.utils.clear_session()
    gc.collect()
    assert [reference() for reference in classes] == [None, None]


def test_one_class_is_wrapped_to_one_class():
    model, made = wrapped()
    assert type(losskit.wrap(made())) is type(model)
    name = keras.saving.get_registered_name(type(model))
    assert name == "keras_losskit>Wrapped"
