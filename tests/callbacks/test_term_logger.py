"""`TermLogger`: what a tracker is handed, and when."""

import keras
import pytest
from support.callback_models import Several
from support.callback_models import compiled_model
from support.callback_models import fit
from support.callback_models import with_metric

from keras_losskit.callbacks import TermHistory
from keras_losskit.callbacks import TermLogger

pytestmark = pytest.mark.nightly("jax", "tensorflow")


class Store:
    """A tracker that takes no step twice or backwards, as `wandb` does."""

    def __init__(self):
        self.rows = {}

    def log(self, values, step):
        assert not self.rows or step >= max(self.rows)
        assert all(type(value) is float for value in values.values())
        self.rows.setdefault(step, {}).update(values)


def test_epochs_are_those_of_the_history():
    store = Store()
    history = fit(compiled_model(), [TermLogger(store.log)]).history
    assert list(store.rows) == [0, 1, 2]
    for epoch, row in store.rows.items():
        assert row == {key: values[epoch] for key, values in history.items()}
    assert "val_regularization_loss" in store.rows[0]


def test_batches_stand_at_their_steps():
    store, terms = Store(), TermHistory(batches=True)
    callbacks = [TermLogger(store.log, every=2), terms]
    history = fit(compiled_model(), callbacks, epochs=2, batch_size=2).history
    # four batches in an epoch: means of two, at the step of the second
    assert list(store.rows) == [1, 3, 5, 7]
    values = [row["a_loss"] for row in terms.batches]
    for step, row in store.rows.items():
        mean = (values[step - 1] + values[step]) / 2
        assert row["batch/a_loss"] == pytest.approx(mean, rel=1e-5)
    assert store.rows[3]["loss"] == history["loss"][0]
    assert store.rows[7]["val_b_loss"] == history["val_b_loss"][1]


@pytest.mark.parametrize("validation", [False, True])
@pytest.mark.parametrize(("every", "steps"), [(3, [2, 3, 6, 7]), (9, [3, 7])])
def test_batches_that_are_left_are_logged_at_the_end_of_an_epoch(
    every, steps, validation
):
    store, terms = Store(), TermHistory(batches=True)
    callbacks = [TermLogger(store.log, every=every), terms]
    more = {} if validation else {"validation_data": None}
    fit(compiled_model(), callbacks, epochs=2, batch_size=2, **more)
    values = [row["a_loss"] for row in terms.batches]
    assert list(store.rows) == steps
    first = 0
    for step, row in store.rows.items():
        mean = sum(values[first : step + 1]) / (step + 1 - first)
        assert row["batch/a_loss"] == pytest.approx(mean, rel=1e-5)
        first = step + 1


def test_a_resumed_run_goes_on_at_its_step():
    store, model = Store(), compiled_model()
    fit(model, [TermLogger(store.log, every=1)], epochs=1)
    fit(model, [TermLogger(store.log, every=1)], epochs=2, initial_epoch=1)
    assert list(store.rows) == [0, 1, 2, 3]


def test_a_metric_of_several_values_is_left_out():
    store = Store()
    fit(with_metric(Several(name="m")), [TermLogger(store.log)])
    assert not any("a_m" in key for row in store.rows.values() for key in row)
    assert "a_loss" in store.rows[2]


def test_what_cannot_be_used_is_refused():
    with pytest.raises(TypeError, match="`log` of TermLogger"):
        TermLogger("wandb")
    with pytest.raises(ValueError, match="`every` of TermLogger"):
        TermLogger(print, every=0)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    logger = TermLogger(print)
    logger.set_model(model)
    with pytest.raises(ValueError, match="a model that logs its terms"):
        logger.on_train_begin()
