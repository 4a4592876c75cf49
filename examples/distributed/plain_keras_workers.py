"""Plain Keras 3.15 under `MultiWorkerMirroredStrategy`: `fit` raises.

Keras' trainer reduces a batch over the workers to look at its shapes, which
this strategy refuses. It takes the same arguments as `tensorflow_workers.py`.
"""

import os
import sys

os.environ["KERAS_BACKEND"] = "tensorflow"

import argparse
import json

parser = argparse.ArgumentParser()
parser.add_argument("--workers", help="hosts and ports, with commas between")
parser.add_argument("--index", type=int, help="which of them this is")
mine = parser.parse_args()
if mine.workers:
    os.environ["TF_CONFIG"] = json.dumps(
        {
            "cluster": {"worker": mine.workers.split(",")},
            "task": {"type": "worker", "index": mine.index},
        }
    )

import tensorflow as tf

strategy = tf.distribute.MultiWorkerMirroredStrategy()

import keras
import numpy as np

with strategy.scope():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", jit_compile=False)
x, y = np.ones((16, 4), "float32"), np.ones((16, 1), "float32")
try:
    model.fit(x, y, verbose=0)
except ValueError as error:
    print(f"fit raises: {str(error).splitlines()[0]}")
    sys.exit()
print("fit works")
