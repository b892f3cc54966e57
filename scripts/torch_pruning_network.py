"""A network that benchmark_torch_pruning.py hands over, as a PyTorch module, and what it costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

RELU: dict[str, Callable[[Any], Any]] = {"relu": functional.relu, "relu6": functional.relu6}


class Net(nn.Module):
    """A network that torch_pruning_handover.py described: nodes that read and write numbered values.

    Args:
        description: see `torch_pruning_handover.describe`.
        weights: likewise.
    """

    def __init__(self, description: dict[str, Any], weights: dict[str, Any]) -> None:
        super().__init__()
        self.nodes, self.first, self.last = description["nodes"], description["input"], description["output"]
        self.layers = nn.ModuleDict()
        for node in self.nodes:
            if node["kind"] in LAYERS:
                own = [
                    torch.from_numpy(np.array(weights[f"{node['name']}/{k}"])) for k in _places(node, weights)
                ]
                self.layers[node["name"]] = LAYERS[node["kind"]](node, own)

    @property
    def classifier(self) -> nn.Module:
        """The layer that gives the logits."""
        return self.layers[self.nodes[-1]["name"]]

    def forward(self, images: Any) -> Any:
        """Logits [B, classes] of normalised images [B, channels, height, width]."""
        values, layers = {self.first: images}, dict(self.layers.items())
        for node in self.nodes:
            layer = layers.get(node["name"])
            x = CALLS[node["kind"]](node, layer, *(values[i] for i in node["inputs"]), training=self.training)
            relu = node.get("relu")
            values[node["output"]] = RELU[relu](x) if relu else x
        return values[self.last]


def _places(node: dict[str, Any], weights: dict[str, Any]) -> list[int]:
    """Numbers of the arrays of a node."""
    return [k for k in range(4) if f"{node['name']}/{k}" in weights]


def _conv(node: dict[str, Any], weights: Sequence[Any]) -> nn.Module:
    kernel, *bias = weights
    left, right, top, bottom = node["padding"]
    even = left == right and top == bottom
    layer = nn.Conv2d(
        kernel.shape[1] * node["groups"],
        kernel.shape[0],
        tuple(kernel.shape[2:]),
        tuple(node["stride"]),
        (top, left) if even else 0,
        tuple(node["dilation"]),
        node["groups"],
        bias=bool(bias),
    )
    return _filled(layer, weights)


def _dense(node: dict[str, Any], weights: Sequence[Any]) -> nn.Module:
    outputs, inputs = weights[0].shape
    return _filled(nn.Linear(inputs, outputs, bias=len(weights) > 1), weights)


def _norm(node: dict[str, Any], weights: Sequence[Any]) -> nn.Module:
    layer = nn.BatchNorm2d(len(weights[0]), node["epsilon"], node["momentum"])
    assert layer.running_mean is not None and layer.running_var is not None
    layer.running_mean.copy_(weights[2])
    layer.running_var.copy_(weights[3])
    return _filled(layer, weights[:2])


def _filled(layer: nn.Module, weights: Sequence[Any]) -> nn.Module:
    with torch.no_grad():
        for parameter, weight in zip(layer.parameters(), weights, strict=True):
            parameter.copy_(weight)
    return layer


LAYERS: dict[str, Callable[[dict[str, Any], Sequence[Any]], nn.Module]] = {
    "Conv2D": _conv,
    "DepthwiseConv2D": _conv,
    "Dense": _dense,
    "BatchNormalization": _norm,
}


def _call_conv(node: dict[str, Any], layer: Any, x: Any, training: bool) -> Any:
    left, right, top, bottom = padding = node["padding"]
    uneven = left != right or top != bottom  # as Keras pads where a stride meets an even size
    return layer(functional.pad(x, padding) if uneven else x)


def _call_layer(node: dict[str, Any], layer: Any, x: Any, training: bool) -> Any:
    return layer(x)


CALLS: dict[str, Callable[..., Any]] = {
    "Conv2D": _call_conv,
    "DepthwiseConv2D": _call_conv,
    "Dense": _call_layer,
    "BatchNormalization": _call_layer,
    "ReLU": lambda node, layer, x, training: x,
    "Activation": lambda node, layer, x, training: x,
    "MaxPooling2D": lambda node, layer, x, training: functional.max_pool2d(
        x, tuple(node["size"]), tuple(node["stride"])
    ),
    "GlobalAveragePooling2D": lambda node, layer, x, training: x.mean((2, 3)),
    "Flatten": lambda node, layer, x, training: torch.flatten(x, 1),
    "Add": lambda node, layer, *x, training: sum(x[1:], x[0]),
    "Dropout": lambda node, layer, x, training: functional.dropout(x, node["rate"], training),
}


def cost(net: nn.Module, example: Any) -> dict[str, int]:
    """Multiply-accumulates of convolutions and dense layers for one image, and trainable parameters.

    Args:
        net: a network.
        example: one image [1, channels, height, width].
    """
    counted = 0

    def count(layer: Any, inputs: Any, output: Any) -> None:
        nonlocal counted
        places = output.shape[2] * output.shape[3] if output.dim() == 4 else 1
        counted += layer.weight.numel() * places

    hooks = [
        layer.register_forward_hook(count)
        for layer in net.modules()
        if isinstance(layer, (nn.Conv2d, nn.Linear))
    ]
    was = net.training
    net.eval()
    with torch.no_grad():
        net(example)
    net.train(was)
    for hook in hooks:
        hook.remove()
    return {"flops": counted, "params": sum(p.numel() for p in net.parameters() if p.requires_grad)}
