"""Whether something is a loss, before it is resolved."""

import keras

from keras_losskit._support.checks import refused
from keras_losskit._support.checks import takes
from keras_losskit.losses._core.composition import parts_of
from keras_losskit.losses._core.names import has_default_name
from keras_losskit.losses._core.refusals import refuse_as_loss
from keras_losskit.terms import checked_term_name


def check_loss(loss, place=""):
    """Refuse what is no loss, as far as can be seen without its labels.

    Args:
        loss: A name, which is resolved later, a function, a `Loss` object or
            class, the config of one, or None.
        place: Where it stands, for the error: `" for 'a'"`.

    Raises:
        TypeError: for what belongs elsewhere, such as a metric or a schedule.
        ValueError: for anything else, and for a loss that bears the name of a
            kind.

    Example:
        >>> check_loss("mse")
    """
    if isinstance(loss, keras.losses.Loss):
        for part in parts_of(loss):
            # A function called `loss` is named by nobody.
            if not (isinstance(part.name, str) and has_default_name(part.loss)):
                checked_term_name(part.name, "the name of a loss")
        return
    if loss is None or isinstance(loss, str | dict):
        return
    if isinstance(loss, type) and issubclass(loss, keras.losses.Loss):
        return
    expected = (
        f"a loss{place} to be a name, a function of (y_true, y_pred) or a "
        "`keras.losses.Loss`"
    )
    refuse_as_loss(loss, expected)
    is_loss = callable(loss) and not isinstance(loss, type | keras.layers.Layer)
    if not is_loss or not takes(loss, "y_true", "y_pred"):
        raise refused(loss, expected, error=ValueError)
