"""JAX with weights that are split over devices, and batches too.

A mesh of two by four: batches are split in two, kernels in four. On a machine
without eight devices the CPU stands for them: `python jax_mesh.py`. On one that
has them: `python jax_mesh.py --devices 0`.
"""

import os
import sys

os.environ["KERAS_BACKEND"] = "jax"

import argparse

parser = argparse.ArgumentParser(add_help=False)
parser.add_argument(
    "--devices", type=int, default=8, help="of the CPU; 0 for those there are"
)
mine, sys.argv[1:] = parser.parse_known_args()
if mine.devices:
    flags = os.environ.get("XLA_FLAGS", "")
    flags += f" --xla_force_host_platform_device_count={mine.devices}"
    os.environ |= {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}

import keras
import task

devices = keras.distribution.list_devices()
mesh = keras.distribution.DeviceMesh(
    (2, len(devices) // 2), ("batch", "model"), devices
)
layout = keras.distribution.LayoutMap(mesh)
layout["hidden/kernel"] = (None, "model")
layout["hidden/bias"] = ("model",)
layout["value/kernel"] = ("model", None)
keras.distribution.set_distribution(
    keras.distribution.ModelParallel(layout_map=layout, batch_dim_name="batch")
)
task.main()
