"""`Weighting`: from one statistic of the terms to one weight per term."""

import warnings
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_losskit._support.checks import checked_count
from keras_losskit._support.checks import checked_flag
from keras_losskit._support.checks import checked_index
from keras_losskit._support.checks import checked_name
from keras_losskit._support.checks import naming_the_class
from keras_losskit._support.checks import refused
from keras_losskit._support.named_classes import object_of_class
from keras_losskit._support.precision import at_least_float32
from keras_losskit._types import Config
from keras_losskit._types import DType
from keras_losskit._types import Tensor
from keras_losskit._types import TensorLike
from keras_losskit.weighting._arithmetic import all_finite
from keras_losskit.weighting._own_arguments import own_arguments
from keras_losskit.weighting._variable_selection import VariableSelection
from keras_losskit.weighting._variable_selection import checked_names
from keras_losskit.weighting._variable_selection import named

#: Statistics a weighting can ask for, and the shape of each by number of terms.
STATISTICS = {
    "values": lambda terms: (terms,),
    "step": lambda terms: (),
    "gramian": lambda terms: (terms, terms),
}


@keras.saving.register_keras_serializable("keras_losskit")
class Weighting(keras.layers.Layer):
    """What sets the weights of K terms over and above the user's own.

    A weighting sees one statistic of the terms, never a model. A subclass says
    which (`statistic`), makes its variables in `build` and defines `weigh`.
    Learned variables are trainable: the gradient reaches them through the
    weights and `extra_loss`. Running state is not, and moves in `weigh` by
    `.assign`, only when `training`. Nothing else may change, and no Python
    branch may depend on a value, since JAX traces the step once.

    It is called: `weighting(statistic, training=False)` gives the weights.

    `compile` copies a weighting by its config. The arguments of a subclass'
    constructor get into it by themselves if each is kept in the attribute of
    its name and is a number, string, boolean, None, or a list or dict of these;
    other subclasses define `get_config`. The constructor hands `**options` on
    to this one.

    Args:
        terms: The terms that take part, by name or regular expression, or a
            list of them: compiled losses, extra terms, and what layers add
            under a name (`add_loss(kl, name="kl")`), all of one name together.
            The others keep the weights that the user gave. Defaults to all
            compiled losses and extra terms.
        name: Name of the layer.
        dtype: Dtype of the variables. Defaults to float32, whatever the
            global policy.
        trainable: Whether what the method learns is learned.

    Raises:
        ValueError: before training, for `terms` that match none of the loss; on
            use, if the statistic is not of the shape that fits the number of
            terms.

    Example:
        >>> class RelativeInverse(Weighting):
        ...     statistic = "values"
        ...
        ...     def weigh(self, values, training):
        ...         inverse = 1.0 / (values + 1e-6)
        ...         return inverse * self.num_terms / ops.sum(inverse)
        >>> weights = RelativeInverse()(ops.array([1.0, 3.0]))
        >>> [round(float(weight), 4) for weight in weights]
        [1.5, 0.5]
    """

    #: `"values"` (K,), `"step"` (), or `"gramian"` (K, K).
    statistic = "values"
    #: Whether a method over the Gramian is to be given `values=` as well.
    takes_values = False
    #: What a `GradientWeighting` can be given.
    wrt: VariableSelection | None = None
    every = 1

    @naming_the_class
    def __init__(
        self,
        *,
        terms: str | Sequence[str] | None = None,
        name: str | None = None,
        dtype: DType | None = None,
        trainable: bool = True,
    ):
        owner = type(self).__name__
        if name is not None:
            checked_name(name, f"`name` of {owner}")
        super().__init__(
            name=name,
            dtype=checked_dtype(
                "float32" if dtype is None else dtype, f"`dtype` of {owner}"
            ),
            trainable=checked_flag(trainable, f"`trainable` of {owner}"),
        )
        self.terms = None if terms is None else checked_names(terms, "`terms`")
        self.num_terms: Any = None  # until it is built

    def members(self, names: Sequence[str]) -> list[str]:
        """Those of the names of all terms that take part, in their order."""
        if self.terms is None:
            return list(names)
        return named(self.terms, names, f"`terms` of {type(self).__name__}")

    def build(self, num_terms: int) -> None:
        """Make the variables for `num_terms` terms."""
        if num_terms == 0:
            raise ValueError(
                f"Expected {self!r} to have a term to weigh: a compiled loss "
                "or an extra term. Received: `num_terms` of 0. Give `compile` "
                "a loss, or leave `weighting` out: penalties keep the weights "
                "that you gave."
            )
        self.num_terms = checked_count(num_terms, f"`num_terms` of {self.name}")

    def get_build_config(self) -> Config | None:
        return {"num_terms": self.num_terms} if self.built else None

    def build_from_config(self, config: Config | None) -> None:
        """Build as the layer was that was saved."""
        if config:
            self.build(config["num_terms"])

    def save_own_variables(self, store: Any) -> None:
        super().save_own_variables(store)
        if self.num_terms is not None:
            store["num_terms"] = np.array(self.num_terms)
            # Not every backend hands Keras' writer a string.
            name = keras.saving.get_registered_name(type(self))
            store["class"] = np.frombuffer(name.encode(), "uint8")

    def load_own_variables(self, store: Any) -> None:
        """Read the state, and build for it; without one all stays as it is.

        Raises:
            ValueError: for the state of another weighting.
        """
        rest = {key: store[key] for key in store.keys()}
        if not rest:
            return
        try:
            self._check_class(rest.pop("class", None))
            num_terms = rest.pop("num_terms", self.num_terms)
            if not self.built and num_terms is not None:
                self.build(int(np.asarray(num_terms)))
            super().load_own_variables(rest)
        except ValueError as error:
            # Keras forgets an error if it finds the object by another name too,
            # as the loss of a model and all below it.
            warnings.warn(str(error), stacklevel=2)
            raise

    def _check_class(self, stored):
        """Refuse the state of another class; 0.1.0 wrote no name: None."""
        expected = keras.saving.get_registered_name(type(self))
        if stored is None:
            return
        received = np.asarray(stored, "uint8").tobytes().decode()
        if received != expected:
            raise ValueError(
                f"Expected the state of {short(expected)} for {self!r}. "
                f"Received: a file with that of {short(received)}. Compile "
                "the model with that weighting, or without one."
            )

    def add_state(self, name: str, initial: float = 0.0) -> keras.Variable:
        """Make a non-trainable `(K,)` variable, every element `initial`."""
        return self.add_weight(
            name=name,
            shape=(self.num_terms,),
            initializer=keras.initializers.Constant(initial),
            trainable=False,
        )

    # Not by way of `Layer.__call__`, which takes the first argument for inputs
    # of the layer: it casts float64 to float32 and builds by their shape.
    def __call__(
        self, statistic: TensorLike, training: bool = False, **more: Any
    ) -> Tensor:
        """The weights of the terms.

        Args:
            statistic: What `self.statistic` says. Its gradient is stopped.
            training: Whether running state moves. A statistic with NaN or
                infinity leaves it as it is; a Gramian with one counts as a
                Gramian of zeros.
            **more: What `weigh` takes beyond the statistic.

        Returns:
            `(K,)`, of the statistic's dtype, float32 at least.

        Raises:
            ValueError: if the statistic is not of the shape that fits the
                number of terms.
        """
        statistic = in_float(statistic)
        self._check_shape(tuple(statistic.shape))
        finite = all_finite(statistic, *more.values())
        if self.statistic == "gramian":
            # Solvers raise, or answer with NaN, as the framework likes.
            statistic = ops.where(finite, statistic, ops.zeros_like(statistic))
        state = self.non_trainable_variables if training else []
        before = [ops.copy(variable) for variable in state]
        weights = self.weigh(statistic, training=training, **more)
        # One bad batch must not stay in the state for ever.
        for variable, value in zip(state, before, strict=True):
            variable.assign(ops.where(finite, variable.value, value))
        return ops.cast(weights, statistic.dtype)

    def _check_shape(self, shape):
        """Build for a statistic of this shape, or see that it fits."""
        if not self.built:
            if self.statistic == "step":
                raise ValueError(
                    f"Expected {self.name} to be built: the step does not "
                    "tell the number of terms. Call `build(num_terms)`. "
                    "Received: an unbuilt weighting"
                )
            self.build(shape[0])
        expected = STATISTICS[self.statistic](self.num_terms)
        if shape != expected:
            raise ValueError(
                f"Expected {self.name} to receive {self.statistic} of shape "
                f"{expected}. Received: shape {shape}"
            )

    def weigh(self, statistic: Tensor, training: bool) -> Tensor:
        """Weights of the terms, `(K,)`; a subclass defines it."""
        raise NotImplementedError(
            f"Expected {type(self).__name__} to define "
            "`weigh(self, statistic, training)`."
        )

    def extra_loss(self, values: TensorLike | None = None) -> Tensor | None:
        """What the method itself adds to the loss.

        Args:
            values: Values of the terms, `(K,)`; a term of exactly 0 is absent
                and adds nothing. Without them every term counts.

        Returns:
            A scalar tensor, or None where the method adds nothing.
        """
        return None

    def on_epoch_end(self) -> None:
        """Take note that an epoch of training is over."""

    def get_config(self) -> Config:
        return {
            **super().get_config(),
            **own_arguments(self),
            "terms": None if self.terms is None else list(self.terms),
        }

    def __repr__(self) -> str:
        try:
            config = self.get_config()
        except NotImplementedError:  # none can be derived
            return f"{type(self).__name__}(...)"
        arguments = [
            f"{name}={value!r}"
            for name, value in config.items()
            if name not in ("name", "trainable", "dtype")
            and value is not None
            and (name, value) != ("every", 1)
        ]
        return f"{type(self).__name__}({', '.join(arguments)})"


@keras.saving.register_keras_serializable("keras_losskit")
class RandomWeighting(Weighting):
    """A weighting that draws random numbers.

    The state of its generator is saved with its variables, so that a resumed
    run draws what the first would have drawn; Keras by itself does not save
    it.

    Args:
        seed: Seed of the generator, an int. Defaults to a random one.
        **options: As for `Weighting`.
    """

    def __init__(self, *, seed: int | None = None, **options):
        super().__init__(**options)
        if seed is not None:
            seed = checked_index(seed, f"`seed` of {type(self).__name__}")
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def get_config(self) -> Config:
        return {**super().get_config(), "seed": self.seed}

    def save_own_variables(self, store: Any) -> None:
        super().save_own_variables(store)
        store["seed_generator"] = self.seed_generator.state

    def load_own_variables(self, store: Any) -> None:
        rest = {key: store[key] for key in store.keys()}
        seed = rest.pop("seed_generator", None)
        super().load_own_variables(rest)
        if seed is not None:
            self.seed_generator.state.assign(seed)


def checked_weighting(given):
    """The weighting that `given` stands for: an object, a name, or None.

    Example:
        >>> checked_weighting("pcgrad")
        PCGrad()
    """
    named = None
    if isinstance(given, str):
        named = object_of_class(given, Weighting, "`weighting`")
    weighting = given if named is None else named
    if weighting is None or isinstance(weighting, Weighting):
        return weighting
    raise refused(
        given,
        "`weighting` to be an object of keras_losskit.weighting, the name of "
        "one of its classes, or None",
        remedy="Give an object, such as `weighting.PCGrad()`",
    )


def checked_dtype(dtype, what):
    """Return `dtype` if it is a dtype of floats, or a policy."""
    if isinstance(dtype, keras.DTypePolicy):
        return dtype
    try:
        floats = keras.backend.is_float_dtype(dtype)
    except (TypeError, ValueError, AttributeError):
        floats = False
    if not floats:
        raise refused(
            dtype, f"{what} to be a dtype of floats", error=ValueError
        )
    return dtype


def short(registered_name):
    """The name of a class without the package it is registered for."""
    return registered_name.rpartition(">")[2]


def in_float(statistic):
    """A statistic without gradient, in float32 at least."""
    return at_least_float32(ops.stop_gradient(ops.convert_to_tensor(statistic)))
