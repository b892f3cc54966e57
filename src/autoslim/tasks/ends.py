"""What a network's outputs are: logits, or the answer of a softmax or sigmoid that stands at its end.

Each operation from the end of the traced graph backwards is traced by TensorFlow and looked into, so it does
not matter how a softmax came there: as a layer, as an activation, by `keras.ops` or by TensorFlow itself,
followed by a change of type or shape or not, in the model or in one nested in it.
"""

from __future__ import annotations

import warnings
from typing import Any

import tensorflow as tf

from autoslim.graph.trace import Node, Trace

# Operations that leave values as they are, up to their type, shape or place.
_PASSING = {
    "Cast",
    "CheckNumerics",
    "EnsureShape",
    "ExpandDims",
    "Identity",
    "IdentityN",
    "PartitionedCall",
    "Reshape",
    "Squeeze",
    "StatefulPartitionedCall",
    "StopGradient",
    "StridedSlice",
    "Transpose",
}
_ENDS = {"Softmax": "softmax", "LogSoftmax": "log_softmax", "Sigmoid": "sigmoid"}
# Sums, means and the like: of probabilities they are probabilities, up to a factor.
_MIXING = {"Add", "AddN", "AddV2", "ConcatV2", "Max", "MaxPool", "Mean", "Mul", "AvgPool", "Sum", "Tile"}
# What makes values without limits: any other operation at the end limits or bends them.
_LINEAR = {
    "BatchMatMulV2",
    "BiasAdd",
    "Conv2D",
    "Conv2DBackpropInput",
    "Conv3D",
    "DepthToSpace",
    "DepthwiseConv2dNative",
    "Einsum",
    "FusedBatchNormV3",
    "GatherV2",
    "MatMul",
    "Pad",
    "PadV2",
    "ResizeBilinear",
    "ResizeNearestNeighbor",
    "Sub",
}
_CONSTANT = {"Const", "ReadVariableOp", "Placeholder", "Shape", "Pack"}
LINEAR = "linear"


def end_of(traced: Trace, output: int) -> str:
    """What stands at an output of a traced network.

    Args:
        traced: the network.
        output: value id.

    Returns:
        "linear", "softmax", "log_softmax", "sigmoid", or the name of another operation that it ends in.
    """
    node = next((node for node in traced.nodes if output in node.outputs), None)
    if node is None:
        return LINEAR  # the model's own input
    try:
        function = _traced(node)
    except Exception:  # an operation may fail outside of its model in any way
        return LINEAR
    inputs = {x.name: traced_input for x, traced_input in zip(function.inputs, node.inputs, strict=False)}
    return _end_at(function.graph.outputs[node.outputs.index(output)], inputs, traced)


def _traced(node: Node) -> Any:
    """A node as a function of its inputs alone."""
    specs = [
        tf.TensorSpec([None, *shape[1:]], dtype)
        for shape, dtype in zip(node.input_shapes, node.input_dtypes, strict=True)
    ]

    def call(*inputs: Any) -> Any:
        return tf.nest.flatten(node.call(inputs))

    with warnings.catch_warnings():  # what Keras has to say was said when the model was made
        warnings.simplefilter("ignore")
        return tf.function(call, autograph=False).get_concrete_function(*specs)


def _end_at(tensor: Any, inputs: dict[str, int], traced: Trace) -> str:
    """What stands at a tensor within a node's function; `inputs`: name -> value id of the function's own."""
    while tensor.op.type in _PASSING and tensor.op.inputs:
        tensor = tensor.op.inputs[0]
    if tensor.name in inputs:
        return end_of(traced, inputs[tensor.name])
    kind = tensor.op.type
    if kind in _ENDS:
        return _ENDS[kind]
    if kind in _MIXING:
        return _end_of_mixture(tensor, inputs, traced)
    if kind == "RealDiv":
        return _end_of_quotient(tensor, inputs, traced)
    return LINEAR if kind in _LINEAR else str(kind)


def _end_of_mixture(tensor: Any, inputs: dict[str, int], traced: Trace) -> str:
    """Probabilities, where all that is summed up or averaged is."""
    parts = [x for x in tensor.op.inputs if x.name in inputs or x.op.type not in _CONSTANT]
    ends = {_end_at(x, inputs, traced) for x in parts if x.dtype.is_floating}
    return ends.pop() if len(ends) == 1 and ends <= {"softmax", "sigmoid"} else LINEAR


def _end_of_quotient(tensor: Any, inputs: dict[str, int], traced: Trace) -> str:
    """A softmax that is written out, exponentials over their sum; or what was averaged by a constant."""
    above, below = tensor.op.inputs
    while below.op.type in _PASSING:
        below = below.op.inputs[0]
    if below.op.type in _CONSTANT and below.name not in inputs:
        return _end_of_mixture(tensor, inputs, traced)
    written_out = above.op.type == "Exp" and below.op.type == "Sum" and below.op.inputs[0] is above
    return "softmax" if written_out else str(tensor.op.type)
