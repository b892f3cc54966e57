"""The evidence suite: its cells compose, and its statistics are those of textbooks."""

import json

import numpy as np
import pytest
from benchmark_common import Records
from evidence import bill, parse, settings
from evidence_cells import CELLS, JUDGED, vgg
from evidence_figures import agreement, write_figures
from evidence_table import OURS, bars, difference, holm, key, page, pooled
from scipy import stats

from autoslim.config import compose
from autoslim.errors import AutoslimError
from autoslim.graph import ChannelGraph
from autoslim.stages import Outcome


def figures(top1):
    return {"top1": top1, "loss": 1.0, "flops": 1e6, "params": 1e5, "bill": 1.5}


def made_up(points, cells=("a", "b")):
    """Records in which the method judged is ahead of uniform by points[cell][seed]."""
    records = {}
    for cell, ahead in zip(cells, points, strict=True):
        for seed, point in enumerate(ahead):
            records[key(cell, seed, "uniform")] = figures(0.5)
            records[key(cell, seed, OURS)] = figures(0.5 + point / 100)
    return records


@pytest.mark.parametrize("cell", CELLS)
def test_every_method_of_a_cell_composes(cell):
    options = parse(["--tiny50", "/images", "--cifar10", "/images", "--set", "baseline.epochs=1"])
    for method in CELLS[cell].methods:
        config = compose(settings(cell, 3, method, options))
        assert (config.slim.method, config.seed, config.baseline.epochs) == (method, 3, 1)
        assert "baseline" in config.stages  # latencies are shares of its
        assert ("uniform" in config.stages) == (method == OURS)


def test_a_cell_without_its_images_says_which_are_needed():
    with pytest.raises(AutoslimError, match="Cell a needs images: give --tiny50 FOLDER"):
        settings("a", 0, "greedy", parse([]))


def test_the_plain_network_is_covered():
    graph = ChannelGraph(vgg())
    assert not graph.uncovered and graph.full.max() == 512


def test_a_seed_counts_once_over_the_cells():
    points = [[1.0, 2.0, 3.0], [3.0, 2.0, 2.5]]
    records = made_up(points)
    each = [difference(records, cell) for cell in "ab"]
    assert each[0].mean == pytest.approx(2.0) and each[0].deviation == pytest.approx(1.0)
    assert each[0].p == pytest.approx(stats.ttest_rel([1, 2, 3], [0, 0, 0]).pvalue)
    every = pooled(each)
    np.testing.assert_allclose(every.points, [2.0, 2.0, 2.75])
    del records[key("b", 1, "uniform")]  # a seed that one cell lacks is left out
    assert pooled(difference(records, cell) for cell in "ab").seeds == (0, 2)


def test_what_is_not_measured_is_not_claimed():
    assert [bar.verdict for bar in bars({})] == ["not measured"] * 7
    one = made_up([[1.0]], cells="a")
    assert np.isnan(difference(one, "a").p)
    text = page(one, ["baseline", OURS, "uniform"], "a machine")
    assert "| a    |" in text and "0: +1.00" in text and "resnet20, Tiny-50" in text


def test_an_unfinished_suite_says_so():
    points = [[0.5, 0.4, 0.6, 0.5, 0.7]] * len(JUDGED)
    some = page(made_up(points[:1], cells="a"), [OURS, "uniform"], "a machine")
    assert "Seeds measured, of 5: b 0, c 0, d 0, e 0, f 0. This is no verdict yet." in some
    assert "unfinished" not in page(made_up(points, cells=JUDGED), [OURS, "uniform"], "a machine")


def test_figures_of_two_processes_stand_in_one_file(tmp_path):
    for name, place in (("one", "a 0 uniform"), ("two", "b 0 uniform")):
        Records(tmp_path / f"{name}.json", {"common": 1}).put(place, figures(0.5))
    both = Records(tmp_path / "one.json", {"common": 1})
    both.add(tmp_path / "two.json")
    assert set(Records(tmp_path / "one.json", {"common": 1}).records) == {"a 0 uniform", "b 0 uniform"}
    Records(tmp_path / "other.json", {"common": 2}).put("a 1 uniform", figures(0.5))
    with pytest.raises(AutoslimError, match=r"other\.json holds figures of common=2, this run has common=1"):
        both.add(tmp_path / "other.json")


def test_a_cell_that_is_clearly_worse_fails_its_bar():
    records = made_up([[-1.0, -1.1, -0.9, -1.05], [1.0, 1.2, 0.9, 1.1]])
    assert bars(records)[2].verdict == "FAIL"
    assert bars(made_up([[0.1, -0.1, 0.2, 0.0], [1.0, 1.2, 0.9, 1.1]]))[2].verdict == "pass"


def test_what_else_is_asked_does_not_count_against_uniform():
    records = made_up([[1.0, 2.0], [-9.0, -9.5], [0.0, 0.0], [0.0, 0.0]], cells="agdh")
    assert "-9" not in page(records, [OURS, "uniform"], "a machine").partition("### a")[0]
    assert bars(records)[2].verdict == "pass"
    for cell, top1 in (("d", 0.499), ("g", 0.415)):  # OURS: 0.5 and, by the mean of its seeds, 0.4075
        for seed in (0, 1):
            records[key(cell, seed, "baseline")] = figures(top1)
    assert [bar.verdict for bar in bars(records)[3:]] == ["pass", "pass", "FAIL", "FAIL"]  # the bills are 1.5
    records[key("g", 0, "baseline")] = records[key("g", 1, "baseline")] = figures(0.41)
    records |= {key("h", seed, OURS): {**figures(0.5), "bill": 0.7} for seed in (0, 1)}
    assert [bar.verdict for bar in bars(records)[3:]] == ["pass"] * 4


def test_a_bill_is_of_what_a_network_came_from(tmp_path):
    folders = {}
    for name, spent in (("baseline", 1.0), ("supernet", 0.5), ("search", 0.25), ("own", 0.125)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text(json.dumps({"bill": spent}))
        folders[name] = str(tmp_path / name)
    outcome = Outcome([], folders)

    def of(network, init="baseline"):
        place = folders["baseline" if network == "baseline" else "own"]
        return bill(outcome, {"network": network, "folder": place}, init)

    assert of("baseline") == 1.0
    assert (of("uniform"), of("uniform", "supernet")) == (1.125, 0.625)
    assert (of("predictor"), of("predictor", "supernet")) == (1.875, 0.875)
    assert of("taylor") == of("taylor", "supernet") == 1.875  # its supernet is the baseline, sorted
    assert (of("uniform", "scratch"), of("predictor", "scratch")) == (0.125, 0.875)


def test_holm_is_monotone_and_keeps_what_is_not_known():
    found = holm([0.01, float("nan"), 0.02, 0.9])
    assert found[0] == pytest.approx(0.03) and found[2] == pytest.approx(0.04) and found[3] == 0.9
    assert np.isnan(found[1])


def test_figures_show_every_cell_and_how_far_seeds_agree(tmp_path):
    records = made_up([[1.0, 2.0], [0.5, 0.0]])
    widths = {"one": 8, "two": 16, "three": 24}
    for seed in (0, 1):
        records[key("a", seed, "baseline")] = {**figures(0.6), "channels": widths}
        records[key("a", seed, "uniform")] |= {"channels": widths}
        records[key("a", seed, OURS)] |= {"channels": {**widths, "one": 4, "two": 15 - seed}}
    files = write_figures(records, tmp_path)
    assert [name for name, _ in files] == ["a: top1", "a: widths", "b: top1", "b: widths"]
    assert all(path.stat().st_size > 5_000 for _, path in files)
    assert agreement(records, "a") == pytest.approx(1.0) and agreement(records, "b") is None
    records[key("a", 1, OURS)]["channels"] |= {"one": 15, "two": 4, "three": 3}
    assert agreement(records, "a") == pytest.approx(-1.0)
