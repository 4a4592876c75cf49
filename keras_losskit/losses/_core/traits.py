"""What a loss says of itself, beyond what Keras asks of every loss."""

from typing import Any


class LossTraits:
    """What holds of a loss that says nothing else, such as those of Keras."""

    #: Raised when the meaning of a config changes.
    version = 1
    #: What the value is multiplied by.
    weight: Any = 1.0
    #: Whether it is made of parts, each with a name and weight.
    is_composite = False
    #: Whether there is no value without labels.
    needs_labels = True
    #: Whether nobody wrote its name.
    named_by_itself = False
    #: Whether it computes in float32 at least, whatever `dtype` says.
    widens = False
    #: Whether it leaves out the places of a mask in `call_on_places`.
    counts_places = False
    #: Whether it takes `Unprojected` predictions, in `call_on_features`.
    takes_features = False

    @property
    def keeps_integers(self) -> bool:
        """Whether labels that are no floats reach `call` as they came."""
        return False

    @property
    def shares_logits(self) -> bool:
        """Whether a composite may hand over its softmax."""
        return False

    @property
    def values_follow_batch(self) -> bool:
        """Whether the values have the batch in front."""
        return True


_DEFAULTS = LossTraits()


def traits_of(loss) -> LossTraits:
    """`loss` itself if it is of this package; else what holds by default."""
    return loss if isinstance(loss, LossTraits) else _DEFAULTS
