"""Checks of the project: `nox -s lint tests` is what CI runs.

Every session gets a pip-made environment of its own. A `tests` leg holds one
framework only, so that it cannot lean on one that it does not declare.
"""

import os
import pathlib

import nox

nox.needs_version = ">=2024.4.15"
nox.options.sessions = ["lint", "tests"]
nox.options.default_venv_backend = "venv"
nox.options.error_on_external_run = True

PROJECT = nox.project.load_toml("pyproject.toml")

# What a leg installs besides its extra: a pin, reference implementations that
# tests compare with, and what brings TensorFlow along (keras-hub) or needs it
# there (keras-tuner needs tensorboard beside TensorFlow).
REFERENCES = {
    "jax": ["optax"],
    "tensorflow": ["keras-hub", "tensorboard", "tf_keras"],
    "torch": ["torch==2.13.0", "monai", "torchjd"],
}

# The tests' models are tiny: compiling them takes far longer than running them.
# XLA fuses as always, but LLVM optimizes less, a module is not split for
# several threads, and fusions are written by the older emitters, which are
# quicker: 0.42 of the time. Nightly it does what it can.
QUICK_COMPILATION = {
    "XLA_FLAGS": "--xla_backend_optimization_level=0 "
    "--xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_parallel_codegen_split_count=1 "
    "--xla_cpu_use_fusion_emitters=false"
}

# With another Keras also what else runs on PyTorch alone with every change.
ALL_BUT_SLOW = {"LOSSKIT_NIGHTLY": "1"}

# The lower bound of pyproject.toml, as a pin.
(LOWEST,) = (
    requirement.replace(">=", "==")
    for requirement in PROJECT["project"]["dependencies"]
    if requirement.startswith("keras")
)

each_backend = nox.parametrize(
    "backend", [nox.param(name, id=name) for name in REFERENCES]
)


def group(name):
    """Return the requirements of a dependency group of pyproject.toml."""
    return nox.project.dependency_groups(PROJECT, name)


def run_pytest(session, backend, *args, pins=(), env=None, **kwargs):
    """Install the package with one framework and run pytest against it."""
    # `.` and not `-e .`: the tests see the package as it is installed.
    session.install(
        f".[{backend}]", *REFERENCES[backend], *group("test"), *pins
    )
    env = environment(backend) | (env or {})
    session.run("pytest", *args, *session.posargs, env=env, **kwargs)


def environment(backend):
    """Variables of a process that runs tests on one backend."""
    return {
        "KERAS_BACKEND": backend,
        "LOSSKIT_TEST_BACKEND": backend,
        # The workers share the cores; threads on top only get in the way.
        "OMP_NUM_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }


def recorded(name):
    """Environment of a session whose result is written down.

    The session as a whole, the fuzz and the soak each write a file to
    `LOSSKIT_RESULTS`, which defaults to `benchmarks/results`.
    """
    folder = pathlib.Path(__file__).parent / "benchmarks" / "results"
    return {
        "LOSSKIT_RECORD": name,
        "LOSSKIT_RESULTS": os.environ.get("LOSSKIT_RESULTS", str(folder)),
    }


@nox.session
@each_backend
def tests(session, backend):
    """Run the tests, but for the slow ones, on one backend."""
    select = ("-n", "2", "-m", "not slow")
    run_pytest(session, backend, *select, env=QUICK_COMPILATION)


@nox.session
def coverage(session):
    """Run the tests on PyTorch and report the lines that none of them reach.

    On PyTorch, since what a compiled graph runs is not seen line by line.
    """
    select = ("-n", "2", "-m", "not slow")
    report = ("--cov", "--cov-report=term", "--cov-report=xml")
    run_pytest(session, "torch", *select, *report, pins=group("coverage"))


@nox.session
@each_backend
def lowest(session, backend):
    """Run the tests on one backend with the lowest Keras that is allowed."""
    select = ("-n", "2", "-m", "not slow")
    env = recorded("lowest") | ALL_BUT_SLOW
    run_pytest(session, backend, *select, pins=[LOWEST], env=env)


@nox.session(name="next")
@each_backend
def newest(session, backend):
    """Run the tests on one backend with the newest pre-release of Keras.

    Then Keras' own tests, which its pre-releases do not ship, from the release
    that the package asks for.
    """
    released = session.create_tmp()
    session.install(f".[{backend}]", *REFERENCES[backend], *group("test"))
    session.install("--target", released, "--no-deps", "keras", silent=True)
    # Both are the package `keras`; the pre-release has to be the one left.
    session.run("pip", "uninstall", "--yes", "--quiet", "keras")
    session.install("--pre", "--no-deps", "--force-reinstall", "keras-nightly")
    env = environment(backend) | recorded("next") | ALL_BUT_SLOW
    session.run(
        "pytest", "-n", "2", "-m", "not slow", *session.posargs, env=env
    )
    tests = pathlib.Path(released) / "keras" / "src"
    env["LOSSKIT_KERAS_TESTS"] = str(tests.resolve())
    session.run("python", "-m", "benchmarks.keras_tests", env=env)


@nox.session
@each_backend
def slow(session, backend):
    """Run the slow tests on one backend: toys, soak, fuzz, distribution."""
    select = ("-n", "2", "-m", "slow")
    run_pytest(session, backend, *select, env=recorded("slow"))


@nox.session
@each_backend
def trackers(session, backend):
    """Read back what trackers of experiments store of a run."""
    pins, env = group("trackers"), recorded("trackers")
    run_pytest(session, backend, "tests/trackers", pins=pins, env=env)


@nox.session(venv_backend="none")
@each_backend
def nightly(session, backend):
    """Run what takes too long for every change."""
    for name in ("slow", "lowest", "next", "trackers"):
        session.notify(f"{name}({backend})")


@nox.session
def docs(session):
    """Draw the pictures and build the documentation; a warning is an error."""
    session.install(".[jax,plot,examples]", *group("docs"))
    session.run("python", "docs/pictures/draw.py")
    session.run(
        *("sphinx-build", "-W", "--keep-going", "-b", "html"),
        *("docs", "docs/_build/html"),
    )


@nox.session
def lint(session):
    """Check style, formatting, the direction of imports and types."""
    session.install(*group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports", "--no-logo")
    session.run("mypy")


@nox.session
def build(session):
    """Build wheel and sdist, and import the wheel away from the checkout."""
    dist = pathlib.Path(session.create_tmp()) / "dist"
    session.install("build")
    session.run("python", "-m", "build", "--outdir", str(dist))
    (wheel,) = dist.glob("*.whl")
    session.install(f"keras_losskit[jax] @ {wheel.resolve().as_uri()}")
    session.chdir(dist)
    session.run(
        "python",
        "-c",
        "import keras_losskit as k, pathlib;"
        "assert pathlib.Path(k.__file__).with_name('py.typed').exists();"
        "print(k.__version__, k.__file__)",
        env={"KERAS_BACKEND": "jax"},
    )
