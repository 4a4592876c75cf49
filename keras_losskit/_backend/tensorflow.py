"""TensorFlow."""

import contextlib

import keras
import tensorflow as tf
from tensorflow.python.eager import record


def num_replicas():
    """See `_backend.jax`."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def num_processes():
    """See `_backend.jax`."""
    return 1


def is_first_process():
    """See `_backend.jax`: Keras' `fit` takes no strategy of several."""
    return True


def data_parallel(group=None):
    """See `_backend.jax`: strategies know of their replicas."""
    del group
    return contextlib.nullcontext()


def register_pytree(cls):
    """See `_backend.jax`: `tf.nest` asks the class itself."""

    def flatten(self):
        children, static = self.tree_flatten()
        return static, children

    cls.__tf_flatten__ = flatten
    cls.__tf_unflatten__ = classmethod(
        lambda cls, static, children: cls.tree_unflatten(static, children)
    )


def is_tracer(tensor):
    """See `_backend.jax`: a graph carries assignments along."""
    del tensor
    return False


def is_out_of_scope(tensor):
    """See `_backend.jax`: its graph is neither this one nor around it."""
    if not tf.is_symbolic_tensor(tensor):
        return False
    graph = trace_state()
    while graph is not None and graph is not tensor.graph:
        graph = getattr(graph, "outer_graph", None)
    return graph is None


def stack_scalars(scalars):
    """See `_backend.jax`."""
    return tf.stack(scalars)


def promote(first, second):
    """See `_backend.jax`: TensorFlow itself promotes no dtype."""
    dtypes = {
        keras.backend.standardize_dtype(x.dtype)
        for x in (first, second)
        if hasattr(x, "dtype")
    }
    if len(dtypes) < 2:
        return first, second
    dtype = keras.backend.result_type(*dtypes)
    return tf.cast(first, dtype), tf.cast(second, dtype)


def is_concrete_on_cpu(tensor):
    """See `_backend.jax`."""
    # A variable can always be asked, and in a graph raises.
    near = hasattr(tensor, "numpy") and "CPU" in tensor.device
    return near and tf.executing_eagerly()


class Pullback:
    """See `_backend.jax`."""

    def __init__(self, function, variables):
        with tf.GradientTape(persistent=True) as self._tape:
            self._scalars, self.aux = function(None)
        self._variables = variables()

    def jacobian(self, rows, columns=None, keep=False):
        """See `_backend.jax`; as matrices."""
        del keep
        sources = self._variables
        if columns is not None:
            sources = [sources[i] for i in columns]
        each = [self._gradients(s, sources) for s in self._scalars[:rows]]
        return [
            tf.reshape(tf.stack(column), (rows, -1))
            for column in zip(*each, strict=True)
        ]

    def unpack(self, vectors):
        """See `_backend.jax`."""
        pairs = zip(vectors, self._variables, strict=True)
        return [tf.reshape(vector, like.shape) for vector, like in pairs]

    def combine(self, weights):
        """See `_backend.jax`."""
        weights = tf.unstack(weights, num=len(self._scalars))
        return self._gradients(self._scalars, self._variables, weights)

    def _gradients(self, targets, sources, weights=None):
        found = self._tape.gradient(
            targets,
            sources,
            output_gradients=weights,
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        # That of an embedding is a set of slices.
        return [tf.convert_to_tensor(gradient) for gradient in found]


def sum_over_replicas(tensors, few=False):
    """See `_backend.jax`. Outside of a replica all are taken to be alike.

    TensorFlow numbers collective operations anew in each `MirroredStrategy` of
    a process, and takes no other shape under a number it knows. So what depends
    on the losses, in shape and number, does without them.
    """
    if num_replicas() == 1:
        return tensors
    context = tf.distribute.get_replica_context()
    if context is None:
        return [num_replicas() * tensor for tensor in tensors]
    if few and isinstance(context.strategy, tf.distribute.MirroredStrategy):
        return context.merge_call(added_up, args=tensors)
    return context.all_reduce("sum", tensors)


def added_up(strategy, *tensors):
    """The sum of each over the replicas, from outside of them."""
    return [
        tf.add_n(strategy.experimental_local_results(each)) for each in tensors
    ]


def gathered(tensor):
    """See `_backend.jax`. Outside of a replica all are taken to be alike."""
    if num_replicas() == 1:
        return tensor
    context = tf.distribute.get_replica_context()
    if context is None:
        return tf.concat(num_replicas() * [tensor], 0)
    size = tf.shape(tensor)[:1]
    parts = size, tf.stop_gradient(tensor)
    if isinstance(context.strategy, tf.distribute.MirroredStrategy):
        sizes, found = context.merge_call(side_by_side, args=parts)
    else:
        sizes, found = context.all_gather(parts, axis=0)
    before = tf.reduce_sum(sizes[: context.replica_id_in_sync_group])
    around = [[before, tf.reduce_sum(sizes) - before - size[0]]]
    around += (len(tensor.shape) - 1) * [[0, 0]]
    own = tf.pad(tf.ones_like(tensor, "bool"), around)
    # No sum with what is infinite.
    return tf.where(own, tf.pad(tensor, around), found)


def owned(rows, own):
    """See `_backend.jax`."""
    size = tf.shape(own)[0]
    context = tf.distribute.get_replica_context()
    if num_replicas() == 1 or context is None:
        return rows[:size]
    sizes = gathered(size[None])
    start = tf.reduce_sum(sizes[: context.replica_id_in_sync_group])
    return rows[start : start + size]


def side_by_side(strategy, *tensors):
    """Each of all replicas, one after the other, from outside of them."""
    return [
        tf.concat(strategy.experimental_local_results(each), 0)
        for each in tensors
    ]


def apply_gradients(optimizer, gradients, variables):
    """See `_backend.jax`."""
    optimizer.apply_gradients(zip(gradients, variables, strict=True))


def trace_state():
    """See `_backend.jax`: the graph under construction."""
    return None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()


def input_gradients(function, inputs, differentiable=False):
    """See `_backend.jax`: a tape around this one sees what it does."""
    del differentiable
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(inputs)
        value = function(inputs)
    return tape.gradient(
        value, inputs, unconnected_gradients=tf.UnconnectedGradients.ZERO
    )


def random_state_kept():
    """See `_backend.jax`."""
    return contextlib.nullcontext()


#: See `_backend.jax`: one kernel per variable, and one for its gradient.
FUSES_PENALTIES = True


def sum_of_powers(variables, order):
    """See `_backend.jax`."""
    if order == 2:
        return 2.0 * tf.add_n([tf.nn.l2_loss(v.value) for v in variables])
    return tf.add_n([tf.reduce_sum(tf.abs(v.value)) for v in variables])


def value_now(variable):
    """See `_backend.jax`."""
    with tf.init_scope():
        return variable.value.numpy()


def compiled(function, arguments, batch):
    """See `_backend.jax`: a graph."""
    signature = [
        tf.TensorSpec([None, *x.shape[1:]] if batch else x.shape, x.dtype)
        for x in arguments
    ]
    return tf.function(function, input_signature=signature)


def run_abstractly(function, *arguments):
    """See `jax.py`: a step reads variables when it runs."""


def with_gradients(value, value_and_found, gradients, arguments):
    """See `_backend.jax`."""
    if not record.could_possibly_record():
        return value(*arguments)
    # Of a variable it would ask for a gradient beside those of the arguments.
    arguments = [tf.convert_to_tensor(x) for x in arguments]

    @tf.custom_gradient
    def function(*arguments):
        result, found = value_and_found(*arguments)

        def backward(upstream):
            each = tuple(gradients(found, upstream, arguments))
            return each + (None,) * (len(arguments) - len(each))

        return result, backward

    return function(*arguments)


#: See `_backend.torch`: here too they come from glibc's heap.
LOGITS_AT_A_TIME = 2**23

CHECKS_INDICES = True


def scan(step, carry, parts, found):
    """See `_backend.jax`."""
    count = tf.shape(parts[0])[0]
    arrays = [
        tf.TensorArray(dtype, count, element_shape=shape)
        for shape, dtype in found
    ]

    def body(index, carry, arrays):
        carry, found = step(carry, [x[index] for x in parts])
        arrays = [a.write(index, x) for a, x in zip(arrays, found, strict=True)]
        return index + 1, carry, arrays

    _, carry, arrays = tf.while_loop(
        lambda index, *_: index < count,
        body,
        (0, carry, arrays),
        parallel_iterations=1,
    )
    return carry, [array.stack() for array in arrays]


def add_at(matrix, columns, amounts):
    """See `_backend.jax`."""
    rows = tf.range(tf.shape(matrix)[0], dtype=columns.dtype)
    places = tf.stack([rows, columns], axis=-1)
    return tf.tensor_scatter_nd_add(matrix, places, amounts)


def add_product(total, left, right):
    """See `_backend.jax`."""
    product = tf.matmul(left, right, transpose_a=True)
    return total + tf.cast(product, total.dtype)


def assign_rows(variable, indices, rows):
    """See `_backend.jax`; in place."""
    variable.value.scatter_nd_update(indices[:, None], rows)
