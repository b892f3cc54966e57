"""Budgets of several resources, and latency from measured parts."""

import json

import numpy as np
import pytest
from nets import batches, graph

from autoslim.errors import AutoslimError
from autoslim.slimming.budget import Budget
from autoslim.slimming.latency import LatencyTable, milliseconds, parts_of
from autoslim.slimming.levels import Levels
from autoslim.slimming.rivals.uniform import uniform_widths
from autoslim.slimming.search import search


def by_weights(model):
    """A stand-in for a clock: a model's number of weights, in thousandths of a millisecond."""
    return 1e-3 * (1 + model.count_params())


class Measure:
    """Counts what it is asked to time."""

    def __init__(self):
        self.models = []

    def __call__(self, model):
        self.models.append(model)
        return by_weights(model)


def test_parts_cover_every_node_once():
    channels = graph()
    nodes = [node.index for part in parts_of(channels) for node in part.nodes]
    assert sorted(nodes) == [node.index for node in channels.trace.nodes]
    assert [part.nodes[0].name for part in parts_of(channels)][:3] == ["conv1", "conv2", "conv3"]
    assert [node.name for node in parts_of(channels)[0].nodes] == ["conv1", "bn1", "relu1"]


def test_prediction_is_the_sum_over_parts():
    channels = graph()
    table = LatencyTable(channels, measure=by_weights)
    widths = channels.uniform(0.5)
    small = channels.materialize(widths)
    parts = len(parts_of(channels))
    assert table(widths) == pytest.approx(1e-3 * (parts + small.count_params()))
    both = np.stack([widths, channels.full])
    assert table(both) == pytest.approx([table(widths), table(channels.full)])


def test_each_part_is_measured_once_and_kept(tmp_path):
    channels, measure = graph(), Measure()
    table = LatencyTable(channels, tmp_path, measure)
    first = table(channels.full)
    count = len(measure.models)
    assert table(channels.full) == first and len(measure.models) == count
    again = LatencyTable(graph(seed=3), tmp_path, measure)
    assert again(channels.full) == first and len(measure.models) == count and again.measured == 0


def test_a_damaged_table_is_measured_anew(tmp_path, caplog):
    channels = graph()
    LatencyTable(channels, tmp_path, by_weights)(channels.full)
    (path,) = tmp_path.iterdir()
    path.write_text("{")
    table = LatencyTable(channels, tmp_path, by_weights)
    assert table(channels.full) > 0 and table.measured > 0
    assert f"{path} is damaged: its times are measured anew." in caplog.text
    assert json.loads(path.read_text())["device"] == table.device


def test_real_clock_gives_a_positive_number():
    assert 0 < milliseconds(graph().model) < 1e4


def test_search_by_latency():
    channels = graph()
    levels = Levels.spaced(channels, 4, 0.25, 1)
    table = LatencyTable(channels, measure=by_weights)
    found = search(channels, levels, batches(), target=[0.5], resource="latency", latency=table)
    point = found.at(0.5)
    assert point.latency == table(list(point.widths)) <= 0.5 * found.full_latency
    assert found.points[-2].latency > 0.5 * found.full_latency


def test_a_budget_is_met_when_all_limits_are():
    channels = graph()
    levels = Levels.spaced(channels, 4, 0.25, 1)
    alone = search(channels, levels, batches(), target=[0.9])
    params = 0.6 * channels.cost().params
    both = search(channels, levels, batches(), target=[0.9], limits={"params": params})
    assert both.points[: len(alone.points)] == alone.points and len(both.points) > len(alone.points)
    assert both.at(0.9, {"params": params}).params <= params < both.points[-2].params
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
        ({"limits": {"params": 0}}, "slim.limits.params=0 is out of range: weights, above 0."),
        (
            {"resource": "latency"},
            "Latency is limited but nothing measures it: give "
            "latency=autoslim.slimming.latency.LatencyTable(graph).",
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
