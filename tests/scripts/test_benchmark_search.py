"""The search benchmark: its arithmetic by hand, and one small run."""

import doctest
import json
import math

import benchmark_search
import benchmark_search_figures as figures
import numpy as np
import pytest

from autoslim import datasets
from autoslim.config import compose
from autoslim.errors import AutoslimError
from autoslim.schema import SearchOptions
from autoslim.stages.experiment import Experiment


def record(passes, seconds=None, loss=(0.0, 0.0), run="today"):
    return {
        "passes": passes,
        "share": 0.5,
        "seconds": seconds,
        "steady_seconds": seconds,
        "loss": loss,
        "top1": (0.0, 0.0),
        "run": run,
    }


def summary(name="halving", arithmetic=0.1, mean=0.0, error=1.0, seconds=None):
    loss = figures.OverSeeds(mean, error, None)
    return figures.Summary(name, 1, 10.0, arithmetic, 0.5, seconds, None, loss, loss)


def test_names_of_modes():
    assert doctest.testmod(figures).attempted > 0 == doctest.testmod(figures).failed
    options = {"lazy": True, "per_cost": False, "search": "exact", "exchange": 3, "refresh": 5}
    assert figures.arguments("exact+exchange+lazy:5") == ("greedy", options)
    for name in benchmark_search.DEFAULT_MODES:
        method, options = figures.arguments(name)
        options.pop("passes", None)  # a share of naive's
        SearchOptions(method=method, **options)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "lazy",
            "'lazy' does not name a search: expected one of naive, exact, halving, then, each after +",
        ),
        ("exact+naive", "'exact\\+naive' does not name a search: "),
        ("exact:2", "^'exact:2': exact takes no value, and got '2'.$"),
        ("uniform:2", "^'uniform:2': uniform takes no value, and got '2'.$"),
        ("halving:x", "^'halving:x': expected a number behind halving:, got 'x'.$"),
    ],
)
def test_wrong_names_of_modes(name, message):
    with pytest.raises(AutoslimError, match=message):
        figures.arguments(name)


def test_paired_by_hand():
    """Differences 1, 2, 3, 6: mean 3, sum of squared deviations 14."""
    pair = figures.paired(np.array([2.0, 4.0, 6.0, 10.0], np.float32), np.array([1.0, 2.0, 3.0, 4.0]))
    assert pair.difference == 3
    assert pair.error == pytest.approx(math.sqrt(14 / 3) / 2)


def test_over_seeds_by_hand():
    both = figures.over_seeds([figures.Paired(1.0, 3.0), figures.Paired(3.0, 4.0)])
    assert (both.mean, both.image_error) == (2.0, 2.5)
    assert both.seed_error == pytest.approx(1.0)  # deviation sqrt(2) over sqrt(2)
    assert figures.over_seeds([figures.Paired(1.0, 3.0)]) == figures.OverSeeds(1.0, 3.0, None)


def test_steady_seconds_leaves_tracing_out():
    """Tracing takes 10 s in the first step; afterwards a unit of arithmetic takes half a second."""
    marks = [(10.5, 1.0), (11.0, 2.0), (12.0, 4.0), (14.0, 8.0)]
    assert figures.steady_seconds(marks) == 4.0
    assert figures.steady_seconds(marks[:3]) is None


def test_summaries_pair_each_seed_with_its_own_naive():
    records = {
        "naive, seed 0": record(100, 50.0),
        "naive, seed 1": record(200, 80.0),
        "exact, seed 0": record(50, 30.0, loss=(0.1, 0.3)),
        "exact, seed 1": record(150, 40.0, loss=(0.3, 0.4), run="yesterday"),
        "exact, seed 2": record(1, 1.0),
    }
    found = figures.summaries(records, ["exact", "halving"], [0, 1, 2])
    assert [s.name for s in found] == ["exact"]
    (exact,) = found
    assert (exact.seeds, exact.passes, exact.arithmetic) == (2, 100, (0.5 + 0.75) / 2)
    assert exact.seconds == 0.6  # of seed 0: naive's time of another run says nothing
    assert (exact.loss.mean, exact.loss.image_error) == (pytest.approx(0.2), pytest.approx(0.25))
    assert figures.row(exact)[:4] == ("exact", "2", "100.0", "0.625")


def test_bars():
    found = [
        summary("exact", 0.53, seconds=0.9),
        summary("halving", 0.15, mean=3.0, error=2.0),
        summary("halving+lazy", 0.06, mean=0.5),
        summary("random", 0.04, mean=-9.0),
    ]
    bars = {bar.name: bar for bar in figures.bars(found, "resnet56", 0.5)}
    assert {name: (bar.figure, bar.verdict) for name, bar in bars.items()} == {
        "exact: arithmetic / naive": (0.53, "pass"),
        "arithmetic at most 0.15, best of 2: halving+lazy: fresh loss lost / its error": (0.5, "pass"),
        "arithmetic at most 0.05: fresh loss lost / its error": (None, "not measured"),
        "exact: wall-clock / arithmetic": (0.9 / 0.53, "FAIL"),
    }
    assert "exact: arithmetic / naive" not in {bar.name for bar in figures.bars(found, "resnet20", 0.5)}


def experiment(**keys):
    return Experiment(compose({"dataset.holdout": 0.5, "slim.batch_size": 100, **keys}))


def images_of(batches):
    return {image.numpy().tobytes() for images, _ in batches for image in images}


def test_fresh_images_of_the_holdout_are_those_that_no_search_sees():
    run = experiment()
    seen, fresh = benchmark_search.divide(run, None, None)
    assert len(seen) == len(run.images.split[1]) // 2
    assert set(seen) <= set(run.images.split[1])
    count = sum(len(labels) for _, labels in fresh)
    assert count == len(run.images.split[1]) - len(seen)
    assert not images_of(fresh) & images_of(run.data.heldout(seen))
    assert len(benchmark_search.divide(run, 50, None)[0]) == 50


def test_fresh_images_beyond_the_subset_are_none_of_it():
    run = experiment(**{"dataset.train_images": 400})
    seen, fresh = benchmark_search.divide(run, None, 90)
    assert set(seen) == set(run.images.split[1])
    assert sum(len(labels) for _, labels in fresh) == 90
    used = datasets.evaluation_batches(
        run.data.train, run.data.train_labels, 100, run.data.mean, run.data.std
    )
    assert not images_of(fresh) & images_of(used)


@pytest.mark.long
def test_small_run(tmp_path, capsys, monkeypatch):
    """Two modes, then a third that joins them; what is there is not searched again."""
    command = ["--seeds", "0", "--epochs", "1", "--batch", "128", "--images", "200", "--target", "0.7"]
    command += ["--override", "arch.depth=8", "arch.width=8", "slim.levels=3", "--output", str(tmp_path)]
    benchmark_search.main([*command, "--modes", "naive", "exact"])
    first = capsys.readouterr().out
    file = tmp_path / "benchmarks" / "search-resnet20-digits.json"
    before = json.loads(file.read_text())["records"]
    benchmark_search.main([*command, "--modes", "naive", "exact", "halving+lazy", "random:0.5"])
    after = json.loads(file.read_text())["records"]
    assert {key: after[key] for key in before} == before
    assert set(after) - set(before) == {"halving+lazy, seed 0", "random:0.5, seed 0"}
    assert after["random:0.5, seed 0"]["passes"] <= 0.5 * before["naive, seed 0"]["passes"]
    naive, exact = before["naive, seed 0"], before["exact, seed 0"]
    assert exact["widths"] == naive["widths"] and exact["loss"] == [0.0, 0.0]
    assert exact["passes"] < naive["passes"] and exact["share"] <= 0.7
    assert "exact: wall-clock / arithmetic" in first and "resnet20 on digits, 0.7 of the FLOPs" in first
    assert file.with_suffix(".png").stat().st_size > 0
    with pytest.raises(AutoslimError, match="search-resnet20-digits.json holds figures of target=0.7, this"):
        benchmark_search.main([*command, "--target", "0.6", "--modes", "naive"])
