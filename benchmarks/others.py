"""What other packages do in the place of this one."""

import keras
import numpy as np

import keras_losskit as losskit
from benchmarks.networks import draws
from benchmarks.networks import fitting
from benchmarks.networks import mlp
from benchmarks.networks import training
from benchmarks.segmentation import maps
from benchmarks.segmentation import repeated
from keras_losskit import losses


def by_tf_keras(steps, **architecture):
    """A builder of an epoch with the `LossesContainer` of tf_keras."""

    def build():
        import tf_keras

        outputs = architecture["outputs"]
        model = mlp(tf_keras.Model, source=tf_keras, **architecture)
        # As Keras 3 chooses by itself.
        model.compile(
            "adam", loss=dict.fromkeys(outputs, "mse"), jit_compile=True
        )
        return fitting(model, *draws(steps, (32,), outputs))

    return build


def dice_focal(steps):
    """MONAI's loss, and the composite that is the same mean of parts."""
    y_true, y_pred = maps()

    def by_monai():
        from monai.losses import DiceFocalLoss

        loss = DiceFocalLoss(softmax=True, lambda_focal=2.0)
        loss.focal.use_softmax = True
        # Channels first, and the prediction before the label.
        arrays = [
            np.moveaxis(array, -1, 1).copy() for array in (y_true, y_pred)
        ]
        return repeated(lambda y, p: loss(p, y), steps, arrays)

    def ours():
        classes = y_pred.shape[-1]
        dice = losses.Dice(from_logits=True, axis=(1, 2), reduction="mean")
        focal = losses.CategoricalFocalCrossentropy(alpha=1.0, from_logits=True)
        loss = dice + (2.0 / classes) * focal
        return repeated(loss, steps, (y_true, y_pred))

    return {"MONAI": by_monai, "losskit": ours}


def other_packages(steps, small):
    """`{name of a case: contestants}` of those of the current backend.

    Args:
        steps: Training steps per round.
        small: Architecture of the small network.
    """
    backend = keras.config.backend()
    if backend == "tensorflow":
        return {
            "small MLP, 4 terms, tf_keras": {
                "tf_keras": by_tf_keras(steps, **small),
                "losskit": training(losskit.Model, steps, **small),
            }
        }
    if backend == "torch":
        return {"Dice and focal loss, MONAI": dice_focal(max(steps // 20, 1))}
    return {}
