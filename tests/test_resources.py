"""The table of resources: every row is an option, a limit, and a cost that follows the widths."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest

from autoslim.errors import AutoslimError
from autoslim.graph import ChannelGraph
from autoslim.resources import COUNTED, RESOURCES, Cost, counting
from autoslim.schema import LimitsConfig, SlimConfig
from autoslim.slimming.budget import Budget
from autoslim.slimming.points import Score, as_point, path_from
from autoslim.slimming.trajectory import Trajectory


@pytest.fixture(scope="module")
def graph():
    x = keras.Input((8, 8, 3))
    y = keras.layers.Conv2D(8, 3, padding="same", name="a")(x)
    y = keras.layers.Conv2D(16, 3, padding="same", name="b")(keras.layers.ReLU()(y))
    return ChannelGraph(keras.Model(x, keras.layers.Dense(4)(keras.layers.GlobalAveragePooling2D()(y))))


@pytest.mark.parametrize("name", RESOURCES)
def test_a_row_is_a_limit_and_may_be_what_targets_limit(name):
    assert SlimConfig(resource=name, limits={name: 5}).limits.given == {name: 5}
    with pytest.raises(AutoslimError, match=rf"slim\.limits\.{name}=0 is out of range"):
        LimitsConfig(**{name: 0})


@pytest.mark.parametrize("name", COUNTED)
def test_a_cost_is_the_largest_of_its_amounts_and_falls_with_the_widths(graph, name):
    widths = np.stack([graph.full, graph.uniform(0.5), graph.uniform(0.25)])
    cost = graph.cost(widths).of(name)
    np.testing.assert_array_equal(graph.amounts(name, widths).max(-1), cost)
    assert cost[0] > cost[1] > cost[2] > 0
    assert [graph.cost(one).of(name) for one in widths] == cost.tolist()
    budget = Budget(graph, name, limits={name: float(cost[1])})
    assert budget.within(widths, 1.0).tolist() == [False, True, True]
    assert budget.share(graph.cost(widths[2])) == cost[2] / cost[0]


def test_costs_stand_among_the_other_entries_of_a_file(graph):
    budget = Budget(graph, latency=lambda widths: 0.25 * widths.sum(-1))
    spent = {"macs": 5, "scored": 7, "naive_macs": 5}
    first = as_point(budget, graph.full, None, Score(0.5, 0.1, 0.75), 7, spent)
    path = path_from(budget, first, 7)
    data = json.loads(json.dumps(path.to_dict()))
    expected = {**graph.cost(), "latency": 0.25 * graph.full.sum()}
    assert {name: data["points"][0][name] for name in RESOURCES} == expected
    assert {name: data[f"full_{name}"] for name in RESOURCES} == expected
    assert Trajectory.from_dict(data) == path
    head, row = (line.split(",") for line in path.to_csv().splitlines())
    assert {name: float(row[head.index(name)]) for name in RESOURCES} == expected


def test_a_cost_that_is_not_known():
    cost = Cost({"params": 4}, {"flops": "Sizes are open."})
    assert cost.flops is None and cost.row() == {"flops": None, "params": 4, "memory": None}
    with pytest.raises(AutoslimError, match=r"^Sizes are open\. Parameters are known: resource=params\.$"):
        cost.of("flops")
    with pytest.raises(AttributeError):
        _ = cost.energy
    with pytest.raises(AutoslimError, match=r"'latency' is not counted: expected flops, params or memory\.$"):
        counting("latency")


def test_tensorflow_is_not_imported():
    code = "import autoslim.resources, sys; assert not {'tensorflow', 'keras'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
