"""Rules of products of tensors: matrix products, sums over named indices, attention."""

from __future__ import annotations

import math
import string
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from autoslim.graph.axes import NO_IMAGES, Axis, Dimension, Layout, size_of
from autoslim.graph.groups import Grouping
from autoslim.graph.rules.base import (
    Call,
    Channels,
    LayerRule,
    Products,
    RunCall,
    Unsupported,
    always,
    call_layer,
    freeze_if_mixed,
)
from autoslim.graph.rules.elementwise import is_constant
from autoslim.graph.trace import Node, Slot

Letters = dict[str, Dimension]  # index of a sum -> the dimension that it runs over


def _terms(equation: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """The indices of each operand and of the result, the ellipsis written out in letters of its own."""
    equation = equation.replace(" ", "")
    operands, _, result = equation.partition("->")
    terms = operands.split(",")
    if "->" not in equation:
        letters = [c for c in operands if c.isalpha()]
        result = "..." * ("..." in operands) + "".join(c for c in sorted(letters) if letters.count(c) == 1)
    free = [c for c in string.ascii_letters if c not in equation]
    elided = max(rank - len(term.replace("...", "")) for term, rank in zip(terms, ranks, strict=True))
    more = "".join(free[:elided])
    written = []
    for term, rank in zip(terms, ranks, strict=True):
        own = rank - len(term.replace("...", ""))
        written.append(term.replace("...", more[len(more) - own :]))
    return written, result.replace("...", more)


def _letters(
    terms: Sequence[str], layouts: Sequence[Layout], node: Node, grouping: Grouping | None
) -> Letters:
    """What each index runs over, the channels of operands that share one tied together."""
    found: Letters = {}
    batches = {t[layout.batch] for t, layout in zip(terms, layouts, strict=True) if t and layout.has_images}
    if len(batches) > 1:
        raise Unsupported("images on several indices")
    for term, layout in zip(terms, layouts, strict=True):
        if len(set(term)) < len(term):
            raise Unsupported("an index that stands twice in an operand")
        for letter, dimension in zip(term, layout.dims, strict=True):
            earlier = found.setdefault(letter, dimension)
            if size_of(earlier) == 1:
                found[letter] = dimension
            elif size_of(dimension) != 1 and Axis in (type(earlier), type(dimension)):
                first, second = Layout((1, earlier)).axis(), Layout((1, dimension)).axis()
                if grouping is not None:
                    grouping.tie(first, second, node.name)
                found[letter] = second if first.groups else first
    return found


def _result(term: str, letters: Mapping[str, Dimension], batch: str | None) -> Layout:
    if batch is None:
        return Layout(tuple(letters[letter] for letter in term), NO_IMAGES)
    if batch not in term:
        raise Unsupported("a sum over the images")
    return Layout(tuple(letters[letter] for letter in term), term.index(batch))


def _operands(node: Node, inputs: Sequence[Layout]) -> list[tuple[Any, Layout]]:
    """(recorded argument, layout) of each operand of a sum; a constant is there at every width."""
    operands = []
    for value in (value for value in node.args if isinstance(value, Slot) or is_constant(value)):
        if isinstance(value, Slot):
            operands.append((value, inputs[value]))
        else:
            operands.append((value, Layout(tuple(value.shape), NO_IMAGES)))
    return operands


def _equation(op: Any, ranks: Sequence[int]) -> str:
    """A product of matrices as a sum over indices; an einsum's own."""
    if hasattr(op, "subscripts"):
        return op.subscripts
    if min(ranks) < 2:
        raise Unsupported("a product with a vector")
    return "...ij,...jk->...ik"


def _sum_of(
    op: Any, inputs: Sequence[Layout], node: Node, grouping: Grouping | None = None
) -> tuple[Letters, list[str], str, str | None]:
    """(dimensions of the indices, those of each operand, of the result, that of the images if any has it)."""
    operands = _operands(node, inputs)
    ranks = [layout.rank for _, layout in operands]
    terms, result = _terms(_equation(op, ranks), ranks)
    tensors = [
        (term, layout)
        for term, (value, layout) in zip(terms, operands, strict=True)
        if isinstance(value, Slot)
    ]
    letters = _letters([term for term, _ in tensors], [layout for _, layout in tensors], node, grouping)
    for term, (value, layout) in zip(terms, operands, strict=True):
        if not isinstance(value, Slot):
            for letter, size in zip(term, layout.dims, strict=True):
                if size_of(letters.setdefault(letter, size)) == 1:
                    letters[letter] = size
    batch = next((term[layout.batch] for term, layout in tensors if layout.has_images), None)
    return letters, terms, result, batch


def _arrange_sum(op: Any, inputs: list[Layout], node: Node, grouping: Grouping) -> list[Layout]:
    letters, _, result, batch = _sum_of(op, inputs, node, grouping)
    return [_result(result, letters, batch)]


def _sum_products(op: Any, node: Node, inputs: list[Layout], outputs: list[Layout]) -> Products:
    """The product of all indices' sizes."""
    letters, terms, _, _ = _sum_of(op, inputs, node)
    return [tuple(letters.values())] if len(terms) > 1 else []


def _sum_arguments(
    op: Any, node: Node, channels: Channels, inputs: list[Layout], outputs: list[Layout]
) -> Call:
    """Constants at the channels that are there."""
    letters, terms, _, _ = _sum_of(op, inputs, node)
    waiting = iter(terms)
    args = []
    for value in node.args:
        if isinstance(value, Slot) or is_constant(value):
            dims = [letters[letter] for letter in next(waiting)]
            if not isinstance(value, Slot) and any(isinstance(d, Axis) for d in dims):
                value = channels.part(value, dims)
        args.append(value)
    return tuple(args), node.kwargs


def _run_sum(op: Any, inputs: list[Any], weights: dict[str, Any], call: RunCall) -> Any:
    """Without an ellipsis, with which TensorFlow's einsum errs in half precision (2.21, on the CPU)."""
    if not hasattr(op, "subscripts"):
        return call_layer(op, inputs, weights, call)
    _, terms, result, _ = _sum_of(op, call.input_layouts, call.node)
    operands = [inputs[value] if isinstance(value, Slot) else value for value in call.node.args]
    return keras.ops.einsum(f"{','.join(terms)}->{result}", *operands)


SUM_OF_PRODUCTS = LayerRule(
    arrange=_arrange_sum,
    run=_run_sum,
    products=_sum_products,
    arguments=_sum_arguments,
    keeps_zero=always,
)


def _dense_terms(op: Any, layout: Layout) -> tuple[str, str, str]:
    """Indices of an EinsumDense layer's input, kernel and output."""
    kernel = op.equation.replace(" ", "").partition("->")[0].split(",")[1]
    if "..." in kernel:
        raise Unsupported(f"the equation {op.equation}")
    (term, kernel), result = _terms(op.equation, [layout.rank, len(kernel)])
    return term, kernel, result


def _arrange_einsum_dense(op: Any, inputs: list[Layout], node: Node, grouping: Grouping) -> list[Layout]:
    """The last index that only the kernel has, such as the width of a head, is slimmed."""
    (layout,) = inputs
    term, kernel, result = _dense_terms(op, layout)
    letters = _letters([term], [layout], node, grouping)
    batch = term[layout.batch] if layout.has_images else None
    if (batch and batch in kernel) or set(term) - set(kernel) - set(result):
        raise Unsupported(f"the equation {op.equation}")
    sizes = dict(zip(kernel, op.kernel.shape, strict=True))
    new = [letter for letter in kernel if letter not in letters]
    letters |= {letter: sizes[letter] for letter in new}
    wide = [letter for letter in new if sizes[letter] > 1]
    if wide:
        letters[wide[-1]] = grouping.new(node.name, sizes[wide[-1]])
    output = _result(result, letters, batch)
    freeze_if_mixed(op.activation, output.axis(), node, grouping)
    return [output]


def _einsum_dense_weights(
    op: Any, inputs: list[Layout], outputs: list[Layout]
) -> dict[str, tuple[Dimension, ...]]:
    term, kernel, result = _dense_terms(op, inputs[0])
    letters = dict(zip(term, inputs[0].dims, strict=True)) | dict(zip(result, outputs[0].dims, strict=False))
    weights = {"kernel": tuple(letters.get(letter) for letter in kernel)}
    if op.bias is not None:
        sizes = tuple(op.bias.shape)
        dims = outputs[0].dims[-len(sizes) :]
        weights["bias"] = tuple(1 if n == 1 else d for n, d in zip(sizes, dims, strict=False))
    return weights


def _run_einsum_dense(op: Any, inputs: list[Any], weights: dict[str, Any], call: RunCall) -> Any:
    term, kernel, result = _dense_terms(op, call.input_layouts[0])
    y = tf.einsum(f"{term},{kernel}->{result}", inputs[0], weights["kernel"])
    if op.bias is not None:
        y = y + weights["bias"]
    return y if op.activation is None else op.activation(y)


def _einsum_dense_products(op: Any, node: Node, inputs: list[Layout], outputs: list[Layout]) -> Products:
    term, kernel, result = _dense_terms(op, inputs[0])
    letters = dict(zip(term, inputs[0].dims, strict=True)) | dict(zip(result, outputs[0].dims, strict=True))
    return [tuple(letters.values())]


def _einsum_dense_config(
    op: Any, channels: Channels, inputs: list[Layout], outputs: list[Layout]
) -> dict[str, Any]:
    given = op.partial_output_shape
    shape = [given] if isinstance(given, int) else list(given)
    _, kernel, result = _dense_terms(op, inputs[0])
    elided = outputs[0].rank - len(op.equation.replace(" ", "").partition("->")[2].replace("...", ""))
    left = "..." in op.equation and op.equation.replace(" ", "").partition("->")[2].startswith("...")
    first = elided if left else 1
    for place, axis in outputs[0].axes:
        if 0 <= place - first < len(shape) and shape[place - first] is not None:
            shape[place - first] = channels(axis)
    return {"output_shape": tuple(shape)}


EINSUM_DENSE = LayerRule(
    arrange=_arrange_einsum_dense,
    weights=_einsum_dense_weights,
    run=_run_einsum_dense,
    products=_einsum_dense_products,
    config=_einsum_dense_config,
)


def _argument(node: Node, place: int, name: str) -> Any:
    return node.args[place] if len(node.args) > place else node.kwargs.get(name)


def _attended(node: Node, inputs: Sequence[Layout]) -> list[Layout]:
    """Layouts of query, key and value, [images, positions, heads, width] each."""
    named = [_argument(node, place, name) for place, name in enumerate(("query", "key", "value"))]
    if any(not isinstance(value, Slot) for value in named):
        raise Unsupported("a constant as query, key or value")
    return [inputs[value] for value in named]


def _arrange_attention(op: Any, inputs: list[Layout], node: Node, grouping: Grouping) -> list[Layout]:
    """Query, key and value with heads of one width: Keras takes the result to have the query's shape."""
    query, key, value = _attended(node, inputs)
    if {query.batch, key.batch, value.batch} != {0}:
        raise Unsupported("the images on another axis than the first, or on none")
    if query.axis().size != value.axis().size:
        raise Unsupported("values of another width than the queries")
    for layout in inputs:
        for place, axis in layout.axes:
            if place != layout.rank - 1 or layout not in (query, key, value):
                grouping.freeze(axis, f"{node.name} takes axis {place}, on which they stand, for heads")
    grouping.tie(query.axis(), key.axis(), node.name)
    grouping.tie(query.axis(), value.axis(), node.name)
    return [query]


def _attention_arguments(
    op: Any, node: Node, channels: Channels, inputs: list[Layout], outputs: list[Layout]
) -> Call:
    """With the scale that the whole network has, which would follow the width of a head."""
    if _argument(node, 5, "scale") is not None:
        return node.args, node.kwargs
    scale = 1.0 / math.sqrt(_attended(node, inputs)[0].axis().size)
    return node.args[:5], {**node.kwargs, "scale": scale}


def _attention_products(op: Any, node: Node, inputs: list[Layout], outputs: list[Layout]) -> Products:
    query, key, value = _attended(node, inputs)
    pairs = (query.dims[0], query.dims[1], key.dims[1], query.dims[2])
    return [(*pairs, query.axis()), (*pairs, value.axis())]


ATTENTION = LayerRule(
    arrange=_arrange_attention,
    arguments=_attention_arguments,
    products=_attention_products,
    keeps_zero=always,
)
