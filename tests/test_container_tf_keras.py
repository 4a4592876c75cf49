"""`LossesContainer` by itself, as tf.keras had it.

Values and names are those of tf-keras 2.21's class of that name; where it is
installed, on the TensorFlow leg, random structures are put to both.
"""

import importlib.util

import hypothesis
import keras
import numpy as np
import pytest
from hypothesis import strategies as st
from keras import ops
from keras.src.backend.common.masking import set_keras_mask
from support.models import column
from support.models import floats

import keras_losskit as losskit

BACKEND = keras.config.backend()


def logged(container):
    return {m.name: floats(m.result()) for m in container.metrics}


# Names: `output_1` where there are none, the keys of dicts, counted from 1.


def test_no_metrics_before_the_first_call():
    container = losskit.LossesContainer(["mse", "mae"])
    assert container.metrics == []
    assert not container.built


def test_loss_comes_first_among_the_metrics():
    container = losskit.LossesContainer(["mse", "mae"])
    container([column(0), column(0)], [column(2), column(3)])
    # 2 ** 2 + 3
    assert list(logged(container).items()) == [
        ("loss", 7.0),
        ("output_1_loss", 4.0),
        ("output_2_loss", 3.0),
    ]


def test_single_output_has_the_total_only():
    container = losskit.LossesContainer("mse")
    container(column(0), column(2))
    assert logged(container) == {"loss": 4.0}


def test_dict_outputs_are_named_by_their_keys():
    container = losskit.LossesContainer({"out1": "mse", "out2": "mae"})
    y_true = {"out1": column(0), "out2": column(0)}
    y_pred = {"out1": column(2), "out2": column(3)}
    assert float(container(y_true, y_pred)) == 7.0
    assert logged(container) == {
        "loss": 7.0,
        "out1_loss": 4.0,
        "out2_loss": 3.0,
    }


def test_nested_outputs_are_named_by_their_paths():
    container = losskit.LossesContainer({"b": ["mse", None], "a": "mae"})
    y_true = {"b": [column(0), column(0)], "a": column(0)}
    y_pred = {"b": [column(2), column(9)], "a": column(3)}
    assert float(container(y_true, y_pred)) == 7.0
    assert logged(container) == {"loss": 7.0, "a_loss": 3.0, "b_1_loss": 4.0}


def test_output_names_are_those_that_were_given():
    container = losskit.LossesContainer(
        ["mse", "mae"], output_names=["first", "second"]
    )
    container([column(0), column(0)], [column(2), column(3)])
    assert set(logged(container)) == {"loss", "first_loss", "second_loss"}


# Values.

HALF = np.array([0] * 5 + [1] * 5, "float32")
ONES, ZEROS = np.ones((10, 1), "float32"), np.zeros((10, 1), "float32")


def test_weights_and_sample_weights():
    container = losskit.LossesContainer(["mse", "mae"], [1, 0.5])
    total = container([ONES, ZEROS], [ONES, ONES], HALF)
    # mse 0; mae 1 on the half with weight 1: 0.5, weighted 0.25
    assert float(total) == 0.25
    assert logged(container) == {
        "loss": 0.25,
        "output_1_loss": 0.0,
        "output_2_loss": 0.5,
    }


def test_means_run_over_calls_until_they_are_reset():
    container = losskit.LossesContainer(["mse", "mae"], [1, 0.5])
    container([ONES, ZEROS], [ONES, ONES])
    container([ZEROS[:5], ZEROS[:5]], [ONES[:5], ZEROS[:5]])
    # losses 0.5 of ten samples and 1 of five: (10 * 0.5 + 5 * 1) / 15
    assert logged(container) == pytest.approx(
        {"loss": 2 / 3, "output_1_loss": 1 / 3, "output_2_loss": 2 / 3}
    )
    container.reset_state()
    assert set(logged(container).values()) == {0.0}
    container([ONES, ZEROS], [ONES, ONES])
    assert logged(container)["loss"] == 0.5


ERRORS = np.array([[[0.0], [0.0]], [[1.0], [1.0]]], "float32")
STEP_WEIGHTS = np.array([[0.2, 0.3], [0.5, 0.0]], "float32")


def with_mask(array, mask):
    tensor = ops.convert_to_tensor(array)
    set_keras_mask(tensor, ops.convert_to_tensor(mask))
    return tensor


def test_weights_per_step():
    container = losskit.LossesContainer("mae")
    # (0.5 * 1 + 0 * 1) / 4
    total = container(np.zeros_like(ERRORS), ERRORS, STEP_WEIGHTS)
    assert float(total) == pytest.approx(0.125)


def test_mask_divides_by_the_number_of_valid_steps():
    container = losskit.LossesContainer("mae")
    y_pred = with_mask(ERRORS, np.array([[True, False], [True, False]]))
    # 0.5 * 1 over two valid steps
    total = container(np.zeros_like(ERRORS), y_pred, STEP_WEIGHTS)
    assert float(total) == pytest.approx(0.25)


def test_fully_masked_batch_is_zero():
    container = losskit.LossesContainer("mae")
    y_pred = with_mask(ERRORS, np.zeros((2, 2), bool))
    assert float(container(np.zeros_like(ERRORS), y_pred)) == 0.0


# Structures: in part, by name, one for all, None.

NAMED = {"a": column(0, 0), "b": column(0, 0)}
PREDICTED = {"a": column(2, 2), "b": column(3, 3)}


@pytest.mark.parametrize(
    ("losses", "weights", "y_true", "sample_weight", "expected"),
    [
        ({"a": "mse"}, None, NAMED, None, 4.0),
        ({"a": "mse", "b": None}, None, NAMED, None, 4.0),
        ("mse", None, NAMED, None, 4.0 + 9.0),
        ("mse", {"a": 0.5}, NAMED, None, 2.0 + 9.0),
        ("mse", {"a": 0.5, "b": 2.0}, NAMED, None, 2.0 + 18.0),
        ("mse", None, {"a": NAMED["a"]}, None, 4.0),
        ("mse", None, {"a": NAMED["a"], "b": None}, None, 4.0),
        # half of the samples weigh 1, the others 0
        ("mse", None, NAMED, {"a": column(1, 0)}, 2.0 + 9.0),
        ("mse", None, NAMED, column(1, 0), 2.0 + 4.5),
        ("mse", None, NAMED, {"a": None, "b": column(1, 0)}, 4.0 + 4.5),
    ],
)
def test_structures_in_part(losses, weights, y_true, sample_weight, expected):
    container = losskit.LossesContainer(losses, weights)
    total = container(y_true, PREDICTED, sample_weight)
    assert float(total) == pytest.approx(expected)


def test_dicts_are_laid_over_listed_outputs_by_name():
    container = losskit.LossesContainer(
        {"b": "mae", "a": "mse"}, {"b": 2.0}, output_names=["a", "b"]
    )
    y_pred = list(PREDICTED.values())
    # 4 + 2 * 3
    assert float(container(NAMED, y_pred)) == 10.0


# Dtypes.


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8", "bool"])
def test_integers_reach_the_users_function(dtype):
    if dtype == "int64" and BACKEND == "jax":
        dtype = "int32"  # JAX has no int64 unless it is told to
    seen = []

    def looks(y_true, y_pred):
        seen.append(
            [keras.backend.standardize_dtype(t.dtype) for t in (y_true, y_pred)]
        )
        return ops.mean(y_pred, axis=-1)

    loss = losskit.losses.FunctionLoss(looks, integer_labels=True)
    container = losskit.LossesContainer(loss)
    container(ops.ones((2, 1), dtype=dtype), ops.ones((2, 1)))
    assert seen and all(dtypes == [dtype, "float32"] for dtypes in seen)
    seen.clear()
    # By itself a function gets what Keras gives it.
    container = losskit.LossesContainer(looks)
    container(ops.ones((2, 1), dtype=dtype), ops.ones((2, 1)))
    assert seen and all(dtypes == ["float32"] * 2 for dtypes in seen)


def test_sparse_labels_need_no_last_dimension():
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    logits = np.array([[0.0, 0.0], [0.0, 0.0]], "float32")
    for labels in ([0, 1], [[0], [1]]):
        container = losskit.LossesContainer(loss)
        # log(2) for two equal logits
        total = float(container(np.array(labels), logits))
        assert total == pytest.approx(np.log(2.0), rel=1e-6)


# Penalties.


def test_regularization_losses_are_added():
    container = losskit.LossesContainer("mse")
    penalties = [ops.convert_to_tensor(0.25), ops.convert_to_tensor(0.5)]
    total = container(column(0), column(2), regularization_losses=penalties)
    # 4 + 0.25 + 0.5
    assert float(total) == 4.75
    assert logged(container)["loss"] == 4.75
    assert logged(container)["regularization_loss"] == 0.75


def test_kinds_are_told_apart_by_their_arguments():
    container = losskit.LossesContainer("mse")
    container(
        column(0),
        column(2),
        regularization_losses=[ops.convert_to_tensor(0.25)],
        activity_losses=[ops.convert_to_tensor(0.5)],
        added_losses=[ops.convert_to_tensor(1.0)],
    )
    assert logged(container) == {
        "loss": 5.75,
        "compiled_loss": 4.0,
        "regularization_loss": 0.25,
        "activity_loss": 0.5,
        "added_loss": 1.0,
    }


def test_total_loss_mean_is_the_users():
    mean = keras.metrics.Mean(name="total")
    container = losskit.LossesContainer("mse", total_loss_mean=mean)
    container(column(0), column(2))
    container(column(0, 0, 0), column(0, 0, 0))
    # (1 * 4 + 3 * 0) / 4
    assert float(mean.result()) == 1.0
    assert container.metrics[0] is mean
    container.reset_state()
    assert float(mean.result()) == 0.0


# Against tf_keras itself.


@st.composite
def structures(draw):
    """Losses, weights, labels, predictions and sample weights of one shape."""
    count = draw(st.integers(1, 3))
    names = [f"out{index}" for index in range(count)]
    kind = draw(st.sampled_from(["dict", "list", "nested"]))
    seed = draw(st.integers(0, 2**16))
    rng = np.random.default_rng(seed)

    def tensors(low, high):
        return [
            rng.uniform(low, high, size=(4, 2)).astype("float32")
            for _ in range(count)
        ]

    def packed(leaves):
        if kind == "dict":
            return dict(zip(names, leaves, strict=True))
        if kind == "list":
            return list(leaves)
        return {"x": list(leaves[1:]) or leaves[0], "y": leaves[0]}

    def each(strategy):
        return [draw(strategy) for _ in range(count)]

    losses = each(st.sampled_from(["mse", "mae", None]))
    if all(loss is None for loss in losses) or (
        kind == "nested" and losses[0] is None
    ):
        losses[0] = "mse"
    weights = each(st.sampled_from([0.5, 1.0, 2.0]))
    sample_weight = draw(st.sampled_from(["none", "one", "each"]))
    per_sample = [
        rng.uniform(0, 2, size=(4,)).astype("float32") for _ in range(count)
    ]
    return {
        "losses": draw(st.sampled_from(["mse", packed(losses)])),
        "loss_weights": draw(st.sampled_from([None, packed(weights)])),
        "y_true": packed(tensors(0.1, 0.9)),
        "y_pred": packed(tensors(0.1, 0.9)),
        "sample_weight": {
            "none": None,
            "one": per_sample[0],
            "each": packed(per_sample),
        }[sample_weight],
        "regularization_losses": draw(st.sampled_from([None, [0.25, 0.5]])),
    }


@pytest.mark.skipif(
    BACKEND != "tensorflow" or importlib.util.find_spec("tf_keras") is None,
    reason="tf_keras is a class of TensorFlow's",
)
@hypothesis.settings(max_examples=100)
@hypothesis.given(structures())
def test_random_structures_give_what_tf_keras_gives(case):
    from tf_keras.src.engine.compile_utils import LossesContainer

    case = dict(case)
    data = [
        keras.tree.map_structure(ops.convert_to_tensor, case.pop(name))
        if case[name] is not None
        else case.pop(name)
        for name in (
            "y_true",
            "y_pred",
            "sample_weight",
            "regularization_losses",
        )
    ]
    theirs, ours = LossesContainer(**case), losskit.LossesContainer(**case)
    for _ in range(2):
        expected = float(theirs(*data))
        assert float(ours(*data)) == pytest.approx(expected, rel=1e-5)
    named = logged(ours)
    metrics = theirs.metrics
    if len(metrics) == 2:
        # Of several outputs one has a loss: as Keras 3, we log `loss` alone.
        metrics = metrics[:1]
    for metric in metrics:
        value = float(metric.result())
        assert named[metric.name] == pytest.approx(value, rel=1e-5)
    assert ours.metrics[0].name == theirs.metrics[0].name == "loss"
