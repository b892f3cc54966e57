"""What a run returns to a sweeper that looks for good values."""

import pytest

from autoslim.config import compose
from autoslim.errors import AutoslimError
from autoslim.objective import objective
from autoslim.schema import Config

ROWS = [
    {
        "network": "baseline",
        "target": None,
        "measure": {"name": "top1"},
        "metric": 0.9,
        "params": 100,
        "folder": "b",
    },
    {
        "network": "autoslim",
        "target": 0.7,
        "measure": {"name": "top1"},
        "metric": 0.8,
        "params": 70,
        "folder": "a",
    },
    {
        "network": "autoslim",
        "target": 0.5,
        "measure": {"name": "top1"},
        "metric": 0.75,
        "params": 50,
        "folder": "c",
    },
    {
        "network": "uniform",
        "target": 0.5,
        "measure": {"name": "top1"},
        "metric": 0.7,
        "params": 51,
        "folder": "d",
    },
]


@pytest.mark.parametrize(
    "names, value",
    [
        (["top1_at_target"], 0.75),
        (["params_of_uniform"], 51.0),
        (["top1_of_baseline"], 0.9),
        (["metric_at_target"], 0.75),
        (["top1_at_target", "params_of_uniform_at_target"], [0.75, 51.0]),
    ],
)
def test_figures(names, value):
    assert objective(names, ROWS, "autoslim") == value


def test_a_hand_made_network_is_the_runs_own():
    assert objective(["top1_at_target"], [{**ROWS[1], "network": "channels"}], "autoslim") == 0.8


def test_what_is_not_there():
    with pytest.raises(AutoslimError) as error:
        objective(["top1_at_target"], ROWS[:1], "random")
    assert str(error.value) == (
        "objective=top1_at_target: the run trained no network of kind random or channels (trained: "
        "baseline). Add the stage that trains it to stages, or choose another objective."
    )
    with pytest.raises(
        AutoslimError, match="a network has no figure 'folder'. There are: top1, metric, params."
    ):
        objective(["folder_at_target"], ROWS, "autoslim")


@pytest.mark.parametrize(
    "given", ["params_at_target", "[params_at_target]", "[params_at_target,loss_of_uniform]"]
)
def test_one_name_or_several(given):
    names = given.strip("[]").split(",")
    assert compose([f"objective={given}"]).objectives == names
    assert compose([]).objectives == ["metric_at_target"]


@pytest.mark.parametrize("names", [[], "top1", 5, ["top1"], ["top1_of_nothing"], ["_at_target"]])
def test_names_are_checked(names):
    with pytest.raises(AutoslimError, match="objective"):
        Config(objective=names)
