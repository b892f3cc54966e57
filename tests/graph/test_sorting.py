"""Sorting the channels of every row of the table of cases changes nothing that the network computes."""

import contextlib

import keras
import numpy as np
import pytest
from building import conv, finish
from cases import CASES, graph_of, images_for, random_widths
from test_graph_invariants import assert_close, every_case

from autoslim.errors import AutoslimError
from autoslim.graph import ChannelGraph
from autoslim.graph.materialize import materialize
from autoslim.graph.sorting import sort_channels
from autoslim.graph.units import Units, unit_counts

L = keras.layers


@contextlib.contextmanager
def weights_kept(model):
    """The cases' models are shared between tests."""
    before = model.get_weights()
    try:
        yield
    finally:
        model.set_weights(before)
        for layer in model.layers:
            if isinstance(layer, L.Normalization):
                layer.finalize_state()


def drawn(graph, seed=0):
    generator = np.random.default_rng(seed)
    return [generator.random(count) for count in unit_counts(graph.groups)]


@every_case
def test_the_sorted_network_computes_the_same_and_its_parts_are_the_important_ones(name):
    graph = graph_of(name)
    images, importances = images_for(graph.model), drawn(graph)
    widths = random_widths(graph, np.random.default_rng(3))
    before = graph.run(images)
    with weights_kept(graph.model):
        order = sort_channels(graph, importances)
        assert_close(graph.run(images), before)
        narrow = graph.run(images, widths)
    chosen = Units(
        tuple(units[: widths[g.index] // g.unit] for g, units in zip(graph.groups, order.of, strict=True))
    )
    assert_close(materialize(graph, chosen, True, None, {})(images), narrow)
    for group, units, importance in zip(graph.groups, order.of, importances, strict=True):
        kept = np.array_equal(units, np.arange(len(units)))
        assert kept if group.frozen else kept or (np.diff(importance[units]) <= 0).all()


def test_all_groups_that_can_be_are_sorted():
    left = {}
    for name in CASES:
        graph = graph_of(name)
        with weights_kept(graph.model):
            order = sort_channels(graph, [np.arange(count) for count in unit_counts(graph.groups)])
        for group in graph.slimmable:
            if (np.diff(order.of[group.index]) > 0).any():
                left.setdefault(name, []).append(group.name)
    # Some stand in settings, meet constants, or have neighbours in a convolution along them.
    assert set(left) == {
        "measured_statistics",
        "constants",
        "attention_by_sums",
        "local_attention_over_channels",
    }


def test_channels_that_stand_in_a_layers_settings_keep_their_order():
    x = keras.Input((5, 5, 2))
    y = L.Normalization(mean=[1.0, 2.0, 3.0, 4.0], variance=[1.0, 2.0, 3.0, 4.0])(conv(4, name="a")(x))
    graph = ChannelGraph(finish(x, conv(6, name="b")(y)))
    order = sort_channels(graph, [np.arange(count) for count in unit_counts(graph.groups)])
    found = {group.name: units.tolist() for group, units in zip(graph.groups, order.of, strict=True)}
    assert found["a"] == [0, 1, 2, 3]
    assert found["b"] == [5, 4, 3, 2, 1, 0]


def test_equally_important_channels_keep_their_order():
    graph = graph_of("residual")
    with weights_kept(graph.model):
        order = sort_channels(graph, [np.zeros(count) for count in unit_counts(graph.groups)])
    assert all(np.array_equal(units, np.arange(len(units))) for units in order.of)


@pytest.mark.parametrize("wrong", [np.zeros(3), np.full(8, np.nan)], ids=["shape", "nan"])
def test_importances_that_do_not_fit_are_refused(wrong):
    graph = graph_of("residual")
    importances = drawn(graph)
    importances[1] = wrong
    with pytest.raises(AutoslimError, match=r"The importances of group 'stem' have shape"):
        sort_channels(graph, importances)
