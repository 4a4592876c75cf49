"""What a model of this package keeps beside what Keras keeps of it."""

import dataclasses
from typing import Any

from keras_losskit.container._sample_table import SampleTable
from keras_losskit.models._output_layers import OutputLayer
from keras_losskit.penalties._fused import FusedPenalties
from keras_losskit.penalties._recorder import LayerState
from keras_losskit.penalties._recorder import Recorder
from keras_losskit.terms import LossTerm
from keras_losskit.terms import LossTerms


@dataclasses.dataclass
class Pass:
    """What the last forward pass of a model left.

    Args:
        recorder: Its recorder; None if nobody recorded it.
        ids: Ids of its samples, where they have some.
        penalties: The terms beyond the compiled ones, where they are computed
            with the pass and not asked for later.
        model: The model.
    """

    recorder: Recorder | None = None
    ids: Any = None
    penalties: list[LossTerm] | None = None
    model: Any = None


@dataclasses.dataclass
class StepState(LayerState):
    """What a thread keeps from the forward pass to the end of the step.

    Args:
        reported: See `LayerState`.
        last: The last forward pass outside of a step on JAX.
        computed: The terms of the last `compute_loss`, until somebody asks.
        weighs_gradients: Whether a step with a gradient-based weighting runs.
        output_layers: `{layer: OutputLayer}` of those whose logits the next
            pass does without.
        scores: `{position: scores}` of outputs without logits that have
            metrics, until these are updated.
        purged: Pairs of a variable that Keras emptied for `fit`, and its value.
    """

    last: Pass = dataclasses.field(default_factory=Pass)
    computed: LossTerms | None = None
    weighs_gradients: bool = False
    output_layers: dict[Any, OutputLayer] = dataclasses.field(
        default_factory=dict
    )
    scores: dict[int, Any] = dataclasses.field(default_factory=dict)
    purged: list[tuple[Any, Any]] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class ModelState:
    """All that a model of this package keeps; a copy of the model has its own.

    Args:
        step: Of each thread its own.
        fused: Weight regularizers computed together; None where they are not.
        seeds: What saves the seeds, once it was asked for.
        batch: Shapes of the batch that the loss was built for: inputs, labels
            and sample weights.
        evaluates: Whether `evaluate` is under way.
        fits: Whether `fit` is.
        output_layers: Those that a `LinearCrossEntropy` names, `{layer:
            OutputLayer}`; None until they are looked for.
        samples: The `SampleTable` that training steps keep up to date, or None.
    """

    step: StepState = dataclasses.field(default_factory=StepState)
    fused: FusedPenalties | None = None
    seeds: Any = None
    batch: Any = None
    evaluates: bool = False
    fits: bool = False
    output_layers: dict[Any, OutputLayer] | None = None
    samples: SampleTable | None = None

    @property
    def reported(self):
        """See `LayerState`."""
        return self.step.reported
