"""Distillation: a small network learns from labels and from a larger one."""

import os
import sys

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
from keras import ops
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import keras_losskit as losskit
from keras_losskit import extra

EPOCHS = int(sys.argv[1]) if len(sys.argv) > 1 else 20
TEMPERATURE = 4.0
keras.utils.set_random_seed(0)

images, labels = load_digits(return_X_y=True)
train_x, test_x, train_y, test_y = train_test_split(
    images.astype("float32") / 16,
    labels.astype("int32"),
    test_size=400,
    random_state=0,
)
HARD = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@keras.saving.register_keras_serializable("examples")
def softened(teacher, student):
    """Crossentropy of the softened predictions, gradients scaled back."""
    target = ops.softmax(teacher / TEMPERATURE)
    logs = ops.log_softmax(student / TEMPERATURE)
    return -(TEMPERATURE**2) * ops.sum(target * logs, axis=-1)


def network(units):
    inputs = keras.Input((64,))
    x = keras.layers.Dense(units, "relu")(inputs)
    return losskit.Model(inputs, keras.layers.Dense(10)(x))


teacher = network(256)
teacher.compile("adam", HARD, metrics=["accuracy"])
teacher.fit(train_x, train_y, epochs=EPOCHS, verbose=0)
results = teacher.evaluate(test_x, test_y, verbose=0, return_dict=True)
print(f"teacher: accuracy {results['accuracy']:.3f}")

student = network(8)
student.compile(
    "adam",
    loss=losskit.LossesContainer(
        HARD,
        extra_terms={
            "teacher": extra.FromTeacher(teacher, softened, weight=0.2)
        },
    ),
    metrics=["accuracy"],
)
student.fit(train_x, train_y, epochs=EPOCHS, verbose=0)
results = student.evaluate(test_x, test_y, verbose=0, return_dict=True)
print(
    f"student: accuracy {results['accuracy']:.3f}, loss {results['loss']:.4f} "
    f"= labels {results['compiled_loss']:.4f} "
    f"+ teacher {results['added_loss']:.4f} "
    f"(unweighted {results['teacher_loss']:.4f})"
)
