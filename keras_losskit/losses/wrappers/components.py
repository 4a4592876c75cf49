"""`Components`: a loss that returns several values by name."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import Self

import keras

from keras_losskit import _keras
from keras_losskit import _weights as weights_lib
from keras_losskit._support.counting import flags_of
from keras_losskit._types import Config
from keras_losskit._types import Tensor
from keras_losskit._types import TensorLike
from keras_losskit._types import Weight
from keras_losskit.losses._core.composition import Composite
from keras_losskit.losses._core.composition import Part
from keras_losskit.losses._core.configs import serialized_loss
from keras_losskit.losses._core.evaluation import converted
from keras_losskit.losses._core.evaluation import reduced
from keras_losskit.losses._core.function import FunctionLoss
from keras_losskit.losses._core.values import are_of_samples
from keras_losskit.reductions.reduction import without_version


@keras.saving.register_keras_serializable("keras_losskit")
class Components(Composite):
    """A loss that returns a dict, each key a separate term.

    `loss = sum(weights[name] * reduction(values[name]))` with `values =
    loss(y_true, y_pred)`, computed in one call.

    `keras_losskit.Model.compile` and `losses.get` with targets and predictions
    find the keys by themselves.

    Args:
        loss: A function, or a `keras.losses.Loss` whose `call` returns a dict;
            its reduction serves every key.
        names: The keys, in the order of the terms.
        weights: Optional dict from key to weight. Defaults to 1 for all.
        name: Name of the whole. Defaults to that of `loss`.

    Raises:
        ValueError: for weights of unknown keys; in a call, if the keys are not
            `names`.

    Example:
        >>> def both(y_true, y_pred):
        ...     error = keras.ops.abs(y_true - y_pred)
        ...     return {"near": error, "far": error**2}
        >>> loss = Components(both, ["near", "far"], weights={"far": 0.5})
        >>> loss
        near + 0.5 * far
        >>> float(loss([[0.0]], [[4.0]]))
        12.0
    """

    def __init__(
        self,
        loss: Callable[..., Any],
        names: Sequence[str],
        weights: Mapping[str, Weight] | None = None,
        *,
        name: str | None = None,
    ):
        if not isinstance(loss, keras.losses.Loss):
            loss = FunctionLoss(loss)
        super().__init__(name=name or loss.name)
        self.loss = loss
        self.names = tuple(names)
        weights = dict(weights or {})
        unknown = sorted(set(weights) - set(self.names))
        if unknown:
            raise ValueError(
                f"Expected weights for {list(self.names)}. Received weights "
                f"for: {unknown}"
            )
        self.weights = {
            key: weights_lib.check_weight(weight, name=key)
            for key, weight in weights.items()
        }

    @property
    def parts(self) -> tuple[Part, ...]:
        """The terms, as a tuple of `Part`."""
        own = getattr(self.loss, "weight", 1.0)
        return tuple(
            Part(
                name,
                weights_lib.multiply_weights(own, self.weights.get(name, 1.0)),
                self.loss,
            )
            for name in self.names
        )

    def part_values(
        self,
        y_true: TensorLike,
        y_pred: TensorLike,
        sample_weight: TensorLike | None = None,
        mask: TensorLike | None = None,
    ) -> list[Tensor]:
        masks = (mask, _keras.get_keras_mask(y_pred))
        with keras.name_scope(self.name):
            y_true, y_pred = converted(self.loss, y_true, y_pred)
            flags = flags_of(self.loss, sample_weight, masks)
            seen = flags.apply(y_true, y_pred)
            values = self.loss.call(seen, flags.apply(y_pred))
            received = list(values) if isinstance(values, dict) else values
            if not isinstance(values, dict) or set(received) != set(self.names):
                raise ValueError(
                    f"Expected loss '{self.name}' to return a dict with the "
                    f"keys {list(self.names)}. Received: {received}"
                )
            of_batch = [
                key
                for key, x in values.items()
                if not are_of_samples(self.loss, x, y_pred)
            ]
            if flags and of_batch:
                # Values of the whole batch, in which all samples count.
                whole = self.loss.call(y_true, y_pred)
                values = {**values, **{key: whole[key] for key in of_batch}}
            return [
                reduced(
                    self.loss,
                    values[name],
                    seen,
                    y_pred,
                    sample_weight,
                    masks,
                )
                for name in self.names
            ]

    def get_config(self) -> Config:
        return {
            "loss": serialized_loss(self.loss),
            "names": list(self.names),
            "weights": {
                key: weights_lib.serialize_weight(weight)
                for key, weight in self.weights.items()
            },
            "name": self.name,
            "version": self.version,
        }

    @classmethod
    def from_config(cls, config: Config) -> Self:
        config = without_version(cls, config)
        config["loss"] = keras.saving.deserialize_keras_object(config["loss"])
        config["weights"] = {
            key: weights_lib.deserialize_weight(weight)
            for key, weight in config["weights"].items()
        }
        return cls(**config)


def with_components(loss, y_true, y_pred):
    """`loss`, as `Components` where its `call` returns a dict.

    Looks at the loss' result for symbolic inputs; only custom losses can return
    a dict.

    Args:
        loss: A `keras.losses.Loss`.
        y_true: Targets, or symbolic ones.
        y_pred: Predictions, or symbolic ones.

    Returns:
        `loss` itself, or a `Components`.
    """
    package = type(loss).call.__module__.partition(".")[0]
    if package == "keras" or (
        package == "keras_losskit" and not isinstance(loss, FunctionLoss)
    ):
        return loss
    try:
        inputs = converted(loss, symbolic(y_true), symbolic(y_pred))
        result = _Call(loss).compute_output_spec(*inputs)
    except Exception:
        # It may not run on symbolic inputs; its own error shows when it is
        # called on real ones.
        return loss
    if isinstance(result, dict) and result:
        return Components(loss, [str(key) for key in result])
    return loss


class _Call(keras.Operation):
    """The `call` of a loss, where Keras can infer its output."""

    def __init__(self, loss):
        super().__init__()
        self.loss = loss

    def call(self, y_true, y_pred):
        return self.loss.call(y_true, y_pred)


def symbolic(x):
    """Structure `x` with a `KerasTensor` for every tensor."""
    return keras.tree.map_structure(
        lambda leaf: keras.KerasTensor(
            leaf.shape, keras.backend.standardize_dtype(leaf.dtype)
        ),
        x,
    )
