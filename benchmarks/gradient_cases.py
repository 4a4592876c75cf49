"""Steps with weights from K gradients, beside plain `fit` and TorchJD."""

import keras

import keras_losskit as losskit
from benchmarks.cases import Case
from benchmarks.cases import heads
from benchmarks.networks import draws
from benchmarks.networks import fitting
from benchmarks.networks import mlp
from benchmarks.networks import training
from keras_losskit import weighting

BATCH_SIZE = 256


def architecture(terms):
    """A 3 x 256 network with an output for each term."""
    return heads(terms) | {"depth": 3, "width": 256}


def epoch(model, steps, terms):
    """An epoch of `steps` steps."""
    data = draws(steps, (32,), architecture(terms)["outputs"], BATCH_SIZE)
    return fitting(model, *data, BATCH_SIZE)


def plain(steps, terms):
    """A builder of an epoch of plain Keras."""
    return training(
        keras.Model, steps, batch_size=BATCH_SIZE, **architecture(terms)
    )


def weighed(steps, terms, **options):
    """A builder of an epoch of `PCGrad`; `options` are those it takes."""

    def build():
        shape = architecture(terms)
        model = mlp(losskit.Model, **shape)
        container = losskit.LossesContainer(
            dict.fromkeys(shape["outputs"], "mse"),
            weighting=weighting.PCGrad(seed=0, **options),
        )
        model.compile("adam", loss=container)
        return epoch(model, steps, terms)

    return build


def by_torchjd(steps, terms):
    """A builder of an epoch with TorchJD, the same update and the same logs."""

    def build():
        import torch
        from torchjd.aggregation import PCGrad
        from torchjd.autojac import backward
        from torchjd.autojac import jac_to_grad

        class Model(keras.Model):
            aggregator = PCGrad()

            def train_step(self, data):
                x, y = data
                y_pred = self(x, training=True)
                losses = [
                    keras.losses.mean_squared_error(y[name], y_pred[name])
                    for name in y
                ]
                losses = [loss.mean() for loss in losses]
                variables = self.trainable_weights
                parameters = [variable.value for variable in variables]
                self.zero_grad()
                backward(losses, inputs=parameters)
                jac_to_grad(parameters, self.aggregator)
                with torch.no_grad():
                    self.optimizer.apply(
                        [parameter.grad for parameter in parameters], variables
                    )
                for metric, loss in zip(
                    self.means, [sum(losses), *losses], strict=True
                ):
                    metric.update_state(loss.detach(), BATCH_SIZE)
                return {metric.name: metric.result() for metric in self.means}

        shape = architecture(terms)
        model = mlp(Model, **shape)
        model.compile("adam")
        names = ["loss", *(f"{name}_loss" for name in shape["outputs"])]
        model.means = [keras.metrics.Mean(name) for name in names]
        return epoch(model, steps, terms)

    return build


def gradient_cases(steps):
    """The cases for K = 2, 4, 8; the goal is the count of operations.

    A backward pass costs as much as two forward passes, so that a step with K
    of them costs `(1 + 2 K) / 3` of a plain one.
    """
    backends = ("tensorflow", "jax", "torch")
    cases = []
    for terms in (2, 4, 8):
        goal = round((1 + 2 * terms) / 3, 2)
        name = f"{terms} gradient terms"
        contestants = {
            "plain Keras": plain(steps, terms),
            "PCGrad": weighed(steps, terms),
        }
        cases.append(Case(name, contestants, dict.fromkeys(backends, goal)))
        # One backward pass on nine steps of ten.
        contestants = {
            "plain Keras": contestants["plain Keras"],
            "every=10": weighed(steps, terms, every=10),
        }
        goal = round(1 + (goal - 1) / 10, 2)
        cases.append(
            Case(
                f"{name}, every 10 steps",
                contestants,
                dict.fromkeys(backends, goal),
            )
        )
        if keras.config.backend() == "torch":
            contestants = {
                "torchjd": by_torchjd(steps, terms),
                "PCGrad": weighed(steps, terms),
            }
            cases.append(Case(f"{name}, torchjd", contestants, {"torch": 1.0}))
    return cases
