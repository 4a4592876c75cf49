"""`BuiltLosses`: what the loss that a user wrote became for one model."""

import dataclasses
import functools
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras

from keras_losskit import _weights as weights_lib
from keras_losskit._support import replicas
from keras_losskit._support.named_classes import name_of
from keras_losskit._types import Structure
from keras_losskit.container._arguments import weights_beyond_compiled
from keras_losskit.container._log_entries import log_entries
from keras_losskit.container._log_entries import refuse_names_of_metrics
from keras_losskit.container._output_losses import OutputLosses
from keras_losskit.container._refusals import refuse_late_schedules
from keras_losskit.container._refusals import refuse_names_of_parts
from keras_losskit.container._sample_weighting_step import SampleWeighing
from keras_losskit.container._tracker import TermTracker
from keras_losskit.container._weighting_step import member_name
from keras_losskit.container._weighting_step import weighted
from keras_losskit.extra.context import Context
from keras_losskit.penalties.collect import PENALTY_KINDS
from keras_losskit.reductions._sample_values import SampleWatch
from keras_losskit.reductions._sample_values import current_watch
from keras_losskit.reductions._sample_values import watched_by
from keras_losskit.terms import KINDS
from keras_losskit.terms import LossTerm
from keras_losskit.terms import LossTerms
from keras_losskit.terms import add_up
from keras_losskit.terms import unique_names
from keras_losskit.terms import with_unique_names

NO_LOSSES = OutputLosses()
NOTHING: Mapping[int, Any] = {}


@dataclasses.dataclass(frozen=True)
class DescribedTerm:
    """What there is to say of a term without a batch.

    Args:
        term: The `LossTerm`, without value, with the weight of the next step.
        reduction: How its values become a scalar, in a word.
        moves: Whether its weight moves during training.
    """

    term: LossTerm
    reduction: str
    moves: bool


class BuiltLosses:
    """The losses of one model: computes their terms, and knows what moves.

    Made once per `compile`, when the outputs are known; before that a container
    has one over no outputs.

    Args:
        recipe: The `LossesContainer` whose losses these are.
        output_losses: `OutputLosses`, the compiled ones.
        penalties: `LossTerm`s beyond the compiled ones that the model can
            produce; None where they are not known.
        kinds: The kinds that it can produce.
        picked: Ids of the variables that a Gramian is taken over; None for all.
        metrics: What else is logged, which no term may be called.
        logs: Whether the terms are logged, for which all must be known.
        logged: Names under which layers log values.

    Raises:
        ValueError: for names that clash, or a penalty group that matches none
            of the penalties.
    """

    def __init__(
        self,
        recipe: Any,
        output_losses: OutputLosses = NO_LOSSES,
        penalties: Iterable[LossTerm] | None = None,
        *,
        kinds: Iterable[str] = KINDS,
        picked: set[int] | None = None,
        metrics: Sequence[str] = (),
        logs: bool = False,
        logged: Iterable[str] = (),
    ):
        self.output_losses = output_losses
        self.parts = output_losses.parts
        self.penalties = recipe.penalties
        self.extra_terms = recipe.extra_terms
        self.weighting = recipe.weighting
        self.weighs_gradients = recipe.weighs_gradients
        self.clock = recipe.clock
        self.picked = picked
        # Without values, which may be of a step that is only traced.
        self.known_penalties = [
            dataclasses.replace(term, value=None) for term in penalties or ()
        ]
        refuse_names_of_parts(self.parts, self.extra_terms)
        #: The weights of what a weighting can weigh, by the name of the term.
        self.weights = {
            **{part.name: part.product for part in self.parts},
            **{name: term.weight for name, term in self.extra_terms.items()},
        }
        #: The names of `add_loss` that a weighting weighs if it names them.
        self.labels = [
            label
            for label in dict.fromkeys(t.label for t in self.known_penalties)
            if label and label not in self.weights and self.penalties["added"]
        ]
        weights = [
            *(part.product for part in self.parts),
            *weights_beyond_compiled(recipe),
            *(term.weight for term in self.known_penalties),
        ]
        #: Whether anything depends on the step or the epoch.
        self.counts_steps = self.weighting is not None or any(
            map(weights_lib.is_schedule, weights)
        )
        self._weight_variables = [
            variable
            for weight in weights
            for variable in weights_lib.weight_variables(weight)
        ]
        #: What weighs the samples of terms.
        self.sample_weighing = SampleWeighing(
            recipe.sample_weighting, list(self.weights), self.labels
        )
        self._adopted: tuple[keras.Variable, ...] = ()
        #: Whether all that the losses read is known; of a loss that runs only
        #: in a step of the user's own, no one can say.
        self.reads_known = False
        #: Whether all metrics were compared with the names of the terms.
        self.names_are_checked = False
        #: The metric behind all that is logged; None where nothing is.
        self.tracker: Any = None
        if logs:
            groups = self._groups(check=penalties is not None)
            if self.weighting is not None and not self.weighting.built:
                self.weighting.build(len(self.weighted_names()))
            self.sample_weighing.build()
            self.tracker = self._new_tracker(kinds, groups, recipe.log, logged)
            refuse_names_of_metrics(self.tracker.entries, metrics)

    def _groups(self, check):
        """`{logged name: [term names]}` of extra terms and penalty groups."""
        groups = {name: [name] for name in self.extra_terms}
        for kind, penalty in self.penalties.items():
            if penalty is None or not check:
                continue
            members = [t for t in self.known_penalties if t.kind == kind]
            penalty.check_patterns(members)
            for name, group in penalty.members(members).items():
                groups.setdefault(group, []).append(name)
        return groups

    def _new_tracker(self, kinds, groups, log, logged):
        weighed = self.weighted_names() if self.weighting else []
        return TermTracker(
            log_entries(
                [
                    *(
                        LossTerm(
                            part.name,
                            "compiled",
                            None,
                            output=part.logged_output or part.output,
                        )
                        for part in self.parts
                    ),
                    *self.known_penalties,
                    *self._valued_extra(lambda term: None),
                ],
                kinds=kinds,
                moving=[
                    *(
                        name
                        for name, weight in self.weights.items()
                        if name in weighed or weights_lib.moves(weight)
                    ),
                    *(label for label in self.labels if label in weighed),
                ],
                found_later=weighed if self.weighs_gradients else (),
                log=log,
                groups=groups,
                logged=logged,
            )
        )

    def describe(self) -> dict[str, DescribedTerm]:
        """All terms that are known by their names, in the order of a batch's.

        A gradient-based weighting moves no weight: it shapes the update.
        """
        clock = self.clock.now()
        moving = {n for n, w in self.weights.items() if weights_lib.moves(w)}
        # Without a batch the terms of a subclassed model are not known.
        if self.weighting and self.weights and not self.weighs_gradients:
            moving.update(self.weighted_names())
        rows = [
            DescribedTerm(
                part.term(None, clock),
                word_for(part.loss.reduction),
                part.name in moving,
            )
            for part in self.parts
        ]
        known = self.known_penalties + self._valued_extra(lambda term: None)
        for kind, penalty in self.penalties.items():
            terms = [t for t in known if penalty and t.kind == kind]
            weighted_terms = penalty.apply(terms, clock) if penalty else []
            for term, with_weight in zip(terms, weighted_terms, strict=True):
                moves = member_name(term, moving) is not None or any(
                    map(weights_lib.moves, penalty.weights_of(term))
                )
                word = self._reduction_of(term, penalty)
                rows.append(DescribedTerm(with_weight, word, moves))
        names = unique_names(row.term.name for row in rows)
        return dict(zip(names, rows, strict=True))

    def _reduction_of(self, term, penalty):
        """How the values of a term beyond the compiled ones become a scalar."""
        if term.kind != "added":
            return penalty.reduction
        extra = self.extra_terms.get(term.name)
        # Of what a layer adds, only the scalar is known.
        return "" if extra is None else word_for(extra.reduction)

    def _valued_extra(self, value_of):
        """The extra terms as `LossTerm`s, with the value of each."""
        return [
            LossTerm(name, "added", value_of(term), weight=term.weight)
            for name, term in self.extra_terms.items()
        ]

    # ------------------------------------------------------------------ terms

    def weighted_names(self) -> list[str]:
        """What a weighting weighs: compiled losses and extra terms.

        Or what it names of these and of the names of `add_loss`; penalties keep
        their own weights.
        """
        names = list(self.weights)
        if self.weighting is None or self.weighting.terms is None:
            return names
        return self.weighting.members([*names, *self.labels])

    def terms(
        self,
        y_true: Structure,
        y_pred: Structure,
        sample_weight: Structure | None,
        penalties: list[LossTerm],
        context: Context | None,
        moves: bool,
        unprojected: Mapping[int, Any] = NOTHING,
        *,
        training: bool = False,
        ids: Any = None,
    ) -> LossTerms:
        """The terms of one batch; the clock is left to the caller.

        Args:
            y_true: Nest of labels.
            y_pred: Nest of predictions.
            sample_weight: Nest of sample weights.
            penalties: List of `LossTerm` of the kinds beyond the compiled one.
            context: `Context` for extra terms, or None.
            moves: Whether the weighting moves on.
            unprojected: `{position: Unprojected}` of the predictions, flat,
                that are what the output layer was given, and no logits.
            training: Whether it is a training step, in which samples are
                weighed.
            ids: Ids of the samples, where they have some.

        Returns:
            `LossTerms`.
        """
        if moves and not self.counts_steps:
            refuse_late_schedules(penalties)
        clock = self.clock.now()
        share = replicas.batch_share(y_pred)
        weighs = bool(self.sample_weighing) and training
        watch = current_watch() or (SampleWatch() if weighs else None)
        with watched_by(watch):
            terms = self.output_losses.terms(
                y_true, y_pred, sample_weight, clock, unprojected
            )
        if context is not None and self.extra_terms:
            context = dataclasses.replace(
                context,
                compiled=functools.partial(
                    self._compiled_total, y_true, sample_weight, clock, share
                ),
                moves=moves or context.moves,
            )
        with watched_by(watch):
            extra = self._valued_extra(lambda term: term(context))
        added = self._with_penalties([*penalties, *extra], clock)
        if weighs:
            both = self.sample_weighing.apply(
                [*terms, *added], watch, ids, clock, moves
            )
            terms, added = both[: len(terms)], both[len(terms) :]
        terms = replicas.all_reduced([*terms, *replicas.shared(added, share)])
        if self.weighting is not None and not self.weighs_gradients:
            terms = weighted(
                terms, self.weighting, self.weighted_names(), clock[0], moves
            )
        return LossTerms(with_unique_names(terms)).summed()

    def _compiled_total(self, y_true, sample_weight, clock, share, y_pred):
        """The compiled losses at other predictions, as a replica's whole."""
        # At other inputs: the values are not of the samples.
        with watched_by(None):
            terms = self.output_losses.terms(
                y_true, y_pred, sample_weight, clock
            )
        total = add_up(term.contribution for term in terms)
        # Made a part when the terms are added up, as all extra terms are.
        return replicas.undo_share(total, share)

    def _with_penalties(self, terms, clock):
        """The terms beyond the compiled ones, with the weight of their kind."""
        found = []
        for kind in PENALTY_KINDS:
            penalty = self.penalties[kind]
            members = [term for term in terms if term.kind == kind]
            if penalty is not None and members:
                found += penalty.apply(members, clock)
        return found

    def track(
        self,
        terms: LossTerms,
        batch_size: Any,
        training: bool,
        logged: Mapping[str, Any] | None = None,
    ) -> None:
        """Take the terms of a step into the running means, and count it.

        Args:
            terms: What the step came to.
            batch_size: Number of samples, a number or an integer scalar.
            training: Whether it is a training step; no other counts.
            logged: `{name: scalar}` of what layers logged.
        """
        self.tracker.track(terms, batch_size, training, logged)
        if training:
            self.count_step()

    def count_step(self) -> None:
        """Count a training step where anything depends on it."""
        if self.counts_steps:
            self.clock.tick()

    # ------------------------------------------------------------------ state

    def adopt(self, variables: Iterable[keras.Variable]) -> None:
        """Take on variables that a loss function of the user's closes over."""
        self._adopted += tuple(variables)
        self.reads_known = True

    @property
    def variables(self) -> list[keras.Variable]:
        """All of the state that moves during training."""
        return self.trainable_variables + self.non_trainable_variables

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
        found += self._weight_variables
        for term in self.extra_terms.values():
            found += term.variables
        if self.weighting is not None:
            found += self.weighting.non_trainable_variables
        found += self.sample_weighing.variables
        found += self._adopted
        return list({id(variable): variable for variable in found}.values())


def word_for(reduction):
    """A reduction in a word: its name, or that of a function or object."""
    return reduction if isinstance(reduction, str) else name_of(reduction)
