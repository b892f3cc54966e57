"""Multiply-accumulates of a layer that no rule covers, counted in the TensorFlow graph of its own call."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from autoslim.errors import first_line
from autoslim.graph.trace import Node, UnknownSize

# Operations that run code which is not in the graph.
OPAQUE = ("PyFunc", "PyFuncStateless", "EagerPyFunc", "CustomCall", "XlaCustomCallV2", "XlaCallModule")


class Uncountable(Exception):
    """Raised where the arithmetic of a layer can't be counted; says why."""


def measured_macs(node: Node, rows: Sequence[int]) -> int:
    """Multiply-accumulates of a node for one image: convolutions and matrix products of its traced call.

    A loop counts as often as it may run at most, of branches the most expensive one. The layer's variables
    and losses stay as they are.

    Args:
        node: of the graph.
        rows: entries of each input's first axis for one image: several where positions stand on it.

    Raises:
        UnknownSize: if an input's sizes are not known.
        Uncountable: if the call can't be traced, or it runs code that is not in the graph.
    """
    specs = []
    for shape, dtype, first in zip(node.input_shapes, node.input_dtypes, rows, strict=True):
        if None in shape[1:]:
            raise UnknownSize(
                f"Layer {node.name!r} has an input of the dynamic shape {shape}: its cost is not a number. "
                "Build the model with a fixed input shape, or give ChannelGraph an image_shape."
            )
        specs.append(tf.TensorSpec((first, *shape[1:]) if shape else (), dtype))

    return macs_of_call(lambda *inputs: node.call(inputs), specs)


def macs_of_call(function: Callable[..., Any], specs: list[Any]) -> int:
    """Multiply-accumulates of a function of tensors, as in `measured_macs`.

    Args:
        function: such as a layer; its variables and losses stay as they are.
        specs: a `tf.TensorSpec` of each tensor.

    Raises:
        Uncountable: likewise.
    """

    def call(*inputs: Any) -> list[Any]:
        with keras.StatelessScope(collect_losses=True):
            outputs = keras.tree.flatten(function(*inputs))
        return [output for output in outputs if output is not None]

    with tf.init_scope():
        try:
            graph = tf.function(call, autograph=False).get_concrete_function(*specs).graph
        except Exception as error:  # a layer of the user's may raise anything
            raise Uncountable(f"its call can't be traced: {first_line(error, 120)}") from error
    return _of_graph(graph)


def _of_graph(graph: Any) -> int:
    """Multiply-accumulates of what a function's results depend on: TensorFlow runs nothing else."""
    waiting = [tensor.op for tensor in graph.outputs] + list(graph.control_outputs)
    needed: dict[str, Any] = {}
    while waiting:
        operation = waiting.pop()
        if operation.name not in needed:
            needed[operation.name] = operation
            waiting += [tensor.op for tensor in operation.inputs] + list(operation.control_inputs)
    return sum(_of_operation(operation, graph) for operation in needed.values())


def _of_operation(operation: Any, graph: Any) -> int:
    kind = operation.type
    if kind in OPAQUE:
        raise Uncountable(f"it runs code outside of TensorFlow's graph ({kind})")
    if kind in PRODUCTS:
        return PRODUCTS[kind](operation)
    names = _functions_of(operation)
    if not names:
        return 0
    if kind in ("While", "StatelessWhile"):
        return _of_loop(operation, graph)
    costs = [_of_function(name, graph) for name in names]
    return max(costs) if kind in ("If", "StatelessIf", "Case", "StatelessCase") else sum(costs)


def _functions_of(operation: Any) -> list[str]:
    """Names of the functions that an operation calls."""
    names: list[str] = []
    for value in operation.node_def.attr.values():
        if value.HasField("func"):
            names.append(value.func.name)
        names += [function.name for function in value.list.func]
    return names


def _of_function(name: str, graph: Any) -> int:
    function = graph._get_function(name)
    if function is None:
        raise Uncountable(f"it calls {name}, which is not in its graph")
    return _of_graph(function.graph if hasattr(function, "graph") else _graph_of(function))


def _graph_of(function: Any) -> Any:
    from tensorflow.python.framework.function_def_to_graph import function_def_to_graph

    return function_def_to_graph(getattr(function, "function_def", None) or function.definition)


def _of_loop(operation: Any, graph: Any) -> int:
    """The loop's body as often as it may run: TensorFlow's second argument of a loop, -1 without a limit."""
    body = _of_function(operation.node_def.attr["body"].func.name, graph)
    if body == 0:
        return 0
    limit = _number(operation.inputs[1])
    if limit is None or limit < 0:
        raise Uncountable("it has a loop of unknown length")
    return limit * body


def _number(tensor: Any) -> int | None:
    """A scalar's value where it is known; Keras takes the maximum of a recurrent layer's one length."""
    if tensor.op.type == "Max":
        tensor = tensor.op.inputs[0]
    value = tf.get_static_value(tensor)
    return None if value is None else int(np.max(value))


def _sizes(tensor: Any) -> list[int]:
    if tensor.shape.rank is None or None in tensor.shape.as_list():
        raise Uncountable(f"{tensor.op.type} inside it has the unknown shape {tensor.shape}")
    return list(tensor.shape.as_list())


def _positions(operation: Any) -> Any:
    """A convolution's output, without the positions that TensorFlow adds where it is dilated.

    It is then computed of the parts between the holes, padded to one size, and put together again.
    """
    tensor = operation.outputs[0]
    while [consumer.type for consumer in tensor.consumers()] == ["Squeeze"]:
        tensor = tensor.consumers()[0].outputs[0]
    together = [consumer for consumer in tensor.consumers() if consumer.type == "BatchToSpaceND"]
    return together[0].outputs[0] if together else operation.outputs[0]


def _convolution(operation: Any) -> int:
    """Entries of the output, times the terms of each: [..., entering, leaving] is the kernel's shape."""
    return math.prod(_sizes(_positions(operation))) * math.prod(_sizes(operation.inputs[1])[:-1])


def _depthwise(operation: Any) -> int:
    return math.prod(_sizes(_positions(operation))) * math.prod(_sizes(operation.inputs[1])[:-2])


def _transposed(operation: Any) -> int:
    """Entries of the input, times what each adds to: [..., leaving, entering] is the kernel's shape."""
    return math.prod(_sizes(operation.inputs[2])) * math.prod(_sizes(operation.inputs[1])[:-1])


def _matrices(operation: Any) -> int:
    """Entries of the output, times the length of the sums."""
    transposed = any(operation.node_def.attr[name].b for name in ("transpose_a", "adj_x"))
    return math.prod(_sizes(operation.outputs[0])) * _sizes(operation.inputs[0])[-2 if transposed else -1]


def _einsum(operation: Any) -> int:
    """The product of the sizes of all letters."""
    equation = operation.node_def.attr["equation"].s.decode()
    if "." in equation:
        raise Uncountable(f"Einsum inside it has an ellipsis ({equation})")
    letters: dict[str, int] = {}
    for term, tensor in zip(equation.split("->")[0].split(","), operation.inputs, strict=True):
        letters.update(zip(term, _sizes(tensor), strict=True))
    return math.prod(letters.values()) if len(operation.inputs) > 1 else 0


PRODUCTS: dict[str, Callable[[Any], int]] = {
    **dict.fromkeys(("Conv2D", "Conv3D", "Conv"), _convolution),
    "DepthwiseConv2dNative": _depthwise,
    **dict.fromkeys(("Conv2DBackpropInput", "Conv3DBackpropInputV2"), _transposed),
    **dict.fromkeys(("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"), _matrices),
    "Einsum": _einsum,
}
"""Operation of TensorFlow -> its multiply-accumulates."""
