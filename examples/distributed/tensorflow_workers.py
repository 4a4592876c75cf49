"""TensorFlow with `MultiWorkerMirroredStrategy`: a worker per process.

`fit` of Keras 3 does not work with this strategy (`plain_keras_workers.py`), so
the loop is written here; the step is the model's own. On one machine:

    for i in 0 1; do
      python tensorflow_workers.py --workers localhost:1234,localhost:1235 \\
        --index $i &
    done; wait

On a cluster whose launcher sets `TF_CONFIG`, without these arguments.
"""

import os
import sys

os.environ["KERAS_BACKEND"] = "tensorflow"

import argparse
import json

parser = argparse.ArgumentParser(add_help=False)
parser.add_argument("--workers", help="hosts and ports, with commas between")
parser.add_argument("--index", type=int, help="which of them this is")
mine, sys.argv[1:] = parser.parse_known_args()
if mine.workers:
    os.environ["TF_CONFIG"] = json.dumps(
        {
            "cluster": {"worker": mine.workers.split(",")},
            "task": {"type": "worker", "index": mine.index},
        }
    )

import tensorflow as tf

options = tf.distribute.experimental.CommunicationOptions(timeout_seconds=60)
strategy = tf.distribute.MultiWorkerMirroredStrategy(
    communication_options=options
)

import task

worker = strategy.cluster_resolver.task_id
options = task.arguments()
x, y = task.data(options.samples)
with strategy.scope():
    model = task.model(options)
    # What `fit` does before the first step.
    y_pred = model(x[:1])
    first = {name: labels[:1] for name, labels in y.items()}
    model.compute_loss(x[:1], first, y_pred, training=False)
    model.optimizer.build(model.trainable_variables)
dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(task.BATCH)
dataset = strategy.experimental_distribute_dataset(dataset)


@tf.function
def step(batch):
    strategy.run(model.train_step, args=(batch,))


history = {}
for _ in task.epochs_to_come(model, options):
    model.reset_metrics()
    for batch in dataset:
        step(batch)
    for key, value in model.get_metrics_result().items():
        history.setdefault(key, []).append(float(value))
    model.compiled_loss.on_epoch_end()
    if worker == 0:
        task.save(model, options)
task.finish(model, history, options, worker)
