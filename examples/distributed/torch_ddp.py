"""PyTorch with `DistributedDataParallel`: a process per device.

On one machine `torchrun --nproc-per-node 2 torch_ddp.py`, on several with the
further arguments that `torchrun` has for that. From Keras 3.16 on `fit` of each
process, with its part of the data, does the same as the loop.
"""

import os

os.environ["KERAS_BACKEND"] = "torch"

import datetime

import keras
import task
import torch
from torch import distributed

import keras_losskit as losskit

options = task.arguments()
distributed.init_process_group(timeout=datetime.timedelta(seconds=60))
process, count = distributed.get_rank(), distributed.get_world_size()
model = task.model(options)
data = keras.tree.map_structure(torch.as_tensor, task.data(options.samples))
parallel = torch.nn.parallel.DistributedDataParallel(model)
total = keras.metrics.Mean()  # which `fit` logs as `loss`


def step(x, y, size):
    """A step of this process, with its part of a batch of a size."""
    if model.compiled_loss.weighs_gradients:
        with losskit.data_parallel():  # the step averages the gradients
            return model.train_step((x, y))
    model.zero_grad()
    y_pred = parallel(x, training=True)
    with losskit.data_parallel():
        loss = model.compute_loss(x, y, y_pred)  # of the whole batch
    loss.backward()
    variables = model.trainable_variables
    with torch.no_grad():
        model.optimizer.apply([v.value.grad for v in variables], variables)
    return total.update_state(loss.detach(), sample_weight=size)


history = {}
for _ in task.epochs_to_come(model, options):
    model.reset_metrics()
    total.reset_state()
    for start in range(0, options.samples, task.BATCH):
        size = min(task.BATCH, options.samples - start)
        step(*task.part(data, start, process, count), size)
    logs = model.get_metrics_result()
    if not model.compiled_loss.weighs_gradients:
        logs["loss"] = total.result()
    for key, value in logs.items():
        history.setdefault(key, []).append(float(value))
    model.compiled_loss.on_epoch_end()
    if process == 0:
        task.save(model, options)
task.finish(model, history, options, process)
distributed.destroy_process_group()
