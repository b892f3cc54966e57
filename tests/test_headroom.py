"""A supernet that is wider than the network: targets, uniform networks and limits stay in its units."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from runs import SMALL

from autoslim.config import compose
from autoslim.errors import AutoslimError
from autoslim.graph import ChannelGraph
from autoslim.slimming.budget import Budget
from autoslim.slimming.levels import Levels
from autoslim.slimming.rivals.uniform import uniform_widths
from autoslim.stages import Outcome, run_stages
from autoslim.stages.experiment import Experiment
from autoslim.stages.supernet import initial_supernet

WIDE = {**SMALL, "slim.headroom": 1.5, "slim.target": "[1.0,0.6]", "slim.limits.params": "base"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    output = tmp_path_factory.mktemp("wide")
    stages = "[baseline,supernet,search,retrain,uniform,report]"
    return run_stages(compose({**WIDE, "output": output, "stages": stages, "slim.levels": 4}))


def test_targets_and_uniform_networks_are_in_units_of_the_network_itself(whole: Outcome) -> None:
    rows = {(row["network"], row["target"]): row for row in whole.rows}
    base, same = rows["baseline", None], rows["uniform", 1.0]
    assert (same["flops"], same["params"]) == (base["flops"], base["params"])
    for kind in ("autoslim", "uniform"):
        for target in (1.0, 0.6):
            row = rows[kind, target]
            assert row["flops"] <= target * base["flops"] and row["params"] <= base["params"]
    assert "parameters" in (Path(whole.folders["report"]) / "report.md").read_text()


def test_a_run_that_is_done_is_reused(whole: Outcome) -> None:
    output = Path(whole.folders["baseline"]).parent.parent
    before = (Path(whole.folders["search"]) / "trajectory.json").read_bytes()
    again = run_stages(compose({**WIDE, "output": output, "stages": "[search,retrain]", "slim.levels": 4}))
    assert again.folders["retrain 1"] == whole.folders["retrain 1"]
    assert (Path(whole.folders["search"]) / "trajectory.json").read_bytes() == before
    assert json.loads(before)["points"][0]["share"] > 1  # it begins at the wide network


def test_a_supernet_from_trained_weights_computes_what_they_do(whole: Outcome, tmp_path: Path) -> None:
    path = Path(whole.folders["baseline"]) / "model.keras"
    tiny = {key: value for key, value in WIDE.items() if not key.startswith("arch")}
    arch = {"arch": "keras_file", "arch.path": path, "arch.name": "mine", "output": tmp_path}
    one = Experiment(compose({**tiny, **arch}))
    wide = initial_supernet(one.supernet, one.builder, one.own_weights)
    own = keras.saving.load_model(path)
    x = np.random.default_rng(0).normal(size=(4, 8, 8, 1)).astype(np.float32)
    assert wide.count_params() > 1.5 * own.count_params()
    np.testing.assert_allclose(wide(x), own(x), atol=1e-5)


def test_levels_hold_the_networks_own_widths_and_shares_are_of_them(whole: Outcome) -> None:
    own = keras.saving.load_model(Path(whole.folders["baseline"]) / "model.keras")
    experiment = Experiment(compose({**WIDE, "output": Path(whole.folders["baseline"]).parent.parent}))
    plan, base = experiment.plan, ChannelGraph(own).full
    levels = Levels.spaced(plan, 6, 0.5, 2, base=base)
    for widths, width, group in zip(levels.widths, base, plan.groups, strict=True):
        assert int(width) in widths and widths[-1] == group.size
        assert group.frozen or (widths[0] >= 0.5 * width and widths[0] < 0.5 * group.size)
    budget = Budget(plan, limits={"params": "base"}, reference=base)
    assert budget.limits == {"params": own.count_params() - _untrained(own)}
    assert uniform_widths(budget, levels, 1.0).tolist() == base.tolist()


def _untrained(model: keras.Model) -> int:
    return sum(int(np.prod(v.shape)) for v in model.non_trainable_variables)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"slimming": "taylor"}, "slimming=taylor trains no supernet, so there is none to be wider"),
        ({"slim.resource": "latency"}, "Latency can't be limited with slim.headroom"),
        ({"slim.headroom": 0.5}, "slim.headroom=0.5 is out of range: a number of 1 or more"),
        ({"slim.limits.params": "bass"}, "slim.limits.params=bass is out of range: an amount above 0, base"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(AutoslimError, match=message):
        run_stages(compose({**WIDE, **settings, "output": tmp_path, "stages": "[supernet]"}))
