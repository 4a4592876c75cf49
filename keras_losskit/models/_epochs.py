"""Telling a container that an epoch is over, and a history which it was."""

import keras

from keras_losskit import _backend


class EpochEnd(keras.callbacks.Callback):
    """Counts the epochs of `fit`, before any other callback.

    `history.epochs_by_key`, `{key: [epoch, ...]}`, says what Keras' own
    `history.epoch` does not: which epochs had validation. Of the keys of
    `history.kinds_by_key`, `{key: kind}`, the values sum to `loss`.
    """

    def on_train_begin(self, logs=None):
        self.epochs_by_key = {}

    def on_epoch_begin(self, epoch, logs=None):
        # Not when it ends: what is evaluated until now belongs to it.
        container = self.model.compiled_loss
        if container is None:
            return
        if _backend.value_now(container.clock.epoch_over):
            container.on_epoch_end()

    def on_epoch_end(self, epoch, logs=None):
        for key in logs or ():
            self.epochs_by_key.setdefault(key, []).append(epoch)
        # A `CallbackList` may be without a history.
        history = getattr(self.model, "history", None)
        container = self.model.compiled_loss
        if history is not None:
            history.epochs_by_key = self.epochs_by_key
            if container is not None and container.built:
                history.kinds_by_key = container.tracker.kinds_by_key
        if container is not None:
            container.clock.epoch_over.assign(1)


def with_epoch_end(callbacks, model):
    """`callbacks`, preceded by the one that counts epochs of `model`.

    First, so that a callback that saves the model saves the count as well.
    """
    if isinstance(callbacks, keras.callbacks.CallbackList):
        # Keras takes a list as it is: it tells nobody the model, and one that
        # was given to `fit` before still has what was put into it.
        known = (c for c in callbacks.callbacks if isinstance(c, EpochEnd))
        first = next(known, None)
        if first is None:
            first = EpochEnd()
            callbacks.callbacks.insert(0, first)
        first.set_model(model)
        return callbacks
    if callbacks is None:
        callbacks = []
    elif not isinstance(callbacks, (list, tuple)):
        callbacks = [callbacks]
    return [EpochEnd(), *callbacks]
