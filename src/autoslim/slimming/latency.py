"""Latency as a resource: times of a network's parts, measured on this device at the widths asked for.

A part is a layer with weights (or a merge, a pooling) and what follows it alone, batch norm and activation,
since runtimes fuse these. A network's predicted latency is the sum over its parts. Each part is measured once
at each combination of widths, in a file that later runs on the same device and runtime read and add to.
"""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from autoslim.graph import ChannelGraph
from autoslim.graph.axes import Axis
from autoslim.graph.materialize import slimmed_layer
from autoslim.graph.trace import Node
from autoslim.writing import write_whole

log = logging.getLogger(__name__)

WARMUP_CALLS = 3
ROUNDS = 9  # the fastest counts: whatever else runs on the machine only adds
SHORTEST_SECONDS = 1e-7  # a difference of two times may come out below 0
ROUND_SECONDS = 0.004  # a round makes calls for at least so long
# Configuration that does not tell how long a layer takes: names, and endings of names. Widths are told apart.
_UNTIMED = ("name", "trainable", "dtype", "seed")
_UNTIMED_ENDS = ("_initializer", "_regularizer", "_constraint", "filters", "units", "groups", "target_shape")


@dataclass(frozen=True)
class Part:
    """Nodes that are timed together: each but the first reads the one before it alone."""

    nodes: tuple[Node, ...]


def parts_of(graph: ChannelGraph) -> list[Part]:
    """The network cut into parts, in topological order."""
    readers: dict[int, list[Node]] = {}
    for node in graph.trace.nodes:
        for value in node.inputs:
            readers.setdefault(value, []).append(node)
    parts: list[Part] = []
    taken: set[int] = set()
    for node in graph.trace.nodes:
        if node.index in taken or not node.inputs:
            continue
        chain = [node]
        while (follower := _follower(graph, chain[-1], readers)) is not None:
            chain.append(follower)
        taken.update(n.index for n in chain)
        parts.append(Part(tuple(chain)))
    return parts


def _follower(graph: ChannelGraph, node: Node, readers: dict[int, list[Node]]) -> Node | None:
    """The node that alone reads this one, if it has no products of its own."""
    if len(node.outputs) != 1 or node.outputs[0] in graph.trace.outputs:
        return None
    after = readers.get(node.outputs[0], [])
    if len(after) != 1 or len(after[0].inputs) != 1:
        return None
    rule = graph.rule(after[0])
    return after[0] if rule is not None and not rule.positions(after[0].op, after[0]) else None


class LatencyTable:
    """Predicted latency of a network at any widths, from measured parts.

    Args:
        graph: of the network.
        folder: where the table of this device and runtime is kept between runs; None: in memory.
        measure: model -> milliseconds for one image; None: as `milliseconds` does, on this device.
    """

    def __init__(
        self,
        graph: ChannelGraph,
        folder: Path | str | None = None,
        measure: Callable[[keras.Model], float] | None = None,
    ) -> None:
        self.graph = graph
        self.device = device_name()
        self._measure = measure or milliseconds
        self._path = None if folder is None else Path(folder) / f"{_slug(self.device)}.json"
        self._known: dict[str, float] = self._read()
        self._parts = parts_of(graph)
        self._recent: dict[tuple[int, tuple[int, ...]], float] = {}  # (part, channels of its axes) -> ms
        self.measured = 0  # parts measured by this object

    def __call__(self, widths: Any) -> np.ndarray | float:
        """Predicted milliseconds for one image at widths int [..., G]: float, or float64 [...]."""
        array = self.graph.check(widths)
        before = self.measured
        flat = [self._total(row) for row in array.reshape(-1, array.shape[-1])]
        if self.measured > before:
            self._write()
        return flat[0] if array.ndim == 1 else np.array(flat).reshape(array.shape[:-1])

    def _total(self, widths: np.ndarray) -> float:
        return sum(self._part(number, part, widths) for number, part in enumerate(self._parts))

    def _part(self, number: int, part: Part, widths: np.ndarray) -> float:
        axes = [axis for node in part.nodes for axis in self._axes(node)]
        key = (number, tuple(int(axis.active(widths)) for axis in axes))
        if key not in self._recent:
            signature = self._signature(part, widths)
            if signature not in self._known:
                self._known[signature] = self._measure(self._model(part, widths))
                self.measured += 1
            self._recent[key] = self._known[signature]
        return self._recent[key]

    def _axes(self, node: Node) -> list[Axis]:
        return [*self.graph.input_axes(node), *self.graph.output_axes(node)]

    def _input_shapes(self, part: Part, widths: np.ndarray) -> list[tuple[int | None, ...]]:
        first = part.nodes[0]
        axes = self.graph.input_axes(first)
        return [
            (1, *shape[1:-1], int(axis.active(widths)))
            for shape, axis in zip(first.input_shapes, axes, strict=True)
        ]

    def _signature(self, part: Part, widths: np.ndarray) -> str:
        """What the part's time depends on: kinds of layers, their settings, shapes."""
        layers = []
        for node in part.nodes:
            config = node.op.get_config() if hasattr(node.op, "get_config") else {}
            kept = {k: v for k, v in config.items() if k not in _UNTIMED and not k.endswith(_UNTIMED_ENDS)}
            channels = [int(axis.active(widths)) for axis in self._axes(node)]
            layers.append([type(node.op).__name__, kept, channels])
        text = json.dumps([layers, self._input_shapes(part, widths)], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _model(self, part: Part, widths: np.ndarray) -> keras.Model:
        """The part as a model for one image, with fresh weights."""
        inputs = [keras.Input(batch_shape=shape) for shape in self._input_shapes(part, widths)]
        tensors: list[Any] = list(inputs)
        for node in part.nodes:
            layer = slimmed_layer(self.graph, node, widths, node.name.replace("/", "_"))
            tensors = keras.tree.flatten(node.call(tensors, op=layer))
        return keras.Model(inputs[0] if len(inputs) == 1 else inputs, tensors)

    def _read(self) -> dict[str, float]:
        if self._path is None or not self._path.exists():
            return {}
        try:
            return {str(k): float(v) for k, v in json.loads(self._path.read_text())["milliseconds"].items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            log.warning("%s is damaged: its times are measured anew.", self._path)
            return {}

    def _write(self) -> None:
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._known = {**self._read(), **self._known}  # what another process measured meanwhile
        write_whole(self._path, json.dumps({"device": self.device, "milliseconds": self._known}, indent=1))


def milliseconds(model: keras.Model) -> float:
    """Milliseconds of one call for one image, traced, on this device, less what a call itself takes."""
    inputs = _one_image(model)
    function = tf.function(lambda tensors: model(tensors, training=False), autograph=False)
    idle = tf.function(lambda tensors: keras.tree.flatten(tensors)[0][..., :1], autograph=False)
    return 1e3 * max(SHORTEST_SECONDS, _seconds(function, inputs) - _seconds(idle, inputs))


def whole_milliseconds(model: keras.Model) -> float:
    """Milliseconds of one call of a whole network for one image, nothing taken off."""
    function = tf.function(lambda tensors: model(tensors, training=False), autograph=False)
    return _seconds(function, _one_image(model)) * 1e3


def _one_image(model: keras.Model) -> Any:
    """Random tensors for one image, in the structure of the model's inputs."""
    tensors = [tf.random.stateless_normal((1, *x.shape[1:]), (0, 0)) for x in model.inputs]
    return tensors[0] if len(tensors) == 1 else tensors


def _seconds(function: Callable[[Any], Any], inputs: Any) -> float:
    call = lambda: keras.tree.flatten(function(inputs))[0].numpy()  # noqa: E731
    for _ in range(WARMUP_CALLS):
        call()
    rounds = []
    for _ in range(ROUNDS):
        calls, start = 0, time.perf_counter()
        while (passed := time.perf_counter() - start) < ROUND_SECONDS or calls == 0:
            call()
            calls += 1
        rounds.append(passed / calls if calls else passed)
    return min(rounds)


def device_name() -> str:
    """This device and runtime, as far as they decide how long a layer takes."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        name = tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")
    else:
        name = f"{_processor()} x {tf.config.threading.get_intra_op_parallelism_threads() or 'all'} threads"
    return f"{name}, TensorFlow {tf.__version__}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _slug(name: str) -> str:
    kept = "".join(c if c.isalnum() else "-" for c in name.lower())
    return "-".join(word for word in kept.split("-") if word)
