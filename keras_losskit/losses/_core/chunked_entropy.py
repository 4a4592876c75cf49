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

#: About how many logits are there at a time.
LOGITS_AT_A_TIME = 2**23


@dataclasses.dataclass(frozen=True)
class Entropy:
    """The crossentropy of some logits and integer labels.

    `l = lse - (1 - s) z[y] - s mean(z) + a lse ** 2`, with `lse =
    log(sum(exp(z)))` and, where the logits are capped, `z = c tanh(z' / c)`.

    Args:
        label_smoothing: `s`.
        z_loss: `a`.
        softcap: `c`, or None.
    """

    label_smoothing: float = 0.0
    z_loss: float = 0.0
    softcap: float | None = None

    def of_chunk(self, logits, labels):
        """Values, and what the gradient needs of the logits.

        Args:
            logits: `(tokens, classes)`, float32 or float64.
            labels: `(tokens,)`, integers.

        Returns:
            `(values, gradient)`: `(tokens,)`, and each value's gradient by the
            logits before the cap, `(tokens, classes)`.
        """
        smoothing = self.label_smoothing
        logits = self.capped(logits)
        gradient = ops.softmax(logits)
        # Of the softmax, which a framework computes in one go: its largest
        # entry is exp(max - lse).
        log_largest = ops.log(ops.max(gradient, axis=-1))
        lse = ops.max(logits, axis=-1) - log_largest
        values = self.values_of_capped(logits, lse, labels)
        if self.z_loss:
            gradient = gradient * (1.0 + 2.0 * self.z_loss * lse)[:, None]
        if smoothing:
            gradient = gradient - smoothing / logits.shape[-1]
        of_label = ops.full_like(values, smoothing - 1.0)
        gradient = _backend.add_at(gradient, labels, of_label)
        if self.softcap is not None:
            gradient = gradient * (1.0 - ops.square(logits / self.softcap))
        return values, gradient

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
        """The values, `(tokens,)`, of capped logits and their `lse`."""
        smoothing = self.label_smoothing
        values = lse - (1.0 - smoothing) * picked(logits, labels)
        if smoothing:
            values = values - smoothing * ops.mean(logits, axis=-1)
        if self.z_loss:
            values = values + self.z_loss * ops.square(lse)
        return values


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
        """`(tokens,)`, one per token; see `values_and_gradients`."""
        features, kernel, *bias, labels, _ = arguments

        def step(carry, part):
            logits = logits_of(part[0], kernel, *bias)
            return carry, [self.entropy.values_of_chunk(logits, part[1])]

        parts = self.chunks(features, labels)
        found = [((self.chunk,), wide_dtype(features))]
        _, (values,) = _backend.scan(step, ops.zeros(()), parts, found)
        return ops.reshape(values, (-1,))[: ops.shape(labels)[0]]

    def values_and_gradients(self, *arguments):
        """Values, and the gradients of their sum by these weights.

        Args:
            *arguments: Features `(tokens, width)`, kernel `(width, classes)`,
                bias `(classes,)` if there is one, integer labels `(tokens,)`
                and weights `(tokens,)`, float32 or float64.

        Returns:
            `(values, gradients)`, the latter of all but labels and weights.
        """
        features, kernel, *bias, labels, weights = arguments
        wide = weights.dtype

        def step(sums, part):
            inputs, targets, share = part
            logits = logits_of(inputs, kernel, *bias)
            values, gradient = self.entropy.of_chunk(logits, targets)
            narrow = ops.cast(gradient, inputs.dtype)
            # The share scales the inputs: the gradient is far larger.
            rows = share[:, None]
            by_share = ops.cast(rows * ops.cast(inputs, wide), inputs.dtype)
            of_inputs = rows * ops.cast(
                ops.matmul(narrow, ops.transpose(kernel)), wide
            )
            sums = [
                _backend.add_product(sums[0], by_share, narrow),
                *(total + ops.matmul(share, gradient) for total in sums[1:]),
            ]
            return sums, [values, ops.cast(of_inputs, inputs.dtype)]

        parts = self.chunks(features, labels, weights)
        zeros = [ops.zeros(x.shape, wide) for x in (kernel, *bias)]
        found = [
            ((self.chunk,), wide),
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
            upstream: `(tokens,)`, the gradient of the total by the values.
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


def logits_of(features, kernel, bias=None):
    """`features @ kernel + bias`, float32 at least."""
    logits = at_least_float32(ops.matmul(features, kernel))
    return logits if bias is None else logits + ops.cast(bias, logits.dtype)


def wide_dtype(features):
    """The dtype in which the losses of some features are summed up."""
    dtype = keras.backend.standardize_dtype(features.dtype)
    return "float64" if dtype == "float64" else "float32"


def chunk_for(tokens, classes):
    """A number of tokens of which not too many logits are there at a time.

    Args:
        tokens: Number of tokens, or None.
        classes: Number of classes.
    """
    most = max(1, LOGITS_AT_A_TIME // classes)
    if not isinstance(tokens, int):
        return most
    # Chunks of one size, so that little is filled up.
    return max(1, -(-tokens // max(1, -(-tokens // most))))
