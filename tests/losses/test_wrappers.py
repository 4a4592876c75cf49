"""`Masked`, `DeepSupervision`, `Components`."""

import json

import keras
import numpy as np
import pytest
from keras import ops
from keras.src.backend.common.masking import set_keras_mask
from support.autodiff import compiled
from support.autodiff import value_and_gradient

from keras_losskit import losses

RNG = np.random.default_rng(0)


def round_trip(loss):
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(loss)))
    return keras.saving.deserialize_keras_object(config)


def log_softmax(x):
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


class TestMasked:
    labels = np.array([[0, 255, 2], [255, 1, 255]])
    logits = RNG.normal(size=(2, 3, 3)).astype("float32")
    kept = labels != 255

    def want(self, weight=1.0):
        picked = log_softmax(self.logits)[
            np.arange(2)[:, None],
            np.arange(3),
            np.where(self.kept, self.labels, 0),
        ]
        return -(picked * weight)[self.kept].sum() / self.kept.sum()

    @pytest.mark.parametrize("trailing", [False, True])
    def test_leaves_out_pixels(self, trailing):
        loss = losses.Masked(
            losses.SparseCategoricalCrossentropy(from_logits=True),
            ignore_value=255,
        )
        labels = self.labels[..., None] if trailing else self.labels
        got = float(loss(labels, self.logits))
        assert got == pytest.approx(self.want(), rel=1e-5)
        assert loss.parts[0].name == "sparse_categorical_crossentropy"

    def test_with_weights_a_mask_and_a_composite(self):
        ce = losses.SparseCategoricalCrossentropy(from_logits=True, name="ce")
        loss = losses.Masked(0.5 * ce, ignore_value=255)
        assert repr(2 * loss) == "ce"
        weight = np.array([2.0, 3.0])
        got = float(loss(self.labels, self.logits, weight))
        assert got == pytest.approx(0.5 * self.want(weight[:, None]), rel=1e-5)
        y_pred = ops.convert_to_tensor(self.logits)
        set_keras_mask(y_pred, ops.convert_to_tensor(self.kept[::-1] | True))
        assert float(loss(self.labels, y_pred)) == pytest.approx(
            0.5 * self.want(), rel=1e-5
        )
        only_first = np.array([[True] * 3, [False] * 3])
        set_keras_mask(y_pred, ops.convert_to_tensor(only_first))
        picked = -log_softmax(self.logits)[0][[0, 2], [0, 2]].mean()
        assert float(loss(self.labels, y_pred)) == pytest.approx(
            0.5 * picked, rel=1e-5
        )

    def test_rows_and_elements(self):
        y_true = np.array([[1.0, -1.0], [-1.0, -1.0], [4.0, 2.0]], "float32")
        y_pred = np.zeros((3, 2), "float32")
        mse = losses.MeanSquaredError()
        # Only the second row is all -1: (1 + 1 + 16 + 4) / 4
        rows = losses.Masked(mse, ignore_value=-1)
        assert float(rows(y_true, y_pred)) == 5.5
        # Three elements are left: (1 + 16 + 4) / 3
        elements = losses.Masked(mse, ignore_value=-1, elementwise=True)
        assert float(elements(y_true, y_pred)) == 7.0
        # ... times weights by row: (1 + 0.5 * 20) / 3
        got = float(elements(y_true, y_pred, [1.0, 1.0, 0.5]))
        assert got == pytest.approx(11 / 3)

    def test_missing_targets_that_are_nan(self):
        y_true = np.array([[1.0, np.nan], [np.nan, np.nan]], "float32")
        loss = losses.Masked(
            losses.MeanSquaredError(),
            ignore_value=float("nan"),
            elementwise=True,
        )
        value, gradient = value_and_gradient(
            lambda x: loss(y_true, x), [[3.0, 0.0], [0.0, 0.0]]
        )
        assert value == 4.0
        np.testing.assert_array_equal(gradient, [[4.0, 0.0], [0.0, 0.0]])

    def test_nothing_left_gives_zero_and_no_gradient(self):
        loss = losses.Masked(
            losses.SparseCategoricalCrossentropy(from_logits=True),
            ignore_value=255,
        )
        labels = np.full((2, 3), 255)
        value, gradient = value_and_gradient(
            compiled(lambda x: loss(labels, x)), self.logits
        )
        assert value == 0.0
        np.testing.assert_array_equal(gradient, 0.0)

    @pytest.mark.parametrize("from_logits", [False, True])
    @pytest.mark.parametrize("one_hot", [False, True])
    @pytest.mark.parametrize(
        "cls",
        [
            losses.Dice,
            losses.Tversky,
            losses.GeneralizedDice,
            losses.FocalTversky,
            losses.LovaszSoftmax,
        ],
    )
    def test_overlap_of_the_places_that_are_left(
        self, cls, one_hot, from_logits
    ):
        # The same three places of each sample, so that they can be cut out.
        labels = np.array([[0, 255, 2, 1], [1, 255, 0, 0]])
        y_pred = np.random.default_rng(3).normal(size=(2, 4, 3))
        if not from_logits:
            y_pred = np.exp(log_softmax(y_pred))
        y_pred = y_pred.astype("float32")
        y_true = labels
        if one_hot:
            y_true = np.full((2, 4, 3), 255.0, "float32")
            y_true[labels != 255] = np.eye(3)[labels[labels != 255]]
        kept = [0, 2, 3]
        rest = np.eye(3, dtype="float32")[labels[:, kept]]
        loss = cls(from_logits=from_logits)
        want, part = value_and_gradient(
            lambda x: loss(rest, x), y_pred[:, kept]
        )
        masked = losses.Masked(loss, ignore_value=255)
        got, gradient = value_and_gradient(
            compiled(lambda x: masked(y_true, x)), y_pred
        )
        assert got == pytest.approx(want, rel=1e-5)
        np.testing.assert_allclose(gradient[:, kept], part, atol=1e-6)
        np.testing.assert_array_equal(gradient[:, 1], 0.0)

    def test_overlap_beside_a_crossentropy(self):
        ce = losses.SparseCategoricalCrossentropy(from_logits=True, name="ce")
        dice = losses.GeneralizedDice(from_logits=True, name="dice")
        focal = losses.FocalTversky(from_logits=True, name="focal")
        loss = losses.Masked(ce + dice + focal, ignore_value=255)
        got = [float(v) for v in loss.part_values(self.labels, self.logits)]
        alone = [
            float(losses.Masked(each, ignore_value=255)(*pair))
            for each in (ce, dice, focal)
            for pair in [(self.labels, self.logits)]
        ]
        assert got == pytest.approx(alone, rel=1e-5)
        assert got[0] == pytest.approx(self.want(), rel=1e-5)

    def test_samples_without_features(self):
        loss = losses.Masked(losses.MeanSquaredError(), ignore_value=-1)
        assert float(loss([1.0, -1.0], [3.0, 9.0])) == 4.0
        assert float(loss([1.0, -1.0], [3.0, 9.0], [0.5, 1.0])) == 2.0

    def test_one_scalar_for_a_batch_is_refused(self):
        loss = losses.Masked(keras.losses.Dice(), ignore_value=255)
        with pytest.raises(ValueError, match="value per sample or place"):
            loss([[[1.0], [255.0]]], [[[0.9], [0.9]]])

    def test_config(self):
        loss = losses.Masked(
            losses.Huber(delta=3.0), ignore_value=-1, elementwise=True, name="m"
        )
        revived = round_trip(loss)
        assert revived.get_config() == loss.get_config()
        assert revived.loss.delta == 3.0
        assert revived.parts[0].name == "m"


class TestDeepSupervision:
    y_true = np.kron(np.eye(2), np.ones((2, 2)))[None, :, :, None]
    y_pred = [
        RNG.normal(size=(1, size, size, 1)).astype("float32")
        for size in (4, 2, 1)
    ]

    def levels(self):
        """Mean absolute error of each level, targets by the nearest place."""
        errors = []
        for prediction in self.y_pred:
            step = 4 // prediction.shape[1]
            errors.append(
                np.abs(self.y_true[:, ::step, ::step] - prediction).mean()
            )
        return np.array(errors)

    @pytest.mark.parametrize(
        ("weights", "want"),
        [
            ("same", [1.0, 1.0, 1.0]),
            ("exp", [1.0, 0.5, 0.25]),
            ([0.2, 0.3, 0.5], [0.2, 0.3, 0.5]),
        ],
    )
    def test_sums_over_the_levels(self, weights, want):
        mae = losses.MeanAbsoluteError(name="mae")
        known = len(want) if isinstance(weights, str) else None
        loss = losses.DeepSupervision(mae, weights, levels=known)
        assert [part.weight for part in loss.parts] == want
        assert [part.name for part in loss.parts] == [
            "mae_level_0",
            "mae_level_1",
            "mae_level_2",
        ]
        np.testing.assert_allclose(
            np.array(
                [float(x) for x in loss.part_values(self.y_true, self.y_pred)]
            ),
            self.levels(),
            rtol=1e-5,
        )
        got = float(loss(self.y_true, self.y_pred))
        assert got == pytest.approx(self.levels() @ want, rel=1e-5)
        assert round_trip(loss).get_config() == loss.get_config()

    def test_of_a_composite(self):
        both = losses.MeanAbsoluteError(name="a") * 2 + losses.get("mse")
        loss = losses.DeepSupervision(both, "exp", levels=2)
        assert repr(loss) == (
            "2 * a_level_0 + mse_level_0 + a_level_1 + 0.5 * mse_level_1"
        )

    def test_weights_of_the_levels_that_are_variables(self):
        weight = keras.Variable(0.5, name="weight")
        mse = losses.MeanSquaredError(name="mse")
        loss = losses.DeepSupervision(mse, weights=[1.0, weight], levels=2)
        full, half = loss.per_output()
        assert full.parts[0].weight == 1.0
        assert half.parts[0].weight is weight
        y_pred = self.y_pred[1]
        before = float(half(self.y_true, y_pred))
        weight.assign(2.0)
        assert float(half(self.y_true, y_pred)) == pytest.approx(4 * before)

    def test_trains_several_outputs(self):
        inputs = keras.Input((4, 4, 1))
        conv = keras.layers.Conv2D
        full = conv(1, 1, name="full")(inputs)
        half = conv(1, 2, strides=2, name="half")(inputs)
        model = keras.Model(inputs, [full, half])
        loss = losses.DeepSupervision(losses.MeanAbsoluteError(), "exp")
        model.compile("sgd", loss=loss.per_output(2))
        x = np.ones((2, 4, 4, 1), "float32")
        y = np.repeat(self.y_true, 2, axis=0)
        predictions = model.predict(x, verbose=0)
        want = (
            np.abs(y - predictions[0]).mean()
            + 0.5 * np.abs(y[:, ::2, ::2] - predictions[1]).mean()
        )
        got = model.evaluate(x, [y, y], verbose=0, return_dict=True)["loss"]
        assert got == pytest.approx(want, rel=1e-4)

    def test_refuses_what_does_not_fit(self):
        mae = losses.MeanAbsoluteError()
        with pytest.raises(ValueError, match="Received: weights='log'"):
            losses.DeepSupervision(mae, "log")
        with pytest.raises(ValueError, match="Received: 1"):
            losses.DeepSupervision(mae, [1.0], levels=2)
        with pytest.raises(ValueError, match="Received: levels=None"):
            len(losses.DeepSupervision(mae))
        loss = losses.DeepSupervision(mae, [1.0, 1.0])
        with pytest.raises(ValueError, match="list of 2.*Received: 3"):
            loss(self.y_true, self.y_pred)
        with pytest.raises(ValueError, match="per_output"):
            loss(self.y_true, self.y_pred[0])
        with pytest.raises(ValueError, match="Received: levels=3"):
            loss.per_output(3)

    def test_weights_and_labels_of_pixels_are_resized(self):
        labels = RNG.integers(0, 2, (2, 4, 4))
        weight = RNG.uniform(size=(2, 4, 4)).astype("float32")
        logits = RNG.normal(size=(2, 2, 2, 2)).astype("float32")
        ce = losses.SparseCategoricalCrossentropy(from_logits=True)
        got = float(losses.DeepSupervision(ce, [1.0])(labels, [logits], weight))
        want = float(ce(labels[:, ::2, ::2], logits, weight[:, ::2, ::2]))
        assert got == pytest.approx(want, rel=1e-6)


def both(y_true, y_pred):
    error = ops.abs(y_true - y_pred)
    return {
        "near": ops.mean(error, axis=-1),
        "far": ops.mean(error**2, axis=-1),
    }


keras.saving.register_keras_serializable("test_wrappers")(both)


class Both(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return both(y_true, y_pred)


class TestComponents:
    y_true = np.zeros((2, 1), "float32")
    y_pred = np.array([[1.0], [3.0]], "float32")

    def test_each_key_is_a_term(self):
        loss = losses.Components(both, ["near", "far"], weights={"far": 0.5})
        values = loss.part_values(self.y_true, self.y_pred)
        assert [float(value) for value in values] == [2.0, 5.0]
        assert float(loss(self.y_true, self.y_pred)) == 4.5
        assert repr(2 * loss) == "2 * near + far"
        # weights 1, 0: (1 + 0) / 2 and (1 + 0) / 2
        values = loss.part_values(self.y_true, self.y_pred, [1.0, 0.0])
        assert [float(value) for value in values] == [0.5, 0.5]

    @pytest.mark.parametrize("loss", [both, Both()], ids=["function", "loss"])
    def test_keys_are_found_from_the_shapes(self, loss):
        found = losses.get(
            loss, keras.KerasTensor((None, 1)), keras.KerasTensor((None, 1))
        )
        assert sorted(part.name for part in found.parts) == ["far", "near"]
        found = losses.get(loss, self.y_true, self.y_pred)
        assert float(found(self.y_true, self.y_pred)) == 7.0

    def test_keys_are_found_within_a_sum(self):
        total = 0.5 * losses.get(both) + losses.get("mse")
        found = losses.get(total, self.y_true, self.y_pred)
        weights = {part.name: part.weight for part in found.parts}
        assert weights == {"near": 0.5, "far": 0.5, "mse": 1.0}
        plain = 0.5 * losses.get("mae") + losses.get("mse")
        assert losses.get(plain, self.y_true, self.y_pred) is plain

    def test_other_keys_are_refused(self):
        loss = losses.Components(both, ["near", "third"])
        with pytest.raises(ValueError, match="'third'.*Received"):
            loss(self.y_true, self.y_pred)
        with pytest.raises(ValueError, match="weights for: .*'third'"):
            losses.Components(both, ["near"], weights={"third": 1.0})

    def test_config(self):
        loss = losses.Components(
            losses.FunctionLoss(both, reduction="sum"),
            ["near", "far"],
            weights={"far": 0.5},
        )
        revived = round_trip(loss)
        assert revived.get_config() == loss.get_config()
        assert float(revived(self.y_true, self.y_pred)) == 4.0 + 5.0
