"""`LossTerms`: a mapping that passes through transformations."""

import keras
import pytest
from keras import ops
from support.frameworks import jitted

from keras_losskit import LossesContainer
from keras_losskit import LossTerm
from keras_losskit import LossTerms


def two_terms(value=2.0):
    return LossTerms(
        [
            LossTerm("mse", "compiled", ops.convert_to_tensor(value), 0.5),
            LossTerm("dense/kernel", "regularization", ops.ones(())),
        ]
    )


def test_it_reads_like_a_dict():
    terms = two_terms()
    assert list(terms) == list(terms.keys()) == ["mse", "dense/kernel"]
    assert list(terms.items()) == list(dict(terms).items())
    assert [term.kind for term in terms.values()] == [
        "compiled",
        "regularization",
    ]
    assert "mse" in terms and "mae" not in terms
    assert terms.get("mae") is None
    assert len(terms) == 2


def test_it_is_returned_from_a_compiled_function():
    terms = jitted(two_terms)(4.0)
    assert isinstance(terms, LossTerms)
    assert float(terms.total) == 3.0  # 0.5 * 4 + 1
    kinds = {kind: float(value) for kind, value in terms.by_kind().items()}
    assert kinds == {"compiled": 2.0, "regularization": 1.0}


def test_keras_tree_looks_into_it():
    doubled = keras.tree.map_structure(lambda x: 2 * x, two_terms())
    # values and weights alike: (4 * 1) + (2 * 2)
    assert float(doubled.total) == 8.0


def test_the_total_is_added_up_while_a_tape_listens():
    if keras.config.backend() != "tensorflow":
        pytest.skip("tapes are TensorFlow's")
    import tensorflow as tf

    container = LossesContainer(["mse", "mae"])
    y_pred = tf.Variable([[2.0]])
    with tf.GradientTape() as tape:
        terms = container.compute(tf.zeros((1, 1)), 1.0 * y_pred)
    # 2 * 2 + 1
    (gradient,) = tape.gradient(terms.total, [y_pred])
    assert float(gradient[0, 0]) == 5.0
