"""PyTorch with FSDP2: a module whose weights are split, and the terms of ours.

Layers of Keras do not work with `fully_shard` (`plain_keras_fsdp2.py`), so the
network is of PyTorch, and a `LossesContainer` is its loss. `torchrun
--nproc-per-node 2 torch_fsdp2.py`; with one process it trains as on one device.
"""

import os

os.environ["KERAS_BACKEND"] = "torch"

import datetime
import json

import keras
import task
import torch
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import keras_losskit as losskit
from keras_losskit import losses
from keras_losskit import reductions

options = task.arguments()
distributed.init_process_group(timeout=datetime.timedelta(seconds=60))
process, count = distributed.get_rank(), distributed.get_world_size()


class Network(torch.nn.Module):
    """A trunk with two heads, as that of `task.py`."""

    def __init__(self):
        super().__init__()
        self.hidden = torch.nn.Linear(4, 16)
        self.value = torch.nn.Linear(16, 2)
        self.label = torch.nn.Linear(16, 2)

    def forward(self, x):
        x = torch.tanh(self.hidden(x))
        return {"value": self.value(x), "label": self.label(x)}


torch.manual_seed(1)
network = Network()
device = "cuda" if torch.cuda.is_available() else "cpu"
network.to(device)
mesh = init_device_mesh(device, (count,))
fully_shard(network.hidden, mesh=mesh)
fully_shard(network, mesh=mesh)
hardest = reductions.TopK(fraction=0.5, over="batch")
container = losskit.LossesContainer(
    {
        "value": [
            "mse",
            losses.MeanAbsoluteError(reduction=hardest, name="hardest"),
        ],
        "label": losses.SparseCategoricalCrossentropy(from_logits=True),
    },
)
optimizer = torch.optim.Adam(network.parameters(), 0.01)
data = keras.tree.map_structure(
    lambda each: torch.as_tensor(each, device=device),
    task.data(options.samples),
)


def penalty():
    """Of the split kernel: each process squares its part, a number is added.

    FSDP does not average its gradient over the processes as it does that of the
    predictions, so it is no term of the container.
    """
    return 0.01 * network.hidden.weight.square().sum().full_tensor()


def step(x, y):
    """A step of this process, with its part of a batch; gives the values."""
    optimizer.zero_grad()
    y_pred = network(x)
    with losskit.data_parallel():
        terms = container.compute(y, y_pred)
    penalized = penalty()
    total = terms.total + penalized
    total.backward()
    optimizer.step()
    values = {name: term.value for name, term in terms.items()}
    values |= {"penalty": penalized, "loss": total}
    return {name: float(value.detach()) for name, value in values.items()}


history = {}
for _ in range(options.epochs):
    sums = {}
    for start in range(0, options.samples, task.BATCH):
        size = min(task.BATCH, options.samples - start)
        found = step(*task.part(data, start, process, count))
        for name, value in found.items():
            sums[name] = sums.get(name, 0.0) + size * value
    for name, value in sums.items():
        history.setdefault(name, []).append(value / options.samples)
weights = [p.full_tensor().tolist() for p in network.parameters()]
if process == 0:
    print({name: [round(v, 4) for v in h] for name, h in history.items()})
if options.folder is not None:
    options.folder.mkdir(parents=True, exist_ok=True)
    file = options.folder / f"process_{process}.json"
    file.write_text(json.dumps({"logs": history, "weights": weights}))
distributed.destroy_process_group()
