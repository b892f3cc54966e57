"""Budgets of several resources."""

import dataclasses

import pytest
from nets import batches, graph

from autoslim.errors import AutoslimError
from autoslim.slimming.budget import Budget
from autoslim.slimming.levels import Levels
from autoslim.slimming.rivals.uniform import uniform_widths
from autoslim.slimming.search import search


def without_lead(point):
    """Savings are added up over the budgets, so that a lead for each saving differs in its last bits."""
    return dataclasses.replace(point, lead=None)


def test_a_budget_is_met_when_all_limits_are():
    channels = graph()
    levels = Levels.spaced(channels, 4, 0.25, 1)
    alone = search(channels, levels, batches(), target=[0.9])
    params = 0.6 * channels.cost().params
    both = search(channels, levels, batches(), target=[0.9], limits={"params": params})
    first = [without_lead(point) for point in both.points[: len(alone.points)]]
    assert first == [without_lead(point) for point in alone.points]
    assert len(both.points) > len(alone.points)
    assert both.at(0.9, {"params": params}).cost.params <= params < both.points[-2].cost.params
    assert not both.reaches(0.9, {"params": 1})


def test_uniform_keeps_within_all_limits():
    channels = graph()
    limits = {"params": 0.5 * channels.cost().params}
    cost = channels.cost(
        uniform_widths(Budget(channels, limits=limits), Levels.spaced(channels, 4, 0.25, 1), 0.9)
    )
    assert cost.params <= limits["params"] and cost.flops < 0.9 * channels.cost().flops


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"resource": "speed"}, "resource 'speed' is unknown. There are: flops, params, memory, latency."),
        ({"limits": {"params": 0}}, "slim.limits.params=0 is out of range: weights, above 0; or base."),
        (
            {"resource": "latency"},
            "Latency is limited but nothing measures it: give "
            "latency=autoslim.slimming.latency.LatencyModel(graph, levels, "
            "autoslim.exporting.NetworkClock()).",
        ),
    ],
)
def test_impossible_budgets(arguments, message):
    with pytest.raises(AutoslimError) as caught:
        Budget(graph(), **arguments)
    assert str(caught.value) == message


def test_a_limit_out_of_reach():
    channels = graph()
    levels = Levels.spaced(channels, 4, 0.5, 1)
    with pytest.raises(
        AutoslimError, match=r"Cannot reach slim\.limits\.params=10: .* still has \d+ weights\."
    ):
        Budget(channels, limits={"params": 10}).refuse_unreachable(levels.smallest, 0.9)
