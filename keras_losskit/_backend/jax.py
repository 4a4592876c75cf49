"""JAX."""

import contextlib

import jax
import keras
import numpy as np
from jax.extend.core import get_opaque_trace_state


def num_replicas():
    """Number of replicas whose losses are added up by the trainer."""
    return 1


def num_processes():
    """Number of processes whose gradients are averaged."""
    return 1


def is_first_process():
    """Whether this is the one of several processes that writes files."""
    return jax.process_index() == 0


def data_parallel(group=None):
    """Context manager in which processes compute the loss of one batch."""
    del group
    return contextlib.nullcontext()


def register_pytree(cls):
    """Let the framework's transformations look into `cls`.

    Args:
        cls: A class with `tree_flatten` and the class method `tree_unflatten`.
    """
    jax.tree_util.register_pytree_node_class(cls)


def is_tracer(tensor):
    """Whether `tensor` stands for a value inside a bare transformation."""
    return isinstance(tensor, jax.core.Tracer)


def is_out_of_scope(tensor):
    """Whether `tensor` is of a graph that is not being built.

    JAX cannot tell; what a step leaves is forgotten there.
    """
    del tensor
    return False


def stack_scalars(scalars):
    """A vector of float32 scalars, some of which may be Python floats.

    On JAX one kernel: of a concatenation XLA makes one for each operand, which
    takes longer to compile than to run. On PyTorch a tenth of what Keras takes.
    """
    tensors, numbers, which = [], [], []
    for scalar in scalars:
        number = isinstance(scalar, float)
        tensors += [] if number else [scalar]
        numbers.append(scalar if number else 0.0)
        which.append(0 if number else len(tensors))
    return jax.lax.select_n(
        np.asarray(which, "int32"),
        np.asarray(numbers, "float32"),
        *(jax.lax.broadcast(tensor, (len(scalars),)) for tensor in tensors),
    )


def promote(first, second):
    """Two scalars, numbers among them, that may be added or multiplied."""
    return first, second


def is_concrete_on_cpu(tensor):
    """Whether the values are known now and near: eager, and on the CPU."""
    return not isinstance(tensor, jax.core.Tracer) and all(
        device.platform == "cpu"
        for device in jax.numpy.asarray(tensor).devices()
    )


#: Up to so many gradients are taken one after the other: XLA does a product of
#: matrices faster on a CPU than one of batches of matrices. Beyond, compiling
#: what is unrolled would take too long.
UNROLLED = 4


class Pullback:
    """Gradients of several scalars: of each by itself, or of a weighted sum.

    Args:
        function: `values -> (list of scalars, aux)`, called once; `values`
            stand for the variables, and are None where the framework sees
            which variables are read.
        variables: `() -> list of tensors`; there it is called after
            `function`, which may have made them.

    Attributes:
        aux: What `function` gave beside the scalars.
    """

    def __init__(self, function, variables):
        def stacked(values):
            scalars, aux = function(values)
            return jax.numpy.stack(scalars), aux

        self._variables = variables()
        self._scalars, self._pullback, self.aux = jax.vjp(
            stacked, self._variables, has_aux=True
        )

    def jacobian(self, rows, columns=None, keep=False):
        """Gradients one by one, in blocks `(rows, ...)` side by side.

        Here in the shape of the variables: where a variable is split over
        devices, a matrix could not be split likewise.

        Args:
            rows: Number of scalars, from the first.
            columns: Positions of variables. Defaults to all.
            keep: Whether more gradients will be asked for.
        """
        del keep
        directions = jax.numpy.eye(
            rows, len(self._scalars), dtype=self._scalars.dtype
        )
        if rows <= UNROLLED:
            each = [self._pullback(direction)[0] for direction in directions]
            found = [jax.numpy.stack(row) for row in zip(*each, strict=True)]
        else:
            (found,) = jax.vmap(self._pullback)(directions)
        # Under jit what is not chosen is not computed.
        return found if columns is None else [found[i] for i in columns]

    def unpack(self, vectors):
        """A gradient per variable from one row of each block of `jacobian`."""
        return list(vectors)

    def combine(self, weights):
        """Gradients of `sum(weights * scalars)`, one per variable."""
        return self._pullback(weights.astype(self._scalars.dtype))[0]


def sum_over_replicas(tensors, few=False):
    """Sums over replicas or processes, in a list; without a gradient.

    Args:
        tensors: List of tensors.
        few: Whether they are a few numbers, and no gradients of a model.
    """
    del few
    return tensors


def gathered(tensor):
    """What replicas or processes have, one after the other.

    Its own part has a gradient, that of the others has none.

    Args:
        tensor: `(n, ...)`; `n` may differ between replicas.
    """
    return tensor


def owned(rows, own):
    """The rows of this replica among those of all.

    Args:
        rows: `(batch, ...)`, in the order of what `gathered(own)` gives.
        own: `(n, ...)`, what this replica has.
    """
    return rows


def apply_gradients(optimizer, gradients, variables):
    """Let the optimizer update variables in place, outside of any gradient."""
    optimizer.apply(gradients, variables)


def trace_state():
    """What differs between a computation and one traced inside of it."""
    return get_opaque_trace_state()


def input_gradients(function, inputs, differentiable=False):
    """Gradients of the scalar `function(inputs)` by a list of inputs.

    Args:
        function: Of a list of tensors, gives a scalar.
        inputs: List of tensors of floating point.
        differentiable: Whether they have a gradient in their turn; frameworks
            in which all have one need not be told.
    """
    del differentiable
    return jax.grad(function)(inputs)


def random_state_kept():
    """Context manager that leaves the global random state as it was."""
    return contextlib.nullcontext()


#: Whether `sum_of_powers` is faster than one operation per variable. XLA fuses
#: those by itself; stacking or concatenating the variables was slower.
FUSES_PENALTIES = False


def sum_of_powers(variables, order):
    """`sum_i sum(|w_i| ** order)` over all variables.

    Args:
        variables: List of `keras.Variable`, float32.
        order: 1 or 2.
    """
    function = jax.numpy.abs if order == 1 else jax.numpy.square
    return sum(function(v.value).sum() for v in variables)


def value_now(variable):
    """The value that a variable has outside of what is being traced, NumPy."""
    return np.asarray(variable.value)


def compiled(function, arguments, batch):
    """`function` as the framework compiles it.

    Args:
        function: Of tensors, gives a nest of tensors.
        arguments: Tensors like those it will be called with.
        batch: Whether the leading size of each may be another later.
    """
    del arguments, batch
    return jax.jit(function)


def run_abstractly(function, *arguments):
    """Run `function` on shapes alone, where a step is traced before it runs.

    Other frameworks read a variable when a step runs, and have nothing to find
    out beforehand.

    Args:
        function: Of nests of tensors.
        *arguments: Nests of tensors and `KerasTensor`s.
    """

    def shaped(leaf):
        if isinstance(leaf, keras.KerasTensor):
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
        return leaf

    jax.eval_shape(function, *keras.tree.map_structure(shaped, arguments))


def with_gradients(value, value_and_found, gradients, arguments):
    """`value(*arguments)`, whose gradient is written by hand.

    Args:
        value: Gives a tensor.
        value_and_found: Gives that and whatever the gradient needs; called
            instead of `value` where there will be a gradient.
        gradients: `(found, upstream, arguments) -> gradients` of the first
            arguments; the others have none.
        arguments: Tensors.
    """
    function = jax.custom_vjp(value)

    def forward(*arguments):
        result, found = value_and_found(*arguments)
        return result, (found, arguments)

    def backward(kept, upstream):
        found, arguments = kept
        each = tuple(gradients(found, upstream, arguments))
        return each + (None,) * (len(arguments) - len(each))

    function.defvjp(forward, backward)
    return function(*arguments)


#: How many logits are there at a time, or a few more.
LOGITS_AT_A_TIME = 2**22

# Whether an index beyond the last is an error, rather than another's value.
CHECKS_INDICES = False


def scan(step, carry, parts, found):
    """`step(carry, part) -> (carry, found)` over the parts, one by one.

    Args:
        step: Called once or for each part; `part` is a list of tensors.
        carry: A nest of tensors.
        parts: List of tensors `(parts, ...)`.
        found: Shape and dtype of each tensor that is found.

    Returns:
        The last carry, and a list of what was found, `(parts, ...)` each.
    """
    del found
    return jax.lax.scan(step, carry, parts)


def add_at(matrix, columns, amounts):
    """`matrix` with `amounts` added, to each row's in the column it names.

    Args:
        matrix: `(rows, columns)`; it may be written to.
        columns: `(rows,)`, integers.
        amounts: `(rows,)`.
    """
    return matrix.at[jax.numpy.arange(len(matrix)), columns].add(amounts)


def add_product(total, left, right):
    """`total + transpose(left) @ right`; `total` may be written to."""
    return total + jax.lax.dot_general(
        left,
        right,
        (((0,), (0,)), ((), ())),
        preferred_element_type=total.dtype,
    )


def assign_rows(variable, indices, rows):
    """Put rows into a matrix that is a variable, outside of any scope.

    Args:
        variable: `(all, ...)`.
        indices: `(rows,)`, integers, none twice.
        rows: `(rows, ...)`.
    """
    variable.assign(variable.value.at[indices].set(rows))
