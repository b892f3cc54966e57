"""Rules of recurrent layers: their units are channels, and the gates of all units stand side by side."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from autoslim.graph.axes import Axis, Dimension, Layout, size_of
from autoslim.graph.groups import Grouping
from autoslim.graph.own_weights import attributes_of
from autoslim.graph.rules.base import (
    Channels,
    LayerRule,
    Products,
    RunCall,
    Unsupported,
    freeze_if_mixed,
    require_channels_last,
)
from autoslim.graph.trace import Node

CELLS = (keras.layers.SimpleRNNCell, keras.layers.LSTMCell, keras.layers.GRUCell)
STATES = {1: 1, 3: 1, 4: 2}  # number of gates -> states that go from step to step, of SimpleRNN, GRU, LSTM
ACTIVATIONS = ("activation", "recurrent_activation")


def _require_known(op: Any) -> None:
    if op.stateful:
        raise Unsupported("stateful=True: it goes on from the batch before")
    if type(op) is keras.layers.RNN and type(op.cell) not in CELLS:
        raise Unsupported(f"the cell {type(op.cell).__name__}, which no rule knows")


def _gates(cell: Any) -> int:
    """Blocks of columns that a cell's weights have, each as wide as there are units."""
    units, columns = cell.recurrent_kernel.shape[-2:]
    return columns // units


def _size_name(cell: Any) -> str:
    """The attribute, and constructor's argument, that is the number of units."""
    return "filters" if hasattr(cell, "filters") else "units"


def _states(initial_state: Any) -> list[Any]:
    """The states that a call begins with; none where they begin with zeros."""
    return [state for state in keras.tree.flatten(initial_state) if state is not None]


def _spatial(op: Any, output: Layout) -> tuple[Dimension, ...]:
    """The dimensions of a convolution's positions, between the steps and the units; none of other cells."""
    return output.dims[-len(op.cell.kernel.shape) + 1 : -1]


def _given(node: Node, values: Sequence[Any]) -> tuple[Any, list[Any], Any]:
    """(sequence, states that it begins with, mask) of a call, from what stands at the node's inputs."""

    def told(sequences: Any, initial_state: Any = None, mask: Any = None, training: Any = None) -> Any:
        return sequences, _states(initial_state), mask

    return node.call(values, op=told)


def _arrange(op: Any, inputs: list[Layout], node: Node, grouping: Grouping) -> list[Layout]:
    """The units are a group, which the states that it begins with share; the entering channels another."""
    _require_known(op)
    require_channels_last(op.cell)
    sequence, states, mask = _given(node, inputs)
    if not all(isinstance(x, Layout) and x.batch == 0 for x in (sequence, *states)):
        raise Unsupported("a constant, or the images on another axis than the first")
    for layout in (sequence, mask):
        for place, axis in layout.axes if isinstance(layout, Layout) else ():
            if layout is mask or place != layout.rank - 1:
                grouping.freeze(axis, f"{node.name} takes axis {place}, on which they stand, for steps")
    units = grouping.new(node.name, op.cell.recurrent_kernel.shape[-2])
    for state in states:
        grouping.tie(units, state.axis(), node.name)
    for name in ACTIVATIONS:
        freeze_if_mixed(getattr(op.cell, name, None), units, node, grouping)
    rows = sequence.dims[0]
    shapes = [list(shape) for shape in node.output_shapes]
    if op.return_sequences:
        shapes[0][1] = size_of(sequence.dims[1])  # which may be known where Keras's symbols don't tell
    return [Layout.of(shape, units, rows if isinstance(rows, int) else 1) for shape in shapes]


def _weights(op: Any, inputs: list[Layout], outputs: list[Layout]) -> dict[str, tuple[Dimension, ...]]:
    _require_known(op)
    cell, units = op.cell, outputs[0].axis()
    columns = Axis(units.pieces, units.tiles * _gates(cell))
    window = tuple(cell.kernel.shape[:-2])
    weights: dict[str, tuple[Dimension, ...]] = {
        "cell.kernel": (*window, inputs[0].axis(), columns),
        "cell.recurrent_kernel": (*window, units, columns),
    }
    if cell.bias is not None:
        weights["cell.bias"] = (*cell.bias.shape[:-1], columns)
    return weights


def _run(op: Any, inputs: list[Any], weights: dict[str, Any], call: RunCall) -> Any:
    """Keras's own layer, whose cell is given weights of the units that there are."""
    cell, layout = op.cell, call.output_layouts[0]
    units, states_held, spatial = layout.axis(), STATES[_gates(cell)], _spatial(op, layout)
    count, mask, gate = call.channels(units), call.mask(units), call.gate(layout)
    values = {name.partition(".")[2]: value for name, value in weights.items()}
    values[_size_name(cell)] = count
    if mask is not None:  # what is not there is not heard
        kernel = values["recurrent_kernel"]
        values["recurrent_kernel"] = tf.where(mask[:, None], kernel, tf.zeros([], kernel.dtype))
    if gate is not None:
        values |= _heard(cell, gate)

    def run(sequences: Any, initial_state: Any = None, mask: Any = None, training: Any = False) -> Any:
        states = _states(initial_state)
        if not states:
            shape = [tf.shape(sequences)[0], *spatial, count]
            states = [tf.zeros(shape, sequences.dtype)] * states_held
        training = training or gate is not None
        if mask is None or isinstance(count, int) or not (op.unroll or spatial):
            return op.call(sequences, initial_state=states, mask=mask, training=training)
        return _masked(op, sequences, states, mask, training)

    training = {} if call.node.training is not None else {"training": call.options.training}
    with _computing_in(op, call.compute_dtype), attributes_of(cell, values):
        return call.node.call(inputs, op=run, **training)


def _heard(cell: Any, gate: Any) -> dict[str, Any]:
    """A cell's attributes with which it multiplies its state by a gate where it sums over the state.

    That is where dropout of the state stands.

    Args:
        cell: of the layer.
        gate: [N, units].
    """
    gate = tf.reshape(gate, [tf.shape(gate)[0], *[1] * (len(cell.kernel.shape) - 2), gate.shape[-1]])
    gates = [gate] * _gates(cell) if hasattr(cell, "recurrent_activation") else gate
    return {
        "dropout": 0.0,
        "recurrent_dropout": 0.5,
        "implementation": 1,
        "get_recurrent_dropout_mask": lambda state: gates,
    }


@contextlib.contextmanager
def _computing_in(op: Any, dtype: str | None) -> Iterator[None]:
    """The layer and its cell compute in a type, the cell with any number of channels."""
    before = [(layer, layer.dtype_policy, layer.input_spec) for layer in (op, op.cell)]
    try:
        op.cell.input_spec = None
        if dtype != op.compute_dtype:
            op.dtype_policy = op.cell.dtype_policy = keras.DTypePolicy(f"mixed_{dtype}")
        yield
    finally:
        for layer, policy, spec in before:
            layer.dtype_policy, layer.input_spec = policy, spec


def _masked(op: Any, sequences: Any, states: list[Any], mask: Any, training: bool) -> Any:
    """A call with a mask where the number of units is a tensor: unrolled, or over positions.

    There Keras repeats a mask by the static number of units. Here the mask goes along as one more channel of
    the sequence, and the output of the step before as one more state.

    Args:
        op: the layer.
        sequences: [N, steps, ..., channels].
        states: [N, ..., units] each, with which it begins.
        mask: bool [N, steps], or one for each position, [N, steps, ...].
        training: whether dropout is active.
    """
    cell = op.cell
    flags = tf.reshape(mask, [*tf.unstack(tf.shape(mask)), *[1] * (len(sequences.shape) - len(mask.shape))])
    flags = tf.cast(flags, sequences.dtype) * tf.ones_like(sequences[..., :1])
    step = _MaskedCell(cell, op.zero_output_for_mask, training, by_position=len(mask.shape) > 2)
    cell.get_dropout_mask(sequences[:, 0])  # one for all steps
    cell.get_recurrent_dropout_mask(states[0])
    try:
        loop = functools.partial(keras.layers.RNN.inner_loop, op)  # that of every kind of layer
        with attributes_of(op, {"cell": step, "inner_loop": loop}):
            outputs = op.call(
                tf.concat([sequences, flags], -1), initial_state=[*states, tf.zeros_like(states[0])]
            )
    finally:
        cell.reset_dropout_mask()
        cell.reset_recurrent_dropout_mask()
    return outputs[:-1] if op.return_state else outputs


class _MaskedCell:
    """A cell that goes on from the step before where the last channel of its input is zero.

    Args:
        cell: that is stepped.
        zero: whether the output is zero there; else it is that of the step before.
        training: whether dropout is active.
        by_position: whether each position has its own mask; else all have that of the first.
    """

    def __init__(self, cell: Any, zero: bool, training: bool, by_position: bool) -> None:
        self._cell, self._zero, self._training = cell, zero, training
        self._positions = slice(None) if by_position else slice(0, 1)
        self.compute_dtype = cell.compute_dtype

    def __call__(self, inputs: Any, states: Sequence[Any]) -> tuple[Any, list[Any]]:
        """(output, new states, the last of which is the output)."""
        *before, last = states
        there = inputs[(slice(None), *[self._positions] * (len(inputs.shape) - 2), slice(-1, None))] > 0.5
        output, after = self._cell(inputs[..., :-1], before, training=self._training)
        output = tf.where(there, output, tf.zeros_like(last) if self._zero else last)
        after = [tf.where(there, new, old) for new, old in zip(after, before, strict=True)]
        return output, [*after, output]


def _steps(op: Any, inputs: list[Layout], outputs: list[Layout]) -> tuple[Dimension, ...]:
    """Dimensions whose product is the number of times that the cell computes one vector of its units."""
    return (*inputs[0].dims[:2], *_spatial(op, outputs[0]))


def _products(op: Any, node: Node, inputs: list[Layout], outputs: list[Layout]) -> Products:
    """The products by both kernels, in each step."""
    steps, weights = _steps(op, inputs, outputs), _weights(op, inputs, outputs)
    return [(*steps, *weights[name]) for name in ("cell.kernel", "cell.recurrent_kernel")]


def _made_by_entry(op: Any, node: Node, inputs: list[Layout], outputs: list[Layout]) -> Products:
    """Entries that biases are added to, and those that activations make, in each step."""
    steps, weights, cell = _steps(op, inputs, outputs), _weights(op, inputs, outputs), op.cell
    times = {"activation": STATES[_gates(cell)], "recurrent_activation": _gates(cell) - 1}
    found: Products = [(*steps, *weights["cell.bias"])] if "cell.bias" in weights else []
    for name, count in times.items():
        if getattr(cell, name, None) not in (None, keras.activations.linear):
            found.append((*steps, count, outputs[0].axis()))
    return found


def _config(op: Any, channels: Channels, inputs: list[Layout], outputs: list[Layout]) -> dict[str, Any]:
    changes = {_size_name(op.cell): channels(outputs[0].axis())}
    for name in ACTIVATIONS:  # as they are: a function of the user's need not be registered
        if inspect.isfunction(getattr(op.cell, name, None)):
            changes[name] = getattr(op.cell, name)
    if type(op) is not keras.layers.RNN:
        return changes
    cell = keras.saving.serialize_keras_object(op.cell)
    cell.pop("build_config", None)  # it has the sizes of the whole network
    return {"cell": {**cell, "config": {**cell["config"], **changes}}}


RECURRENT = LayerRule(
    arrange=_arrange,
    weights=_weights,
    run=_run,
    products=_products,
    made_by_entry=_made_by_entry,
    config=_config,
    feeds_back=("cell.recurrent_kernel",),
)
