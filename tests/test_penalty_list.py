"""`model.losses` is a list to everybody else and knows its terms to us."""

import keras
from keras import ops
from support.frameworks import jitted
from support.models import column
from support.models import floats
from support.models import ones_dense

import keras_losskit as losskit


def called_model():
    dense = ones_dense(
        1,
        name="dense",
        kernel_regularizer=keras.regularizers.L2(0.5),
        activity_regularizer=keras.regularizers.L2(0.25),
    )
    model = losskit.Sequential([keras.Input((1,)), dense])
    model(column(2, 2))
    return model


def test_leaves_are_the_scalars_of_the_list():
    losses = called_model().losses
    leaves = keras.tree.flatten(losses)
    assert len(leaves) == len(losses) == 2
    # 0.25 * 2 ** 2, 0.5 * 1 ** 2
    assert floats(leaves) == [1.0, 0.5]


def test_terms_survive_a_mapping():
    losses = called_model().losses
    doubled = keras.tree.map_structure(lambda loss: 2 * loss, losses)
    assert [t.kind for t in doubled.terms] == ["activity", "regularization"]
    assert floats([term.value for term in doubled.terms]) == [2.0, 1.0]


def test_losses_leave_a_compiled_function():
    model = called_model()
    state = [
        [v.value for v in variables]
        for variables in (
            model.trainable_variables,
            model.non_trainable_variables,
        )
    ]

    @jitted
    def losses_of(x):
        return model.stateless_call(*state, x, return_losses=True)[2]

    x = ops.convert_to_tensor(column(2, 2))
    assert floats(list(losses_of(x))) == [1.0, 0.5]


def test_what_is_appended_is_not_lost():
    model = called_model()
    losses = model.losses
    losses.append(ops.convert_to_tensor(4.0))
    container = losskit.LossesContainer()
    # 1 + 0.5 + 4
    terms = container.compute(None, column(0), regularization_losses=losses)
    assert float(terms.total) == 5.5
