"""Cut points and segments: where a single value carries everything, and the chain that runs between them."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from building import CLASSES, IMAGE, conv
from cases import CASES, draw_weights, images_for, random_widths

from autoslim.graph import ChannelGraph, Segments
from autoslim.graph.segments import cut_points, first_nodes

L = keras.layers


def residual():
    """Cuts behind the first three nodes and behind the sum; none where the block's shortcut runs beside."""
    x = keras.Input(IMAGE, name="image")
    y = L.ReLU(name="relu")(L.BatchNormalization(name="norm")(conv(8, use_bias=False, name="stem")(x)))
    z = L.ReLU(name="inner_relu")(conv(6, name="inner")(y))
    y = L.Add(name="add")([y, conv(8, name="outer")(z)])
    return keras.Model(x, L.Dense(CLASSES, name="logits")(L.GlobalAveragePooling2D(name="pool")(y)))


def two_inputs():
    a, b = keras.Input(IMAGE, name="a"), keras.Input(IMAGE, name="b")
    y = L.Concatenate(name="both")([conv(4, name="left")(a), conv(6, name="right")(b)])
    y = conv(8, name="after")(L.ReLU(name="relu")(y))
    y = L.GlobalAveragePooling2D(name="pool")(y)
    return keras.Model([a, b], L.Dense(CLASSES, name="logits")(y))


def early_output():
    """An output that is made early is carried across every later place: there is no cut behind it."""
    x = keras.Input(IMAGE, name="image")
    y = conv(8, name="first")(x)
    side = L.Dense(CLASSES, name="side")(L.GlobalAveragePooling2D(name="pool")(y))
    y = L.GlobalAveragePooling2D(name="last_pool")(conv(6, name="second")(y))
    return keras.Model(x, [side, L.Dense(CLASSES, name="logits")(y)])


OWN = {"residual": residual, "two_inputs": two_inputs, "early_output": early_output}


def cuts_by_name(model):
    graph = ChannelGraph(model)
    return [graph.trace.nodes[cut.node].name for cut in cut_points(graph.trace)]


def test_cuts():
    assert cuts_by_name(residual()) == ["stem", "norm", "relu", "add", "pool"]
    assert cuts_by_name(two_inputs()) == ["both", "relu", "after", "pool"]
    assert cuts_by_name(early_output()) == ["first"]


def first_by_name(model):
    graph = ChannelGraph(model)
    names = [*(node.name for node in graph.trace.nodes), None]
    return {graph.groups[g].name: names[n] for g, n in enumerate(first_nodes(graph))}


def test_first_node_that_a_group_touches():
    assert first_by_name(residual()) == {
        "image": "stem",
        "stem": "stem",
        "inner": "inner",
        "logits": "logits",
    }
    both = first_by_name(two_inputs())
    assert (both["left"], both["right"], both["after"]) == ("left", "right", "after")


def test_segments_serve_the_groups():
    segments = Segments(ChannelGraph(residual()))
    graph = segments._graph
    # Behind the stem's first node there is no need to cut; before the inner convolution there is.
    assert [graph.trace.nodes[cut.node].name for cut in segments.cuts] == ["relu"]
    assert dict(zip([g.name for g in graph.groups], segments.of_group, strict=True)) == {
        "image": 0,
        "stem": 0,
        "inner": 1,
        "logits": 1,
    }
    assert len(Segments(ChannelGraph(early_output()))) == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", [*CASES, *OWN])
def test_chain_is_the_network(name):
    """At any widths and numbers of images, from one trace a segment; and so is any part of the chain."""
    model = {**CASES, **OWN}[name]()
    draw_weights(model)
    graph = ChannelGraph(model)
    segments, rng = Segments(graph), np.random.default_rng(0)
    for count in (4, 3):
        x, widths = images_for(model, count), random_widths(graph, rng)
        after = segments.run(segments.begin(x), tf.constant(widths))
        expected = keras.tree.flatten(graph.run(x, widths, batch_statistics=True))
        assert len(after) == len(segments) and len(after[-1]) == len(expected)
        for found, value in zip(after[-1], expected, strict=True):
            np.testing.assert_allclose(found, value, rtol=1e-3, atol=1e-5)
        for group in graph.slimmable[::3]:
            other = widths.copy()
            other[group.index] = group.unit
            (start,) = segments.starts(widths, other[None])
            if start == len(segments):
                assert (other == widths).all()
                continue
            values = segments.begin(x) if start == 0 else after[start - 1]
            part = segments.run(values, tf.constant(other), start)[-1]
            whole = segments.run(segments.begin(x), tf.constant(other))[-1]
            for found, value in zip(part, whole, strict=True):
                np.testing.assert_array_equal(found, value)
    assert segments.traces == [1] * len(segments)


@pytest.mark.parametrize("build", OWN.values(), ids=OWN)
def test_masked_segments(build):
    """The same outputs, from tensors of all channels."""
    model = build()
    draw_weights(model)
    graph = ChannelGraph(model)
    sliced, masked, rng = Segments(graph), Segments(graph, execution="mask"), np.random.default_rng(3)
    x, widths = images_for(model, 4), tf.constant(random_widths(graph, rng))
    expected = sliced.run(sliced.begin(x), widths)[-1]
    after = masked.run(masked.begin(x), widths)
    for found, value in zip(after[-1], expected, strict=True):
        np.testing.assert_allclose(found, value, rtol=1e-3, atol=1e-5)
    for cut, (value,) in zip(masked.cuts, after[:-1], strict=True):
        assert value.shape[-1] == graph.layout(cut.value).axis().size
    assert masked.traces == [1] * len(masked)


@pytest.mark.parametrize("build", OWN.values(), ids=OWN)
def test_macs_of_segments(build):
    """Each layer's in the segment where it stands; together those of the network."""
    graph = ChannelGraph(build())
    segments, generator = Segments(graph), np.random.default_rng(1)
    many = np.stack([random_widths(graph, generator) for _ in range(5)])
    found = segments.macs(many)
    assert found.shape == (5, len(segments)) and found.dtype == np.int64
    ends = [*(cut.node for cut in segments.cuts), len(graph.trace.nodes)]
    for widths, row in zip(many, found, strict=True):
        by_hand = [0] * len(segments)
        for index, layer in enumerate(graph.layer_costs(widths)):
            by_hand[next(i for i, end in enumerate(ends) if index <= end)] += layer.flops
        assert list(row) == by_hand and row.sum() == graph.cost(widths).flops
