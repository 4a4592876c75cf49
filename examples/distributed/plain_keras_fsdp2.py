"""Plain Keras 3.15 under FSDP2: `fully_shard` changes nothing that it trains.

`fully_shard` puts split parameters in the place of those of a module, and whole
ones there for the time of its forward pass. The layers of Keras compute with
the tensors that their variables hold, which stay what they were, in each
process by itself. `torchrun --nproc-per-node 2 plain_keras_fsdp2.py`.
"""

import os

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

distributed.init_process_group()
process, count = distributed.get_rank(), distributed.get_world_size()
keras.utils.set_random_seed(1)
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
model.compile(keras.optimizers.SGD(0.1), "mse")
device = "cuda" if torch.cuda.is_available() else "cpu"
fully_shard(model, mesh=init_device_mesh(device, (count,)))
of_module = {type(parameter).__name__ for parameter in model.parameters()}
of_keras = {type(v.value).__name__ for v in model.trainable_variables}
x = np.random.default_rng(process).normal(size=(16, 4)).astype("float32")
model.fit(x, x[:, :2], verbose=0)
found = [None] * count
distributed.all_gather_object(found, model.get_weights())
alike = all(np.array_equal(a, b) for a, b in zip(*found[:2], strict=True))
if process == 0:
    print(f"parameters of the module: {of_module}")
    print(f"what Keras computes with: {of_keras}")
    print(f"processes have the same weights after a step: {alike}")
distributed.destroy_process_group()
