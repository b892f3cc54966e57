"""Networks with more channels than the traced one, on every row of the table of cases."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from building import conv, finish
from cases import graph_of, images_for, random_widths
from test_graph_invariants import assert_close, every_case

from autoslim.errors import AutoslimError
from autoslim.graph import ChannelGraph
from autoslim.graph.widening import resize, widen, wider_widths

L = keras.layers
OVER_CHANNELS = (L.LayerNormalization, L.GroupNormalization, L.RMSNormalization, L.UnitNormalization)


NEARLY = (  # they sum channels up, or have neighbours among them
    "channel_means",
    "response_normalisation",
    "attention_by_sums",
    "own_layers_that_are_found_by_trying",
    "local_attention_over_channels",
    "weights_of_layers_own",
    "windows_behind_queries",
)


def exact(name, graph):
    """Whether channels that are copied unevenly are nowhere summed up but by weights."""
    return name not in NEARLY and not any(isinstance(node.op, OVER_CHANNELS) for node in graph.trace.nodes)


@every_case
def test_the_wide_network_computes_the_same_has_the_widths_and_is_the_network_when_narrowed_fresh(name):
    graph = graph_of(name)
    images = images_for(graph.model)
    widths = wider_widths(graph, 1.5)
    wide = widen(graph, widths, seed=3)
    own = ChannelGraph(wide)
    assert own.full.tolist() == widths.tolist()
    assert (widths >= graph.full).all() and (widths > graph.full).any()
    assert_close(wide(images), graph.run(images), 1e-5 if exact(name, graph) else np.inf)
    narrow = np.minimum(random_widths(graph, np.random.default_rng(1)), widths)
    assert own.cost(narrow) == graph.cost(narrow)


@pytest.mark.parametrize("name", ["residual", "squeeze_and_excitation", "grouped", "densenet", "joins"])
def test_groups_that_grow_beside_others_that_shrink_compute_what_they_did_before(name):
    graph = graph_of(name)
    images = images_for(graph.model)
    cut = random_widths(graph, np.random.default_rng(2))
    grow = np.array([group.index % 2 == 0 for group in graph.groups])
    wide = wider_widths(graph, 2.0)
    widths = np.where(grow, wide, cut)
    mixed = resize(graph, widths, seed=3)
    assert ChannelGraph(mixed).full.tolist() == widths.tolist()
    assert_close(mixed(images), graph.run(images, np.where(grow, graph.full, cut)))


@pytest.mark.parametrize("name", ["residual", "squeeze_and_excitation", "grouped"])
def test_copies_part_when_they_are_trained(name):
    """Their shares differ, so their gradients do."""
    graph = graph_of(name)
    wide = widen(graph, wider_widths(graph, 2.0))
    layer = next(layer for layer in wide.layers if isinstance(layer, L.Conv2D))
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(wide(images_for(wide)) ** 2)
    gradient = tape.gradient(loss, layer.kernel.value).numpy().reshape(-1, layer.filters)
    kernel = layer.kernel.numpy().reshape(gradient.shape)
    pairs = [
        (i, j)
        for i in range(layer.filters)
        for j in range(i)
        if np.array_equal(kernel[:, i], kernel[:, j]) and gradient[:, i].any()
    ]
    assert pairs and not any(np.allclose(gradient[:, i], gradient[:, j], 1e-3, 0) for i, j in pairs)


def test_a_layer_norm_over_doubled_channels_stays_the_same():
    x = keras.Input((6, 6, 2))
    y = conv(5, name="b")(L.LayerNormalization()(conv(4, name="a")(x)))
    graph = ChannelGraph(finish(x, y))
    images = images_for(graph.model)
    assert_close(widen(graph, wider_widths(graph, 2))(images), graph.run(images))


def test_fresh_weights_are_drawn_as_the_layers_say():
    graph = graph_of("residual")
    wide = widen(graph, wider_widths(graph, 2.0), weights=False)
    kernel = wide.get_layer("a1").kernel.numpy()
    assert kernel.shape == (3, 3, 16, 12)
    assert len(np.unique(kernel)) > 0.99 * kernel.size  # not copies; a few may be equal by chance


def test_patterns_and_the_divisor():
    graph = graph_of("residual")
    names = [group.name for group in graph.groups]
    found = dict(zip(names, wider_widths(graph, {"a1": 2.0, "stem": 1.3}, 4).tolist(), strict=True))
    assert found["a1"] == 12 and found["stem"] == 12 and found["b1"] == 6
    assert wider_widths(graph, 1.0, 4).tolist() == graph.full.tolist()  # as it is, multiple or not


@pytest.mark.parametrize(
    "headroom, message",
    [
        (0.5, r"headroom of '\*' is 0.5: expected a number of 1 or more"),
        ({"steem": 2}, "headroom of 'steem' matches no layer. Did you mean stem"),
    ],
)
def test_wrong_headroom_is_refused(headroom, message):
    with pytest.raises(AutoslimError, match=message):
        wider_widths(graph_of("residual"), headroom)


def test_widths_that_cannot_be_are_refused():
    graph = graph_of("grouped")
    widths = graph.full
    widths[0] += 1
    with pytest.raises(AutoslimError, match="can't go from 3 to 4 channels: it is frozen"):
        widen(graph, widths)
    widths[0] -= 2
    with pytest.raises(AutoslimError, match="can't go from 3 to 2 channels: it is frozen"):
        widen(graph, widths)
    widths = wider_widths(graph, 2.0)
    free = graph.slimmable[0]
    widths[free.index] = free.size - free.unit
    with pytest.raises(AutoslimError, match=f"Group {free.name!r} can't go from {free.size} to"):
        widen(graph, widths)
