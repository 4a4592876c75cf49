"""`Components`: a loss that returns several values by name."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras

from keras_losskit import _keras
from keras_losskit import _origin
from keras_losskit import _weights as weights_lib
from keras_losskit._support.counting import flags_of
from keras_losskit._types import Config
from keras_losskit._types import Tensor
from keras_losskit._types import TensorLike
from keras_losskit._types import Weight
from keras_losskit.losses._core.composition import Part
from keras_losskit.losses._core.evaluation import converted
from keras_losskit.losses._core.evaluation import reduced
from keras_losskit.losses._core.function import FunctionLoss
from keras_losskit.losses._core.traits import traits_of
from keras_losskit.losses._core.values import are_of_samples
from keras_losskit.losses.wrappers._wrapper import Wrapper


@keras.saving.register_keras_serializable("keras_losskit")
class Components(Wrapper):
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
        own = traits_of(self.loss).weight
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
            rest = (seen, y_pred, sample_weight, masks)
            return [
                reduced(self.loss, values[key], *rest) for key in self.names
            ]

    def get_config(self) -> Config:
        return {**super().get_config(), "names": list(self.names)}


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
    is_function = isinstance(loss, FunctionLoss)
    if not is_function and not _origin.is_users_own(type(loss).call):
        return loss
    try:
        inputs = converted(loss, symbolic(y_true), symbolic(y_pred))
        result = _keras.compute_output_spec(loss.call, *inputs)
    except Exception:
        # It may not run on symbolic inputs; its own error shows when it is
        # called on real ones.
        return loss
    if isinstance(result, dict) and result:
        return Components(loss, [str(key) for key in result])
    return loss


def symbolic(x):
    """Structure `x` with a `KerasTensor` for every tensor."""
    return keras.tree.map_structure(
        lambda leaf: keras.KerasTensor(
            leaf.shape, keras.backend.standardize_dtype(leaf.dtype)
        ),
        x,
    )
