"""`Weighting`: from one statistic of the terms to one weight per term."""

from typing import Any

import keras
from keras import ops

from keras_losskit._support.checks import checked_index
from keras_losskit._support.checks import refused
from keras_losskit._support.named_classes import object_of_class
from keras_losskit._support.precision import at_least_float32
from keras_losskit._types import Config
from keras_losskit._types import Tensor
from keras_losskit._types import TensorLike
from keras_losskit.weighting._arithmetic import all_finite
from keras_losskit.weighting._base import WeightingOfTerms

#: Statistics a weighting can ask for, and the shape of each by number of terms.
STATISTICS = {
    "values": lambda terms: (terms,),
    "step": lambda terms: (),
    "gramian": lambda terms: (terms, terms),
}


@keras.saving.register_keras_serializable("keras_losskit")
class Weighting(WeightingOfTerms):
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
    remedy = "Give an object, such as `weighting.PCGrad()`"
    if isinstance(weighting, WeightingOfTerms):
        remedy = "Give what weighs samples as `sample_weighting`"
    raise refused(
        given,
        "`weighting` to be an object of keras_losskit.weighting that weighs "
        "terms, the name of its class, or None",
        remedy=remedy,
    )


def in_float(statistic):
    """A statistic without gradient, in float32 at least."""
    return at_least_float32(ops.stop_gradient(ops.convert_to_tensor(statistic)))
