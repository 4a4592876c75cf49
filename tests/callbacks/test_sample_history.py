"""`with_ids` and `SampleHistory`, against a training written in NumPy."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops
from support.data_sets import Fours

import keras_losskit as losskit
from keras_losskit import callbacks
from keras_losskit import losses
from keras_losskit._support.sample_ids import split_ids

rng = np.random.default_rng(0)
N, CLASSES, EPOCHS, RATE = 10, 3, 5, 0.8
X = rng.normal(size=(N, 4)).astype("float32")
Y = rng.integers(0, CLASSES, N)
KERNEL = rng.normal(size=(4, CLASSES)).astype("float32")
#: What the samples are called: not their positions.
IDS = rng.permutation(N + 2)[:N]


def classifier(**options):
    inputs = keras.Input((4,))
    dense = layers.Dense(CLASSES, use_bias=False, name="logits")
    model = losskit.Model(inputs, dense(inputs))
    dense.set_weights([KERNEL])
    loss = losses.SparseCategoricalCrossentropy(
        from_logits=True, name="ce"
    ) + 0.0 * losses.SparseCategoricalFocalCrossentropy(
        from_logits=True, name="focal"
    )
    model.compile(keras.optimizers.SGD(RATE), loss, **options)
    return model


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def reference(epochs=EPOCHS, batch=4):
    """Values, margins, EL2N and hits of every visit, `(epochs, N)` each."""
    kernel, found = KERNEL.astype("float64"), np.zeros((4, epochs, N))
    one_hot = np.eye(CLASSES)[Y]
    for epoch in range(epochs):
        for start in range(0, N, batch):
            at = slice(start, start + batch)
            z = X[at] @ kernel
            p, truth = softmax(z), one_hot[at]
            own = (z * truth).sum(1)
            margin = own - np.where(truth, -np.inf, z).max(1)
            value = -np.log((p * truth).sum(1))
            el2n = np.linalg.norm(p - truth, axis=1)
            found[:, epoch, at] = value, margin, el2n, margin > 0
            kernel -= RATE * X[at].T @ (p - truth) / len(z)
    return found


def check(columns, epochs=EPOCHS, batch=4, ids=IDS):
    value, margin, el2n, right = reference(epochs, batch)
    expected = {
        "ce_last": value[-1],
        "ce_mean": value.mean(0),
        "ce_max": value.max(0),
        "visits": np.full(N, epochs),
        "forgotten": ((right[:-1] == 1) & (right[1:] == 0)).sum(0),
        "aum": margin.mean(0),
        "el2n": el2n.mean(0),
    }
    if epochs > 1:
        expected["ce_slope"] = np.polyfit(np.arange(epochs), value, 1)[0]
    for name, column in expected.items():
        np.testing.assert_allclose(
            columns[name][ids], column, rtol=1e-3, atol=1e-5, err_msg=name
        )


def fit(model, x, y=None, callback=None, epochs=EPOCHS, **options):
    history = callback or callbacks.SampleHistory(N + 2)
    options = {"batch_size": 4, "shuffle": False} | options
    model.fit(x, y, epochs=epochs, verbose=0, callbacks=[history], **options)
    return history


def test_statistics_of_a_training():
    history = fit(classifier(), losskit.with_ids(X, IDS), Y)
    columns = history.statistics()
    check(columns)
    assert reference()[3].sum(0).max() > 0  # some were right
    unseen = np.setdiff1d(np.arange(N + 2), IDS)
    assert (columns["visits"][unseen] == 0).all()
    for name in set(columns) - {"visits"}:
        assert np.isnan(columns[name][unseen]).all(), name
    frame = history.to_dataframe()
    assert frame.index.name == "id" and len(frame) == N + 2
    names = [
        f"{t}_{s}"
        for t in ("ce", "focal")
        for s in ("last", "mean", "max", "slope")
    ]
    assert list(frame) == [*names, "visits", "forgotten", "aum", "el2n"]


def test_the_training_is_the_same_with_and_without():
    with_history, plain = classifier(), classifier()
    watched = with_history.fit(
        losskit.with_ids(X),
        Y,
        epochs=2,
        batch_size=4,
        shuffle=False,
        verbose=0,
        validation_data=(losskit.with_ids(X), Y),
        class_weight={0: 1.0, 1: 2.0, 2: 0.5},
        callbacks=[callbacks.SampleHistory()],
    )
    alone = plain.fit(
        X,
        Y,
        epochs=2,
        batch_size=4,
        shuffle=False,
        verbose=0,
        validation_data=(X, Y),
        class_weight={0: 1.0, 1: 2.0, 2: 0.5},
    )
    assert list(watched.history) == list(alone.history)
    for key, values in alone.history.items():
        np.testing.assert_allclose(watched.history[key], values, rtol=1e-6)
    np.testing.assert_allclose(
        with_history.predict(losskit.with_ids(X), verbose=0),
        plain.predict(X, verbose=0),
        rtol=1e-5,
    )


def test_shuffled_samples_keep_their_ids():
    model = classifier()
    model.optimizer.learning_rate = 0.0
    history = fit(
        model, losskit.with_ids(X, IDS), Y, shuffle=True, batch_size=3
    )
    value, *_ = reference(epochs=1, batch=N)
    columns = history.statistics()
    np.testing.assert_allclose(columns["ce_mean"][IDS], value[0], rtol=1e-4)
    np.testing.assert_allclose(columns["ce_slope"][IDS], 0.0, atol=1e-6)


def test_file_brings_a_stopped_training_on(tmp_path):
    file = tmp_path / "samples.npz"
    model = classifier()
    x = losskit.with_ids(X, IDS)
    fit(model, x, Y, callbacks.SampleHistory(N + 2, file=file), epochs=2)
    again = classifier()
    again.set_weights([model.layers[-1].kernel.numpy()])
    history = callbacks.SampleHistory(N + 2, file=file)
    fit(again, x, Y, history, epochs=EPOCHS - 2)
    check(history.statistics())
    with pytest.raises(ValueError, match="3 samples"):
        fit(
            classifier(),
            losskit.with_ids(X[:3]),
            Y[:3],
            callbacks.SampleHistory(3, file=file),
        )


def test_callback_that_comes_and_goes():
    # The step was compiled without it, and is not kept with it.
    model = classifier()
    model.fit(X, Y, batch_size=4, shuffle=False, verbose=0)
    model.layers[-1].set_weights([KERNEL])
    history = fit(model, losskit.with_ids(X, IDS), Y, epochs=1)
    check(history.statistics(), epochs=1)
    model.fit(X, Y, batch_size=4, shuffle=False, verbose=0)
    assert history.statistics()["visits"].max() == 1
    assert model._losskit_state.samples is None


def test_py_dataset():
    history = fit(classifier(), losskit.with_ids(Fours(X, Y)), batch_size=None)
    check(history.statistics(), ids=np.arange(N))
    named = losskit.with_ids(Fours(X, Y), lambda i: IDS[4 * i : 4 * i + 4])
    for index in range(3):
        (x, _) = named[index]
        inputs, ids = split_ids(x)
        np.testing.assert_array_equal(ids, IDS[4 * index : 4 * index + 4])
        np.testing.assert_array_equal(inputs, X[4 * index : 4 * index + 4])


def test_tf_data():
    tf = pytest.importorskip("tensorflow")
    data = tf.data.Dataset.from_tensor_slices((X, Y))
    data = losskit.with_ids(data).batch(4)
    history = fit(classifier(), data, batch_size=None)
    check(history.statistics(), ids=np.arange(N))


def test_data_loader():
    torch = pytest.importorskip("torch")
    pairs = torch.utils.data.TensorDataset(
        torch.from_numpy(X), torch.from_numpy(Y)
    )
    loader = torch.utils.data.DataLoader(pairs, batch_size=4)
    history = fit(classifier(), losskit.with_ids(loader), batch_size=None)
    check(history.statistics(), ids=np.arange(N))


class Step(losskit.Model):
    """A step of the user's own, which calls itself."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(2)

    def call(self, x, training=False):
        assert set(x) == {"a", "b"}
        return self.dense(ops.concatenate([x["a"], x["b"]], axis=-1))


def test_nested_inputs_of_a_subclassed_model():
    # (batch, 5, 2) values of a loss with a mask: means over what counts
    inputs = {
        "a": X[:, None, :2].repeat(5, 1),
        "b": X[:, None, 2:].repeat(5, 1),
    }
    labels = rng.normal(size=(N, 5, 2)).astype("float32")
    labels[:, 3:] = -9.0
    model = Step()
    model.compile(
        keras.optimizers.SGD(0.0),
        losses.Masked(losses.MeanSquaredError(), -9.0, name="mse")
        + losses.Dice(name="dice"),
    )
    history = fit(model, losskit.with_ids(inputs), labels, epochs=2)
    columns = history.statistics()
    error = model.predict(inputs, verbose=0) - labels
    expected = (error[:, :3] ** 2).mean((1, 2))
    np.testing.assert_allclose(columns["mse_last"][:N], expected, rtol=1e-4)
    # one value for the batch; and no classes
    for name in ("dice_last", "dice_mean", "dice_slope"):
        assert np.isnan(columns[name][:N]).all()
    assert np.isnan(columns["aum"]).all()


def test_refusals():
    model = classifier()
    with pytest.raises(ValueError, match="with_ids"):
        fit(model, X, Y)
    with pytest.raises(ValueError, match="number of samples"):
        fit(model, Fours(X, Y), None, callbacks.SampleHistory())
    with pytest.raises(ValueError, match="id 11"):
        fit(
            model,
            losskit.with_ids(X, np.arange(N) + 2),
            Y,
            callbacks.SampleHistory(N),
        )
    with pytest.raises(ValueError, match="one callback"):
        model.fit(
            X,
            Y,
            verbose=0,
            callbacks=[callbacks.SampleHistory(N), callbacks.SampleHistory(N)],
        )
    with pytest.raises(ValueError, match="no training"):
        callbacks.SampleHistory(3).statistics()
    with pytest.raises(ValueError, match="npz"):
        callbacks.SampleHistory(3, file="a.csv")
    for ids in ([0, 1], np.zeros(N, "int32"), np.arange(N) - 1, X[:, 0]):
        with pytest.raises(ValueError, match="`ids` of with_ids"):
            losskit.with_ids(X, ids)
    once = losskit.with_ids(X), losskit.with_ids(BatchesOf(4, 4))
    for given in once:
        with pytest.raises(ValueError, match="no ids yet"):
            losskit.with_ids(given)[0]
    with pytest.raises(TypeError, match="generator"):
        losskit.with_ids(x for x in [X])


class BatchesOf(keras.utils.PyDataset):
    """Batches of the sizes that it is given."""

    def __init__(self, *sizes):
        super().__init__()
        self.ends = np.cumsum([0, *sizes])

    def __len__(self):
        return len(self.ends) - 1

    def __getitem__(self, index):
        part = slice(self.ends[index], self.ends[index + 1])
        return X[part], Y[part]


def ids_in(data, index):
    return split_ids(data[index][0])[1].tolist()


@pytest.mark.parametrize("sizes", [(4, 2, 4), (2, 4, 4)])
def test_batches_of_several_sizes_have_no_consecutive_ids(sizes):
    data = losskit.with_ids(BatchesOf(*sizes))
    with pytest.raises(ValueError, match=r"one size, or `ids=`.*in batch 1"):
        data[1]
    ends = np.cumsum([0, *sizes])
    data = losskit.with_ids(
        BatchesOf(*sizes), lambda i: np.arange(ends[i], ends[i + 1])
    )
    assert sum((ids_in(data, i) for i in range(3)), []) == list(range(N))


@pytest.mark.parametrize("last", [1, 3, 6])
def test_the_last_batch_may_have_another_size(last):
    data = losskit.with_ids(BatchesOf(2, 2, last))
    found = sum((ids_in(data, i) for i in range(3)), [])
    assert found == list(range(4 + last))


def test_ids_that_are_no_int32_are_refused():
    # as int32 5 + 2**32 would be 5
    for ids in (np.array([5, 5 + 2**32]), np.array([5, 2**31])):
        with pytest.raises(ValueError, match=r"below 2\*\*31"):
            losskit.with_ids(X[:2], ids)
    largest = losskit.with_ids(X[:2], np.array([0, 2**31 - 1]))
    assert split_ids(largest)[1].tolist() == [0, 2**31 - 1]


@pytest.mark.parametrize(
    "ids",
    [
        [0, 1],
        [0.0, 1.0, 2.0, 3.0],
        [-1, 0, 1, 2],
        [1, 1, 2, 3],
        [5, 5 + 2**32, 1, 2],
    ],
)
def test_ids_of_a_function_are_checked(ids):
    data = losskit.with_ids(Fours(X, Y), lambda index: np.array(ids))
    with pytest.raises(ValueError, match="`ids` of with_ids"):
        data[0]
    with pytest.raises(ValueError, match="`ids` of with_ids"):
        fit(classifier(), data, None, batch_size=None)


@pytest.mark.parametrize("kind", ["consecutive", "function", "loader"])
def test_ids_of_a_data_set_are_checked_before_training(kind):
    if kind == "loader":
        torch = pytest.importorskip("torch")
        pairs = torch.utils.data.TensorDataset(
            torch.from_numpy(X), torch.from_numpy(Y)
        )
        loader = torch.utils.data.DataLoader(pairs, batch_size=4, shuffle=True)
        data, largest = losskit.with_ids(loader), N - 1
    elif kind == "function":
        data = losskit.with_ids(Fours(X, Y), lambda i: IDS[4 * i : 4 * i + 4])
        largest = IDS.max()
    else:
        data, largest = losskit.with_ids(Fours(X, Y)), N - 1
    model = classifier()
    message = f"SampleHistory, {largest}. Received: id {largest}"
    with pytest.raises(ValueError, match=message):
        fit(
            model, data, None, callbacks.SampleHistory(largest), batch_size=None
        )
    np.testing.assert_array_equal(model.get_weights()[0], KERNEL)
    # The number of samples need not be given.
    history = callbacks.SampleHistory()
    fit(model, data, None, history, batch_size=None, epochs=1)
    assert history.statistics()["visits"].sum() == N
    assert len(history.statistics()["visits"]) == largest + 1


def test_a_loader_that_leaves_samples_out_is_not_refused():
    torch = pytest.importorskip("torch")
    pairs = torch.utils.data.TensorDataset(
        torch.from_numpy(X), torch.from_numpy(Y)
    )
    for options in (
        {"sampler": torch.utils.data.SubsetRandomSampler(range(8))},
        {"sampler": torch.utils.data.SequentialSampler(range(8))},
        {"drop_last": True},
    ):
        loader = torch.utils.data.DataLoader(pairs, batch_size=4, **options)
        history = callbacks.SampleHistory(8)
        fit(
            classifier(),
            losskit.with_ids(loader),
            None,
            history,
            batch_size=None,
            epochs=1,
        )
        assert history.statistics()["visits"].tolist() == [1] * 8


def test_ids_of_an_eager_step_are_checked_in_it():
    model = classifier(run_eagerly=True)
    batches = [losskit.with_ids(Fours(X, Y))[i] for i in range(3)]
    model.fit(*batches[0], verbose=0)
    before = model.get_weights()[0]
    message = "`samples` of SampleHistory, 8. Received: id 9"
    with pytest.raises(ValueError, match=message):
        model.fit(
            (batch for batch in batches[2:]),
            epochs=1,
            verbose=0,
            callbacks=[callbacks.SampleHistory(8)],
        )
    np.testing.assert_array_equal(model.get_weights()[0], before)


def values_at(kernel, labels=Y):
    """Values, margins and EL2N at one kernel, of all samples."""
    z, one_hot = X @ kernel, np.eye(CLASSES)[labels]
    p = softmax(z)
    margin = (z * one_hot).sum(1) - np.where(one_hot, -np.inf, z).max(1)
    value = -np.log((p * one_hot).sum(1))
    return value, margin, np.linalg.norm(p - one_hot, axis=1)


OUT = np.arange(N) % 3 == 1


def ignoring(kind):
    """A loss, labels and weights by which the samples of `OUT` do not count."""
    options = {"from_logits": True, "name": "ce"}
    sparse = losses.SparseCategoricalCrossentropy
    ignored = np.where(OUT, -1, Y)
    one_hot = np.eye(CLASSES, dtype="float32")[Y]
    return {
        "weight": (sparse(**options), Y, np.where(OUT, 0.0, 2.0)),
        "ignore_class": (sparse(ignore_class=-1, **options), ignored, None),
        "masked": (losses.Masked(sparse(**options), -1), ignored, None),
        "one-hot": (
            losses.Masked(losses.CategoricalCrossentropy(**options), -1.0),
            np.where(OUT[:, None], -1.0, one_hot),
            None,
        ),
    }[kind]


#: Losses that compare classes, each with labels that it takes.
OF_CLASSES = {
    "sparse": (losses.SparseCategoricalCrossentropy, Y),
    "categorical": (losses.CategoricalCrossentropy, np.eye(CLASSES)[Y]),
    "focal": (losses.CategoricalFocalCrossentropy, np.eye(CLASSES)[Y]),
    "sparse focal": (losses.SparseCategoricalFocalCrossentropy, Y),
    "poly1": (losses.Poly1, Y),
    "poly1, column": (losses.Poly1, Y[:, None]),
    "poly1, one-hot": (losses.Poly1, np.eye(CLASSES)[Y]),
    "generalized": (losses.CategoricalGeneralizedCrossEntropy, Y),
    "plain": (keras.losses.SparseCategoricalCrossentropy, Y),
}


@pytest.mark.parametrize("kind", OF_CLASSES)
def test_losses_that_compare_classes_have_margins(kind):
    loss, labels = OF_CLASSES[kind]
    model = classifier()
    if kind == "generalized":  # over probabilities
        inputs = keras.Input((4,))
        outputs = layers.Softmax()(model.layers[-1](inputs))
        model, loss = losskit.Model(inputs, outputs), loss()
    else:
        loss = loss(from_logits=True)
    model.compile(keras.optimizers.SGD(0.0), loss)
    columns = fit(model, losskit.with_ids(X), labels, epochs=1).statistics()
    _, margin, el2n = values_at(KERNEL)
    np.testing.assert_allclose(columns["aum"][:N], margin, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(columns["el2n"][:N], el2n, rtol=1e-4)


@pytest.mark.parametrize(
    "kind", ["weight", "ignore_class", "masked", "one-hot"]
)
def test_a_sample_that_does_not_count_is_not_noted(kind):
    loss, labels, weights = ignoring(kind)
    model = classifier()
    model.compile(keras.optimizers.SGD(0.0), loss)
    history = fit(
        model, losskit.with_ids(X), labels, sample_weight=weights, epochs=2
    )
    columns = history.statistics()
    assert columns["visits"][:N].tolist() == np.where(OUT, 0, 2).tolist()
    value, margin, el2n = values_at(KERNEL)
    expected = {"ce_last": value, "ce_max": value, "aum": margin, "el2n": el2n}
    for name, column in expected.items():
        np.testing.assert_allclose(
            columns[name][:N],
            np.where(OUT, np.nan, column),
            rtol=1e-4,
            err_msg=name,
        )
    assert np.isnan(columns["forgotten"][:N][OUT]).all()


def test_a_sample_that_counts_in_one_term_has_values_there():
    # Another term counts all samples; the classes are those of the first.
    loss, labels, _ = ignoring("ignore_class")
    model = classifier()
    model.compile(keras.optimizers.SGD(0.0), loss + Squares(name="square"))
    columns = fit(model, losskit.with_ids(X), labels, epochs=1).statistics()
    assert (columns["visits"][:N] == 1).all()
    value, margin, _ = values_at(KERNEL)
    for name, column in (("ce_last", value), ("aum", margin)):
        np.testing.assert_allclose(
            columns[name][:N], np.where(OUT, np.nan, column), rtol=1e-4
        )
    squared = ((X @ KERNEL) ** 2).mean(1)
    np.testing.assert_allclose(columns["square_last"][:N], squared, rtol=1e-4)


class Squares(losses.Loss):
    """The mean square of the predictions, whatever the labels."""

    def call(self, y_true, y_pred):
        return ops.mean(ops.square(y_pred), axis=-1)


def test_a_later_visit_that_does_not_count_hides_no_earlier_one():
    loss, labels, _ = ignoring("ignore_class")
    model = classifier()
    model.compile(keras.optimizers.SGD(0.0), loss)
    first = X[:4], Y[:4]
    second = X[:4], labels[:4]

    class Twice(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return (first, second)[index]

    data = losskit.with_ids(Twice(), lambda _: np.arange(4))
    history = callbacks.SampleHistory(4)
    fit(model, data, None, history, batch_size=None, epochs=1, shuffle=False)
    columns = history.statistics()
    assert columns["visits"].tolist() == [1] * 4
    value, *_ = values_at(KERNEL)
    np.testing.assert_allclose(columns["ce_last"], value[:4], rtol=1e-4)


def test_a_place_of_weight_0_is_no_part_of_a_value():
    inputs = keras.Input((5, 4))
    dense = layers.Dense(CLASSES, use_bias=False)
    model = losskit.Model(inputs, dense(inputs))
    dense.set_weights([KERNEL])
    loss = losses.SparseCategoricalCrossentropy(from_logits=True, name="ce")
    model.compile(keras.optimizers.SGD(0.0), loss)
    x = rng.normal(size=(N, 5, 4)).astype("float32")
    y = rng.integers(0, CLASSES, (N, 5))
    weight = np.ones((N, 5), "float32")
    weight[:, 3:] = 0.0
    history = fit(model, losskit.with_ids(x), y, sample_weight=weight, epochs=1)
    p = np.stack([softmax(z) for z in x @ KERNEL])
    values = -np.log(np.take_along_axis(p, y[..., None], -1))[..., 0]
    np.testing.assert_allclose(
        history.statistics()["ce_last"][:N], values[:, :3].mean(1), rtol=1e-4
    )


def test_an_empty_batch_is_not_noted():
    model = classifier(run_eagerly=True)
    sizes = 4, 0, 4, 2
    ends = np.cumsum([0, *sizes])
    data = losskit.with_ids(
        BatchesOf(*sizes), lambda i: np.arange(ends[i], ends[i + 1])
    )
    history = fit(model, data, batch_size=None, epochs=1)
    check(history.statistics(), epochs=1, ids=np.arange(N))


def refused_for(file, message):
    """Check that `fit` refuses a file before training, and leaves it alone."""
    before = file.read_bytes() if file.exists() else None
    model = classifier()
    loss = losses.SparseCategoricalCrossentropy(from_logits=True, name="ce")
    model.compile(keras.optimizers.SGD(RATE), loss)
    history = callbacks.SampleHistory(N + 2, file=file)
    for _ in range(2):  # the second time as well
        with pytest.raises(ValueError, match=message):
            fit(model, losskit.with_ids(X, IDS), Y, history)
    np.testing.assert_array_equal(model.get_weights()[0], KERNEL)
    assert (file.read_bytes() if file.exists() else None) == before
    return model, history


def test_a_file_of_other_terms_is_refused_before_training(tmp_path):
    file = tmp_path / "samples.npz"
    x = losskit.with_ids(X, IDS)
    history = callbacks.SampleHistory(N + 2, file=file)
    fit(classifier(), x, Y, history, epochs=1)
    message = r"hold the terms.*\['ce'\]. Received: \['ce', 'focal'\]"
    other, refused = refused_for(file, message)
    # The callback that wrote it refuses it too.
    with pytest.raises(ValueError, match=message):
        fit(other, x, Y, history, epochs=1)
    file.unlink()
    fit(other, x, Y, refused, epochs=1)
    check(refused.statistics(), epochs=1)


def test_a_file_of_something_else_is_refused_before_training(tmp_path):
    foreign, damaged = tmp_path / "foreign.npz", tmp_path / "damaged.npz"
    shape, array = tmp_path / "shape.npz", tmp_path / "array.npz"
    np.savez(foreign, x=X)
    np.savez(shape, table=np.zeros((N + 2, 3)), names=["ce"])
    with open(array, "wb") as stream:
        np.save(stream, X)
    damaged.write_bytes(foreign.read_bytes()[:60])
    empty = tmp_path / "empty.npz"
    empty.touch()
    for file in (foreign, damaged, shape, array, empty):
        refused_for(file, "a file that SampleHistory wrote. Received")


def test_a_folder_that_is_not_there_is_refused_before_training(tmp_path):
    file = tmp_path / "none" / "samples.npz"
    model, history = refused_for(file, "in a folder that is there. Received")
    file.parent.mkdir()
    fit(model, losskit.with_ids(X, IDS), Y, history, epochs=1)
    check(history.statistics(), epochs=1)


class StepOfTorch(losskit.Model):
    """A step as in Keras' guide, which asks for the loss itself."""

    def train_step(self, data):
        import torch

        x, y = data
        self.zero_grad()
        loss = self.compute_loss(x=x, y=y, y_pred=self(x, training=True))
        loss.backward()
        gradients = [v.value.grad for v in self.trainable_weights]
        with torch.no_grad():
            self.optimizer.apply(gradients, self.trainable_weights)
        return {"loss": loss}

    def test_step(self, data):
        x, y = data
        # By default `training` is True.
        return {"loss": self.compute_loss(x=x, y=y, y_pred=self(x))}


class StepOfTensorFlow(StepOfTorch):
    def train_step(self, data):
        import tensorflow as tf

        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x=x, y=y, y_pred=self(x, training=True))
        gradients = tape.gradient(loss, self.trainable_weights)
        self.optimizer.apply(gradients, self.trainable_weights)
        return {"loss": loss}


class StepOfGuideForJax(losskit.Model):
    """In a bare `jax.value_and_grad`, where no variable can be updated."""

    def loss_and_updates(self, trainable, non_trainable, x, y):
        y_pred, non_trainable = self.stateless_call(
            trainable, non_trainable, x, training=True
        )
        return self.compute_loss(x, y, y_pred), non_trainable

    def train_step(self, state, data):
        import jax

        trainable, non_trainable, slots, metrics = state
        (loss, non_trainable), gradient = jax.value_and_grad(
            self.loss_and_updates, has_aux=True
        )(trainable, non_trainable, *data)
        trainable, slots = self.optimizer.stateless_apply(
            slots, gradient, trainable
        )
        return {"loss": loss}, (trainable, non_trainable, slots, metrics)


class StepOfJax(losskit.Model):
    """In a scope of its own, which holds what the loss updates."""

    def train_step(self, state, data):
        import jax

        trainable, non_trainable, slots, metrics = state
        x, y = data
        moving = [*self.non_trainable_variables, *self.metrics_variables]
        before = [*non_trainable, *metrics]

        def loss_and_updates(trainable):
            references = [*self.trainable_variables, *moving]
            values = [*trainable, *before]
            mapping = zip(references, values, strict=True)
            with keras.StatelessScope(mapping) as scope:
                y_pred = self(x, training=True)
                loss = self.compute_loss(x=x, y=y, y_pred=y_pred)
            return loss, [scope.get_current_value(v) for v in moving]

        (loss, moved), gradient = jax.value_and_grad(
            loss_and_updates, has_aux=True
        )(trainable)
        trainable, slots = self.optimizer.stateless_apply(
            slots, gradient, trainable
        )
        count = len(non_trainable)
        state = trainable, moved[:count], slots, moved[count:]
        return {"loss": loss}, state


OWN_STEP = {
    "jax": StepOfJax,
    "tensorflow": StepOfTensorFlow,
    "torch": StepOfTorch,
}[keras.config.backend()]


def own_step(step):
    inputs = keras.Input((4,))
    dense = layers.Dense(CLASSES, use_bias=False)
    model = step(inputs, dense(inputs))
    dense.set_weights([KERNEL])
    loss = losses.SparseCategoricalCrossentropy(from_logits=True, name="ce")
    model.compile(keras.optimizers.SGD(RATE), loss)
    return model


def test_a_step_that_asks_for_the_loss_itself_is_noted():
    model = own_step(OWN_STEP)
    options = {}
    if keras.config.backend() != "jax":
        # without ids; what is validated is no visit
        options["validation_data"] = X, Y
    history = fit(model, losskit.with_ids(X, IDS), Y, **options)
    check(history.statistics())


def test_a_loss_outside_of_training_is_not_noted():
    model = own_step(OWN_STEP)
    x = losskit.with_ids(X, IDS)
    history = fit(model, x, Y, epochs=1)
    model.compute_loss(x, Y, model(x))
    check(history.statistics(), epochs=1)


@pytest.mark.skipif(
    keras.config.backend() != "jax", reason="a bare jax.value_and_grad"
)
def test_a_bare_step_for_jax_says_that_nothing_is_noted():
    model = own_step(StepOfGuideForJax)
    with pytest.warns(UserWarning, match="SampleHistory samples.*none"):
        history = fit(model, losskit.with_ids(X, IDS), Y, epochs=1)
    assert history.statistics()["visits"].sum() == 0


def test_an_epoch_in_which_no_sample_counts_is_warned_of(recwarn):
    x = losskit.with_ids(X, IDS)
    history = fit(classifier(), x, Y, epochs=1)
    assert not [w for w in recwarn if "SampleHistory" in str(w.message)]
    with pytest.warns(UserWarning, match="SampleHistory samples.*none"):
        fit(classifier(), x, Y, history, epochs=1, sample_weight=np.zeros(N))
    check(history.statistics(), epochs=1)
