"""Time and memory of a sandwich step beside a plain Keras step of the same network, in one run.

    python scripts/benchmark_supernet.py                          # the three CIFAR networks
    python scripts/benchmark_supernet.py --arch resnet56 --steps 20

For each network two steps are timed in turn on the same batch: Keras's own full-width step (the model called
with training=True, Keras batch norm, one optimizer step) and autoslim's sandwich step. Printed are the median
of the pairwise ratio, the floor (the sum of the arms' FLOPs over the full network's, averaged over the same
steps) and the ratio over the floor. Peak memory is taken in a process of its own for each step: the resident
memory above what the process held with the network and a batch in place; optimizer slots, gradients and
the memory of tracing count.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# name -> (function, its arguments, batch size)
NETWORKS: dict[str, tuple[str, dict[str, Any], int]] = {
    "wresnet40_4": ("autoslim.archs.wide_resnet", {"depth": 40, "widen": 4}, 16),
    "mobilenet_v2": ("autoslim.archs.mobilenet_v2", {}, 32),
    "resnet56": ("autoslim.archs.resnet", {"depth": 56}, 64),
}


def build(name: str, batch: int | None) -> tuple[Any, Any, Any]:
    """The network's channel graph and one batch: (graph, images [B, 32, 32, 3], labels [B])."""
    import tensorflow as tf

    from autoslim import ChannelGraph, archs

    target, args, usual = NETWORKS[name]
    batch = batch or usual
    graph = ChannelGraph(archs.build(target, (32, 32, 3), 10, **args))
    images = tf.random.stateless_normal((batch, 32, 32, 3), seed=(0, 0))
    labels = tf.random.stateless_uniform((batch,), (0, 1), 0, 10, tf.int32)
    return graph, images, labels


def optimizer() -> Any:
    import keras

    return keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True)


def keras_step(graph: Any) -> Callable:
    """A plain step of the network as Keras runs it."""
    import keras
    import tensorflow as tf

    model, sgd = graph.model, optimizer()
    sgd.build(model.trainable_variables)
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @tf.function
    def step(images, labels):
        with tf.GradientTape() as tape:
            loss = loss_of(labels, model(images, training=True))
        sgd.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return loss

    return lambda images, labels, number: step(images, labels).numpy()


def sandwich_step(graph: Any, arms: int) -> Callable:
    """autoslim's sandwich step of the same network."""
    from autoslim import Levels
    from autoslim.training.steps import SandwichStep

    step = SandwichStep(graph, Levels.spaced(graph), optimizer(), arms=arms)
    return lambda *args: [value.numpy() for value in step(*args).values()]


def seconds(step: Callable, *args: Any) -> float:
    start = time.perf_counter()
    step(*args)
    return time.perf_counter() - start


def measure_time(name: str, batch: int | None, steps: int, arms: int) -> dict[str, float]:
    """Seconds of both steps, timed in turn, and the floor of the very arms that ran."""
    from autoslim.slimming.levels import Levels
    from autoslim.slimming.sandwich import draw_arms
    from autoslim.training.steps import floor

    graph, images, labels = build(name, batch)
    plain, sandwich = keras_step(graph), sandwich_step(graph, arms)
    for number in range(2):  # traces, and lets the kernels warm up
        plain(images, labels, number)
        sandwich(images, labels, number)
    pairs = [
        (seconds(plain, images, labels, number), seconds(sandwich, images, labels, number))
        for number in range(2, steps + 2)
    ]
    levels = Levels.spaced(graph)
    floors = [floor(graph, draw_arms(levels, arms, 0, number)) for number in range(2, steps + 2)]
    return {
        "plain": statistics.median(p for p, _ in pairs),
        "sandwich": statistics.median(s for _, s in pairs),
        "ratio": statistics.median(s / p for p, s in pairs),
        "floor": statistics.fmean(floors),
    }


def measure_memory(name: str, which: str, batch: int | None, steps: int, arms: int) -> None:
    """Print the peak resident MB above the base, over `steps` steps; run in a process of its own."""
    graph, images, labels = build(name, batch)
    base = memory("VmRSS")
    step = keras_step(graph) if which == "plain" else sandwich_step(graph, arms)
    for number in range(steps):
        step(images, labels, number)
    print(memory("VmHWM") - base)


def memory(field: str) -> float:
    """This process's resident memory in MB: VmRSS now, VmHWM at its peak (Linux)."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith(field))


def memory_of(name: str, which: str, arguments: argparse.Namespace) -> float:
    command = [sys.executable, __file__, "--arch", name, "--memory-of", which]
    command += ["--steps", str(arguments.steps), "--arms", str(arguments.arms)]
    command += ["--batch", str(arguments.batch)] if arguments.batch else []
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--arch", choices=NETWORKS, action="append", help="repeatable; default: all three")
    parser.add_argument("--steps", type=int, default=10, help="timed steps of each kind")
    parser.add_argument("--arms", type=int, default=4, help="arms of the sandwich step")
    parser.add_argument("--batch", type=int, help="images a step; default: 16, 32 and 64")
    parser.add_argument("--memory-of", choices=("plain", "sandwich"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    names = arguments.arch or list(NETWORKS)
    if arguments.memory_of:
        measure_memory(names[0], arguments.memory_of, arguments.batch, arguments.steps, arguments.arms)
        return
    print(f"{arguments.arms} arms, {arguments.steps} steps of each, {os.cpu_count()} CPU cores")
    heading = (
        "network",
        "batch",
        "plain s",
        "sandwich s",
        "ratio",
        "floor",
        "ratio/floor",
        "plain MB",
        "sandwich MB",
        "MB ratio",
    )
    print(("{:>13}" * len(heading)).format(*heading))
    for name in names:
        t = measure_time(name, arguments.batch, arguments.steps, arguments.arms)
        plain, sandwich = (memory_of(name, which, arguments) for which in ("plain", "sandwich"))
        row = (t["plain"], t["sandwich"], t["ratio"], t["floor"], t["ratio"] / t["floor"])
        print(
            f"{name:>13}{arguments.batch or NETWORKS[name][2]:13}"
            + "".join(f"{value:13.3f}" for value in row)
            + f"{plain:13.0f}{sandwich:13.0f}{sandwich / plain:13.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
