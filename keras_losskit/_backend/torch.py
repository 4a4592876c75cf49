"""PyTorch."""

import contextlib

import torch
from torch import distributed
from torch.utils import _pytree


def num_replicas():
    """See `_backend.jax`. Processes average gradients, so each counts once."""
    return 1


#: The process group of `data_parallel`, innermost last.
_groups: list = []


@contextlib.contextmanager
def data_parallel(group=None):
    """See `_backend.jax`."""
    if not (distributed.is_available() and distributed.is_initialized()):
        raise RuntimeError(
            "Expected the processes of `data_parallel` to have a group. "
            "Received: `torch.distributed` is not initialized. Call "
            "`torch.distributed.init_process_group` first."
        )
    if not isinstance(group, distributed.ProcessGroup | None):
        raise TypeError(
            "Expected `group` of data_parallel to be a process group of "
            f"`torch.distributed`, or None. Received: {group!r}"
        )
    _groups.append(distributed.group.WORLD if group is None else group)
    try:
        yield
    finally:
        _groups.pop()


def num_processes():
    """See `_backend.jax`."""
    return distributed.get_world_size(_groups[-1]) if _groups else 1


def is_first_process():
    """See `_backend.jax`."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return True
    return distributed.get_rank() == 0


def register_pytree(cls):
    """See `_backend.jax`: gives `keras.tree` what it registers with torch."""

    def flatten(self):
        children, static = self.tree_flatten()
        return list(children), static

    def flatten_with_keys(self):
        children, static = flatten(self)
        keyed = [
            (_pytree.SequenceKey(index), child)
            for index, child in enumerate(children)
        ]
        return keyed, static

    cls.torchtree_flatten = flatten
    cls.torchtree_flatten_with_keys = flatten_with_keys
    cls.torchtree_unflatten = classmethod(
        lambda cls, children, static: cls.tree_unflatten(static, children)
    )


def is_tracer(tensor):
    """See `_backend.jax`: PyTorch has no such thing."""
    del tensor
    return False


def is_out_of_scope(tensor):
    """See `_backend.jax`: PyTorch runs as it goes."""
    del tensor
    return False


def stack_scalars(scalars):
    """See `_backend.jax`."""
    tensors = (s for s in scalars if not isinstance(s, float))
    device = next((tensor.device for tensor in tensors), None)
    # There are few different numbers, so once each.
    numbers = {
        number: torch.full((), number, dtype=torch.float32, device=device)
        for number in {s for s in scalars if isinstance(s, float)}
    }
    return torch.stack(
        [numbers[s] if isinstance(s, float) else s for s in scalars]
    )


def promote(first, second):
    """See `_backend.jax`."""
    return first, second


def is_concrete_on_cpu(tensor):
    """See `_backend.jax`. `torch.func` wraps what it transforms."""
    return (
        tensor.device.type == "cpu"
        and not torch.compiler.is_compiling()
        and type(tensor) in (torch.Tensor, torch.nn.Parameter)
        and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    )


class Pullback:
    """See `_backend.jax`."""

    def __init__(self, function, variables):
        self._scalars, self.aux = function(None)
        self._variables = variables()

    def jacobian(self, rows, columns=None, keep=False):
        """See `_backend.jax`; matrices. Without `keep` it frees the graph."""
        sources = self._variables
        if columns is not None:
            sources = [sources[i] for i in columns]
        each = [
            gradients_of([(scalar, None)], sources, keep or index < rows - 1)
            for index, scalar in enumerate(self._scalars[:rows])
        ]
        if not are_alike(sources):
            columns = zip(*each, strict=True)
            return [torch.stack(column).view(rows, -1) for column in columns]
        # Few operations on a large matrix cost less than many on small ones.
        flat = [gradient.reshape(-1) for row in each for gradient in row]
        return [torch.cat(flat).view(rows, -1)]

    def unpack(self, vectors):
        """See `_backend.jax`."""
        if are_alike(self._variables):
            sizes = [like.numel() for like in self._variables]
            vectors = vectors[0].split(sizes)
        pairs = zip(vectors, self._variables, strict=True)
        return [vector.view(like.shape) for vector, like in pairs]

    def combine(self, weights):
        """See `_backend.jax`; frees the graph."""
        pairs = list(zip(self._scalars, weights.unbind(), strict=True))
        return list(gradients_of(pairs, self._variables, keep=False))


def gradients_of(pairs, sources, keep):
    """Gradients of the sum of pairs of a scalar and its weight, None for 1."""
    # What depends on no variable has no graph: its gradient is 0.
    pairs = [pair for pair in pairs if pair[0].requires_grad]
    if not pairs:
        return [torch.zeros_like(source) for source in sources]
    targets, weights = zip(*pairs, strict=True)
    return torch.autograd.grad(
        targets,
        sources,
        grad_outputs=weights,
        retain_graph=keep,
        allow_unused=True,
        materialize_grads=True,
    )


def are_alike(tensors):
    """Whether all are of one dtype and on one device."""
    return len({(tensor.dtype, tensor.device) for tensor in tensors}) == 1


def sum_over_replicas(tensors, few=False):
    """See `_backend.jax`."""
    del few
    if not _groups:
        return tensors
    sums = [tensor.detach().clone() for tensor in tensors]
    for tensor in sums:
        distributed.all_reduce(tensor, group=_groups[-1])
    return sums


def gathered(tensor):
    """See `_backend.jax`."""
    if not _groups:
        return tensor
    group, count = _groups[-1], num_processes()
    size = torch.tensor([len(tensor)], device=tensor.device)
    sizes = [torch.empty_like(size) for _ in range(count)]
    distributed.all_gather(sizes, size, group=group)
    sizes = [int(each) for each in sizes]
    # A collective takes parts of one size.
    padded = tensor.new_zeros((max(sizes), *tensor.shape[1:]))
    padded[: len(tensor)] = tensor.detach()
    parts = [torch.empty_like(padded) for _ in range(count)]
    distributed.all_gather(parts, padded, group=group)
    parts = [part[:n] for part, n in zip(parts, sizes, strict=True)]
    parts[distributed.get_rank(group)] = tensor
    return torch.cat(parts)


def owned(rows, own):
    """See `_backend.jax`."""
    if not _groups:
        return rows
    sizes = gathered(torch.tensor([len(own)]))
    start = int(sizes[: distributed.get_rank(_groups[-1])].sum())
    return rows[start : start + len(own)]


def apply_gradients(optimizer, gradients, variables):
    """See `_backend.jax`."""
    with torch.no_grad():
        optimizer.apply(gradients, variables)


def trace_state():
    """See `_backend.jax`: PyTorch runs as it goes."""
    return None


def input_gradients(function, inputs, differentiable=False):
    """See `_backend.jax`; also where gradients are switched off."""
    again = differentiable and torch.is_grad_enabled()
    with torch.enable_grad():
        # An alias, as `function` may have the inputs from elsewhere too.
        inputs = [
            x.view_as(x)
            if again and x.requires_grad
            else x.detach().requires_grad_()
            for x in inputs
        ]
        value = function(inputs)
        if not value.requires_grad:
            return [torch.zeros_like(x) for x in inputs]
        return torch.autograd.grad(
            value,
            inputs,
            create_graph=again,
            allow_unused=True,
            materialize_grads=True,
        )


def random_state_kept():
    """See `_backend.jax`. Unseeded layers draw from the global generator."""
    return torch.random.fork_rng()


#: See `_backend.jax`: one multi-tensor kernel for all variables.
FUSES_PENALTIES = True


def sum_of_powers(variables, order):
    """See `_backend.jax`."""
    return _SumOfPowers.apply(order, *(v.value for v in variables))


class _SumOfPowers(torch.autograd.Function):
    """`sum_i sum(|w_i| ** order)` with a gradient in one kernel as well."""

    @staticmethod
    def forward(ctx, order, *tensors):
        ctx.order = order
        ctx.save_for_backward(*tensors)
        norms = torch.stack(torch._foreach_norm(tensors, order))
        return norms.sum() if order == 1 else norms.square().sum()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        tensors = ctx.saved_tensors
        if ctx.order == 1:
            tensors = torch._foreach_sign(tensors)
        else:
            gradient = 2.0 * gradient
        return None, *torch._foreach_mul(tensors, gradient)


def value_now(variable):
    """See `_backend.jax`."""
    return variable.value.detach().cpu().numpy()


def compiled(function, arguments, batch):
    """See `_backend.jax`: as it is, since TorchInductor takes a minute."""
    del arguments, batch
    return function


def run_abstractly(function, *arguments):
    """See `jax.py`: a step reads variables when it runs."""


def with_gradients(value, value_and_found, gradients, arguments):
    """See `_backend.jax`."""
    if torch.is_grad_enabled() and any(x.requires_grad for x in arguments):
        return _WithGradients.apply(value_and_found, gradients, *arguments)
    return value(*arguments)


class _WithGradients(torch.autograd.Function):
    """A value whose gradient is written by hand."""

    @staticmethod
    def forward(ctx, value_and_found, gradients, *arguments):
        result, found = value_and_found(*arguments)
        ctx.gradients = gradients
        ctx.of_arguments = len(arguments)
        ctx.save_for_backward(*arguments, *found)
        return result

    @staticmethod
    def backward(ctx, upstream):
        kept, count = ctx.saved_tensors, ctx.of_arguments
        arguments = kept[:count]
        with torch.no_grad():
            each = tuple(ctx.gradients(kept[count:], upstream, arguments))
        if torch.is_grad_enabled():  # a second derivative may follow
            each = _Once.apply(len(each), *each, upstream, *arguments)
        return None, None, *each, *(None,) * (count - len(each))


class _Once(torch.autograd.Function):
    """Gradients that refuse to be differentiated, rather than be constants."""

    @staticmethod
    def forward(ctx, count, *tensors):
        return tuple(x.view_as(x) for x in tensors[:count])

    @staticmethod
    def backward(ctx, *upstream):
        raise RuntimeError(
            "Expected a first derivative only of a crossentropy without its "
            "logits, on PyTorch. Received: a second one. Take "
            "`sparse_categorical_crossentropy` of the logits for it."
        )


#: How many logits are there at a time, or a few more. Of less than 32 MiB glibc
#: may keep them in its heap, where they leave holes: 700 MiB were seen in place
#: of 160.
LOGITS_AT_A_TIME = 2**23

CHECKS_INDICES = True


def scan(step, carry, parts, found):
    """See `_backend.jax`."""
    del found
    rows = []
    for part in zip(*parts, strict=True):
        carry, row = step(carry, part)
        rows.append(row)
    return carry, [torch.stack(column) for column in zip(*rows, strict=True)]


def add_at(matrix, columns, amounts):
    """See `_backend.jax`."""
    columns = columns.to(torch.int64)[:, None]
    return matrix.scatter_add_(1, columns, amounts[:, None])


def add_product(total, left, right):
    """See `_backend.jax`."""
    if total.dtype == left.dtype:
        return total.addmm_(left.mT, right)
    return total.add_(left.mT @ right)


def assign_rows(variable, indices, rows):
    """See `_backend.jax`; in place."""
    with torch.no_grad():
        variable.value.index_copy_(0, indices.to(torch.int64), rows)
