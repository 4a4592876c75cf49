"""What devices exchange in a training step, beside plain Keras.

`KERAS_BACKEND=jax python -m benchmarks.exchange`, or `torch`. A network with an
output for each of K terms, a batch split over 2 to 8 devices: on JAX virtual
ones, whose collectives are read from the compiled step; on PyTorch processes
with `DistributedDataParallel`, whose calls are counted. Bytes are those of
sums, and of what a device gathers on JAX and hands to others on PyTorch.
"""

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import time

DEVICES, TERMS, BATCH = (2, 4, 8), (1, 4, 16), 64
BYTES = {"f32": 4, "s32": 4, "u32": 4, "f64": 8, "pred": 1}
COLLECTIVES = (
    "all-reduce|all-gather|reduce-scatter|collective-permute|all-to-all"
)
STEPS = 20


def contestants():
    """`{name: (class of the model, function of K to a loss)}`."""
    import keras

    import keras_losskit as losskit
    from keras_losskit import losses
    from keras_losskit import reductions
    from keras_losskit import weighting

    def plain(count):
        return ["mse"] * count

    def container(method):
        def build(count):
            return losskit.LossesContainer(plain(count), weighting=method())

        return build

    def hardest(count):
        reduction = reductions.TopK(fraction=0.5, over="batch")
        return [
            losses.MeanSquaredError(reduction=reduction) for _ in range(count)
        ]

    return {
        "Keras": (keras.Model, plain),
        "terms": (losskit.Model, plain),
        "terms, TopK of the batch": (losskit.Model, hardest),
        "terms, ReLoBRaLo": (losskit.Model, container(weighting.ReLoBRaLo)),
        "terms, UPGrad": (losskit.Model, container(weighting.UPGrad)),
    }


def compiled(contestant, count):
    """A network with penalties and K outputs."""
    import keras

    cls, loss = contestants()[contestant]
    keras.utils.set_random_seed(0)
    inputs = keras.Input((64,))
    x = keras.layers.Dense(256, "relu", name="hidden", kernel_regularizer="l2")(
        inputs
    )
    x = keras.layers.Dense(128, "relu", name="second")(x)
    model = cls(inputs, [keras.layers.Dense(8)(x) for _ in range(count)])
    model.compile(keras.optimizers.SGD(0.01), loss(count))
    return model


def batch(count):
    """`(x, y)`."""
    import numpy as np

    x = np.ones((BATCH, 64), "float32")
    return x, [np.ones((BATCH, 8), "float32") for _ in range(count)]


# ------------------------------------------------------------------------ JAX


def layout(devices, mesh=False):
    """A distribution over so many devices; as a mesh kernels are split too."""
    import keras

    names = keras.distribution.list_devices()[:devices]
    if not mesh:
        return keras.distribution.DataParallel(devices=names)
    shape = (2, devices // 2)
    device_mesh = keras.distribution.DeviceMesh(
        shape, ("batch", "model"), names
    )
    map_ = keras.distribution.LayoutMap(device_mesh)
    map_["hidden/kernel"] = (None, "model")
    map_["hidden/bias"] = ("model",)
    map_["second/kernel"] = ("model", None)
    return keras.distribution.ModelParallel(
        layout_map=map_, batch_dim_name="batch"
    )


def collectives(program):
    """`[(name, bytes)]` of the text of a compiled program."""
    found = []
    for line in program.splitlines():
        match = re.search(rf"= (.*?) ({COLLECTIVES})(?:-start)?\(", line)
        if match:
            size = 0
            for dtype, shape in re.findall(r"(\w+)\[([\d,]*)\]", match[1]):
                each = BYTES[dtype]
                for length in filter(None, shape.split(",")):
                    each *= int(length)
                size += each
            found.append((match[2], size))
    return found


def jax_step(model, data):
    """The compiled step of a model, and its arguments."""
    import jax
    import keras

    distribution = keras.distribution.distribution()
    model.fit(*data, batch_size=BATCH, verbose=0)
    model.make_train_function(force=True)
    state = model._get_jax_state(
        trainable_variables=True,
        non_trainable_variables=True,
        optimizer_variables=True,
        metrics_variables=True,
    )
    placed = keras.tree.map_structure(
        lambda each: jax.device_put(
            each, distribution.get_data_layout(each.shape).backend_layout
        ),
        data,
    )
    shardings = (None, model._get_state_sharding_spec())
    step = jax.jit(model.train_step, out_shardings=shardings)
    return step.lower(state, placed).compile(), (state, placed)


def measured_on_jax(devices, count, contestant, mesh=False):
    """`{collectives, bytes, ms}` of a step."""
    import jax
    import keras

    keras.distribution.set_distribution(layout(devices, mesh))
    step, arguments = jax_step(compiled(contestant, count), batch(count))
    found = collectives(step.as_text())
    jax.block_until_ready(step(*arguments))
    start = time.perf_counter()
    for _ in range(STEPS):
        jax.block_until_ready(step(*arguments))
    return {
        "collectives": len(found),
        "gathers": sum(name == "all-gather" for name, _ in found),
        "bytes": sum(size for _, size in found),
        "ms": 1000 * (time.perf_counter() - start) / STEPS,
    }


def on_jax():
    """A row for each number of devices, of terms, and contestant."""
    for mesh in (False, True):
        for devices in DEVICES[-1:] if mesh else DEVICES:
            for count in TERMS:
                for contestant in contestants():
                    yield {
                        "devices": f"2 x {devices // 2}" if mesh else devices,
                        "terms": count,
                        "contestant": contestant,
                        **measured_on_jax(devices, count, contestant, mesh),
                    }


# -------------------------------------------------------------------- PyTorch


@contextlib.contextmanager
def counted():
    """`[bytes]` of the calls of `torch.distributed`, inside."""
    from torch import distributed

    found, before = [], {}
    for name in ("all_reduce", "all_gather"):
        before[name] = function = getattr(distributed, name)

        def counting(*arguments, function=function, **named):
            tensor = arguments[-1]
            found.append(tensor.numel() * tensor.element_size())
            return function(*arguments, **named)

        setattr(distributed, name, counting)
    try:
        yield found
    finally:
        for name, function in before.items():
            setattr(distributed, name, function)


def torch_process():
    """One of several processes; the first prints its rows as JSON."""
    import keras
    import torch
    from torch import distributed

    distributed.init_process_group("gloo")
    process, count = distributed.get_rank(), distributed.get_world_size()
    for terms in TERMS:
        for contestant in contestants():
            model = compiled(contestant, terms)
            data = keras.tree.map_structure(
                lambda each: torch.as_tensor(each[process::count]), batch(terms)
            )
            step = torch_step(model, data)
            step()
            with counted() as sizes:
                step()
            start = time.perf_counter()
            for _ in range(STEPS):
                step()
            row = {
                "devices": count,
                "terms": terms,
                "contestant": contestant,
                "collectives": len(sizes),
                "bytes": sum(sizes),
                "ms": 1000 * (time.perf_counter() - start) / STEPS,
            }
            if process == 0:
                print("ROW " + json.dumps(row), flush=True)
    distributed.barrier()
    os._exit(0)  # threads of gloo outlive the interpreter


def torch_step(model, data):
    """A step of a process."""
    import torch
    from torch.distributed.algorithms.ddp_comm_hooks import default_hooks

    import keras_losskit as losskit

    x, y = data
    parallel = torch.nn.parallel.DistributedDataParallel(model)
    # What DDP does by itself, but by a call that can be counted.
    parallel.register_comm_hook(None, default_hooks.allreduce_hook)
    ours = isinstance(model, losskit.Model)

    def step():
        if ours and model.compiled_loss.weighs_gradients:
            with losskit.data_parallel():
                return model.train_step(data)
        model.zero_grad()
        y_pred = parallel(x, training=True)
        with losskit.data_parallel() if ours else contextlib.nullcontext():
            loss = model.compute_loss(x, y, y_pred)
        loss.backward()
        variables = model.trainable_variables
        with torch.no_grad():
            model.optimizer.apply([v.value.grad for v in variables], variables)
        return loss

    return step


def on_torch():
    """A row for each number of processes, of terms, and contestant."""
    for devices in DEVICES:
        torchrun = ["-m", "torch.distributed.run", "--standalone"]
        torchrun += ["--nproc-per-node", str(devices)]
        run = subprocess.run(
            [sys.executable, *torchrun, "-m", "benchmarks.exchange", "--part"],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        for line in run.stdout.splitlines():
            if line.startswith("ROW "):
                yield json.loads(line.removeprefix("ROW "))


# ---------------------------------------------------------------------- table


def beside_keras(rows):
    """The rows, with what each exchanges beyond plain Keras."""
    known = {}
    for row in rows:
        key = row["devices"], row["terms"]
        keras_bytes = known.setdefault(key, row["bytes"])
        gathers = {"gathers": row["gathers"]} if "gathers" in row else {}
        yield {
            "case": "{devices} devices, {terms} terms: {contestant}".format(
                **row
            ),
            "collectives": row["collectives"],
            **gathers,
            "bytes": row["bytes"],
            "beyond Keras": row["bytes"] - keras_bytes,
            "ms": round(row["ms"], 2),
        }


def main():
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exchange")
    parser.add_argument("--part", action="store_true", help="one of several")
    if parser.parse_args().part:
        torch_process()
    backend = os.environ["KERAS_BACKEND"]
    if backend == "jax":
        flags = os.environ.get("XLA_FLAGS", "")
        flags += f" --xla_force_host_platform_device_count={DEVICES[-1]}"
        os.environ |= {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    from benchmarks import report

    rows = []
    for row in beside_keras(on_jax() if backend == "jax" else on_torch()):
        print(report.as_line(map(str, row.values())), flush=True)
        rows.append(row)
    report.write(
        f"exchange-{backend}-cpu",
        "What devices exchange in a training step",
        report.about(backend, batch=BATCH, bytes="of a device in a step"),
        rows,
    )


if __name__ == "__main__":
    main()
