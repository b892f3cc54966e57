"""Layers and operations of Keras's whose own `call` can't be looked into: the same in other calls."""

from __future__ import annotations

import itertools
import math
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import keras

from autoslim.graph.calls import Opaque
from autoslim.graph.own_weights import attributes_of

MOST = 64  # entries of an overlapping patch: each becomes a slice


def _each_step(layer: Any, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
    """TimeDistributed: the layer on all steps at once, as images of their own."""
    if None in inputs.shape[1:]:
        raise Opaque("it has steps of unknown number or size")
    if mask is not None and "mask" in layer.layer.call_signature_parameters:
        raise Opaque("each of its steps has a mask")
    steps, *shape = inputs.shape[1:]
    folded = keras.ops.reshape(inputs, (-1, *shape))
    flags = {"training": training} if layer.layer._call_has_training_arg else {}
    outputs = layer.layer(folded, **flags)
    return keras.ops.reshape(outputs, (-1, steps, *outputs.shape[1:]))


def _not_normalised(layer: Any, inputs: Any, training: bool = False) -> Any:
    """SpectralNormalization: its layer, as it is when the network isn't trained."""
    return layer.layer(inputs)


def _both_ways(layer: Any, sequences: Any, **kwargs: Any) -> Any:
    """Bidirectional: its two layers, never both in one operation of a GPU's library."""
    apart = {"use_cudnn": False}
    with attributes_of(layer.forward_layer, apart), attributes_of(layer.backward_layer, apart):
        return type(layer).call(layer, sequences, **kwargs)


_chains: weakref.WeakKeyDictionary[Any, list[Any]] = weakref.WeakKeyDictionary()


def _cell_by_cell(
    layer: Any, sequences: Any, initial_state: Any = None, mask: Any = None, training: bool | None = None
) -> Any:
    """RNN with StackedRNNCells: a layer for each cell, one after another."""
    if layer.stateful:
        raise Opaque("stateful=True: it goes on from the batch before")
    cells = layer.cell.cells
    if len({id(cell) for cell in cells}) < len(cells):
        raise Opaque("one of its cells stands in two places")
    if layer not in _chains:
        _chains[layer] = [
            keras.layers.RNN(
                cell,
                return_sequences=layer.return_sequences or cell is not cells[-1],
                return_state=layer.return_state,
                go_backwards=layer.go_backwards and place == 0,
                unroll=layer.unroll,
                zero_output_for_mask=layer.zero_output_for_mask,
                dtype=layer.dtype_policy,
                name=cell.name if len({other.name for other in cells}) == len(cells) else f"cell_{place}",
            )
            for place, cell in enumerate(cells)
        ]
    states = []
    for place, one in enumerate(_chains[layer]):
        begins = {} if initial_state is None else {"initial_state": initial_state[place]}
        flipped = keras.ops.flip(mask, 1) if mask is not None and layer.go_backwards and place else mask
        outputs = one(sequences, mask=flipped, training=training, **begins)
        sequences, *own = keras.tree.flatten(outputs)
        states.append(own)
    return (sequences, *states) if layer.return_state else sequences


def _patches(op: Any, images: Any) -> Any:
    """ExtractPatches, which Keras does by a convolution with an identity: entries that are moved.

    Args:
        op: its `size`, `strides`, `dilation_rate` and `padding`.
        images: [N, positions of one or more dimensions, C], symbolic.

    Returns:
        [N, patches along each dimension, entries of a patch, row by row, times C].
    """
    rank = len(op.size)
    if op.data_format != "channels_last" or len(images.shape) != rank + 2 or None in images.shape[1:]:
        raise Opaque("it takes patches of channels first, or of images without a batch or of unknown size")
    strides, dilation = (_each(value, rank) for value in (op.strides or op.size, op.dilation_rate))
    spans = [(k - 1) * d + 1 for k, d in zip(op.size, dilation, strict=True)]
    images = _padded(images, spans, strides) if op.padding == "same" else images
    counts = [(n - span) // s + 1 for n, span, s in zip(images.shape[1:-1], spans, strides, strict=True)]
    if tuple(strides) == tuple(op.size) and set(dilation) == {1}:
        return _apart(images, op.size, counts)
    if math.prod(op.size) > MOST:
        raise Opaque(f"it takes patches that overlap, of more than {MOST} positions")
    parts = [
        images[(slice(None), *(slice(i * d, i * d + (n - 1) * s + 1, s) for i, d, n, s in at))]
        for place in itertools.product(*map(range, op.size))
        for at in [list(zip(place, dilation, counts, strides, strict=True))]
    ]
    return keras.ops.concatenate(parts, axis=-1)


def _each(value: Any, rank: int) -> list[int]:
    return [value] * rank if isinstance(value, int) else list(value)


def _padded(images: Any, spans: Sequence[int], strides: Sequence[int]) -> Any:
    """With zeros around, as many as `padding="same"` of a convolution adds."""
    added = [
        max((math.ceil(n / s) - 1) * s + span - n, 0)
        for n, span, s in zip(images.shape[1:-1], spans, strides, strict=True)
    ]
    return keras.ops.pad(images, [(0, 0), *((n // 2, n - n // 2) for n in added), (0, 0)])


def _apart(images: Any, size: Sequence[int], counts: Sequence[int]) -> Any:
    """Patches that touch and do not overlap: `counts` of this `size`."""
    rank, channels = len(size), images.shape[-1]
    whole = [n * k for n, k in zip(counts, size, strict=True)]
    if whole != list(images.shape[1:-1]):
        images = images[(slice(None), *(slice(0, n) for n in whole))]
    pairs = itertools.chain.from_iterable(zip(counts, size, strict=True))
    order = (0, *range(1, 2 * rank, 2), *range(2, 2 * rank + 1, 2), 2 * rank + 1)
    moved = keras.ops.transpose(keras.ops.reshape(images, (-1, *pairs, channels)), order)
    return keras.ops.reshape(moved, (-1, *counts, math.prod(size) * channels))


WRITTEN_OUT: dict[type, Callable[..., Any]] = {
    keras.layers.Bidirectional: _both_ways,
    keras.layers.RNN: _cell_by_cell,
    keras.layers.TimeDistributed: _each_step,
    keras.layers.SpectralNormalization: _not_normalised,
}
"""Keras's layers around a layer -> the same in calls of the layer."""

OPERATIONS: dict[tuple[str, str], Callable[..., Any]] = {
    ("keras.src.ops.image", "ExtractPatches"): _patches,
}
"""(module, class) of operations that Keras doesn't export -> the same in other operations."""


def written_out(op: Any) -> Callable[..., Any] | None:
    """What a layer or operation does, as a function of itself and its arguments; None: not written here."""
    return WRITTEN_OUT.get(type(op)) or OPERATIONS.get((type(op).__module__, type(op).__name__))
