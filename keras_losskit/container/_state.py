"""What of a loss moves: weights, schedules, weightings, running means."""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras

from keras_losskit import _weights as weights_lib
from keras_losskit._types import MixesIntoLoss
from keras_losskit._types import Weight
from keras_losskit.container._output_losses import OutputLosses
from keras_losskit.extra import ExtraTerm
from keras_losskit.penalties.penalty import Penalty
from keras_losskit.schedules._step_counter import StepCounter
from keras_losskit.terms import LossTerm
from keras_losskit.terms import LossTerms
from keras_losskit.weighting import Weighting


class MovingState(MixesIntoLoss):
    """Mixin of `LossesContainer`: its variables, and what depends on them."""

    # Weights that layers gave to `add_loss`.
    _added_weights: Sequence[Weight] = ()
    _compiled: OutputLosses
    # Variables that a loss function of the user's turned out to read.
    adopted: tuple[keras.Variable, ...] = ()
    built: bool
    clock: StepCounter
    extra_terms: dict[str, ExtraTerm]
    penalties: dict[str, Penalty | None]
    total_loss_mean: keras.metrics.Metric | None
    # Its `TermTracker`, once it is built.
    tracker: Any = None
    weighting: Weighting | None
    weight_variables: Callable[[], list[keras.Variable]]

    @property
    def weighs_gradients(self) -> bool:
        """Whether the weights come from the gradients of the terms."""
        return (
            self.weighting is not None and self.weighting.statistic == "gramian"
        )

    def refuse_gradient_weighting(self) -> None:
        """Refuse a training step that knows nothing of a gradient weighting.

        Raises:
            ValueError: if the weighting is one over gradients.
        """
        if self.weighs_gradients:
            raise ValueError(
                f"Expected {self.weighting!r}, which weighs the terms' "
                "gradients, to be trained by `fit` of a `keras_losskit.Model` "
                "or of `keras_losskit.wrap(model)`. Received: a call of the "
                "container, whose total has the weights of the user only. In "
                "a `train_step` of your own call `super().train_step(...)`; in "
                "a loop of your own take the gradients of the terms of "
                "`container.compute(...)` and ask `weighting(gramian)`."
            )

    def refuse_keras_trainer(self, hint: str) -> None:
        """Refuse Keras' own trainer, which does not know what moves here.

        It would stand still on JAX, and elsewhere move in evaluation too.

        Args:
            hint: The remedy.

        Raises:
            ValueError: if anything moves.
        """
        if self.variables or self.weighting is not None:
            self.built = False  # refused again the next time
            raise ValueError(
                "Expected a loss in which nothing moves: no weight that is a "
                f"variable or schedule, no weighting. Received: {self!r}. "
                f"{hint}"
            )

    def refuse_late_schedules(self, penalties: Sequence[LossTerm]) -> None:
        """Refuse weights that should follow a step which nobody counts.

        Args:
            penalties: Terms that layers added.

        Raises:
            ValueError: naming the terms, if there are any.
        """
        if self.counts_steps:
            return
        late = [
            term.name
            for term in penalties
            if not isinstance(term.weight, float)
            and weights_lib.is_schedule(term.weight)
        ]
        if late:
            raise ValueError(
                "Expected the container to know of losses whose weights "
                "follow a schedule when it is built, to count the steps. "
                f"Received: {late}, not known then. Call "
                "`container.build(y_true, y_pred, model.losses)` after a "
                "forward pass, or build the model anew by `compile`."
            )

    def on_epoch_end(self) -> None:
        """Tell schedules by epoch, and the weighting, that one is over."""
        self.clock.on_epoch_end()
        if self.weighting is not None:
            self.weighting.on_epoch_end()

    def count_step(self) -> None:
        """Count a training step where anything depends on it."""
        if self.counts_steps:
            self.clock.tick()

    def track(self, terms: LossTerms, batch_size: Any, training: bool) -> None:
        """Take the terms of a step into the running means, and count it.

        Args:
            terms: What the step came to.
            batch_size: Number of samples, a number or an integer scalar.
            training: Whether it is a training step; no other counts.
        """
        self.tracker.track(terms, batch_size, training)
        if training:
            self.count_step()

    @property
    def counts_steps(self) -> bool:
        """Whether anything depends on the step or the epoch."""
        return self.weighting is not None or any(
            getattr(weight, "is_schedule", False)
            for weight in self._user_weights()
        )

    @property
    def trainable_variables(self) -> list[keras.Variable]:
        """What the weighting learns."""
        if self.weighting is None:
            return []
        return self.weighting.trainable_variables

    @property
    def non_trainable_variables(self) -> list[keras.Variable]:
        """What else moves during training, in a fixed order."""
        found = list(self.clock.variables) if self.counts_steps else []
        for weight in self._user_weights():
            found += weights_lib.weight_variables(weight)
        if self.weighting is not None:
            found += self.weighting.non_trainable_variables
        found += self.adopted
        return list({id(variable): variable for variable in found}.values())

    @property
    def variables(self) -> list[keras.Variable]:
        """All of the state that moves during training."""
        return self.trainable_variables + self.non_trainable_variables

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """Views of the running means, `loss` first; `[]` before a call."""
        if self.tracker is None:
            return []
        views = self.tracker.views()
        if self.total_loss_mean is not None:
            views[0] = self.total_loss_mean
        return views

    def save_own_variables(self, store: Any) -> None:
        """Write the variables among the weights, for files of weights only."""
        for index, variable in enumerate(self.weight_variables()):
            store[str(index)] = keras.ops.convert_to_numpy(variable.value)

    def load_own_variables(self, store: Any) -> None:
        """Read them; a file that has others leaves them as they are."""
        variables = self.weight_variables()
        if len(store.keys()) == len(variables):
            for index, variable in enumerate(variables):
                variable.assign(store[str(index)])

    def reset_state(self) -> None:
        """Start the running means anew."""
        for metric in (self.tracker, self.total_loss_mean):
            if metric is not None:
                metric.reset_state()

    def _user_weights(self):
        weights = list(self._compiled.weights.values())
        for penalty in self.penalties.values():
            weights += penalty.weights if penalty is not None else []
        weights += [term.weight for term in self.extra_terms.values()]
        weights += self._added_weights
        return weights
