"""Rules of convolutions as operations: their kernel is a tensor, such as a weight that was standardised."""

from __future__ import annotations

from typing import Any

from autoslim.graph.axes import Layout
from autoslim.graph.groups import Grouping
from autoslim.graph.rules.base import LayerRule, Products, Unsupported, always, require_channels_last
from autoslim.graph.trace import Node


def _of_kernel(op: Any, inputs: list[Layout], node: Node, grouping: Grouping) -> Layout:
    """The layout of the kernel, whose windows are positions.

    Raises:
        Unsupported: unless it is one for all images, and the only tensor that slides over the other.
    """
    require_channels_last(op)
    if len(inputs) != 2 or inputs[1].has_images or inputs[0].batch != 0:
        raise Unsupported("a kernel that is no weight")
    for layout, channels in ((inputs[0], 1), (inputs[1], 2)):
        for place, axis in layout.axes:
            if place < layout.rank - channels:
                grouping.freeze(axis, f"{node.name} takes axis {place}, on which they stand, for positions")
    return inputs[1]


def _arrange_conv(op: Any, inputs: list[Layout], node: Node, grouping: Grouping) -> list[Layout]:
    kernel = _of_kernel(op, inputs, node, grouping)
    if kernel.axis(-2).size != inputs[0].axis().size:
        raise Unsupported("groups of channels")
    grouping.tie(inputs[0].axis(), kernel.axis(-2), node.name)
    return [Layout.of(node.output_shapes[0], kernel.axis())]


def _arrange_depthwise(op: Any, inputs: list[Layout], node: Node, grouping: Grouping) -> list[Layout]:
    kernel = _of_kernel(op, inputs, node, grouping)
    if kernel.axis().size != 1:
        raise Unsupported("several outputs of each channel")
    grouping.tie(inputs[0].axis(), kernel.axis(-2), node.name)
    return [Layout.of(node.output_shapes[0], inputs[0].axis())]


def _conv_products(op: Any, node: Node, inputs: list[Layout], outputs: list[Layout]) -> Products:
    return [(*outputs[0].dims, *inputs[1].dims[:-1])]


def _depthwise_products(op: Any, node: Node, inputs: list[Layout], outputs: list[Layout]) -> Products:
    return [(*outputs[0].dims, *inputs[1].dims[:-2])]


CONV_BY = LayerRule(arrange=_arrange_conv, products=_conv_products, keeps_zero=always)
DEPTHWISE_BY = LayerRule(arrange=_arrange_depthwise, products=_depthwise_products, keeps_zero=always)
