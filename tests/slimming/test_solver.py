"""The exact solver against brute force, and tabulated costs against the costs themselves."""

import itertools
from functools import partial

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoslim import archs
from autoslim.errors import AutoslimError
from autoslim.graph import ChannelGraph
from autoslim.slimming.levels import Levels
from autoslim.slimming.solver import Limit, PairwiseCost, solve, tabulate, tabulate_rows


def random_cost(generator, levels, pairs):
    """A cost that rises with every width, as sums over groups and pairs do."""
    sizes = [len(widths) for widths in levels.widths]
    single = tuple(np.cumsum(generator.exponential(1, size)) for size in sizes)
    tables = {(g, h): np.outer(np.arange(sizes[g]), np.arange(sizes[h])) * 1.0 for g, h in pairs}
    return PairwiseCost(float(generator.random()), single, tables)


def every_network(levels):
    return np.array(list(itertools.product(*(range(len(widths)) for widths in levels.widths))))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_the_solution_is_the_best_of_all_networks_within_all_limits(seed, first, second):
    generator = np.random.default_rng(seed)
    levels = Levels(
        tuple(tuple(range(1, 2 + generator.integers(0, 4))) for _ in range(generator.integers(1, 6)))
    )
    groups = len(levels.widths)
    pairs = [pair for pair in itertools.combinations(range(groups), 2) if generator.random() < 0.5]
    value = random_cost(generator, levels, ())
    value = PairwiseCost(value.constant, tuple(table[::-1].copy() for table in value.single), {})
    sums, peaks = (
        random_cost(generator, levels, pairs),
        [random_cost(generator, levels, ()) for _ in range(3)],
    )
    networks = every_network(levels)
    amounts = sums(networks), np.max([peak(networks) for peak in peaks], axis=0)
    limits = [
        Limit("flops", [sums], float(np.quantile(amounts[0], first))),
        Limit("memory", peaks, float(np.quantile(amounts[1], second))),
    ]
    # a hair of room, so that rounding decides nothing
    limits = [Limit(one.name, one.costs, one.amount + 1e-6) for one in limits]
    within = (amounts[0] <= limits[0].amount) & (amounts[1] <= limits[1].amount)
    if not within.any():
        with pytest.raises(AutoslimError, match="no network is within flops <= .*, memory <= "):
            solve(levels, value, limits)
        return
    found = solve(levels, value, limits)
    places = np.array([widths.index(w) for widths, w in zip(levels.widths, found.widths, strict=True)])
    assert sums(places) <= limits[0].amount
    assert max(peak(places) for peak in peaks) <= limits[1].amount
    np.testing.assert_allclose(value(places), value(networks[within]).min(), rtol=1e-6)
    np.testing.assert_allclose(found.value, value(places), rtol=1e-6)
    assert found.gap < 1e-6


@pytest.mark.parametrize("resource", ["flops", "params"])
@pytest.mark.parametrize("name", ["resnet", "mobilenet_v2"])
def test_costs_of_networks_are_sums_over_pairs(name, resource):
    build = {
        "resnet": lambda: archs.resnet((32, 32, 3), 10, depth=14, width=16),
        "mobilenet_v2": lambda: archs.mobilenet_v2((32, 32, 3), 10, width=0.5),
    }[name]
    graph = ChannelGraph(build())
    levels = Levels.spaced(graph, 4, 0.25, 4)
    table = tabulate(lambda widths: getattr(graph.cost(widths), resource), levels, resource)
    assert 0 < len(table.pairs) < 3 * len(levels.widths)  # neighbours only
    generator = np.random.default_rng(1)
    places = generator.integers(0, [len(widths) for widths in levels.widths], (50, len(levels.widths)))
    widths = [[w[i] for w, i in zip(levels.widths, row, strict=True)] for row in places]
    np.testing.assert_allclose(table(places), getattr(graph.cost(np.array(widths)), resource), rtol=1e-12)


def test_the_budget_of_a_real_network_is_used_as_far_as_the_levels_allow():
    x = keras.Input((8, 8, 3))
    y = x
    for number in range(4):
        y = keras.layers.Conv2D(8, 3, padding="same", name=f"conv{number}")(y)
    graph = ChannelGraph(keras.Model(x, keras.layers.Dense(4)(keras.layers.Flatten()(y))))
    levels = Levels.spaced(graph, 4, 0.25, 2)
    flops = tabulate(lambda widths: graph.cost(widths).flops, levels, "flops")
    params = tabulate(lambda widths: graph.cost(widths).params, levels, "params")
    drops = tuple(np.linspace(0.3 * (1 + g), 0.0, len(w)) for g, w in enumerate(levels.widths))
    value, full = PairwiseCost(0.0, drops, {}), graph.cost()
    limits = [
        Limit("flops", [flops], 0.5 * full.flops),
        Limit("params", [params], 0.45 * full.params),
    ]
    networks = every_network(levels)
    widths = np.array([[w[i] for w, i in zip(levels.widths, row, strict=True)] for row in networks])
    costs = graph.cost(widths)
    within = (costs.flops <= 0.5 * full.flops) & (costs.params <= 0.45 * full.params)
    found = solve(levels, value, limits)
    np.testing.assert_allclose(found.value, value(networks[within]).min())
    cost = graph.cost(found.widths)
    assert cost.flops <= 0.5 * full.flops and cost.params <= 0.45 * full.params


def test_a_cost_in_which_three_groups_interact_is_refused():
    levels = Levels(((1, 2), (1, 2), (1, 2)))
    with pytest.raises(AutoslimError, match="energy of this network is not a sum over pairs"):
        tabulate(lambda widths: widths.prod(-1) * 1.0, levels, "energy")


def test_memory_in_which_two_groups_multiply():
    """A tensor with two channel axes, as in an MLP-Mixer: tokens mixed by one layer, channels by another."""
    x = keras.Input((4, 6))
    y = keras.layers.Dense(16, name="channels")(x)
    y = keras.layers.Permute((2, 1))(y)
    y = keras.layers.Dense(16, name="tokens")(y)
    y = keras.layers.Dense(4, name="tokens_back")(y)
    y = keras.layers.Permute((2, 1))(y)
    graph = ChannelGraph(keras.Model(x, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling1D()(y))))
    levels = Levels.spaced(graph, 4, 0.25, 4)
    rows = tabulate_rows(partial(graph.amounts, "memory"), levels, "memory")
    networks = every_network(levels)
    widths = np.array([[w[i] for w, i in zip(levels.widths, row, strict=True)] for row in networks])
    np.testing.assert_allclose(
        np.max([row(networks) for row in rows], axis=0), graph.amounts("memory", widths).max(-1), rtol=1e-12
    )
    np.testing.assert_array_equal(graph.amounts("memory", widths).max(-1), graph.cost(widths).memory)
    assert any(row.pairs for row in rows)
