"""What a network's latency is made of: features of its layers, functions of the widths that never fall.

Kernels compute channels in blocks, so that 17 outputs may cost as much as 32: next to a layer's
multiply-accumulates there are those of its outputs rounded up to several block sizes. Which of them a
runtime's kernels follow is left to the fit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from autoslim.graph import ChannelGraph
from autoslim.graph.axes import Axis, Layout
from autoslim.graph.trace import Node

BLOCKS = (8, 16, 32)  # channels that kernels compute at once
Shape = tuple[int | None, ...]
Function = Callable[[np.ndarray], Any]  # widths int64 [..., G] -> float64 [...]


class Features:
    """The features of a graph's networks.

    Layers of the same class, kernel, strides and output size are of one kind. A kind has its own columns;
    further columns sum over all kinds, so that few measurements suffice where all kinds behave alike.

    Args:
        graph: whose layers.
    """

    def __init__(self, graph: ChannelGraph) -> None:
        terms: dict[tuple[str, str], list[Function]] = {}
        kinds: dict[str, None] = {}
        for node in graph.trace.nodes:
            kind = _kind(node)
            for name, function in _node_terms(graph, node).items():
                kinds[kind] = None
                terms.setdefault((kind, name), []).append(function)
        self._terms = terms
        names = list(dict.fromkeys(name for _, name in terms))
        self._shared = [[key for key in terms if key[1] == name] for name in names]
        self.names = ["constant", *(f"all {name}" for name in names), *(" ".join(key) for key in terms)]
        self.own = np.array([False] * (1 + len(names)) + [True] * len(terms))  # of one kind: float64 [F]

    def __call__(self, widths: np.ndarray) -> np.ndarray:
        """Features at widths int [..., G]: float64 [..., F], the first one 1."""
        widths = np.asarray(widths, np.int64)
        own = {key: sum(np.asarray(f(widths), float) for f in some) for key, some in self._terms.items()}
        shared = [sum(own[key] for key in keys) for keys in self._shared]
        columns = [np.ones(widths.shape[:-1]), *shared, *own.values()]
        return np.stack([np.broadcast_to(column, widths.shape[:-1]) for column in columns], -1)


def _kind(node: Node) -> str:
    """What layers have in common whose times are alike, channels apart."""
    names = ("kernel_size", "strides", "pool_size", "dilation_rate")
    settings = [str(getattr(node.op, name)) for name in names if hasattr(node.op, name)]
    sizes = "x".join(str(size) for size in node.output_shapes[0][1:-1])
    return " ".join([type(node.op).__name__, *settings, sizes])


def _node_terms(graph: ChannelGraph, node: Node) -> dict[str, Function]:
    """Name -> function of the widths, for a layer."""
    rule = graph.rule(node)
    traffic = {"entries": _entries(graph, node)}
    if rule is None or not (products := graph.products(node)):
        return traffic
    axis = graph.output_axes(node)[0]
    weights = list(graph.weight_dimensions(node).values())
    terms = {"products": _products(products, axis, 1)}
    terms |= {f"products in {block}s": _products(products, axis, block) for block in BLOCKS}
    terms |= {"inputs": _inputs(graph, node), "outputs in 16s": _outputs(graph, node, 16)}
    terms |= {"weights": _products([own for own in weights if len(own) > 1], axis, 1)}
    return terms


def _products(products: list[tuple[Any, ...]], output: Axis, block: int) -> Function:
    """Multiply-accumulates with the output channels rounded up to a multiple of `block`."""

    def count(widths: np.ndarray) -> Any:
        total: Any = 0
        for dimensions in products:
            entries: Any = 1
            for dimension in dimensions:
                if isinstance(dimension, Axis):
                    active = dimension.active(widths)
                    entries = entries * (_rounded(active, block) if dimension == output else active)
                else:
                    entries = entries * dimension
            total = total + entries
        return total

    return count


def _entries(graph: ChannelGraph, node: Node) -> Function:
    """Entries that a node reads and writes."""
    inputs, outputs = _inputs(graph, node), _outputs(graph, node, 1)
    return lambda widths: inputs(widths) + outputs(widths)


def _inputs(graph: ChannelGraph, node: Node) -> Function:
    return _entries_of(node, node.input_shapes, graph.input_layouts(node), 1)


def _outputs(graph: ChannelGraph, node: Node, block: int) -> Function:
    return _entries_of(node, node.output_shapes, graph.output_layouts(node), block)


def _entries_of(node: Node, shapes: Sequence[Shape], layouts: list[Layout], block: int) -> Function:
    """Entries of tensors, with their last axis rounded up to a multiple of `block`."""
    for shape in shapes:
        node.positions(shape)  # tells of a size that is not known

    def count(widths: np.ndarray) -> Any:
        total: Any = 0
        for layout in layouts:
            others = layout.with_dim(-1, 1) if layout.rank > 1 else layout
            total = total + others.entries(widths) * _rounded(layout.axis().active(widths), block)
        return total

    return count


def _rounded(channels: Any, block: int) -> Any:
    return -(-channels // block) * block
