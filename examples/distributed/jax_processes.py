"""Several JAX processes: one `fit`, of which each process has a part.

On one machine, of whose CPU each process makes four devices:

    for i in 0 1; do
      python jax_processes.py --address localhost:1234 --count 2 --index $i &
    done; wait

On a cluster whose launcher JAX knows, such as SLURM, without these arguments:
`srun python jax_processes.py --devices 0`.
"""

import os
import sys

os.environ["KERAS_BACKEND"] = "jax"

import argparse

parser = argparse.ArgumentParser(add_help=False)
parser.add_argument("--address", help="host and port of the first process")
parser.add_argument("--count", type=int, help="number of processes")
parser.add_argument("--index", type=int, help="which of them this is")
parser.add_argument(
    "--devices", type=int, default=4, help="of a CPU; 0 for those there are"
)
mine, sys.argv[1:] = parser.parse_known_args()
if mine.devices:
    flags = os.environ.get("XLA_FLAGS", "")
    flags += f" --xla_force_host_platform_device_count={mine.devices}"
    os.environ |= {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}

import jax
import keras
import task

# As `keras.distribution.initialize` does; it says nothing of the time-out.
jax.distributed.initialize(
    mine.address,
    mine.count,
    mine.index,
    heartbeat_timeout_seconds=10,
)
process, count = jax.process_index(), jax.process_count()
options = task.arguments()
keras.distribution.set_distribution(
    keras.distribution.DataParallel(auto_shard_dataset=False)
)
model = task.model(options)
x, y = task.data(options.samples)


def batches():
    """This process' part of each batch, epoch after epoch."""
    while True:
        for start in range(0, options.samples, task.BATCH):
            stop = min(start + task.BATCH, options.samples)
            size = (stop - start) // count
            part = slice(start + process * size, start + (process + 1) * size)
            yield x[part], {name: labels[part] for name, labels in y.items()}


epochs = task.epochs_to_come(model, options)
history = model.fit(
    batches(),
    steps_per_epoch=task.steps_of(options),
    initial_epoch=epochs.start,
    epochs=epochs.stop,
    verbose=0,
    callbacks=[task.Saving(options, process)],
).history
task.finish(model, history, options, process)
