"""The step and epoch that schedules are functions of."""

import keras


# Under its first name, by which files may know it.
@keras.saving.register_keras_serializable("keras_losskit", name="Clock")
class StepCounter(keras.layers.Layer):
    """Counts training steps and epochs in variables.

    A layer, so that Keras saves and restores it; variables, because a Python
    number would stay at its first value in a compiled step.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.step = self.add_weight(
            shape=(),
            initializer="zeros",
            dtype="int32",
            trainable=False,
            name="step",
        )
        self.epoch = self.add_weight(
            shape=(),
            initializer="zeros",
            dtype="int32",
            trainable=False,
            name="epoch",
        )
        #: Whether the epoch is over and the next has not begun: what is
        #: evaluated in between belongs to the former.
        self.epoch_over = self.add_weight(
            shape=(),
            initializer="zeros",
            dtype="int32",
            trainable=False,
            name="epoch_over",
        )
        self.built = True

    def now(self):
        """`(step, epoch)`, integer scalars, both counted from 0."""
        return self.step.value, self.epoch.value

    def tick(self):
        """Count a training step."""
        self.step.assign_add(1)

    def on_epoch_end(self):
        """Count an epoch."""
        self.epoch.assign_add(1)
        self.epoch_over.assign(0)

    def load_own_variables(self, store):
        """Read the counts; a file without counts leaves them as they are.

        Version 0.1.0 counted an epoch as soon as it was over.
        """
        if len(store.keys()) == 2:
            store = {**{key: store[key] for key in store.keys()}, "2": 0}
        if len(store.keys()):
            super().load_own_variables(store)
