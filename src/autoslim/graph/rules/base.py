"""What a rule is: everything that autoslim knows about one kind of layer."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import keras
import numpy as np
import tensorflow as tf

from autoslim.graph.axes import Axis, Dimension, Layout
from autoslim.graph.groups import Grouping
from autoslim.graph.options import RunOptions
from autoslim.graph.trace import Node

Call = tuple[tuple[Any, ...], dict[str, Any]]  # positional and keyword arguments
Products = list[tuple[Dimension, ...]]  # dimensions whose products are numbers of multiply-accumulates


class Unsupported(Exception):
    """Raised by a rule's `connect` for a setting that it does not cover; the layer is then frozen."""


class NeedsCut(Unsupported):
    """Raised where the layer would be covered if the channels were cut as asked by `Grouping.cut`."""


class RunCall(Protocol):
    """What a rule's `run` may ask about the pass that it is part of."""

    node: Node
    options: RunOptions
    compute_dtype: str | None  # type that the layer computes in: its own, or that of the options' precision

    @property
    def input_axes(self) -> list[Axis]:
        """Channel axes of the node's inputs."""

    @property
    def output_axes(self) -> list[Axis]:
        """Channel axes of the node's outputs."""

    @property
    def input_layouts(self) -> list[Layout]:
        """Layouts of the node's inputs."""

    @property
    def output_layouts(self) -> list[Layout]:
        """Layouts of the node's outputs."""

    def channels(self, axis: Axis) -> Any:
        """Entries of the axis in this pass: an int, or a scalar int32 tensor."""

    def active(self, axis: Axis) -> Any:
        """Active entries of the axis: an int, or a scalar int32 tensor."""

    def mask(self, axis: Axis) -> Any:
        """Which entries of the axis are active: bool [channels]; None: all of them."""

    def take(self, value: Any, axis: Axis) -> Any:
        """The part of a constant, whose last axis is `axis`, that is there in this pass."""

    def part(self, value: Any, dims: Sequence[Dimension]) -> Any:
        """The part of a constant, whose dimensions are `dims`, that is there in this pass."""

    def gate(self, layout: Layout) -> Any:
        """What the channels on a layout's last axis are multiplied by where a layer sums over its own earlier
        outputs: [images, channels], an image for each row of the layout; None: nothing."""

    def record(self, layer: keras.Layer, statistics: tuple[Any, Any], axis: Axis) -> None:
        """Report the batch's own (mean, variance) of a normalisation layer."""


class Channels(Protocol):
    """What a rule's `config` and `arguments` may ask about the widths."""

    def __call__(self, axis: Axis) -> Any:
        """Active entries of an axis: an int; for `arguments`, in a pass, a scalar tensor where not known."""

    def take(self, value: Any, axis: Axis) -> Any:
        """The active part of an array whose last axis is `axis`."""

    def part(self, value: Any, dims: Sequence[Dimension]) -> Any:
        """The active part of an array whose dimensions are `dims`."""


def weight_of(op: Any, name: str) -> Any:
    """A weight by its attribute; of an inner layer by a path of attributes, joined by dots."""
    return operator.attrgetter(name)(op)


def always(op: Any, inputs: list[Axis]) -> bool:
    """Channels that are zero come out as zero."""
    return True


def never(op: Any, inputs: list[Axis]) -> bool:
    """Channels that are zero may come out as anything."""
    return False


def nowhere(op: Any, axis: Axis) -> bool:
    """The layer does not treat channels as positions."""
    return False


def no_weights(op: Any, inputs: list[Axis], outputs: list[Axis]) -> dict[str, tuple[Dimension, ...]]:
    """The layer has no weights."""
    return {}


def no_products(op: Any, node: Node) -> dict[str, int]:
    """The layer multiplies nothing by a weight of its own."""
    return {}


def no_terms(op: Any, node: Node, inputs: list[Layout], outputs: list[Layout]) -> Products:
    """The layer multiplies nothing."""
    return []


def same_config(op: Any, channels: Channels, inputs: list[Axis], outputs: list[Axis]) -> dict[str, Any]:
    """The layer's constructor arguments don't depend on the widths."""
    return {}


def call_layer(op: Any, inputs: list[Any], weights: dict[str, Any], call: RunCall) -> Any:
    """Run the layer itself, which works at any number of channels."""
    own = call.compute_dtype == getattr(op, "compute_dtype", None)
    layer = op if own else op.call  # calling the layer itself would cast its inputs back
    if call.node.takes_training and call.node.training is None:
        return call.node.call(inputs, op=layer, training=call.options.training)
    return call.node.call(inputs, op=layer)


def require_channels_last(op: Any) -> None:
    """Raise Unsupported for a layer that keeps its channels on another axis than the last."""
    if getattr(op, "data_format", "channels_last") not in (None, "channels_last"):
        raise Unsupported("data_format='channels_first'")
    if isinstance(getattr(op, "padding", None), (list, tuple)) and hasattr(op, "kernel_size"):
        raise Unsupported("padding given in numbers")


def same_axis(op: Any, inputs: list[Axis], node: Node, grouping: Grouping) -> list[Axis]:
    """One input, one output, the same channels."""
    require_channels_last(op)
    return [inputs[0]]


@functools.lru_cache(maxsize=256)
def mixes_channels(activation: Callable, rank: int) -> bool:
    """Whether entries of `activation(x)`, x of this rank, depend on other channels than their own.

    Softmax does. Tried on a small tensor, so that functions of the user's own are judged too. What fails, or
    draws at random, counts as mixing.
    """
    with tf.init_scope():
        x = np.random.default_rng(0).normal(size=(2,) * (rank - 1) + (8,)).astype(np.float32)
        try:
            whole = np.asarray(activation(tf.constant(x)), np.float32)
            part = np.asarray(activation(tf.constant(x[..., :5])), np.float32)
        except Exception:  # a function of the user's may raise anything
            return True
    return whole.shape != x.shape or not np.allclose(whole[..., :5], part, 1e-3, 1e-3, equal_nan=True)


@functools.lru_cache(maxsize=256)
def zero_at_zero(activation: Callable) -> bool:
    """Whether `activation(0)` is 0."""
    with tf.init_scope():
        try:
            return not np.any(np.asarray(activation(tf.zeros([2, 2]))))
        except Exception:  # a function of the user's may raise anything
            return False


def freeze_if_mixed(activation: Any, axis: Axis, node: Node, grouping: Grouping) -> None:
    """Freeze the channels of a layer's output if its activation makes each depend on the others."""
    if activation is not None and mixes_channels(activation, len(node.output_shapes[0])):
        kind = getattr(activation, "__name__", None) or getattr(activation, "name", type(activation).__name__)
        grouping.freeze(axis, f"{kind} over the channels in {node.name}")


def in_blocks(axis: Axis, blocks: int, name: str, grouping: Grouping) -> Axis:
    """`axis` as blocks of equal size that stay whole; concatenated tensors each in blocks of their own.

    Raises:
        Unsupported: if a block reaches from one concatenated tensor into the next.
    """
    size = axis.size // blocks
    pieces = axis.flat_pieces()
    if any(piece.size % size for piece in pieces):
        raise Unsupported(f"{blocks} blocks of channels across concatenated tensors")
    return Axis(tuple(grouping.blocks(piece, size, name) for piece in pieces))


class LayerRule(NamedTuple):
    """What autoslim knows about one kind of layer. Every function is pure, and each has a default.

    The defaults together describe a layer of one input without weights that treats every channel alike.

    Most layers have their channels on the last axis, and the functions speak of that axis alone. A rule with
    `arrange` speaks of whole tensors: wherever axes are named below, it is given layouts.

    connect: (op, input axes, node, grouping) -> output axes. Which channels are tied together. Default: the
        output has the input's channels.
    weights: (op, input axes, output axes) -> {attribute: dimensions}. Where the channel axes stand in each
        weight; parameters, slicing and materialising all follow from it. Default: none.
    run: (op, inputs, weights at the active widths, call) -> output or list of outputs. Default: the layer
        itself is called.
    positions: (op, node) -> {weight attribute: n}. Multiply-accumulates are n times the weight's entries.
        Default: none.
    config: (op, channels, input axes, output axes) -> constructor arguments that change with the widths;
        `channels(axis)` is an int. Default: none.
    keeps_zero: (op, input axes) -> whether channels that are zero come out as zero. Default: they don't.
    normalizes: whether the layer is a normalisation: four FLOPs an entry in the convention `with_norm`, and
        its weights keep their type when the network runs in half precision.
    activates: whether the layer is an activation: one FLOP an entry in the convention `all`.
    measured: whether its weights are measured from the data, not trained: a network that is initialised
        again keeps them.
    pointwise: (op, input axes) -> whether every position is computed by itself, so that channels may stand on
        other axes too. Default: it isn't; what stands on another axis is frozen.
    slides: (op, an input's axis) -> whether the layer, which takes the channels on it for positions, computes
        the same for those that are active as if there were no others. Default: it doesn't.
    arrange: (op, input layouts, node, grouping) -> output layouts, in the place of `connect`: for operations
        that move channels to other axes. Default: none.
    feeds_back: weights that sum over the layer's own outputs of the step before, along their last dimension
        but one. Default: none.
    products: (op, node, input layouts, output layouts) -> tuples of dimensions; the product of each is a
        number of multiply-accumulates. For those that `positions` can't tell. Default: none.
    made_by_entry: (op, node, input layouts, output layouts) -> tuples of dimensions; the product of each is a
        number of entries that a bias is added to, or that an activation makes, one FLOP each in the
        convention `all`. Default: those of the output, as the weight `bias`, the layer's `activation` and
        `activates` say.
    arguments: (op, node, channels, input layouts, output layouts) -> (args, kwargs) of the call where they
        change with the widths, such as the bounds of a slice. Default: as they were recorded.
    """

    connect: Callable[[Any, list[Axis], Node, Grouping], list[Axis]] = same_axis
    weights: Callable[[Any, list[Any], list[Any]], dict[str, tuple[Dimension, ...]]] = no_weights
    run: Callable[[Any, list[Any], dict[str, Any], RunCall], Any] = call_layer
    positions: Callable[[Any, Node], dict[str, int]] = no_products
    config: Callable[[Any, Channels, list[Any], list[Any]], dict[str, Any]] = same_config
    keeps_zero: Callable[[Any, list[Any]], bool] = never
    normalizes: bool = False
    activates: bool = False
    measured: bool = False
    pointwise: Callable[[Any, list[Axis]], bool] = never
    slides: Callable[[Any, Axis], bool] = nowhere
    arrange: Callable[[Any, list[Layout], Node, Grouping], list[Layout]] | None = None
    products: Callable[[Any, Node, list[Layout], list[Layout]], Products] = no_terms
    arguments: Callable[[Any, Node, Channels, list[Layout], list[Layout]], Call] | None = None
    feeds_back: tuple[str, ...] = ()
    made_by_entry: Callable[[Any, Node, list[Layout], list[Layout]], Products] | None = None


PASS = LayerRule()
PASS_ZERO = PASS._replace(keeps_zero=always)
EACH = LayerRule(pointwise=always)  # every entry by itself
EACH_ZERO = EACH._replace(keeps_zero=always)
NOISE = EACH_ZERO  # of a layer that returns its input as it is, but in training
