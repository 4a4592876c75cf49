"""Bad input: refused before training starts, by name, and without a trace.

Every error names the place, says "Expected ... Received: ..." and leaves a
model that trains as soon as what was wrong is put right.
"""

import inspect

import keras
import numpy as np
import pytest
from keras import ops
from support.models import Listed
from support.models import column
from support.models import fit_logs
from support.models import ones_dense
from support.models import passing
from support.models import still

import keras_losskit as losskit

X = column(3, 3)
ZERO = column(0, 0)


def vector_of_five(y_true, y_pred):
    return ops.ones((5,)) * ops.mean(y_pred)


TOP_OF_FIVE = losskit.losses.FunctionLoss(
    vector_of_five, losskit.reductions.TopK(k=1)
)


def nothing(y_true, y_pred):
    return None


def integers(y_true, y_pred):
    return ops.cast(y_pred, "int32")


def two_outputs(**kwargs):
    return passing(outputs=("a", "b"), **kwargs)


def named(name):
    return keras.losses.MeanSquaredError(name=name)


# (arguments of compile, labels, what the error says besides)
BAD = {
    "unknown output in a dict of losses": (
        {"loss": {"a": "mse", "c": "mse"}},
        {"a": ZERO, "b": ZERO},
        ["'c'", "'a', 'b'"],
    ),
    "unknown output in a dict of weights": (
        {"loss": "mse", "loss_weights": {"c": 1.0}},
        [ZERO, ZERO],
        ["'c'", "loss_weights"],
    ),
    "too many losses": (
        {"loss": ["mse", "mse", "mse"]},
        [ZERO, ZERO],
        ["loss", "'a', 'b'"],
    ),
    "too many weights": (
        {"loss": ["mse", "mse"], "loss_weights": [1.0, 2.0, 3.0]},
        [ZERO, ZERO],
        ["loss_weights", "3"],
    ),
    "nested losses over flat outputs": (
        {"loss": {"a": {"deep": "mse"}}},
        {"a": ZERO, "b": ZERO},
        ["deep"],
    ),
    "no loss of that name": (
        {"loss": {"a": "no_such_loss"}},
        {"a": ZERO, "b": ZERO},
        ["no_such_loss"],
    ),
    "a number for a loss": ({"loss": [3, "mse"]}, [ZERO, ZERO], ["3"]),
    "a weight that is no number": (
        {"loss": "mse", "loss_weights": ["heavy", 1.0]},
        [ZERO, ZERO],
        ["'heavy'", "'a'"],
    ),
    "a weight that is not finite": (
        {"loss": "mse", "loss_weights": [float("nan"), 1.0]},
        [ZERO, ZERO],
        ["nan", "'a'"],
    ),
    "labels in another structure": (
        {"loss": "mse"},
        {"a": ZERO, "c": ZERO},
        ["y_true", "'c'"],
    ),
    "too many labels": ({"loss": "mse"}, [ZERO] * 3, ["y_true"]),
    "two terms of one name": (
        {"loss": {"a": [named("same"), named("same")]}},
        {"a": ZERO, "b": ZERO},
        ["'same'", "'a'", "name="],
    ),
    "a reduction that needs samples": (
        {"loss": {"b": TOP_OF_FIVE}},
        {"a": ZERO, "b": ZERO},
        ["vector_of_five", "(5,)", "TopK"],
    ),
    "a loss that returns nothing": (
        {"loss": {"b": nothing}},
        {"a": ZERO, "b": ZERO},
        ["nothing", "None"],
    ),
    "a loss that returns integers": (
        {"loss": {"b": integers}},
        {"a": ZERO, "b": ZERO},
        ["integers", "int32"],
    ),
    "a loss that is not reduced": (
        {"loss": {"b": keras.losses.MeanSquaredError(None, name="squares")}},
        {"a": ZERO, "b": ZERO},
        ["reduction", "b"],
    ),
    "no loss at all": ({}, [ZERO, ZERO], ["loss", "compile"]),
    "weights beside a container": (
        {
            "loss": losskit.LossesContainer("mse"),
            "loss_weights": [1.0, 2.0],
        },
        [ZERO, ZERO],
        ["loss_weights", "container"],
    ),
    "a penalty group that matches nothing": (
        {
            "loss": losskit.LossesContainer(
                "mse",
                regularization=losskit.Penalty(groups={"g": ("zz/.*", 0.5)}),
            )
        },
        [ZERO, ZERO],
        ["'g'", "zz/.*"],
    ),
}


class Batches(keras.callbacks.Callback):
    """Counts the batches that were begun."""

    count = 0

    def on_train_batch_begin(self, batch, logs=None):
        self.count += 1


@pytest.mark.parametrize("case", BAD)
def test_refused_before_training_and_usable_afterwards(case):
    arguments, y, mentioned = BAD[case]
    model = two_outputs(kernel_regularizer="l2" if "group" in case else None)
    before = [ops.convert_to_numpy(v).copy() for v in model.variables]
    batches = Batches()
    with pytest.raises((ValueError, TypeError)) as caught:
        model.compile("sgd", **arguments)
        model.fit(X, y, verbose=0, callbacks=[batches])
    message = str(caught.value)
    assert "xpected" in message and "Received" in message, message
    assert [word for word in mentioned if word not in message] == [], message
    assert batches.count == 0
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(variable), value)
    model.compile(still(), {"a": "mse", "b": "mse"})
    logs = fit_logs(model, X, {"a": ZERO, "b": ZERO})
    assert (logs["a_loss"], logs["b_loss"]) == (9.0, 9.0)


def test_missing_labels_are_refused_by_output():
    model = two_outputs()
    model.compile(still(), {"a": "mse", "b": "mse"})
    with pytest.raises(ValueError, match="Expected.*'a', 'b'.*Received"):
        model.fit(X, verbose=0)
    assert fit_logs(model, X, {"a": ZERO, "b": ZERO})["loss"] == 18.0


def test_wrong_loss_of_a_subclassed_model_names_its_path():
    model = Listed(2)
    model.compile(still(), ["mse", "mse", "mse"])
    with pytest.raises(ValueError, match=r"\(2,\).*Expected.*Received"):
        model.fit(X, [ZERO, ZERO], verbose=0)
    model.compile(still(), ["mse", "mse"])
    assert fit_logs(model, X, [ZERO, ZERO])["loss"] == 18.0


def test_term_that_bears_an_outputs_key_is_refused_or_renamed():
    # `a_b_loss` is the loss `b` of output `a` and the loss of output `a_b`.
    model = passing(outputs=("a", "a_b"))
    model.compile(still(), {"a": [named("b"), "mae"], "a_b": "mse"})
    logs = fit_logs(model, X, {"a": ZERO, "a_b": column(1, 1)})
    # 9 and 3; the error of a_b is 2
    assert logs["loss"] == 16.0
    assert logs["a_b_loss"] == 4.0
    assert sorted(
        value for key, value in logs.items() if key.startswith("a_b_")
    ) == [4.0, 9.0]


def test_structured_container_in_a_plain_model_is_refused():
    losses, y = {"a": "mse", "b": "mae"}, {"a": ZERO, "b": ZERO}
    inputs = keras.Input((1,))
    outputs = {name: ones_dense(1, name=name)(inputs) for name in ("a", "b")}
    model = keras.Model(inputs, outputs)
    model.compile(still(), losskit.LossesContainer(losses))
    with pytest.raises(ValueError) as caught:
        model.fit(X, y, verbose=0)
    message = str(caught.value)
    assert "keras_losskit.Model" in message
    assert "wrap(model)" in message
    wrapped = losskit.wrap(model)
    wrapped.compile(still(), losskit.LossesContainer(losses))
    assert fit_logs(wrapped, X, y)["loss"] == 12.0


def test_container_of_one_loss_trains_a_plain_model():
    inputs = keras.Input((1,))
    model = keras.Model(inputs, ones_dense(1)(inputs))
    model.compile(still(), losskit.LossesContainer("mse"))
    assert fit_logs(model, X, ZERO) == {"loss": 9.0}


@pytest.mark.parametrize(
    "arguments",
    [
        {"loss_weights": losskit.schedules.Linear(0.0, 1.0, steps=2)},
        {"loss_weights": keras.Variable(2.0)},
        {"weighting": losskit.weighting.SoftAdapt()},
        {"weighting": losskit.weighting.Uncertainty()},
    ],
    ids=["schedule", "variable", "values", "learned"],
)
@pytest.mark.parametrize("eager", [False, True])
def test_a_container_that_moves_is_refused_by_a_plain_model(arguments, eager):
    inputs = keras.Input((1,))
    model = keras.Model(inputs, ones_dense(1)(inputs))
    container = losskit.LossesContainer("mse", **arguments)
    for _ in range(2):
        model.compile(still(), container, run_eagerly=eager)
        with pytest.raises(ValueError, match=r"nothing moves.*wrap\(model\)"):
            model.fit(X, ZERO, verbose=0)
    wrapped = losskit.wrap(model)
    wrapped.compile(still(), container)
    assert np.isfinite(fit_logs(wrapped, X, ZERO)["loss"])


def test_an_extra_term_of_the_name_of_a_loss_is_refused():
    model = passing(outputs=("a",))
    term = losskit.extra.FromWeights(".*kernel", "l2")
    model.compile(
        still(), losskit.LossesContainer("mse", extra_terms={"mse": term})
    )
    with pytest.raises(ValueError, match=r"Received twice: \['mse'\]"):
        model.fit(X, ZERO, verbose=0)
    container = losskit.LossesContainer("mse", extra_terms={"mse": term})
    with pytest.raises(ValueError, match=r"Received twice: \['mse'\]"):
        container.compute(ZERO, X)


@pytest.mark.skipif(keras.config.backend() != "jax", reason="jax.jit")
def test_effects_inside_a_bare_transformation_are_refused():
    import jax

    container = losskit.LossesContainer("mse")
    with pytest.raises(RuntimeError, match="Expected.*Received.*compute"):
        jax.jit(container)(ZERO, X)
    with pytest.raises(RuntimeError, match="Expected.*Received.*compute"):
        jax.grad(lambda y_pred: container(ZERO, y_pred))(X)
    assert float(container(ZERO, X)) == 9.0
    assert [float(metric.result()) for metric in container.metrics] == [9.0]


@pytest.mark.parametrize(
    "arguments",
    [{"log": "everything"}, {"activity": 0.5}, {"regularization": "l2"}],
)
def test_wrong_settings_of_a_container_are_refused(arguments):
    with pytest.raises(ValueError, match="Expected.*Received"):
        losskit.LossesContainer("mse", **arguments)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"reduction": "median"}, ValueError),
        ({"weight": "heavy"}, TypeError),
        ({"groups": {"g": ("(", 1.0)}}, ValueError),
        ({"groups": {"g": "dense"}}, ValueError),
    ],
)
def test_wrong_settings_of_a_penalty_are_refused(arguments, error):
    with pytest.raises(error, match="Expected.*Received"):
        losskit.Penalty(**arguments)


def test_overlapping_groups_are_refused_with_the_path():
    model = passing(kernel_regularizer="l2")
    penalty = losskit.Penalty(
        groups={"one": ("out/.*", 1.0), "two": (".*kernel", 1.0)}
    )
    model.compile(
        still(), losskit.LossesContainer("mse", regularization=penalty)
    )
    with pytest.raises(ValueError, match="Expected.*out/kernel.*Received.*two"):
        model.fit(X, ZERO, verbose=0)


def test_config_of_a_later_version_is_refused_by_name():
    config = losskit.LossesContainer("mse").get_config() | {"version": 99}
    with pytest.raises(ValueError, match="Expected.*Received: version=99"):
        losskit.LossesContainer.from_config(config)


def test_looking_at_the_data_first_costs_no_batch_of_a_generator():
    model = passing()
    model.compile(still(), "mse")
    batches = ((column(value), column(0)) for value in (1, 2, 3))
    logs = model.fit(batches, verbose=0).history
    assert logs["loss"] == [pytest.approx((1 + 4 + 9) / 3)]


@pytest.mark.parametrize("eager", [True, False])
def test_an_error_of_shapes_names_term_and_output(eager):
    inputs = keras.Input((3,))
    outputs = {
        name: keras.layers.Dense(units, name=name)(inputs)
        for name, units in (("a", 3), ("b", 1))
    }
    model = losskit.Model(inputs, outputs)
    model.compile("sgd", {"a": "mse", "b": "mae"}, run_eagerly=eager)
    y = {"a": np.ones((4, 2)), "b": np.ones((4, 1))}
    with pytest.raises(Exception) as caught:  # each backend has its own
        model.fit(np.ones((4, 3)), y, verbose=0)
    (note,) = [n for n in caught.value.__notes__ if "While computing" in n]
    assert note == (
        "While computing 'a' of output 'a' from labels of shape (4, 2) and "
        "predictions of shape (4, 3)."
    )


def test_class_weight_of_several_outputs_names_the_reduction_for_it():
    model = two_outputs()
    model.compile(still(), "mse")
    with pytest.raises(ValueError, match="Expected.*Received.*ClassWeighted"):
        model.fit(X, [ZERO, ZERO], class_weight={0: 2.0}, verbose=0)


@pytest.mark.parametrize(
    "cls",
    [
        losskit.schedules.Linear,
        losskit.schedules.Exponential,
        losskit.extra.FGSM,
        losskit.extra.PGD,
        losskit.weighting.MGDA,
        losskit.weighting.PCGrad,
        losskit.weighting.Uncertainty,
    ],
    ids=lambda cls: cls.__name__,
)
def test_a_misspelt_argument_is_told_of_the_class_that_was_called(cls):
    needed = {
        p.name: 1.0
        for p in inspect.signature(cls).parameters.values()
        if p.default is p.empty and p.kind is not p.VAR_KEYWORD
    }
    with pytest.raises(
        TypeError, match=rf"^{cls.__name__}\.__init__\(\).*typo"
    ):
        cls(**needed, typo=2)
    if needed:
        name = next(iter(needed))
        with pytest.raises(
            TypeError, match=rf"^{cls.__name__}\.__init__\(\).*{name}"
        ):
            cls()


@pytest.mark.parametrize("labels", [[ZERO, ZERO], {"a": ZERO, "b": ZERO}])
@pytest.mark.parametrize(
    "way", ["fit", "evaluate", "train_on_batch", "generator", "validation"]
)
def test_a_misspelt_sample_weight_is_named_beside_the_outputs(labels, way):
    model = two_outputs()
    model.compile(still(), "mse")
    weights = {"a": np.ones(2), "typo": np.ones(2)}
    if isinstance(labels, list) and way == "generator":
        labels = tuple(labels)  # TensorFlow reads no lists from a generator
    calls = {
        "fit": lambda: model.fit(X, labels, sample_weight=weights, verbose=0),
        "evaluate": lambda: model.evaluate(
            X, labels, sample_weight=weights, verbose=0
        ),
        "train_on_batch": lambda: model.train_on_batch(
            X, labels, sample_weight=weights
        ),
        "generator": lambda: model.fit(
            (batch for batch in [(X, labels, weights)]), verbose=0
        ),
        "validation": lambda: model.fit(
            X, labels, validation_data=(X, labels, weights), verbose=0
        ),
    }
    with pytest.raises(
        ValueError,
        match=r"Expected keys \['a', 'b'\] in sample_weight dict.*\['typo'\]",
    ):
        calls[way]()
