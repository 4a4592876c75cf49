"""Crossentropy of a linear layer whose logits are never there as a whole.

The logits of a chunk of tokens are computed, used and dropped. Their gradient
is known as soon as they are, so that of features, kernel and bias is summed up
in the same pass, for the weights that the tokens will have in the total. Where
these turn out to be others the pass is run again with the right ones.
"""

import dataclasses

import keras
from keras import ops

from keras_losskit import _backend
from keras_losskit._support.precision import at_least_float32
from keras_losskit.losses._core.labels import counted_labels


@dataclasses.dataclass(frozen=True)
class Entropy:
    """The crossentropy of some logits and integer labels, and their scale.

    `l = lse - (1 - s) z[y] - s mean(z)` and, if `squares`, `lse ** 2`, with
    `lse = log(sum(exp(z)))` and, where the logits are capped, `z = c tanh(z' /
    c)`. These are the columns of the values.

    Args:
        label_smoothing: `s`.
        softcap: `c`, or None.
        squares: Whether the second column is wanted.
    """

    label_smoothing: float = 0.0
    softcap: float | None = None
    squares: bool = False

    @property
    def columns(self):
        """Number of the values of a token."""
        return 1 + self.squares

    def of_chunk(self, logits, labels, share):
        """Values, and what the gradient needs of the logits.

        Args:
            logits: `(tokens, classes)`, float32 or float64.
            labels: `(tokens,)`, integers.
            share: `(tokens, columns)`, what each value counts for.

        Returns:
            `(values, gradient, rows)`: `(tokens, columns)`; `(tokens,
            classes)` and `(tokens,)`, whose product is the gradient of
            `sum(share * values)` by the logits before the cap.
        """
        smoothing = self.label_smoothing
        logits = self.capped(logits)
        gradient = ops.softmax(logits)
        # Of the softmax, which a framework computes in one go: its largest
        # entry is exp(max - lse).
        log_largest = ops.log(ops.max(gradient, axis=-1))
        lse = ops.max(logits, axis=-1) - log_largest
        values = self.values_of_capped(logits, lse, labels)
        rows, of_entropy = share[:, 0], 1.0
        if self.squares:
            counts = ops.not_equal(rows, 0.0)
            of_entropy = ops.cast(counts, lse.dtype)
            rows = ops.where(counts, rows, share[:, 1])
            of_square = ops.divide_no_nan(share[:, 1], rows)
            of_softmax = of_entropy + 2.0 * of_square * lse
            gradient = gradient * of_softmax[:, None]
        if smoothing:
            spread = of_entropy * ops.full_like(lse, smoothing)
            gradient = gradient - spread[:, None] / logits.shape[-1]
        of_label = of_entropy * ops.full_like(lse, smoothing - 1.0)
        gradient = _backend.add_at(gradient, labels, of_label)
        if self.softcap is not None:
            gradient = gradient * (1.0 - ops.square(logits / self.softcap))
        return values, gradient, rows

    def values_of_chunk(self, logits, labels):
        """The values alone."""
        logits = self.capped(logits)
        lse = ops.logsumexp(logits, axis=-1)
        return self.values_of_capped(logits, lse, labels)

    def capped(self, logits):
        """The logits, bounded by the cap if there is one."""
        if self.softcap is None:
            return logits
        return self.softcap * ops.tanh(logits / self.softcap)

    def values_of_capped(self, logits, lse, labels):
        """The values, `(tokens, columns)`, of capped logits and their `lse`."""
        smoothing = self.label_smoothing
        values = lse - (1.0 - smoothing) * picked(logits, labels)
        if smoothing:
            values = values - smoothing * ops.mean(logits, axis=-1)
        columns = [values, ops.square(lse)] if self.squares else [values]
        return ops.stack(columns, axis=-1)


def picked(logits, labels):
    """The entry of each row that its label names."""
    return ops.take_along_axis(logits, labels[:, None], axis=-1)[:, 0]


@dataclasses.dataclass(frozen=True)
class ChunkedEntropy:
    """Crossentropy over chunks of tokens, with its gradients.

    Args:
        entropy: `Entropy` of logits.
        chunk: Number of tokens of a chunk.
    """

    entropy: Entropy
    chunk: int

    def chunks(self, *tensors):
        """Tensors `(tokens, ...)` as `(chunks, chunk, ...)`, filled with 0."""
        tokens = ops.shape(tensors[0])[0]
        more = -tokens % self.chunk
        if isinstance(tokens, int):
            more = more if tokens else self.chunk
        else:
            more = ops.where(ops.equal(tokens, 0), self.chunk, more)
        return [
            ops.reshape(
                ops.pad(x, [(0, more), *((0, 0) for _ in x.shape[1:])]),
                (-1, self.chunk, *x.shape[1:]),
            )
            for x in tensors
        ]

    def values(self, *arguments):
        """`(tokens, columns)`; see `values_and_gradients`."""
        features, kernel, *bias, labels, _ = arguments

        def step(carry, part):
            logits = logits_of(part[0], kernel, *bias)
            return carry, [self.entropy.values_of_chunk(logits, part[1])]

        parts = self.chunks(features, labels)
        shape = (self.chunk, self.entropy.columns)
        found = [(shape, wide_dtype(features))]
        _, (values,) = _backend.scan(step, ops.zeros(()), parts, found)
        return ops.reshape(values, (-1, shape[1]))[: ops.shape(labels)[0]]

    def values_and_gradients(self, *arguments):
        """Values, and the gradients of their sum by these weights.

        Args:
            *arguments: Features `(tokens, width)`, kernel `(width, classes)`,
                bias `(classes,)` if there is one, integer labels `(tokens,)`
                and weights `(tokens, columns)`, float32 or float64.

        Returns:
            `(values, gradients)`, the latter of all but labels and weights.
        """
        features, kernel, *bias, labels, weights = arguments
        wide = weights.dtype

        def step(sums, part):
            inputs, targets, share = part
            # Without a name, so that eager mode frees the logits at once.
            values, gradient, rows = self.entropy.of_chunk(
                logits_of(inputs, kernel, *bias), targets, share
            )
            narrow = ops.cast(gradient, inputs.dtype)
            # The share scales the inputs: the gradient is far larger.
            column = rows[:, None]
            by_share = ops.cast(column * ops.cast(inputs, wide), inputs.dtype)
            of_inputs = column * ops.cast(
                ops.matmul(narrow, ops.transpose(kernel)), wide
            )
            sums = [
                _backend.add_product(sums[0], by_share, narrow),
                *(total + ops.matmul(rows, gradient) for total in sums[1:]),
            ]
            return sums, [values, ops.cast(of_inputs, inputs.dtype)]

        parts = self.chunks(features, labels, weights)
        zeros = [ops.zeros(x.shape, wide) for x in (kernel, *bias)]
        found = [
            ((self.chunk, self.entropy.columns), wide),
            ((self.chunk, kernel.shape[0]), features.dtype),
        ]
        sums, found = _backend.scan(step, zeros, parts, found)
        tokens = ops.shape(labels)[0]
        values, of_features = (
            ops.reshape(x, (-1, *x.shape[2:]))[:tokens] for x in found
        )
        return values, tuple(
            ops.cast(gradient, x.dtype)
            for gradient, x in zip(
                (of_features, *sums), (features, kernel, *bias), strict=True
            )
        )

    def gradients_for(self, found, upstream, arguments):
        """The gradients for what the values turned out to count for.

        Args:
            found: `gradients` of `values_and_gradients`.
            upstream: `(tokens, columns)`, the gradient of the total by the
                values.
            arguments: The arguments of `values_and_gradients`.
        """
        weights = arguments[-1]
        upstream = ops.cast(upstream, weights.dtype)
        factor = ops.divide_no_nan(
            ops.sum(upstream * weights), ops.sum(weights * weights)
        )
        differs = ops.max(
            ops.abs(upstream - factor * weights), initial=0.0
        ) > 1e-6 * ops.max(ops.abs(upstream), initial=0.0)

        def again():
            return self.values_and_gradients(*arguments[:-1], upstream)[1]

        def scaled():
            return tuple(ops.cast(factor, g.dtype) * g for g in found)

        return ops.cond(differs, again, scaled)


def entropies(
    labels,
    features,
    projection,
    entropy,
    *,
    ignore_class=None,
    chunk_size=None,
    weights=(1.0,),
    shares=None,
):
    """The values of `Entropy` at each place, with gradients.

    Args:
        labels: Integers, `(batch, ...)`.
        features: `(batch, ..., width)`.
        projection: `Projection`, whose cap is that of the logits.
        entropy: `Entropy`, whose cap is not looked at.
        ignore_class: A label whose values are 0, or None.
        chunk_size: Number of places whose logits are there at a time.
        weights: What each column is likely to count for in the total.
        shares: `(batch, ...)`, likewise each place; None for all alike.

    Returns:
        `(batch, ..., columns)`, float32 or float64.
    """
    kernel = ops.convert_to_tensor(projection.kernel)
    width, classes = kernel.shape
    shape = ops.shape(labels)
    labels = ops.cast(ops.reshape(labels, (-1,)), "int32")
    features = ops.reshape(features, (-1, width))
    wide = wide_dtype(features)
    if shares is None:
        shares = ops.ones_like(labels, dtype=wide)
    else:
        shares = ops.cast(ops.reshape(shares, (-1,)), wide)
    labels, counted = counted_labels(labels, classes, ignore_class)
    shares = ops.where(counted, shares, 0.0)
    if ignore_class is not None:
        # Times 0 whatever is not finite would be NaN in the kernel's gradient.
        features = ops.where(counted[:, None], features, 0.0)
    layer = [features, kernel]
    if projection.bias is not None:
        layer.append(ops.convert_to_tensor(projection.bias))
    chunked = ChunkedEntropy(
        dataclasses.replace(entropy, softcap=projection.softcap),
        chunk_size or chunk_for(ops.shape(labels)[0], classes),
    )
    columns = [shares * weight for weight in weights[: entropy.columns]]
    values = _backend.with_gradients(
        chunked.values,
        chunked.values_and_gradients,
        chunked.gradients_for,
        (*layer, labels, ops.stack(columns, axis=-1)),
    )
    values = ops.where(counted[:, None], values, 0.0)
    return ops.reshape(values, (*shape, entropy.columns))


def scores(labels, features, projection, *, ranks=True):
    """What metrics of integer labels need of logits that are not there.

    Args:
        labels: Integers, `(batch, ...)`.
        features: `(batch, ..., width)`.
        projection: `Projection`.
        ranks: Whether the third of the numbers is wanted.

    Returns:
        `(batch, ..., 3)`, without a gradient: the crossentropy; 1 where the
        label is the first of the classes with the largest logit, else 0; and
        the number of classes whose logits are larger than the label's. A label
        that is no class comes after all of them.
    """
    kernel = ops.stop_gradient(ops.convert_to_tensor(projection.kernel))
    width, classes = kernel.shape
    bias = projection.bias
    layer = [kernel] if bias is None else [kernel, ops.stop_gradient(bias)]
    features = ops.reshape(ops.stop_gradient(features), (-1, width))
    flat = ops.cast(ops.reshape(labels, (-1,)), "int32")
    known = ops.logical_and(flat >= 0, flat < classes)
    entropy = Entropy(softcap=projection.softcap)
    chunk = chunk_for(ops.shape(flat)[0], classes)

    def step(carry, part):
        inputs, targets = part
        logits = entropy.capped(logits_of(inputs, *layer))
        own = picked(logits, targets)
        first = ops.equal(ops.cast(ops.argmax(logits, -1), "int32"), targets)
        larger = ops.zeros_like(own)
        if ranks:
            larger = ops.count_nonzero(logits > own[:, None], axis=-1)
        found = [ops.logsumexp(logits, axis=-1) - own, first, larger]
        found = [ops.cast(numbers, own.dtype) for numbers in found]
        return carry, [ops.stack(found, axis=-1)]

    chunked = ChunkedEntropy(entropy, chunk)
    parts = chunked.chunks(features, ops.where(known, flat, 0))
    shapes = [((chunk, 3), wide_dtype(features))]
    _, (found,) = _backend.scan(step, ops.zeros(()), parts, shapes)
    found = ops.reshape(found, (-1, 3))[: ops.shape(flat)[0]]
    last = ops.cast([0.0, 0.0, classes], found.dtype)
    found = ops.where(known[:, None], found, last)
    return ops.reshape(found, (*ops.shape(labels), 3))


def logits_of(features, kernel, bias=None):
    """`features @ kernel + bias`, float32 at least."""
    logits = at_least_float32(ops.matmul(features, kernel))
    return logits if bias is None else logits + ops.cast(bias, logits.dtype)


def wide_dtype(features):
    """The dtype in which the losses of some features are summed up."""
    dtype = keras.backend.standardize_dtype(features.dtype)
    return "float64" if dtype == "float64" else "float32"


def chunk_for(tokens, classes):
    """A number of tokens that make `LOGITS_AT_A_TIME`, or a few more.

    Args:
        tokens: Number of tokens, or None.
        classes: Number of classes.
    """
    least = -(-_backend.LOGITS_AT_A_TIME // classes)
    if not isinstance(tokens, int):
        return least
    # Chunks of one size, so that little is filled up.
    return max(1, -(-tokens // max(1, tokens // least)))
