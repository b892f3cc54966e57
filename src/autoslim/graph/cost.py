"""Closed-form costs of a channel graph at given widths, for many widths at once."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from autoslim.errors import AutoslimError
from autoslim.graph.axes import Layout, entries
from autoslim.graph.rules.base import weight_of
from autoslim.graph.structure import Structure
from autoslim.graph.trace import Node, UnknownSize
from autoslim.resources import CONVENTIONS, COUNTED, RESOURCES, Cost, counting

BYTES_PER_ENTRY = 4  # float32
NORM_FLOPS_PER_ENTRY = 4  # subtract, divide, scale, shift


@dataclass(frozen=True)
class LayerCost:
    """One line of the layer table."""

    name: str
    kind: str  # layer class
    shape: tuple[int | None, ...]  # output shape at the widths asked for, batch first
    groups: tuple[str, ...]  # channel groups of the output
    flops: int | None  # None: not known, as sizes of its tensors are not
    params: int  # without those that a layer further up has too


def total_cost(graph: Structure, widths: np.ndarray, convention: str) -> Cost:
    """See `ChannelGraph.cost`."""
    known: dict[str, Any] = {}
    unknown: dict[str, str] = {}
    for name in COUNTED:
        try:
            total = amounts(graph, name, widths, convention).max(-1)
            known[name] = int(total) if widths.ndim == 1 else total
        except UnknownSize as why:
            unknown[name] = str(why)
    return Cost(known, unknown)


def amounts(graph: Structure, resource: str, widths: np.ndarray, convention: str) -> np.ndarray:
    """See `ChannelGraph.amounts`."""
    _check_convention(convention)
    found = np.asarray(counting(resource)(graph, widths.astype(np.int64), convention))
    return found if RESOURCES[resource].peak else found[..., None]


def flops(graph: Structure, widths: np.ndarray, convention: str) -> Any:
    """FLOPs of one image at widths int64 [..., G]: int64 [...]."""
    return sum(_node_flops(graph, node, widths, convention) for node in graph.trace.nodes)


def params(graph: Structure, widths: np.ndarray, convention: str) -> Any:
    """Number of weights at widths int64 [..., G]: int64 [...]."""
    seen: set[int] = set()
    return sum(_node_params(graph, node, widths, convention, seen) for node in graph.trace.nodes)


def layer_costs(graph: Structure, widths: np.ndarray, convention: str) -> list[LayerCost]:
    """See `ChannelGraph.layer_costs`."""
    _check_convention(convention)
    widths = widths.astype(np.int64)
    rows = []
    counted: set[int] = set()
    for node in graph.trace.nodes:
        weights = int(_node_params(graph, node, widths, convention, counted))
        layout = graph.output_layouts(node)[0]
        rows.append(
            LayerCost(
                name=node.name,
                kind=type(node.op).__name__,
                shape=_shape_at(node.output_shapes[0], layout, widths),
                groups=tuple(graph.groups[g].name for _, axis in layout.axes for g in axis.groups),
                flops=_known_flops(graph, node, widths, convention),
                params=weights,
            )
        )
    return rows


def _shape_at(shape: tuple[int | None, ...], layout: Layout, widths: np.ndarray) -> tuple[int | None, ...]:
    sizes = list(shape)
    for place, axis in layout.axes:
        sizes[place] = int(axis.active(widths))
    return tuple(sizes)


def _known_flops(graph: Structure, node: Node, widths: np.ndarray, convention: str) -> int | None:
    try:
        return int(_node_flops(graph, node, widths, convention))
    except UnknownSize:
        return None


def node_flops(graph: Structure, widths: np.ndarray) -> np.ndarray:
    """Multiply-accumulates of every node for one image at widths int [..., G]: int64 [..., nodes]."""
    widths = widths.astype(np.int64)
    return np.stack([_node_flops(graph, node, widths, "macs") for node in graph.trace.nodes], -1)


def layer_costs_csv(rows: Sequence[LayerCost]) -> str:
    """Rows of `ChannelGraph.layer_costs` as the text of a CSV file, with a head and a last line of totals.

    Shapes are written as 32x32x16, without the batch; several groups are joined by a semicolon.

    >>> print(layer_costs_csv([LayerCost("conv", "Conv2D", (None, 8, 8, 4), ("conv",), 6912, 112)]), end="")
    layer,kind,shape,groups,flops,params
    conv,Conv2D,8x8x4,conv,6912,112
    total,,,,6912,112
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("layer", "kind", "shape", "groups", "flops", "params"))
    for row in rows:
        shape = "x".join(str(size) for size in row.shape[1:])
        writer.writerow((row.name, row.kind, shape, ";".join(row.groups), row.flops, row.params))
    flops = [row.flops for row in rows if row.flops is not None]
    total = sum(flops) if len(flops) == len(rows) else ""
    writer.writerow(("total", "", "", "", total, sum(row.params for row in rows)))
    return text.getvalue()


def _check_convention(convention: str) -> None:
    if convention not in CONVENTIONS:
        raise AutoslimError(f"convention={convention!r}: expected one of {', '.join(CONVENTIONS)}.")


def _node_flops(graph: Structure, node: Node, widths: np.ndarray, convention: str) -> Any:
    rule = graph.rule(node)
    flops: Any = np.zeros(widths.shape[:-1], np.int64)
    if rule is None:
        return flops + graph.measured_macs(node)
    for dimensions in graph.products(node):
        flops = flops + entries(dimensions, widths)
    if convention == "all" and rule.made_by_entry is not None:
        layouts = graph.input_layouts(node), graph.output_layouts(node)
        return flops + sum(entries(d, widths) for d in rule.made_by_entry(node.op, node, *layouts))
    per_entry = _flops_per_entry(graph, node, convention)
    if per_entry:
        count = graph.output_layouts(node)[0].entries(widths)
        if count is None:
            node.positions(node.output_shapes[0])  # raises, naming the axis that is not known
        flops = flops + per_entry * count
    return flops


def _flops_per_entry(graph: Structure, node: Node, convention: str) -> int:
    """FLOPs of a node other than its products by weights, for each entry of its output."""
    rule = graph.rule(node)
    if rule is None or convention == "macs":
        return 0
    flops = NORM_FLOPS_PER_ENTRY if rule.normalizes else 0
    if convention == "all":
        activation = getattr(node.op, "activation", None)
        flops += "bias" in graph.weight_dimensions(node)
        flops += rule.activates or activation not in (None, keras.activations.linear)
    return flops


def _node_params(graph: Structure, node: Node, widths: np.ndarray, convention: str, counted: set[int]) -> Any:
    """Number of weights that are not among the `counted` (ids), which they join; in "macs" trainable ones."""
    params: Any = np.zeros(widths.shape[:-1], np.int64)
    if graph.rule(node) is None:
        weights = [(weight, tuple(weight.shape)) for weight in getattr(node.op, "weights", [])]
    else:
        weights = [(weight_of(node.op, name), d) for name, d in graph.weight_dimensions(node).items()]
    for weight, dimensions in weights:
        if id(weight) not in counted and (convention != "macs" or getattr(weight, "trainable", True)):
            params = params + entries(dimensions, widths)
        counted.add(id(weight))
    return params


def live_memory(graph: Structure, widths: np.ndarray, convention: str) -> np.ndarray:
    """Bytes of the activations alive at the input and each node, for one image: int64 [..., nodes + 1].

    Each is linear in the widths int64 [..., G].
    """
    traced = graph.trace
    size: dict[int, Any] = {}
    for value, shape in zip(traced.inputs, traced.input_shapes, strict=True):
        size[value] = _bytes(graph, value, shape, widths)
    live: Any = sum(size.values())
    rows = [live]
    for node in traced.nodes:
        for value, shape in zip(node.outputs, node.output_shapes, strict=True):
            size[value] = _bytes(graph, value, shape, widths)
            live = live + size[value]
        rows.append(live)
        live = live - sum(size[value] for value in traced.ends[node.index])
    return np.stack(rows, -1)


def _bytes(graph: Structure, value: int, shape: tuple[int | None, ...], widths: np.ndarray) -> Any:
    if graph.layout(value).entries(widths) is None:
        raise UnknownSize(
            f"A tensor of the dynamic shape {shape} has no known size. "
            "Build the model with a fixed input shape, or give ChannelGraph an image_shape."
        )
    return BYTES_PER_ENTRY * graph.layout(value).entries(widths)
