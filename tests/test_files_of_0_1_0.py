"""Files that version 0.1.0 wrote load, on every backend, and train on.

`files/make.py` wrote them, with the logs of the epoch that followed.
"""

import inspect
import json
import os
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from support import saved_models

import keras_losskit as losskit

FILES_OF_VERSIONS = Path(
    os.environ.get("LOSSKIT_FILES") or Path(__file__).parent / "files"
)
FOLDER = FILES_OF_VERSIONS / "0.1.0"
BACKEND = keras.config.backend()
# The backend's own first: what XLA compiles for them serves the others too.
NEXT = {"jax": "torch", "torch": "tensorflow", "tensorflow": "jax"}
WRITERS = [BACKEND, NEXT[BACKEND], NEXT[NEXT[BACKEND]]]
BY_NIGHT = pytest.mark.nightly("jax", "tensorflow")


def marks_of(writer, number):
    """With every change PyTorch reads two backends' files, others some own."""
    if writer == WRITERS[2]:
        return pytest.mark.slow
    return () if writer == BACKEND and number % 3 == 0 else BY_NIGHT


FILES = [
    pytest.param(path, id=f"{writer}-{path.stem}", marks=marks_of(writer, n))
    for writer in WRITERS
    for n, path in enumerate(sorted(FOLDER.glob(f"{writer}/*.keras")))
]
NAMES = sorted(saved_models.MODELS)

#: A file from PyTorch names the module of Keras' Adam for PyTorch, which is not
#: there without PyTorch.
ADAM = {"Adam": keras.optimizers.Adam}

#: Nothing of these stands in a file: bases, of which classes of a user's own
#: do, and what is made while a loss is computed.
NOT_IN_FILES = {
    *("Loss", "Part"),
    *("Reduction", "Schedule", "Weighting", "GradientWeighting"),
    *("Context", "ExtraTerm"),
    *("Layer", "Wrapper"),
}


def tversky_is_mended():
    """Whether this Keras weighs false positives by `alpha`, as from 3.16 on."""
    y_true, y_pred = np.array([[1.0, 0.0]]), np.array([[1.0, 1.0]])
    loss = keras.losses.Tversky(alpha=1.0, beta=0.0)
    return float(loss(y_true, y_pred)) > 0.1


#: What a loss that follows the installed Keras changes in the model of losses.
CHANGED_VALUES = (
    ("binary_tversky_loss", "binary_loss", "loss")
    if tversky_is_mended()
    else ()
)
#: Younger than the files.
LATER = {
    *("EMATeacher", "GradientPenalty"),
    "LinearCrossEntropy",
    *("Causal", "GroupDRO", "ResidualBasedAttention", "SampleWeighting"),
    *("SelfAdaptive", "SelfPaced", "SmallLoss"),
    *("SparseCategoricalFocalCrossentropy", "TernaryDense"),
}


@pytest.fixture(scope="module", autouse=True)
def compilations(tmp_path_factory):
    """XLA's programs, kept on disk: one serves all files of a model."""
    if BACKEND != "jax":
        yield
        return
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    settings = {
        # beside the workers' folders, so that they share it
        "jax_compilation_cache_dir": str(
            tmp_path_factory.getbasetemp().parent / "compilations"
        ),
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {key: getattr(jax.config, key) for key in settings}
    for values in (settings, before):
        for key, value in values.items():
            jax.config.update(key, value)
        compilation_cache.reset_cache()
        if values is settings:
            yield


def logs_of_file(writer, name):
    return json.loads((FOLDER / writer / "logs.json").read_text())[name]


def goes_on_as(expected, model, name, writer):
    """Compare how a model goes on with the logs of the one that was saved."""
    # The file says how its writer compiled a step. TensorFlow takes longer to
    # trace these than to run them.
    model.run_eagerly = BACKEND == "tensorflow"
    model.jit_compile = BACKEND == "jax"
    _, x, y = saved_models.MODELS[name]()
    received = saved_models.logs_of(model, x, y)
    parts = ["evaluate", "fit"]
    changed = CHANGED_VALUES if name == "losses" else ()
    if changed or (name in saved_models.RANDOM and writer != BACKEND):
        # Training goes another way: by another loss, or other random numbers.
        parts.remove("fit")
    for part in parts:
        assert list(received[part]) == list(expected[part])
        kept = [key for key in expected[part] if key not in changed]
        np.testing.assert_allclose(
            [received[part][key] for key in kept],
            [expected[part][key] for key in kept],
            rtol=1e-5,
            atol=1e-6,
            err_msg=f"{part}: {list(expected[part])}",
        )


@pytest.mark.parametrize("path", FILES)
def test_a_saved_model_trains_on(path):
    writer, name = path.parent.name, path.stem
    custom = {} if writer == BACKEND else ADAM
    model = keras.saving.load_model(path, custom_objects=custom)
    goes_on_as(logs_of_file(writer, name), model, name, writer)


@pytest.mark.nightly("jax", "tensorflow")
@pytest.mark.parametrize("name", NAMES)
def test_saved_weights_train_on_in_a_new_model(name, tmp_path):
    model, x, y = saved_models.MODELS[name]()
    model.run_eagerly = BACKEND == "tensorflow"
    # What moves is built, and starts and ends elsewhere than in the file. But
    # where FromWeights starts, 0.1.0 makes a constant of a compiled step.
    if name != "extra":
        for variable in model.trainable_variables:
            variable.assign(0.5 * variable)
    saved_models.train(model, x, y)
    for writer in WRITERS[:2]:
        with zipfile.ZipFile(FOLDER / writer / "weights.zip") as archive:
            path = archive.extract(f"{name}.weights.h5", tmp_path)
        model.load_weights(path)
        goes_on_as(logs_of_file(writer, name), model, name, writer)


def class_names(config):
    """Names of all classes and functions in a nest of configs."""
    if isinstance(config, dict):
        if isinstance(config.get("registered_name"), str):
            yield config["registered_name"].removeprefix("keras_losskit>")
        for value in config.values():
            yield from class_names(value)
        if config.get("class_name") == "function":
            yield config["config"]
    elif isinstance(config, list):
        for value in config:
            yield from class_names(value)


@pytest.mark.parametrize("writer", WRITERS)
def test_every_model_and_public_class_is_in_a_file(writer):
    paths = sorted(FOLDER.glob(f"{writer}/*.keras"))
    assert [path.stem for path in paths] == NAMES
    found = set()
    for path in paths:
        with zipfile.ZipFile(path) as archive:
            found |= set(class_names(json.loads(archive.read("config.json"))))
    public = {"LossesContainer", "Model", "Penalty", "Sequential"}
    for module in (
        losskit.extra,
        losskit.layers,
        losskit.losses,
        losskit.reductions,
        losskit.schedules,
        losskit.weighting,
    ):
        objects = [getattr(module, name) for name in module.__all__]
        public |= {x.__name__ for x in objects if inspect.isclass(x)}
    assert public - found - LATER == NOT_IN_FILES
