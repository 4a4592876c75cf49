"""Tables on the device with a row for each sample."""

import keras
from keras import ops

from keras_losskit import _backend
from keras_losskit import _keras
from keras_losskit._types import Tensor


def assign_rows(variable: keras.Variable, ids: Tensor, rows: Tensor) -> None:
    """Put rows into a table, wherever it is assigned.

    Args:
        variable: `(samples, ...)`.
        ids: `(batch,)`, integers; the rows of one that comes twice are equal.
        rows: `(batch, ...)`.
    """
    rows = ops.cast(rows, variable.dtype)
    in_place = _keras.get_stateless_scope() is None
    # A mirrored variable of TensorFlow takes whole values only.
    if in_place and _backend.num_replicas() == 1:
        _backend.assign_rows(variable, ids, rows)
        return
    table = ops.convert_to_tensor(variable)
    index = ops.expand_dims(ids, axis=-1)
    variable.assign(ops.scatter_update(table, index, rows))
