"""`Reduction`, and the way from an identifier to a reduction."""

import inspect
from collections.abc import Callable
from typing import Any
from typing import Self

import keras

from keras_losskit._support.checks import takes
from keras_losskit._support.named_classes import object_of_class
from keras_losskit._types import Config
from keras_losskit._types import ReductionLike
from keras_losskit._types import Tensor
from keras_losskit._types import TensorLike
from keras_losskit.reductions._standard import BY_NAME
from keras_losskit.reductions._standard import unreduced


class Reduction:
    """Base of the reductions that hold settings.

    A subclass implements `__call__`, and `get_config` where it has settings.

    Example:
        >>> class Largest(Reduction):
        ...     def __call__(self, values, sample_weight=None, mask=None):
        ...         return keras.ops.max(values)
        >>> float(get(Largest())([1.0, 3.0]))
        3.0
    """

    #: Raised when the meaning of a config changes; see `from_config`.
    version = 1
    #: Whether a call takes `y_true` as well.
    uses_targets = False

    def __call__(
        self,
        values: TensorLike,
        sample_weight: TensorLike | None = None,
        mask: TensorLike | None = None,
    ) -> Tensor:
        """Reduce `values`, `(batch, d0, ..., dN)`, to a scalar."""
        raise NotImplementedError(
            f"Expected `{type(self).__name__}` to implement `__call__(values, "
            "sample_weight=None, mask=None)`."
        )

    def settings(self) -> Config:
        """The keyword arguments that make an equal reduction."""
        return {}

    def get_config(self) -> Config:
        return {**self.settings(), "version": self.version}

    @classmethod
    def from_config(cls, config: Config) -> Self:
        return cls(**without_version(cls, config))

    def __eq__(self, other: object) -> bool:
        return (
            type(other) is type(self)
            and other.get_config() == self.get_config()
        )

    def __hash__(self) -> int:
        return hash((type(self), repr(self)))

    def __repr__(self) -> str:
        parameters = inspect.signature(type(self)).parameters
        given = ", ".join(
            f"{key}={value!r}"
            for key, value in self.settings().items()
            if key not in parameters or value != parameters[key].default
        )
        return f"{type(self).__name__}({given})"


def without_version(cls, config):
    """`config` less its version, after checking that `cls` understands it."""
    config = dict(config)
    version = config.pop("version", cls.version)
    if version > cls.version:
        raise ValueError(
            f"Expected the config of `{cls.__name__}` to have version "
            f"{cls.version} or less. Received: version={version}. It was saved "
            "by a newer keras_losskit: upgrade to load it."
        )
    return config


def get(identifier: ReductionLike | Config) -> Callable[..., Tensor]:
    """The reduction that `identifier` stands for.

    Args:
        identifier: One of Keras' names (`"sum_over_batch_size"`, `"mean"`,
            `"mean_with_sample_weight"`, `"sum"`, `"none"`, `None`), the name of
            a class that needs no argument (`"mean_non_zero"`), a `Reduction`, a
            function `(values, sample_weight, mask) -> scalar`,
            or what `serialize` returned for one of these.

    Returns:
        A callable `(values, sample_weight=None, mask=None)`.

    Raises:
        ValueError: if `identifier` is something else.

    Example:
        >>> float(get("sum")([1.0, 2.0]))
        3.0
    """
    if identifier is None or isinstance(identifier, str):
        if identifier in BY_NAME:
            return BY_NAME[identifier]
        named = object_of_class(identifier, Reduction, "`reduction`")
        if named is not None:
            return named
    elif isinstance(identifier, dict) and "class_name" in identifier:
        return get(keras.saving.deserialize_keras_object(identifier))
    elif callable(identifier) and _reduces(identifier):
        return identifier
    # "Invalid value for argument" is how Keras words it.
    raise ValueError(
        "Invalid value for argument `reduction`. Expected one of "
        f"{set(BY_NAME)}, a `Reduction` or a function of (values, "
        f"sample_weight, mask). Received: reduction={identifier!r}"
    )


def _reduces(identifier):
    """Whether `identifier` can be called as a reduction is."""
    # A loss and a layer take three arguments as well.
    other = type | keras.losses.Loss | keras.layers.Layer
    return not isinstance(identifier, other) and takes(
        identifier, *("values", "sample_weight", "mask")
    )


def uses_targets(reduction):
    """Whether what `get` returned takes `y_true` as well."""
    return isinstance(reduction, Reduction) and reduction.uses_targets


def is_unreduced(identifier: ReductionLike) -> bool:
    """Whether `identifier` leaves the values as they are: `None`, `"none"`.

    Example:
        >>> is_unreduced("none"), is_unreduced("sum")
        (True, False)
    """
    return get(identifier) is unreduced


def serialize(identifier: ReductionLike) -> Any:
    """What JSON can hold of `identifier`; `get` reads it back.

    Args:
        identifier: What `get` takes. A function must be registered with
            `keras.saving.register_keras_serializable` to be found again.

    Returns:
        A name as it is, a config for an object or function.

    Raises:
        ValueError: if `identifier` stands for no reduction.

    Example:
        >>> serialize("mean")
        'mean'
    """
    get(identifier)
    if identifier is None or isinstance(identifier, str | dict):
        return identifier
    return keras.saving.serialize_keras_object(identifier)
