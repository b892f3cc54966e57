"""The benchmark on a table of trained networks: a constructed table, whose best networks are known."""

import itertools
import json

import benchmark_channel_bench
import numpy as np
import pytest
from channel_bench_figures import bars, page
from channel_bench_networks import NETWORKS
from channel_bench_replay import ERRORS, OWN, TARGETS, Condition, possible, replay
from channel_bench_table import Judge, Table, TableScores, left_over, truth_of

from autoslim.errors import AutoslimError
from autoslim.graph import ChannelGraph

DROPS = np.array([4.0, 1.5, 0.4, 0.0])  # points at one to four quarters, times what a group counts for
WEIGHTS = np.array([1.0, 0.1, 0.7, 0.2, 0.5, 0.1, 0.02])


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A table of the MobileNet-like kind whose truth is a sum over the groups, its runs 0.1 apart."""
    places = np.array(list(itertools.product(range(4), repeat=7)))
    graph = ChannelGraph(NETWORKS["mobilenet"]())
    widths = np.tile(graph.full, (len(places), 1))
    free = [group.index for group in graph.slimmable]
    widths[:, free] = graph.full[free] * (places + 1) // 4
    cost = graph.cost(widths)
    top1 = 92 - DROPS[places] @ WEIGHTS
    runs = top1[:, None] + np.random.default_rng(0).normal(0, 0.1, (len(places), 3))
    path = tmp_path_factory.mktemp("table") / "table.npz"
    named = {
        "quarters": places.astype(np.uint8) + 1,
        "top1": runs,
        "flops": cost.flops,
        "params": cost.params,
    }
    np.savez(path, **{f"mobilenet_{name}": values for name, values in named.items()})
    return path


@pytest.fixture(scope="module")
def judge(file):
    table = Table.read(file, "mobilenet")
    return Judge(table, truth_of(table, "additive"))


def test_the_network_costs_what_the_benchmark_says(judge):
    assert judge.table.graph.cost().flops == 211_281_920
    assert judge.table.graph.cost().params == 1_804_170


def test_the_truth_is_what_the_runs_err_about(judge):
    exact = 92 - DROPS[judge.table.places] @ WEIGHTS
    assert np.abs(truth_of(judge.table, "pairs") - exact).max() < 0.05
    assert np.abs(judge.truth - exact).max() < 0.02
    left = left_over(judge.table)
    assert left == pytest.approx(dict.fromkeys(("runs", "additive", "pairs"), 0.1 / np.sqrt(3)), rel=0.03)


def test_uniform_networks_gain_nothing_over_themselves(judge):
    uniform = np.flatnonzero(np.ptp(judge.table.places, axis=1) == 0)
    for resource in ("flops", "params"):
        np.testing.assert_allclose(judge.gain(resource, uniform), 0, atol=2e-3)


def test_the_best_network_is_within_its_budget_and_none_within_it_is_better(judge):
    best = judge.best("params", 0.3)
    shares = judge.table.shares("params")
    assert shares[best] <= 0.3
    assert judge.truth[shares <= 0.3].max() == judge.truth[best]


def test_scores_are_looked_up(judge):
    scores = TableScores(judge.table, judge.truth)
    losses, values = scores(judge.table.widths[[7, 3]])
    np.testing.assert_allclose(losses, 100 - judge.truth[[7, 3], None].repeat(2, 1))
    np.testing.assert_allclose(values, judge.truth[[7, 3], None].repeat(2, 1) / 100)
    assert scores.scored == 4


def test_a_perfect_evaluator_leads_the_predictor_to_the_optimum_and_errors_lead_away(judge):
    right = replay(judge, "params", Condition.named("perfect"), OWN, 1)
    assert np.max(right["behind"]) <= 0.02
    gains = np.mean(right["gains"], 0)
    assert (gains >= np.array(possible(judge, "params")["gains"]) - 0.05).all()
    wrong = replay(judge, "params", Condition.named("error:3"), "greedy by drop", 3)
    assert np.mean(wrong["behind"]) > 0.1


def test_a_bias_is_of_a_group_and_grows_as_it_narrows(judge):
    condition = Condition.named("bias:0.5")
    places = np.zeros((3, 7), int) + 3
    places[1:, 2] = 0, 1
    full, narrow, half = ERRORS["bias"](places, condition.size, np.random.default_rng(0))
    assert full == 0 and abs(narrow) > 0 and half == pytest.approx(narrow * 2 / 3)


@pytest.mark.parametrize("name", ["perfect:1", "error", "wrong:1", "error:x", "error:-1"])
def test_wrong_conditions_are_refused(name):
    with pytest.raises(AutoslimError, match=f"'{name}' is unknown: expected"):
        Condition.named(name)


def test_a_table_of_another_network_is_refused(file, tmp_path):
    with np.load(file) as content:
        changed = {**content, "mobilenet_flops": content["mobilenet_flops"] + 1}
    np.savez(tmp_path / "other.npz", **changed)
    with pytest.raises(AutoslimError, match="flops of mobilenet are not those of the network built here"):
        Table.read(tmp_path / "other.npz", "mobilenet")
    with pytest.raises(AutoslimError, match="does not hold the table of resnet"):
        Table.read(file, "resnet")


def test_the_command_goes_on_where_it_stopped_and_writes_the_page(file, tmp_path, capsys):
    results, written = tmp_path / "figures.json", tmp_path / "page.md"
    command = ["--table", str(file), "--networks", "mobilenet", "--truths", "additive", "--draws", "1"]
    command += ["--results", str(results), "--page", str(written), "--ranks", str(tmp_path / "ranks.json")]
    benchmark_channel_bench.main([*command, "--conditions", "error:0.3", "--methods", "predictor"])
    before = json.loads(results.read_text())["records"]
    more = ["--conditions", "error:0.3", "--methods", "predictor", "greedy by cost"]
    benchmark_channel_bench.main([*command, *more])
    after = json.loads(results.read_text())["records"]
    assert {key: after[key] for key in before} == before
    assert len(after) == 1 + 2 * (1 + 2)
    assert "| error 0.3, greedy by cost |" in written.read_text()
    assert written.read_text() == page(after, {})
    verdicts = {bar.name: bar.verdict for bar in bars(after)}
    assert (
        verdicts["error 0.3, MobileNet, 0.3 of parameters: share of the possible, predictor"]
        != "not measured"
    )
    assert verdicts["bias 0.2, mobilenet: sum of gains, predictor less greedy by cost"] == "not measured"
    assert np.shape(after["additive/mobilenet/flops/error:0.3/predictor"]["gains"]) == (1, len(TARGETS))
