"""Does a graph compute what its model does, and a new network what the graph does? Tried on random inputs."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import keras
import numpy as np
import tensorflow as tf

from autoslim.errors import AutoslimError, first_line
from autoslim.graph.masks import no_mask_warnings
from autoslim.graph.options import RunOptions
from autoslim.graph.run import Replaced, forward, visitor
from autoslim.graph.structure import Structure
from autoslim.graph.trace import Looked, Node, Trace

log = logging.getLogger(__name__)

IMAGES = 2  # of a comparison
SIZES = (32, 64, 128, 256)  # stand for sizes that are not known: the first that the model takes
TOLERANCE = 1e-3  # of the largest entry: rounding
MASKED = 0.3  # share of the steps that are masked, where a layer masks some
LOW_TOLERANCE = 0.05  # likewise where layers compute in half precision


def stand_ins(traced: Trace, size: int = SIZES[0]) -> list[np.ndarray]:
    """Random inputs that a model takes: small integers where it takes integers, pixels where it takes bytes.

    Args:
        traced: the model.
        size: in the place of a size that is not known.
    """
    rng = np.random.default_rng(0)
    inputs = []
    for value, shape, dtype in zip(traced.inputs, traced.input_shapes, traced.input_dtypes, strict=True):
        whole = [n or (size if place else IMAGES) for place, n in enumerate(shape)]
        readers = [node.op for node in traced.nodes if value in node.inputs]
        looked_up = any(isinstance(op, keras.layers.Embedding) for op in readers)
        if "float" in dtype and not looked_up:
            drawn = rng.normal(size=whole).astype("float32")
        else:
            most = 2 if dtype == "bool" else _entries_known(readers, 256 if dtype == "uint8" else 2)
            drawn = rng.integers(0, most, whole).astype(dtype)
        inputs.append(_with_masked_steps(drawn, readers, rng))
    return inputs


def _with_masked_steps(x: np.ndarray, readers: Sequence[Any], rng: np.random.Generator) -> np.ndarray:
    """Inputs of which a layer that reads them masks some steps, if one does."""
    for op in readers:
        if isinstance(op, keras.layers.Masking) and x.ndim > 2:
            x[rng.random(x.shape[:-1]) < MASKED] = op.mask_value
        elif getattr(op, "mask_zero", False) and x.ndim > 1:
            x[rng.random(x.shape) < MASKED] = 0
    return x


def _entries_known(readers: Sequence[Any], otherwise: int) -> int:
    """How many different integers the layers take that read an input, where they say so."""
    sizes = [getattr(op, name) for op in readers for name in ("input_dim", "num_tokens") if hasattr(op, name)]
    return min([n for n in sizes if isinstance(n, int)], default=otherwise)


def check_graph(graph: Structure) -> None:
    """Compare the graph at full width with its model.

    Nothing is compared where the model itself does not take random inputs, or gives other outputs each time.

    Raises:
        AutoslimError: if they differ; it names the first layer at which they do.
    """
    for size in SIZES if any(None in shape[1:] for shape in graph.trace.input_shapes) else SIZES[:1]:
        inputs = stand_ins(graph.trace, size)
        expected, why = _called(graph.model, graph.trace.pack_inputs(inputs))
        if expected is not None:
            break
    else:
        log.info("Model %r was not compared with its graph: %s", graph.model.name, why)
        return
    try:
        with keras.StatelessScope(collect_losses=True):
            got = forward(graph, graph.trace.pack_inputs(inputs), None, RunOptions())[0]
    except Exception as error:
        _name_where_it_fails(graph, inputs, error)
    if not _agree(got, expected, _tolerance(graph)):
        _name_where_it_parts(graph, inputs)


def check_network(
    graph: Structure, model: keras.Model, widths: np.ndarray, replaced: Replaced, values: Iterable[list[Any]]
) -> None:
    """Compare a new network with the graph at its widths.

    Args:
        graph: of the traced network.
        model: the new network.
        widths: int [G].
        replaced: as in `forward`.
        values: the symbolic outputs, in the new network, of each of the graph's nodes.

    Raises:
        AutoslimError: if they differ; it names the first layer at which they do.
    """
    for size in SIZES if any(None in shape[1:] for shape in graph.trace.input_shapes) else SIZES[:1]:
        inputs = stand_ins(graph.trace, size)
        try:
            with keras.StatelessScope(collect_losses=True):
                expected = forward(graph, graph.trace.pack_inputs(inputs), widths, RunOptions(), replaced)[0]
            break
        except Exception as error:  # of sizes that the network does not take
            why = first_line(error, 120)
    else:
        log.info("Network %r was not compared with its graph: %s", model.name, why)
        return
    got, why = _called(model, graph.trace.pack_inputs(inputs))
    if got is not None and _agree(got, expected, _tolerance(graph)):
        return
    function = keras.Function(model.inputs, [list(outputs) for outputs in values])
    visit, parted = visitor(graph, widths, replaced), None

    def compare(node: Node, tensors: list[Any]) -> list[Any]:
        nonlocal parted
        outputs = visit(node, tensors)
        if parted is None and not _agree(outputs, of_network[node.index], _tolerance(graph)):
            parted = node
        return outputs

    with keras.StatelessScope(collect_losses=True):
        try:
            of_network = function(inputs)
        except Exception as error:
            raise AutoslimError(f"The new network can't be called: {first_line(error)}") from error
        graph.trace.walk([tf.convert_to_tensor(x) for x in inputs], compare)
    if parted is not None:
        raise AutoslimError(
            f"The new network computes something else than the supernet at its widths, from layer "
            f"{parted.name!r} on, a {type(parted.op).__name__}. Its rule, or its get_config(), leaves out "
            "something that it computes with."
        )


def difference(graph: Structure, other: keras.Model) -> float:
    """The largest by which another model's outputs differ from the traced one's, of their largest entry.

    0 where they agree but for rounding, and where the traced model does not take random inputs.
    """
    for size in SIZES if any(None in shape[1:] for shape in graph.trace.input_shapes) else SIZES[:1]:
        inputs = graph.trace.pack_inputs(stand_ins(graph.trace, size))
        (expected, _), (got, _) = (_called(model, inputs) for model in (graph.model, other))
        if expected is not None and got is not None:
            break
    else:
        return 0.0
    if _agree(got, expected, _tolerance(graph)):
        return 0.0
    pairs = zip(keras.tree.flatten(got), keras.tree.flatten(expected), strict=True)
    both = [(np.asarray(a, np.float64), np.asarray(b, np.float64)) for a, b in pairs]
    return max(float(np.max(np.abs(a - b)) / max(np.max(np.abs(b)), 1e-30)) for a, b in both if b.size)


def _called(model: Any, inputs: Any) -> tuple[Any, str]:
    """A model's outputs, or None and why there are none; its variables stay as they are."""
    try:
        with keras.StatelessScope(collect_losses=True), no_mask_warnings():
            return model(inputs, training=False), ""
    except Exception as error:  # layers of the user's may raise anything
        return None, first_line(error, 120)


def _tolerance(graph: Structure) -> float:
    low = any(
        getattr(node.op, "compute_dtype", None) in ("float16", "bfloat16") for node in graph.trace.nodes
    )
    return LOW_TOLERANCE if low else TOLERANCE


def _agree(got: Any, expected: Any, tolerance: float) -> bool:
    pairs = zip(keras.tree.flatten(got), keras.tree.flatten(expected), strict=True)
    return all(_close(np.asarray(a), np.asarray(b), tolerance) for a, b in pairs)


def _close(a: np.ndarray, b: np.ndarray, tolerance: float) -> bool:
    if a.shape != b.shape:
        return False
    if a.dtype.kind in "biu":
        return bool(np.mean(a != b) <= tolerance) if a.size else True  # ties may be broken otherwise
    if a.dtype.kind not in "fV":
        return bool(np.array_equal(a, b))
    a, b = a.astype(np.float64), b.astype(np.float64)
    known = np.isfinite(a) & np.isfinite(b)
    if not np.array_equal(np.isnan(a), np.isnan(b)):
        return False
    largest = np.max(np.abs(b[known]), initial=1e-30)
    return bool(np.all(np.abs(a - b)[known] <= tolerance * largest))


def _name_where_it_fails(graph: Structure, inputs: Sequence[Any], error: Exception) -> NoReturn:
    """Raise for the first layer whose rule raises."""
    visit = visitor(graph, graph.full, {})
    last: list[Node] = []

    def watch(node: Node, tensors: list[Any]) -> list[Any]:
        last.append(node)
        return visit(node, tensors)

    try:
        with keras.StatelessScope(collect_losses=True):
            graph.trace.walk([tf.convert_to_tensor(x) for x in inputs], watch)
    except Exception as inner:
        node = last[-1]
        raise AutoslimError(
            f"Layer {node.name!r}, a {type(node.op).__name__}, can't be run by its rule: {first_line(inner)}"
        ) from inner
    raise error


def _name_where_it_parts(graph: Structure, inputs: Sequence[Any]) -> None:
    """Raise for the first layer whose rule computes something else than the layer, from the same inputs."""
    tolerance = _tolerance(graph)
    visit = visitor(graph, graph.full, {})
    values: dict[int, Any] = {}
    reached: list[Looked] = list(graph.trace.looked)

    def compare(node: Node, tensors: list[Any]) -> list[Any]:
        training = {"training": False} if node.takes_training and node.training is None else {}
        outputs = keras.tree.flatten(node.call(tensors, **training))
        if not _agree(visit(node, tensors), outputs, tolerance):
            again = keras.tree.flatten(node.call(tensors, **training))
            if _agree(again, outputs, tolerance):
                raise AutoslimError(_rule_parts(node))
        values.update(zip(node.outputs, outputs, strict=True))
        return outputs

    with keras.StatelessScope(collect_losses=True):
        tensors = [tf.convert_to_tensor(x) for x in inputs]
        values.update(zip(graph.trace.inputs, tensors, strict=True))
        graph.trace.walk(tensors, compare)
        for looked in reached:
            whole = looked.call([values[i] for i in looked.inputs])
            if not _agree([values[i] for i in looked.outputs], whole, tolerance):
                raise AutoslimError(_inside_parts(looked))


def _rule_parts(node: Node) -> str:
    kind = type(node.op).__name__
    return (
        f"Layer {node.name!r}, a {kind}, computes something else than its rule does, from the same inputs. "
        f"Give a rule that fits: autoslim.register_rule({kind}, autoslim.LayerRule(...)), or none."
    )


def _inside_parts(looked: Looked) -> str:
    kind = type(looked.layer).__name__
    return (
        f"Layer {looked.name!r}, a {kind}, computes something else than what its call was seen to do. Let it "
        f"stay whole: autoslim.keep_whole({kind})."
    )
