"""Rules of layers that join several tensors."""

from __future__ import annotations

import itertools
from typing import Any

import keras
import tensorflow as tf

from autoslim.graph.axes import Axis, Piece
from autoslim.graph.groups import Grouping
from autoslim.graph.rules.base import (
    Channels,
    LayerRule,
    NeedsCut,
    RunCall,
    Unsupported,
    always,
    tie_all,
)
from autoslim.graph.trace import Node, Slot


def _connect_merge(op: Any, inputs: list[Axis], node: Node, grouping: Grouping) -> list[Axis]:
    """Add and its kin, entry by entry; with broadcasting, as in squeeze-and-excitation."""
    ranks = {len(shape) for shape in node.input_shapes}
    if len(ranks) > 1:
        raise Unsupported("inputs of different rank")
    if len(inputs) < len(keras.tree.flatten((node.args, node.kwargs))) and not isinstance(op, keras.Layer):
        _require_scalars(node)
    return [tie_all(inputs, node.name, grouping)]


def _require_scalars(node: Node) -> None:
    for value in keras.tree.flatten((node.args, node.kwargs)):
        if not isinstance(value, (Slot, int, float)) and getattr(value, "shape", ()) != ():
            raise Unsupported("a constant tensor operand")


def _run_divide(op: Any, inputs: list[Any], weights: dict[str, Any], call: RunCall) -> Any:
    """Inactive channels are divided by one, not by zero, whose gradient is not a number."""
    divisor = call.node.args[1] if len(call.node.args) > 1 else call.node.kwargs["x2"]
    if isinstance(divisor, Slot):
        mask = call.mask(call.input_axes[divisor])
        if mask is not None:
            inputs = list(inputs)
            inputs[divisor] = tf.where(mask, inputs[divisor], tf.ones([], inputs[divisor].dtype))
    return call.node.call(inputs)


def _same_sizes(op: Any, inputs: list[Axis]) -> bool:
    """A single channel that is broadcast is not zero where the others are."""
    return len({axis.size for axis in inputs}) == 1


MERGE = LayerRule(_connect_merge)  # keeps no zeros: what is added may be a constant
DIVIDE = MERGE._replace(run=_run_divide)
ADD = MERGE._replace(keeps_zero=_same_sizes)
MULTIPLY = MERGE._replace(keeps_zero=always)


def _connect_concatenate(op: Any, inputs: list[Axis], node: Node, grouping: Grouping) -> list[Axis]:
    rank = len(node.input_shapes[0])
    if op.axis not in (-1, rank - 1):
        for axis in inputs[1:]:
            grouping.tie(inputs[0], axis, node.name)
        return [inputs[0]]
    if len(inputs) == 1:
        return [inputs[0]]
    return [Axis(tuple(piece for axis in inputs for piece in axis.flat_pieces()))]


def _connect_split(op: Any, inputs: list[Axis], node: Node, grouping: Grouping) -> list[Axis]:
    """Along the positions; or along the channels, which are cut there."""
    rank = len(node.input_shapes[0])
    if op.axis % rank == 0:
        raise Unsupported("the batch's axis")
    if op.axis % rank != rank - 1:
        return [inputs[0] for _ in node.outputs]
    pieces = list(inputs[0].flat_pieces())
    outputs = []
    for shape in node.output_shapes:
        taken: list[Piece] = []
        while pieces and sum(piece.size for piece in taken) < (shape[-1] or 0):
            taken.append(pieces.pop(0))
        if not taken or sum(piece.size for piece in taken) != shape[-1]:
            grouping.cut(inputs[0], itertools.accumulate(s[-1] or 0 for s in node.output_shapes))
            raise NeedsCut("channels that are split where they can't be cut")
        outputs.append(Axis(tuple(taken)))
    return outputs


def _along_channels(op: Any, axis: Axis, outputs: list[Axis]) -> bool:
    return sum(output.size for output in outputs) == axis.size and len(outputs) > 1


def _run_split(op: Any, inputs: list[Any], weights: dict[str, Any], call: RunCall) -> Any:
    if not _along_channels(op, call.input_axes[0], call.output_axes):
        return call.node.call(inputs)
    sizes = [call.channels(axis) for axis in call.output_axes]
    return tf.split(inputs[0], tf.stack(sizes), axis=-1, num=len(sizes))


def _split_config(op: Any, channels: Channels, inputs: list[Axis], outputs: list[Axis]) -> dict[str, Any]:
    if not _along_channels(op, inputs[0], outputs):
        return {}
    sizes = [channels(axis) for axis in outputs]
    return {"indices_or_sections": tuple(itertools.accumulate(sizes[:-1]))}


SPLIT = LayerRule(_connect_split, run=_run_split, config=_split_config, keeps_zero=always)


CONCATENATE = LayerRule(_connect_concatenate, keeps_zero=always)
