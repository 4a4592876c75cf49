"""`summary`: its rows sum to `loss`, and the model stays as it is."""

import io

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops
from rich.console import Console

import keras_losskit as losskit
from keras_losskit import extra
from keras_losskit import losses
from keras_losskit import schedules
from keras_losskit import weighting

X = np.random.default_rng(0).normal(size=(12, 4)).astype("float32")
DIGIT = np.eye(3, dtype="float32")[np.arange(12) % 3]
PARITY = (np.arange(12.0) % 2)[:, None]
Y = {"digit": DIGIT, "parity": PARITY}
WEIGHTS = np.linspace(0.0, 2.0, 12)


def two_outputs(loss=None, loss_weights=None, model_class=losskit.Model):
    inputs = keras.Input((4,))
    x = layers.Dense(
        6,
        kernel_regularizer="l2",
        activity_regularizer="l1",
        name="features",
    )(inputs)
    x = layers.Dropout(0.5, seed=3)(layers.BatchNormalization(name="norm")(x))
    outputs = {
        "digit": layers.Dense(3, name="digit")(x),
        "parity": layers.Dense(1, name="parity")(x),
    }
    model = model_class(inputs, outputs)
    model.compile("adam", loss or composed(), loss_weights)
    return model


def composed():
    return {
        "digit": 0.7 * losses.CategoricalCrossentropy(True, name="ce")
        + 0.3 * losses.CategoricalFocalCrossentropy(from_logits=True),
        "parity": "mse",
    }


def scheduled():
    return losskit.LossesContainer(
        composed(),
        {"parity": schedules.Linear(0.0, 1.0, epochs=4)},
        regularization=losskit.Penalty(2.0, "mean"),
        activity=losskit.Penalty(schedules.Linear(1.0, 3.0, steps=8)),
    )


def weighed():
    return losskit.LossesContainer(
        composed(), weighting=weighting.Uncertainty()
    )


def extra_terms():
    def mean_square(output):
        return ops.mean(output**2)

    return losskit.LossesContainer(
        composed(),
        extra_terms={
            "flat": extra.FromLayer("features", mean_square, weight=0.1),
            "robust": extra.FGSM(epsilon=0.1, weight=0.5),
        },
    )


def drop_in_layers():
    inputs = keras.Input((4,))
    x = losskit.layers.Dense(
        3,
        kernel_regularizer="l2",
        activity_regularizer="l1",
        activity_reduction="mean_over_elements",
        name="features",
    )(inputs)
    weight = schedules.Linear(0.5, 1.0, epochs=4)
    x = losskit.layers.AddLoss(energy, name="energy", weight=weight)(x)
    return losskit.Model(inputs, losskit.layers.Dense(1)(x))


def energy(x):
    return ops.sum(x**2, axis=-1)


class Adding(losskit.Model):
    """Subclassed, with losses added in `call`, which takes no `training`."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(1, kernel_regularizer="l2")

    def call(self, x):
        self.add_loss(0.1 * ops.mean(ops.square(x)))
        return self.dense(x)


class OwnLoss(Adding):
    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        total = super().compute_loss(x, y, y_pred, sample_weight, training)
        return total + 2.0


class PlainAdding(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(1, kernel_regularizer="l2")

    def call(self, x):
        self.add_loss(0.1 * ops.mean(ops.square(x)))
        return self.dense(x)


def compiled(model):
    model.compile("sgd", "mse")
    return model


MODELS = {
    "functional": lambda: (two_outputs(), Y),
    "schedules": lambda: (two_outputs(scheduled()), Y),
    "weighting": lambda: (two_outputs(weighed()), Y),
    "extra terms": lambda: (two_outputs(extra_terms()), Y),
    "drop-in layers": lambda: (compiled(drop_in_layers()), PARITY),
    "subclassed": lambda: (compiled(Adding()), PARITY),
    "own compute_loss": lambda: (compiled(OwnLoss()), PARITY),
    "plain functional": lambda: (
        two_outputs(
            {"digit": "mse", "parity": "mae"},
            {"digit": 0.5, "parity": 2.0},
            model_class=keras.Model,
        ),
        Y,
    ),
    "plain subclassed": lambda: (compiled(PlainAdding()), PARITY),
    "sequential": lambda: (
        compiled(losskit.Sequential([layers.Dense(1, name="dense")])),
        PARITY,
    ),
}


def table_of(*args):
    return losskit.summary(*args, console=Console(file=io.StringIO()))


def rows(table):
    """`{first cell: {header: cell}}`."""
    columns = {str(c.header): list(c.cells) for c in table.columns}
    cells = zip(*columns.values(), strict=True)
    return {row[0]: dict(zip(columns, row, strict=True)) for row in cells}


def numbers(table):
    """Contributions of the kinds, of the terms, and `loss`."""
    found = {
        name: float(row["contribution"]) for name, row in rows(table).items()
    }
    total = found.pop("loss")
    terms = {n.strip(): v for n, v in found.items() if n.startswith(" ")}
    kinds = {n: v for n, v in found.items() if not n.startswith(" ")}
    return kinds, terms, total


@pytest.mark.parametrize(
    ("trained", "weights"),
    [(False, None), (True, WEIGHTS)],
    ids=["before fit", "after fit, with sample weights"],
)
@pytest.mark.parametrize("name", MODELS)
def test_rows_sum_to_the_loss_of_evaluate(name, trained, weights):
    model, y = MODELS[name]()
    if trained:
        model.fit(X, y, epochs=2, batch_size=4, verbose=0)
    kinds, terms, total = numbers(table_of(model, X, y, weights))
    logs = model.evaluate(
        X, y, sample_weight=weights, batch_size=12, verbose=0, return_dict=True
    )
    # Four decimals are shown: half of the last one, per row.
    assert total == pytest.approx(logs["loss"], abs=1e-4)
    assert sum(terms.values()) == pytest.approx(total, abs=1e-4 * len(terms))
    assert sum(kinds.values()) == pytest.approx(total, abs=1e-4 * len(kinds))
    for kind, value in kinds.items():
        if f"{kind}_loss" in logs:
            assert value == pytest.approx(logs[f"{kind}_loss"], abs=1e-4)


@pytest.mark.parametrize(
    "name",
    ["schedules", "weighting", "extra terms", "own compute_loss"],
)
def test_training_goes_on_as_if_nothing_had_happened(name):
    histories, variables = [], []
    for looking in (False, True):
        keras.utils.set_random_seed(1)
        model, y = MODELS[name]()
        model(X)
        histories.append([])
        for _ in range(2):
            if looking:
                table_of(model)
                table_of(model, X, y, WEIGHTS)
            history = model.fit(X, y, batch_size=4, verbose=0, shuffle=False)
            histories[-1].append(history.history)
        variables.append([ops.convert_to_numpy(v) for v in model.variables])
    for without, with_summary in zip(*histories, strict=True):
        assert with_summary == without
    for without, with_summary in zip(*variables, strict=True):
        np.testing.assert_array_equal(with_summary, without)


def test_what_the_last_pass_left_stays():
    model = two_outputs()
    model(X[:5])
    model.train_on_batch(X, Y)
    metrics = {m.name: float(m.result()) for m in model.compiled_loss.metrics}
    model(X[:5])
    before = [float(ops.convert_to_numpy(loss)) for loss in model.losses]
    table_of(model, X, Y)
    assert [float(ops.convert_to_numpy(x)) for x in model.losses] == before
    assert metrics == {
        m.name: float(m.result()) for m in model.compiled_loss.metrics
    }


def test_a_row_tells_kind_source_reduction_and_weight():
    found = rows(table_of(two_outputs(scheduled()), X, Y))
    assert list(found) == [
        "compiled",
        "  digit_ce",
        "  digit_categorical_focal_crossentropy",
        "  parity",
        "regularization",
        "  features/kernel",
        "activity",
        "  features/activity",
        "loss",
    ]
    described = {
        name.strip(): (row["from"], row["reduction"], row["weight"])
        for name, row in found.items()
        if name.startswith(" ")
    }
    mean = "sum_over_batch_size"
    assert described == {
        "digit_ce": ("output digit", mean, "0.7000"),
        "digit_categorical_focal_crossentropy": (
            "output digit",
            mean,
            "0.3000",
        ),
        "parity": ("output parity", mean, "0.0000*"),
        "features/kernel": ("variable", "mean", "2.0000"),
        "features/activity": ("layer", "sum", "1.0000*"),
    }


def test_named_losses_and_extra_terms_have_their_names_and_weights():
    found = rows(table_of(drop_in_layers(), X))
    assert found["  energy/energy"]["from"] == "layer"
    assert found["  energy/energy"]["weight"] == "0.5000*"
    found = rows(table_of(two_outputs(extra_terms()), X, Y))
    assert found["  flat"]["weight"] == "0.1000"
    assert found["  robust"]["weight"] == "0.5000"


def test_a_weight_that_moves_is_shown_as_it_is_now():
    model = two_outputs(scheduled())
    model.fit(X, Y, epochs=2, verbose=0)
    # Linear from 0 to 1 in 4 epochs, in the second of them
    assert rows(table_of(model, X, Y))["  parity"]["weight"] == "0.2500*"
    assert rows(table_of(model))["  parity"]["weight"] == "0.2500*"


@pytest.mark.parametrize(
    "name",
    [
        *("functional", "schedules", "sequential", "extra terms"),
        *("drop-in layers", "plain functional"),
    ],
)
def test_without_a_batch_the_same_terms_are_listed(name):
    model, y = MODELS[name]()
    model(X)
    listed = rows(table_of(model))
    with_batch = rows(table_of(model, X, y))
    del with_batch["loss"]
    assert list(listed) == list(with_batch)
    for term, row in listed.items():
        assert row == {key: with_batch[term][key] for key in row}


@pytest.mark.parametrize("trained", [False, True])
def test_what_layers_add_is_listed_without_a_batch(trained):
    model = compiled(drop_in_layers())
    if trained:
        model.fit(X, PARITY, epochs=2, verbose=0)
    found = rows(table_of(model))
    (name,) = [name for name in found if name.endswith("energy/energy")]
    # 0.5 + (1 - 0.5) / 4 in the second epoch
    assert found[name]["weight"] == ("0.6250*" if trained else "0.5000*")
    subclassed = compiled(Adding())
    assert "added" not in rows(table_of(subclassed))
    subclassed.fit(X, PARITY, verbose=0)
    assert "added" in rows(table_of(subclassed))


def test_a_weighting_over_what_layers_add_is_listed():
    model = drop_in_layers()
    method = losskit.weighting.Uncertainty(terms=["mse", "energy"])
    container = losskit.LossesContainer(["mse", "mae"], weighting=method)
    model.compile("sgd", container)
    found = rows(table_of(model))
    moving = {
        n.split("/")[-1].strip()
        for n, row in found.items()
        if row["weight"].endswith("*")
    }
    assert moving == {"mse", "energy"}


def test_reductions_are_those_of_the_terms():
    model = two_outputs(extra_terms())
    found = rows(table_of(model, X, Y))
    extras = {
        name: row["reduction"]
        for name, row in found.items()
        if name.strip() in model.compiled_loss.extra_terms
    }
    assert extras
    for name, reduction in extras.items():
        term = model.compiled_loss.extra_terms[name.strip()]
        assert reduction == term.reduction
    adds = rows(table_of(compiled(drop_in_layers()), X, PARITY))
    (row,) = [r for name, r in adds.items() if name.endswith("energy/energy")]
    assert row["reduction"] == ""


def test_terms_with_a_state_are_reported_in_it():
    model = drop_in_layers()
    terms = {
        "mean": losskit.extra.EMATeacher("mse", momentum=0.5),
        "near": losskit.extra.FromWeights(".*kernel", "l2", from_start=True),
    }
    model.compile("sgd", losskit.LossesContainer("mse", extra_terms=terms))
    # before the first step there is no start to be near to
    found = rows(table_of(model, X, PARITY))
    assert found["  near"]["value"] == "0.0000"
    model.fit(X, PARITY, epochs=2, verbose=0)
    logs = model.evaluate(X, PARITY, verbose=0, return_dict=True)
    _, found, _ = numbers(table_of(model, X, PARITY))
    for name in terms:
        assert logs[f"{name}_loss"] > 0.0
        # a cell has four decimals
        assert found[name] == pytest.approx(logs[f"{name}_loss"], abs=6e-5)
    again = model.evaluate(X, PARITY, verbose=0, return_dict=True)
    assert again == pytest.approx(logs)
    report = losskit.gradient_report(model, X, PARITY)
    norms = dict(zip(report.names, report.norms, strict=True))
    assert norms["mean"] > 0.0 and norms["near"] > 0.0


def test_compiled_losses_of_unknown_outputs_are_announced():
    table = table_of(compiled(Adding()))
    assert "with a batch" in table.caption


def test_an_uncompiled_model_shows_its_penalties():
    inputs = keras.Input((4,))
    x = layers.Dense(2, kernel_regularizer="l2", name="dense")(inputs)
    kinds, terms, total = numbers(table_of(keras.Model(inputs, x), X))
    assert list(terms) == ["dense/kernel"]
    assert total == kinds["regularization"] > 0


def test_shares_are_percentages_of_the_total():
    # 4 + 0.5 * 2 = 5, of which 80 % and 20 %
    model = losskit.Sequential([keras.Input((1,)), layers.Identity()])
    mae = losses.MeanAbsoluteError(name="mae")
    model.compile(loss=losses.MeanSquaredError(name="mse") + 0.5 * mae)
    found = rows(table_of(model, np.full((3, 1), 2.0), np.zeros((3, 1))))
    assert found["  mse"]["share"] == "80.0%"
    assert found["  mae"]["share"] == "20.0%"
    assert found["loss"]["share"] == "100.0%"


def test_a_total_of_zero_has_no_shares():
    model = losskit.Sequential([keras.Input((1,)), layers.Identity()])
    model.compile(loss="mse")
    found = rows(table_of(model, np.zeros((3, 1)), np.zeros((3, 1))))
    assert found["loss"]["contribution"] == "0.0000"
    assert found["loss"]["share"] == ""


def test_a_negative_total_has_no_shares():
    # -(2 ** 2), of which a positive term would be a negative share
    def bonus(y_true, y_pred):
        return -ops.square(y_pred[:, 0])

    model = losskit.Sequential([keras.Input((1,)), layers.Identity()])
    model.compile(loss=losskit.losses.FunctionLoss(bonus, name="bonus"))
    found = rows(table_of(model, np.full((3, 1), 2.0), np.ones((3, 1))))
    assert found["loss"]["contribution"] == "-4.0000"
    assert {row["share"] for row in found.values()} == {""}


def test_the_term_that_is_not_finite_is_seen():
    model = two_outputs({"digit": "mse", "parity": "mae"})
    targets = {"digit": DIGIT, "parity": np.full_like(PARITY, np.nan)}
    found = rows(table_of(model, X, targets))
    assert found["  parity"]["value"] == "nan"
    assert found["  digit"]["value"] != "nan"


def test_a_small_number_keeps_its_digits():
    model = losskit.Sequential([keras.Input((1,)), layers.Identity()])
    model.compile(loss="mse", loss_weights=1e-5)
    found = rows(table_of(model, np.full((1, 1), 2.0), np.zeros((1, 1))))
    assert found["  mse"]["weight"] == "1.00e-05"
    assert found["  mse"]["contribution"] == "4.00e-05"


def test_a_file_holds_whole_lines(tmp_path):
    path = tmp_path / "summary.txt"
    model = two_outputs(scheduled())
    with open(path, "w", encoding="utf-8") as file:
        console = Console(file=file, width=20)
        losskit.summary(model, X, Y, console=console)
        assert console.width == 20
    text = path.read_text(encoding="utf-8")
    assert "\x1b" not in text
    (line,) = [line for line in text.splitlines() if "features/kernel" in line]
    assert line.split()[1:4] == ["variable", "mean", "2.0000"]


def test_missing_labels_are_an_error_that_names_the_outputs():
    with pytest.raises(ValueError, match="digit.*parity"):
        table_of(two_outputs(), X)
