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

    def load_own_variables(self, store):
        """Read the counts; a file without counts leaves them as they are."""
        if len(store.keys()):
            super().load_own_variables(store)
