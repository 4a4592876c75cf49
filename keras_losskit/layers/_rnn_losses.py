"""Carrying what a cell adds to the loss out of the loop over time."""

from typing import Any

import keras
from keras import ops

from keras_losskit import _keras
from keras_losskit import _origin
from keras_losskit._support.scopes import Aside
from keras_losskit._types import Structure
from keras_losskit._types import Tensor
from keras_losskit._types import TensorLike
from keras_losskit.layers._loss_layer import LossLayer
from keras_losskit.penalties._recorder import Recorder
from keras_losskit.penalties._recorder import note
from keras_losskit.penalties._recorder import refuse_log


class LoopRecorder(Recorder):
    """Around the loop of an RNN, with the losses that were carried out of it.

    Args:
        cell: The cell.
    """

    def __init__(self, cell):
        super().__init__(cell, forward=False)
        #: Pairs of a `RecordedLoss` of one step and the sum over all.
        self.carried = []


class CarriesCellLosses(LossLayer):
    """Mixin for RNN layers: a cell's losses count as their sum over steps.

    On JAX and TensorFlow the cell runs inside a loop out of which no tensor can
    be had that the loop does not carry; so each loss is a further state of the
    cell, one share per sample. A step that is masked for a sample leaves out
    its share: exactly for per-sample losses, by the share of the batch for
    scalars.
    """

    def call(
        self,
        sequences: Tensor,
        initial_state: Structure | None = None,
        mask: TensorLike | None = None,
        training: bool = False,
    ) -> Structure:
        if not any(may_add_losses(x) for x in _keras.flatten_layers(self.cell)):
            return super().call(
                sequences, initial_state, mask=mask, training=training
            )
        # Keras calls stacked cells once more before the loop, for the shapes of
        # their dropout masks; what they add then counts for nothing.
        recorder = LoopRecorder(self.cell)
        outputs = recorder.run(
            super().call, sequences, initial_state, mask=mask, training=training
        )
        for loss, total in recorder.carried:
            note(loss.layer, loss.kind, total, loss.name, loss.weight)
        return outputs

    def inner_loop(
        self,
        sequences: Tensor,
        initial_state: Structure,
        mask: TensorLike | None,
        training: bool = False,
    ) -> tuple[Any, ...]:
        """As Keras, with the losses carried along where there are some."""
        found, recorder = [], Recorder.current()
        if isinstance(recorder, LoopRecorder) and recorder.model is self.cell:
            found = self._losskit_losses_of_one_step(
                sequences, initial_state, training
            )
        if not found:
            return super().inner_loop(
                sequences, initial_state, mask, training=training
            )

        def step(inputs, states):
            states, sums = detached(states, len(found))
            if self.stateful:
                # PyTorch writes into the state it was given.
                states = keras.tree.map_structure(ops.copy, states)
            output, new_states, losses = self._losskit_step(
                inputs, states, training
            )
            check_same_losses(self, found, losses)
            sums = [
                total + share(loss.value, inputs)
                for total, loss in zip(sums, losses, strict=True)
            ]
            return output, attached(new_states, sums)

        zeros = ops.zeros((ops.shape(sequences)[0], 1), dtype="float32")
        last_output, outputs, states = _keras.rnn(
            step,
            sequences,
            attached(initial_state, [zeros] * len(found)),
            go_backwards=self.go_backwards,
            mask=mask,
            unroll=self.unroll,
            input_length=sequences.shape[1],
            zero_output_for_mask=self.zero_output_for_mask,
            return_all_outputs=self.return_sequences,
        )
        states, sums = detached(states, len(found))
        totals = [ops.sum(total) for total in sums]
        recorder.carried += zip(found, totals, strict=True)
        return last_output, outputs, states

    def _losskit_losses_of_one_step(self, sequences, initial_state, training):
        """The losses a step adds: the loop has to know them beforehand."""
        # Nothing that the cell assigns, seeds included, outlives the scope.
        with Aside():
            _, _, losses = self._losskit_step(
                sequences[:, 0], initial_state, training
            )
        return losses

    def _losskit_step(self, inputs, states, training):
        kwargs = {}
        if "training" in self.cell.call_signature_parameters:
            kwargs["training"] = training
        recorder = Recorder(self.cell, forward=False)
        output, states = recorder.run(self.cell, inputs, states, **kwargs)
        for entry in recorder.logged:
            refuse_log(entry, f"in the loop of the RNN layer '{self.name}'")
        if not keras.tree.is_nested(states):
            states = [states]
        return output, states, recorder.losses


def may_add_losses(layer):
    """Whether a layer inside a cell may add to the loss."""
    return (
        layer.activity_regularizer is not None
        or not _origin.calls_are_keras_own(layer)
    )


def attached(states, sums):
    """States with sums carried among them.

    Where the backend looks for the last output, first of all or first of the
    last of several cells, it must still find it.
    """
    states = list(states)
    if keras.tree.is_nested(states[0]):
        return [[*states[0], *sums], *states[1:]]
    return [*states, *sums]


def detached(states, count):
    """Inverse of `attached`: `(states, sums)`."""
    states = list(states)
    if keras.tree.is_nested(states[0]):
        first = list(states[0])
        return [first[:-count], *states[1:]], first[-count:]
    return states[:-count], states[-count:]


def share(value, inputs):
    """A loss as what each sample adds to it, `(batch, 1)`, float32."""
    value = ops.cast(value, "float32")
    if len(value.shape):
        return value
    batch = ops.shape(keras.tree.flatten(inputs)[0])[0]
    value = value / ops.cast(batch, "float32")
    return ops.broadcast_to(value, (batch, 1))


def check_same_losses(layer, found, losses):
    """Refuse a cell that does not add the same losses at every step."""

    def described(these):
        return [f"{x.layer.name}/{x.name or x.kind}" for x in these]

    if described(losses) != described(found):
        raise ValueError(
            f"Expected the cell of RNN layer '{layer.name}' to add the same "
            f"losses at every step, {described(found)}. Received: "
            f"{described(losses)}"
        )
