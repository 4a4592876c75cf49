"""What `fit` logs of outputs without a name: what Keras logs."""

import keras
import numpy as np
import pytest
from support.models import still

import keras_losskit as losskit

X = np.ones((4, 2), "float32")
Y = np.array([[0.0], [1.0], [2.0], [3.0]], "float32")


def packed(a, b, nested):
    return {"o": [a, b]} if nested else [a, b]


def logs(base, losses, nested=False):
    """What a subclassed model with two outputs logs."""

    class Two(base):
        def call(self, x):
            return packed(x[:, :1], 2 * x[:, :1], nested)

    model = Two()
    model.compile(still(), packed(*losses, nested))
    history = model.fit(X, packed(Y, Y, nested), batch_size=4, verbose=0)
    return {key: value for key, (value,) in history.history.items()}


@pytest.mark.parametrize("nested", [False, True])
def test_an_output_without_a_name_is_called_by_its_loss(nested):
    losses = ["mse", keras.losses.Huber(name="h")]
    found = logs(losskit.Model, losses, nested)
    assert found == pytest.approx(logs(keras.Model, losses, nested))
    # errors 1, 0, 1, 2 and 2, 1, 0, 1: 6 / 4 and (1.5 + 0.5 + 0 + 0.5) / 4
    place = "o/" if nested else ""
    assert found == pytest.approx(
        {"loss": 2.125, f"{place}mse_loss": 1.5, f"{place}h_loss": 0.625}
    )


def test_outputs_of_one_loss_are_numbered():
    # Keras logs one `mse_loss`, that of the last.
    assert logs(losskit.Model, ["mse", "mse"]) == pytest.approx(
        {"loss": 3.0, "output_1_loss": 1.5, "output_2_loss": 1.5}
    )


def test_each_of_several_losses_of_an_output_is_called_by_its_name():
    losses = [["mse", "mae"], "log_cosh"]
    found = logs(losskit.Model, losses)
    assert found == pytest.approx(logs(keras.Model, losses))
    assert found.keys() == {"loss", "mse_loss", "mae_loss", "log_cosh_loss"}


def test_a_sum_of_losses_keeps_the_number_of_its_output():
    mse, mae = losskit.losses.get("mse"), losskit.losses.get("mae")
    assert logs(losskit.Model, [mse + mae, "log_cosh"]).keys() == {
        *("loss", "output_1_loss", "output_1_mse_loss", "output_1_mae_loss"),
        "log_cosh_loss",
    }


def test_outputs_that_a_custom_compute_loss_makes_are_called_likewise():
    def logged(base):
        class Split(base):
            def compute_loss(self, x, y, y_pred, sample_weight=None, **kwargs):
                return super().compute_loss(
                    x, y, [y_pred, 2 * y_pred], sample_weight, **kwargs
                )

        inputs = keras.Input((2,))
        model = Split(inputs, inputs[:, :1])
        model.compile(still(), ["mse", "mae"])
        return model.fit(X, [Y, Y], batch_size=4, verbose=0).history

    assert logged(losskit.Model).keys() == logged(keras.Model).keys()
    assert logged(losskit.Model)["mae_loss"] == [1.0]


def test_labels_go_by_number_all_the_same():
    class Two(losskit.Model):
        def call(self, x):
            return [x[:, :1], 2 * x[:, :1]]

    model = Two()
    model.compile(still(), ["mse", "mae"])
    weight = np.array([1.0, 0.0, 0.0, 0.0], "float32")
    history = model.fit(
        *(X, [Y, Y]),
        sample_weight={"output_2": weight},
        batch_size=4,
        verbose=0,
    ).history
    assert history["mse_loss"] == [1.5]
    assert history["mae_loss"] == [0.5]  # (2 + 0 + 0 + 0) / 4
