import gc
import os
import time

import hypothesis
import keras
import pytest
from support.results import record

hypothesis.settings.register_profile(
    "ci",
    # Compiling an example takes far longer than running it.
    max_examples=20 if keras.config.backend() == "torch" else 8,
    deadline=None,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.register_profile(
    "fuzz",
    max_examples=1000,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

#: Marks that Keras puts on its own tests, which `test_keras_own_tests` runs.
KERAS_MARKERS = ("requires_trainable_backend", "multi_device")

STARTED = time.monotonic()


def pytest_configure(config):
    """Stop a leg that does not run on the backend it claims."""
    for marker in KERAS_MARKERS:
        config.addinivalue_line("markers", f"{marker}: of Keras' own tests")
    claimed = os.environ.get("LOSSKIT_TEST_BACKEND")
    actual = keras.config.backend()
    if claimed is not None and claimed != actual:
        pytest.exit(
            f"Expected the backend {claimed!r} (LOSSKIT_TEST_BACKEND). "
            f"Received: Keras runs on {actual!r}.",
            returncode=1,
        )


def pytest_collection_modifyitems(items):
    """What is by night on this backend is slow, but in another nightly run."""
    if "LOSSKIT_NIGHTLY" in os.environ:
        return
    for item in items:
        if any(
            keras.config.backend() in mark.args
            for mark in item.iter_markers("nightly")
        ):
            item.add_marker("slow")


def pytest_collection_finish():
    """Leave what is imported out of every collection of garbage to come."""
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter, config):
    """Record how a run went, for one that names its record."""
    name = os.environ.get("LOSSKIT_RECORD")
    if name is None or hasattr(config, "workerinput"):
        return
    counts = {
        outcome: len(terminalreporter.stats.get(outcome, []))
        for outcome in ("passed", "failed", "error", "skipped", "xfailed")
    }
    minutes = round((time.monotonic() - STARTED) / 60)
    record(name, f"The session `{name}`", counts | {"minutes": minutes})


def has_gpu():
    backend = keras.config.backend()
    if backend == "jax":
        import jax

        return any(device.platform == "gpu" for device in jax.devices())
    if backend == "tensorflow":
        import tensorflow as tf

        return bool(tf.config.list_physical_devices("GPU"))
    import torch

    return torch.cuda.is_available()


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu") and not has_gpu():
        pytest.skip(f"{keras.config.backend()} sees no GPU")


@pytest.fixture(autouse=True)
def same_start():
    """Start every test from the same seeds and dtype policy."""
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy("float32")
