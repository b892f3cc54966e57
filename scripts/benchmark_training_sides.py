"""What the training benchmark times: steps and loops of autoslim, of Keras, and of PyTorch in its process."""

from __future__ import annotations

import contextlib
import json
import select
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from autoslim import ChannelGraph, Levels, archs
from autoslim.datasets import GivenBatches
from autoslim.slimming.sandwich import arms_cost, draw_arms
from autoslim.training import steps as ours
from autoslim.training.loop import train

SHAPE, CLASSES = (32, 32, 3), 10  # of CIFAR
WARM_UP = 2  # steps before timing: traces, and lets the kernels settle
EPOCH = 4  # times the steps of a round make an epoch where whole loops are timed: they start up once in it
PAUSE = 0.1  # seconds between two sides, in which the threads of the one before go to sleep

Side = Callable[[], float]  # runs some steps: seconds a step


class Network(NamedTuple):
    """A network of the benchmark."""

    function: str  # of `autoslim.archs`, and of the PyTorch side
    arguments: dict[str, Any]
    batch: int  # images a step, where none is asked for

    def build(self) -> keras.Model:
        """With fresh weights."""
        return archs.build(f"autoslim.archs.{self.function}", SHAPE, CLASSES, **self.arguments)


NETWORKS = {
    "resnet56": Network("resnet", {"depth": 56}, 64),
    "wresnet40_4": Network("wide_resnet", {"depth": 40, "widen": 4}, 16),
    "mobilenet_v2": Network("mobilenet_v2", {}, 32),
    "resnet20": Network("resnet", {"depth": 20}, 64),
    "resnet8": Network("resnet", {"depth": 8, "width": 8}, 8),  # small enough for a trial
}
USUAL = ("resnet56", "wresnet40_4", "mobilenet_v2")


def interleaved(sides: Mapping[str, Side], rounds: int) -> dict[str, list[float]]:
    """Seconds a step of every side, round by round, each side once in a round, every other one backwards.

    So a machine that slows down under way slows all sides alike.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in list(sides)[:: 1 if number % 2 == 0 else -1]:
            time.sleep(PAUSE)
            seconds[name].append(sides[name]())
    return seconds


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Median over the rounds of the seconds of one side by those of another."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def fastest(seconds: Mapping[str, Sequence[float]], names: Sequence[str]) -> str | None:
    """Which of these sides has the least median seconds; None where none was measured."""
    there = [name for name in names if seconds.get(name)]
    return min(there, key=lambda name: statistics.median(seconds[name]), default=None)


def one_batch(size: int, shape: Sequence[int] = SHAPE, classes: int = CLASSES) -> tuple[Any, Any]:
    """Images [B, H, W, C] of normal noise, labels int32 [B]."""
    images = tf.random.stateless_normal((size, *shape), seed=(0, 0))
    return images, tf.random.stateless_uniform((size,), (0, 1), 0, classes, tf.int32)


def sgd() -> keras.optimizers.Optimizer:
    """The optimizer of all sides."""
    return keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True)


def repeated(step: Callable[[int], Any], steps: int) -> Side:
    """A side that calls `step` with its number, waiting for the result of each."""
    for number in range(WARM_UP):
        step(number)
    count = WARM_UP

    def run() -> float:
        nonlocal count
        start = time.perf_counter()
        for _ in range(steps):
            step(count)
            count += 1
        return (time.perf_counter() - start) / steps

    return run


def keras_step(model: keras.Model, images: Any, labels: Any) -> Callable[[int], Any]:
    """A plain step of the network as Keras runs it, in a loop of the user's own."""
    optimizer = sgd()
    optimizer.build(model.trainable_variables)
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @tf.function
    def step(images, labels):
        with tf.GradientTape() as tape:
            loss = loss_of(labels, model(images, training=True))
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return loss

    return lambda number: step(images, labels).numpy()


def plain_step(graph: ChannelGraph, images: Any, labels: Any) -> Callable[[int], Any]:
    """autoslim's step of a network at full width."""
    step = ours.plain_step(graph, sgd())
    return lambda number: [value.numpy() for value in step(images, labels, number).values()]


def sandwich_step(graph: ChannelGraph, images: Any, labels: Any, arms: int) -> Callable[[int], Any]:
    """autoslim's sandwich step."""
    step = ours.sandwich_step(graph, Levels.spaced(graph), sgd(), arms=arms)
    return lambda number: [value.numpy() for value in step(images, labels, number).values()]


def arms_floor(graph: ChannelGraph, arms: int, steps: int) -> float:
    """The arms' FLOPs over the full network's, mean of the first `steps` steps that a sandwich side times."""
    levels = Levels.spaced(graph)
    return statistics.fmean(
        arms_cost(graph, draw_arms(levels, arms, 0, number)) for number in range(WARM_UP, WARM_UP + steps)
    )


def compiled(model: keras.Model) -> keras.Model:
    """The model as a user of `fit` compiles it."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(sgd(), loss, metrics=["accuracy"])
    return model


def loop_sides(network: Network, batch: int, steps: int) -> dict[str, Side]:
    """The same training, an epoch of EPOCH times `steps` steps, by autoslim's loop and by Keras's two."""
    images, labels = one_batch(batch)
    steps *= EPOCH
    data = tf.data.Dataset.from_tensors((images, labels)).repeat(steps)
    fitted, on_batch = compiled(network.build()), compiled(network.build())
    own = ours.plain_step(ChannelGraph(network.build()), sgd())
    sides = {
        "autoslim": lambda: train(own, GivenBatches(data), 1),
        "fit": lambda: fitted.fit(data, shuffle=False, verbose=0),
        "train_on_batch": lambda: [on_batch.train_on_batch(images, labels) for _ in range(steps)],
    }
    timed = {name: _timed(run, steps) for name, run in sides.items()}
    own.options = replace(
        own.options, jit="on" if own.differentiation.jit else "off"
    )  # decided in the first epoch
    return timed


def _timed(run: Callable[[], Any], steps: int) -> Side:
    run()  # traces

    def timed() -> float:
        start = time.perf_counter()
        run()
        return (time.perf_counter() - start) / steps

    return timed


# -- PyTorch ---------------------------------------------------------------------------------------------

FORMS = ("nchw", "channels_last")
COMPILED = ("channels_last_compiled",)


class TorchError(Exception):
    """PyTorch can't answer: the reason in a line."""


@dataclass
class Torch:
    """A process with PyTorch that answers requests."""

    interpreter: str
    limit: float  # seconds for an answer
    script: str = "benchmark_torch.py"  # beside this file, that it runs

    def __post_init__(self) -> None:
        self._start()

    def _start(self) -> None:
        command = [self.interpreter, str(Path(__file__).with_name(self.script))]
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        except OSError as error:
            raise TorchError(f"{self.interpreter} can't be started: {error.strerror}") from error
        try:
            self.version = self._read()["version"]
        except TorchError:
            self.close()
            raise

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request (see the script).

        Raises:
            TorchError: if there is none, none in time, or an error.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise TorchError("its process ended") from error
        return self._read()

    def _read(self) -> dict[str, Any]:
        out = self._process.stdout
        assert out is not None
        if not select.select([out], [], [], self.limit)[0]:
            self.close()
            self._start()  # what took too long is given up; other requests get a process again
            raise TorchError(f"no answer within {self.limit:g} s")
        line = out.readline()
        if not line:
            raise TorchError("its process ended")
        answer = json.loads(line)
        if "error" in answer:
            raise TorchError(answer["error"])
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                with contextlib.suppress(OSError):
                    stream.close()


@contextlib.contextmanager
def torch_process(interpreter: str, limit: float, script: str = "benchmark_torch.py") -> Iterator[Torch]:
    """PyTorch for the length of the block."""
    torch = Torch(interpreter, limit, script)
    try:
        yield torch
    finally:
        torch.close()


def convolution_widths(graph: ChannelGraph, widths: np.ndarray) -> dict[str, int]:
    """Output channels of every convolution at widths int [G]: {layer name: channels}."""
    return {
        node.name: int(graph.output_axes(node)[0].active(widths))
        for node in graph.trace.nodes
        if isinstance(node.op, keras.layers.Conv2D)
    }


def torch_side(
    torch: Torch, network: Network, graph: ChannelGraph, batch: int, form: str, arms: int, steps: int
) -> Side:
    """PyTorch's step of the same network, plain (arms=0) or sandwich, on arms drawn as ours are.

    Raises:
        TorchError: if it has no answer, or another network.
    """
    levels, count = Levels.spaced(graph), 0
    request = {
        "network": network.function,
        "arguments": network.arguments,
        "shape": SHAPE,
        "classes": CLASSES,
        "batch": batch,
        "form": form,
    }

    def run(steps: int = steps) -> float:
        nonlocal count
        drawn = [
            [convolution_widths(graph, widths) for widths in draw_arms(levels, arms, 0, number)]
            for number in range(count, count + steps)
            if arms
        ]
        count += steps
        answer = torch.ask({**request, "arms": drawn or None, "steps": steps})
        if answer["parameters"] != graph.cost().params:
            raise TorchError(
                f"another network: {answer['parameters']:,} parameters, not {graph.cost().params:,}"
            )
        return statistics.fmean(answer["seconds"])

    run(WARM_UP)
    return run
