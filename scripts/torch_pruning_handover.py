"""A trained Keras network and its images, written down for a process that knows nothing of Keras."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from autoslim.errors import AutoslimError
from autoslim.graph import ChannelGraph
from autoslim.graph.trace import Node
from autoslim.stages.images import Images

Described = tuple[dict[str, Any], list[np.ndarray]]  # options in JSON's types, arrays in PyTorch's layouts

COMPARED = 64  # test images whose logits both sides compute


def describe(model: keras.Model) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The layers of a network in order, in PyTorch's terms.

    Args:
        model: functional, of one image input, ending in a dense layer that gives the logits.

    Returns:
        {"input": value, "output": value, "nodes": [{"name", "kind", "inputs": values, "output": value, and
        the kind's own options}]}, values being numbered tensors; and the weights, each under "name/place", in
        PyTorch's layouts: convolutions [out, in / groups, height, width], dense layers [out, in], the inputs
        of those that read a flattened image in PyTorch's order.

    Raises:
        AutoslimError: for a layer or an option of one that is not translated, naming it.
    """
    trace = ChannelGraph(model).trace
    nodes: list[dict[str, Any]] = []
    arrays: dict[str, np.ndarray] = {}
    flat: dict[
        int, tuple[int, int, int]
    ] = {}  # value that is a flattened image -> its height, width, channels
    for node in trace.nodes:
        kind = type(node.op).__name__
        if kind not in KINDS:
            raise AutoslimError(
                f"Layer {node.name} is a {kind}, which is not translated to PyTorch. There are: "
                f"{', '.join(KINDS)}."
            )
        options, weights = KINDS[kind](node)
        if kind == "Flatten":
            height, width, channels = node.input_shapes[0][1:]
            flat[node.outputs[0]] = (int(height or 0), int(width or 0), int(channels or 0))
        elif node.inputs[0] in flat:
            if kind == "Dense":
                weights[0] = _by_channels(weights[0], flat[node.inputs[0]])
            elif kind in ("ReLU", "Activation", "Dropout"):
                flat[node.outputs[0]] = flat[node.inputs[0]]
            else:
                raise _refused(node, "a flattened image as its input")
        nodes.append(
            {
                "name": node.name,
                "kind": kind,
                "inputs": list(node.inputs),
                "output": node.outputs[0],
                **options,
            }
        )
        arrays |= {f"{node.name}/{place}": weight for place, weight in enumerate(weights)}
    if nodes[-1]["kind"] != "Dense" or [nodes[-1]["output"]] != list(trace.outputs):
        raise _refused(trace.nodes[-1], "the last place, where a dense layer is expected")
    return {"input": trace.inputs[0], "output": trace.outputs[0], "nodes": nodes}, arrays


def hand_over(folder: Path, model: keras.Model, images: Images) -> dict[str, Any]:
    """Write weights and images of a network into a folder, and return its layers.

    Files: `weights.npz` as in `describe`; `images.npz` with "train", "test", "calibration", uint8
    [N, channels, height, width], "train_labels", "test_labels", int64 [N], "mean", "std" (float32, of images
    / 255), and "logits", float32 [n, classes], of the first n test images.
    """
    network, weights = describe(model)
    np.savez(folder / "weights.npz", **weights)  # type: ignore[arg-type]
    data = images.data
    train, train_labels = data.sample(len(data.train_labels), train=True)
    test, test_labels = data.sample(len(data.test_labels), train=False)
    calibration = np.concatenate([np.asarray(x) for x, _ in images.calibration()])

    def pixels(x: np.ndarray) -> np.ndarray:
        return np.rint((x * data.std + data.mean) * 255).astype(np.uint8).transpose(0, 3, 1, 2)

    arrays = {
        "train": pixels(train),
        "train_labels": np.asarray(train_labels, np.int64),
        "test": pixels(test),
        "test_labels": np.asarray(test_labels, np.int64),
        "calibration": pixels(calibration),
        "mean": data.mean,
        "std": data.std,
        "logits": np.asarray(model(test[:COMPARED], training=False)),
    }
    np.savez(folder / "images.npz", **arrays)  # type: ignore[arg-type]
    return network


def _refused(node: Node, what: str) -> AutoslimError:
    return AutoslimError(
        f"Layer {node.name} ({type(node.op).__name__}) has {what}: not translated to PyTorch."
    )


def _by_channels(kernel: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """A dense kernel [out, height * width * channels] with its inputs as [out, channels * height * width]."""
    return kernel.reshape(-1, *shape).transpose(0, 3, 1, 2).reshape(len(kernel), -1)


def same_padding(size: int, kernel: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """Pixels that Keras's padding "same" adds before and after.

    >>> same_padding(32, 3, 1), same_padding(32, 3, 2), same_padding(33, 3, 2)
    ((1, 1), (0, 1), (1, 1))
    """
    total = max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


def _convolution(node: Node, depthwise: bool = False) -> Described:
    layer = node.op
    if layer.data_format != "channels_last":
        raise _refused(node, f"data_format={layer.data_format}")
    kernel, *bias = (np.asarray(weight) for weight in layer.weights)
    if depthwise:  # [height, width, channels, multiplier]
        height, width, channels, multiplier = kernel.shape
        kernel = kernel.transpose(2, 3, 0, 1).reshape(channels * multiplier, 1, height, width)
    else:
        kernel = kernel.transpose(3, 2, 0, 1)
    options = {
        "stride": list(layer.strides),
        "dilation": list(layer.dilation_rate),
        "groups": node.input_shapes[0][-1] if depthwise else layer.groups,
        "padding": _padding(node, layer.kernel_size, layer.strides, layer.dilation_rate),
        "relu": _relu(node, layer.activation),
    }
    return options, [kernel, *bias]


def _padding(node: Node, kernel: Any, strides: Any, dilation: Any = (1, 1)) -> list[int]:
    """As PyTorch's `pad` takes it: left, right, top, bottom."""
    if node.op.padding == "valid":
        return [0, 0, 0, 0]
    if node.op.padding != "same":
        raise _refused(node, f"padding={node.op.padding}")
    sizes = node.input_shapes[0][1:3]
    (top, bottom), (left, right) = (
        same_padding(int(size or 0), *rest)
        for size, *rest in zip(sizes, kernel, strides, dilation, strict=True)
    )
    return [left, right, top, bottom]


def _relu(node: Node, activation: Any) -> str | None:
    """The activation that a layer ends in: "relu", "relu6", or None for none."""
    name = activation if isinstance(activation, str) else keras.activations.serialize(activation)
    if name not in ("linear", "relu", "relu6"):
        raise _refused(node, f"activation={name}")
    return None if name == "linear" else str(name)


def _batch_norm(node: Node) -> Described:
    layer = node.op
    if not (layer.scale and layer.center):
        raise _refused(node, f"scale={layer.scale}, center={layer.center}")
    arrays = (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance)
    options = {"epsilon": layer.epsilon, "momentum": 1 - layer.momentum}
    return options, [np.asarray(one) for one in arrays]


def _dense(node: Node) -> Described:
    if len(node.input_shapes[0]) != 2:
        raise _refused(node, f"an input of shape {node.input_shapes[0]}")
    kernel, *bias = (np.asarray(weight) for weight in node.op.weights)
    return {"relu": _relu(node, node.op.activation)}, [kernel.T, *bias]


def _relu_layer(node: Node) -> Described:
    layer = node.op
    if layer.max_value not in (None, 6.0) or layer.negative_slope or layer.threshold:
        raise _refused(node, f"max_value={layer.max_value} or another slope or threshold")
    return {"relu": "relu" if layer.max_value is None else "relu6"}, []


def _pool(node: Node) -> Described:
    layer = node.op
    if any(_padding(node, layer.pool_size, layer.strides)):
        raise _refused(node, "padding that reaches beyond the image")
    return {"size": list(layer.pool_size), "stride": list(layer.strides)}, []


def _plain(node: Node) -> Described:
    return {}, []


KINDS: dict[str, Callable[[Node], Described]] = {
    "Conv2D": _convolution,
    "DepthwiseConv2D": lambda node: _convolution(node, depthwise=True),
    "BatchNormalization": _batch_norm,
    "Dense": _dense,
    "ReLU": _relu_layer,
    "Activation": lambda node: ({"relu": _relu(node, node.op.activation)}, []),
    "MaxPooling2D": _pool,
    "GlobalAveragePooling2D": _plain,
    "Flatten": _plain,
    "Add": _plain,
    "Dropout": lambda node: ({"rate": float(node.op.rate)}, []),
}
"""Class of a layer -> what PyTorch needs to know of it."""
