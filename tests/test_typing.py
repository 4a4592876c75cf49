"""Types of the public interface: all there, and right for a checker."""

import importlib
import inspect
import re
import sys
from pathlib import Path

import pytest
from mypy import api as mypy

import keras_losskit

#: What an operator or a call of an object comes down to.
SPECIAL = {
    "__init__",
    "__call__",
    "__getitem__",
    "__iter__",
    "__len__",
    *(f"__{name}__" for name in ("add", "radd", "sub", "rsub")),
    *(f"__{name}__" for name in ("neg", "mul", "rmul", "truediv")),
}

#: A user's file. A line that a checker has to refuse names the error.
PROGRAM = """
from typing import assert_type

import keras

import keras_losskit as losskit
from keras_losskit import callbacks, layers, losses, reductions, schedules
from keras_losskit import weighting
from keras_losskit.losses import WeightedSum


class Net(losskit.Model):
    def __init__(self) -> None:
        super().__init__()
        self.dense = layers.Dense(3, kernel_regularizer="l2")

    def call(self, x, training=False):
        self.add_loss(keras.ops.mean(x), name="size", weight=0.1)
        return self.dense(x)


class Cubic(losses.Loss):
    def call(self, y_true, y_pred):
        return keras.ops.abs(y_true - y_pred) ** 3


def custom(y_true, y_pred):
    return keras.ops.mean(y_true - y_pred, axis=-1)


# What is composed.
ce = losses.CategoricalCrossentropy(from_logits=True, name="ce")
focal = losses.CategoricalFocalCrossentropy(name="focal", weight=0.5)
beta = keras.Variable(0.5, name="beta")
ramp = schedules.Linear(0.0, 1.0, epochs=5)
decay = keras.optimizers.schedules.ExponentialDecay(1.0, 10, 0.5)
assert_type(0.7 * ce, WeightedSum)
assert_type(ce / 2, WeightedSum)
total = 0.7 * ce + 0.3 * focal - ramp * Cubic(name="cubic")
scheduled = focal * beta + ce * decay + losses.Huber(delta=2)
names: list[str] = [part.name for part in 0.5 * total]
hard = losses.MeanSquaredError(reduction=reductions.TopK(fraction=0.5))

# What is compiled.
container = losskit.LossesContainer(
    {"digit": total, "parity": ["mse", custom, hard], "rest": None},
    loss_weights={"digit": ramp, "parity": 0.5},
    regularization=losskit.Penalty(groups={"early": ("features/.*", 0.1)}),
    activity=None,
    added=losskit.Penalty(weight=ramp, reduction="mean"),
    extra_terms={"robust": losskit.extra.FGSM(epsilon=0.1, clip=(0, 1))},
    weighting=weighting.GradNorm(wrt=["features/.*"], every=5),
    log="all",
)
one = losskit.LossesContainer(sum([ce, focal]), weighting=weighting.PCGrad())
model = Net()
model.compile("adam", loss=container)
model.compile(keras.optimizers.Adam(), loss={"a": "mse"}, loss_weights=[1, 2])
history = model.fit([[1.0]], [[2.0]], epochs=2, callbacks=[
    callbacks.TermHistory(batches=True, epochs_file="epochs.csv"),
    callbacks.SetLossWeight(beta, lambda epoch: 0.1 * epoch, by="epoch"),
])
values: list[float] = history.history["digit_loss"]
losskit.plot_terms(history, stack="terms").savefig("terms.png")
losskit.plot_weights({"a_weight": [1.0, 2.0]}).set_title("weights")
losskit.summary(losskit.wrap(keras.Sequential([])), [[1.0]]).title = "mine"
losskit.wrap(model).compile("sgd", "mse")

# A loop of one's own.
terms = container.compute([1.0], [2.0], regularization_losses=model.losses)
assert_type(terms, losskit.LossTerms)
for name, term in terms.items():
    print(name.upper(), term.kind.upper(), term.value)
print(terms["digit"].output, "digit" in terms, terms.total, len(terms))
report = losskit.gradient_report(model, [[1.0]], [[2.0]])
losskit.plot_gradient_conflicts(report)
watch = callbacks.SampleHistory(60_000, file="samples.npz")
model.fit(losskit.with_ids([[1.0]]), [[2.0]], callbacks=[watch])
print(watch.statistics()["aum"].min(), watch.to_dataframe())
hardest = losskit.sample_report(model, [[1.0]], [[2.0]], top=5, wrt=".*")
losskit.plot_samples(hardest)
print(hardest.total.max(), hardest.terms["digit"], round(hardest.loss, 2))
print(round(report.conflict_rate, 2), report.norms.max())

# What is wrong.
losses.Huber(delta="a")  # wrong: arg-type
losses.Huber(detla=1.0)  # wrong: call-arg
losses.Pinball(weight="0.5")  # wrong: arg-type
losses.Pinball(weight=lambda step: 0.5)  # wrong: arg-type
ce * "0.5"  # wrong: operator
ce + focal * [0.5]  # wrong: operator
schedules.Linear(0.0, 1.0, epochs="5")  # wrong: arg-type
reductions.TopK(0.5)  # wrong: call-arg
losses.Masked("mse", -1)  # wrong: arg-type
total["ce"].wieght  # wrong: attr-defined
losskit.LossesContainer(5)  # wrong: arg-type
losskit.LossesContainer("mse", weighting=5)  # wrong: arg-type
losskit.LossesContainer("mse", log="everything")  # wrong: arg-type
losskit.LossesContainer("mse", regularization=0.1)  # wrong: arg-type
losskit.LossesContainer("mse", loss_wieghts=0.5)  # wrong: call-arg
losskit.Penalty(reduction="max")  # wrong: arg-type
model.compile("adam", loss=5)  # wrong: arg-type
losskit.extra.FGSM(epsilon=0.1, norm="l1")  # wrong: arg-type
weighting.Uncertainty().build("two")  # wrong: arg-type
terms["digit"].vaule  # wrong: attr-defined
report.cosine  # wrong: attr-defined
"""


def ours(defined):
    module = getattr(defined, "__module__", None) or ""
    return module.partition(".")[0] == "keras_losskit"


def public_objects():
    """What is exported, but for what is Keras' own."""
    for name in keras_losskit.__all__:
        exported = getattr(keras_losskit, name)
        if not inspect.ismodule(exported):
            yield exported
    packages = [f"keras_losskit.{path.parent.name}" for path in SUBPACKAGES]
    for package in map(importlib.import_module, packages):
        for name in package.__all__:
            yield getattr(package, name)


#: Those with an `__all__`, so not those that begin with an underscore.
SUBPACKAGES = sorted(
    Path(keras_losskit.__file__).parent.glob("[a-z]*/__init__.py")
)


def functions_of(exported):
    """The functions behind a public object that this package defines."""
    if not inspect.isclass(exported):
        yield inspect.unwrap(exported)
        return
    for cls in filter(ours, exported.__mro__):
        for name, member in vars(cls).items():
            if name.startswith("_") and name not in SPECIAL:
                continue
            if isinstance(member, property):
                yield from filter(None, (member.fget, member.fset))
            else:
                member = getattr(member, "__func__", member)
                yield inspect.unwrap(member)


def missing_types(function):
    """Names of the parameters without a type, and `return`."""
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())
    if parameters and parameters[0].name in ("self", "cls"):
        del parameters[0]
    missing = [
        parameter.name
        for parameter in parameters
        if parameter.annotation is parameter.empty
        and parameter.kind
        not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    # A constructor returns nothing anybody could use.
    if function.__name__ != "__init__" and (
        signature.return_annotation is signature.empty
    ):
        missing.append("return")
    return missing


def test_every_public_signature_is_typed():
    functions = {
        function
        for exported in public_objects()
        for function in functions_of(exported)
        if inspect.isfunction(function)
        and ours(function)
        # Frameworks put what a pytree is flattened with onto its class.
        and "<locals>" not in function.__qualname__
    }
    assert len(functions) > 400  # the walk finds them
    untyped = sorted(
        f"{function.__module__}.{function.__qualname__}: {', '.join(missing)}"
        for function in functions
        if (missing := missing_types(function))
    )
    assert not untyped, "Without a type:\n" + "\n".join(untyped)


@pytest.mark.nightly("jax", "tensorflow")
def test_types_accept_what_is_right_and_refuse_what_is_wrong(
    tmp_path, monkeypatch
):
    file = tmp_path / "program.py"
    file.write_text(PROGRAM)
    root = Path(keras_losskit.__file__).parents[1]
    if root.name != "site-packages":  # where mypy looks anyway
        monkeypatch.setenv("MYPYPATH", str(root))
    output, errors, _ = mypy.run(
        [
            *("--python-executable", sys.executable),
            "--config-file=",
            *("--cache-dir", str(tmp_path / "cache")),
            *("--follow-imports", "silent"),
            "--ignore-missing-imports",  # Keras has no types
            "--hide-error-context",
            str(file),
        ]
    )
    assert not errors
    received = re.findall(r"program\.py:(\d+): error: .*\[([\w-]+)\]", output)
    expected = [
        (str(number), line.rpartition("# wrong: ")[2])
        for number, line in enumerate(PROGRAM.splitlines(), 1)
        if "# wrong: " in line
    ]
    assert received == expected, output
