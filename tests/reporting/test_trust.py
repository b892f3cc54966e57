"""Rank correlations, and what the report says of the supernet and of other methods."""

import dataclasses
import itertools
import re

import numpy as np
import pytest
from matplotlib.text import Text
from scipy import stats

from autoslim.errors import AutoslimError
from autoslim.reporting import figures
from autoslim.reporting.markdown import Facts, report_markdown
from autoslim.reporting.side_by_side import side_by_side
from autoslim.reporting.statistics import rank_correlation
from autoslim.reporting.trust import Judged, trust

LOSSES = (2.0, 1.1, 1.4, 0.9, 1.8, 1.2)
TOP1 = (0.50, 0.71, 0.66, 0.70, 0.52, 0.66)


def tau_b(first, second):
    """Kendall's tau-b by its definition, pair by pair."""
    agree = ties = other = 0
    for i, j in itertools.combinations(range(len(first)), 2):
        a, b = np.sign(first[i] - first[j]), np.sign(second[i] - second[j])
        agree += a * b
        ties += a != 0
        other += b != 0
    return agree / np.sqrt(ties * other)


def test_the_correlation_is_scipys():
    found = rank_correlation(LOSSES, TOP1)
    assert found.kendall == pytest.approx(stats.kendalltau(LOSSES, TOP1).statistic)
    assert found.kendall == pytest.approx(tau_b(LOSSES, TOP1))
    ranks = [stats.rankdata(values) for values in (LOSSES, TOP1)]
    assert found.spearman == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert found.pairs == 6


def test_the_intervals_are_of_resampled_networks():
    """As by hand: networks drawn again, a draw of a single value counting 0, the middle 95 %."""
    found = rank_correlation(LOSSES, TOP1)
    generator = np.random.default_rng(7)
    values = []
    for _ in range(3000):
        drawn = generator.integers(0, 6, 6)
        first, second = np.array(LOSSES)[drawn], np.array(TOP1)[drawn]
        values.append(0.0 if np.ptp(first) == 0 or np.ptp(second) == 0 else tau_b(first, second))
    assert found.kendall_interval == pytest.approx(np.quantile(values, [0.025, 0.975]), abs=0.08)
    assert found.kendall_interval[0] <= found.kendall <= found.kendall_interval[1]
    assert found.spearman_interval[0] <= found.spearman <= found.spearman_interval[1]
    assert rank_correlation(LOSSES, TOP1) == found


def test_the_same_order_and_the_reverse():
    same = rank_correlation([1, 2, 3, 4, 5], [2, 4, 6, 7, 9])
    assert (same.kendall, same.spearman) == (pytest.approx(1), pytest.approx(1))
    assert same.kendall_interval == pytest.approx((1, 1))
    assert rank_correlation([1, 2, 3, 4, 5], [5, 4, 3, 2, 1]).spearman == pytest.approx(-1)


@pytest.mark.parametrize(
    "first, second", [([1, 1, 1, 1], [1, 2, 3, 4]), ([1, 2, 3, 4], [0.5] * 4), ([3], [2])]
)
def test_no_order_no_correlation(first, second):
    assert rank_correlation(first, second) is None


def test_two_values_in_all_give_numbers():
    found = rank_correlation([1, 1, 1, 2], [0.5, 0.5, 0.5, 0.6])
    assert np.isfinite([*found.kendall_interval, *found.spearman_interval]).all()


def test_measures_of_different_lengths():
    with pytest.raises(AutoslimError, match=r"^Measures of shapes \(2,\) and \(3,\): expected \[N\] both\.$"):
        rank_correlation([1, 2], [1, 2, 3])


def networks(count=6, top1=TOP1):
    kinds = itertools.cycle(("autoslim", "uniform", "other"))
    return [
        Judged(f"network {i}", kind, 0.5, LOSSES[i], top1[i])
        for i, kind in zip(range(count), kinds, strict=False)
    ]


def test_the_section_on_trust():
    text = trust(networks(), "flops", 500)
    found = rank_correlation([-loss for loss in LOSSES], TOP1)
    assert found.kendall > 0.5
    assert f"Kendall's tau {found.kendall:.2f} (95 % interval {found.kendall_interval[0]:.2f} to" in text
    assert f"Spearman's rho {found.spearman:.2f} (" in text
    assert "loss on 500 held-out images" in text and "for all n = 6 networks" in text
    assert "bootstraps over the networks" in text
    rows = re.findall(r"^\| (network \d) +\| +50\.0 % \| +([\d.]+) \| +([\d.]+) \|$", text, re.M)
    assert [name for name, _, _ in rows] == [f"network {i}" for i in np.argsort(LOSSES)]
    assert rows[0] == ("network 3", "0.9000", "70.00")


@pytest.mark.parametrize("count, were", [(1, "1 network was"), (3, "3 networks were")])
def test_few_networks_say_so(count, were):
    assert trust(networks(count), "flops", 500) == (
        "## How far the supernet can be trusted\n\n"
        f"{were} retrained by this recipe: at least 4 are needed for a rank correlation."
    )


def test_equal_accuracies_say_so():
    text = trust(networks(top1=[0.5] * 6), "flops", 500)
    assert "No rank correlation between the supernet's loss on 500 held-out images" in text
    assert "one of the two is the same for all of them" in text and "nan" not in text.lower()
    assert trust([], "flops", 500) == ""


def test_the_figure_shows_every_network():
    figure = figures.supernet_against_retrained(networks())
    drawn = {tuple(point) for line in figure.axes[0].lines for point in np.array(line.get_data()).T}
    assert drawn == set(zip(LOSSES, TOP1, strict=True))
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["AutoSlim", "uniform", "other"]
    figure.canvas.draw()
    (title,) = (
        one for one in figure.axes[0].get_children() if isinstance(one, Text) and "tau" in one.get_text()
    )
    assert title.get_window_extent().x1 <= figure.bbox.x1  # nothing of it is cut off


@pytest.fixture
def methods(results):
    """The run's networks, and those of two other methods for one target."""
    slim = next(r for r in results if r.label == "AutoSlim 0.5")
    others = [
        dataclasses.replace(slim, kind="random", metric=0.91),
        dataclasses.replace(slim, kind="sensitivity", metric=0.93),
    ]
    return [*results, *others]


def test_methods_side_by_side(methods, full):
    right = np.arange(200) < 186
    correct = {"AutoSlim 0.5": right, "random 0.5": np.arange(200) < 182, "sensitivity 0.5": right}
    passes = {"autoslim": 35.25, "random": 100.0}
    text = side_by_side(methods, full, "flops", correct, "autoslim", passes)
    assert text.startswith("## AutoSlim against other methods\n")
    lines = re.findall(r"^\| 0\.5 +\| (\w+) +\| +(\S+) \|.*\| +(\S+) \|$", text, re.M)
    assert lines == [("uniform", "-1.00", "-"), ("random", "+2.00", "0.12"), ("sensitivity", "0.00", "1.00")]
    assert "At 0.5: AutoSlim and sensitivity are equal, 93.00 %." in text
    assert "Each of the 3 tests stands alone" in text
    assert "passes over the held-out images: AutoSlim 35.2, random 100.0." in text


def test_another_method_in_front(methods, full):
    text = side_by_side(methods, full, "flops", {}, "random")
    assert text.startswith("## Random against other methods\n")
    assert "At 0.5: random is 2.00 points worse than AutoSlim (91.00 % against 93.00 %); not tested." in text
    assert side_by_side(methods[:1], full, "flops", {}, "random") == ""


def test_the_report_names_the_methods(methods, full, trajectory, groups):
    text = report_markdown(
        Facts(
            methods,
            full,
            arch="net",
            dataset="digits",
            seed=0,
            test_images=200,
            trajectory=trajectory,
            kind="random",
            judged=(networks(), 500),
            groups=groups,
        )
    )
    order = re.findall(r"^\| (baseline|(?:AutoSlim|uniform|random|sensitivity) 0\.\d) +\|", text, re.M)[:6]
    assert order == [
        "baseline",
        "AutoSlim 0.7",
        "AutoSlim 0.5",
        "uniform 0.5",
        "random 0.5",
        "sensitivity 0.5",
    ]
    assert "random: 3 steps from the full network down to 48.0 % of its FLOPs" in text
    assert "## How far the supernet can be trusted\n" in text
    assert 'load_model("outputs/autoslim/model.keras")' in text  # the random network's file, in this fixture


def test_many_methods_in_one_figure(methods, trajectory):
    figure = figures.accuracy_against_cost(methods, trajectory, "flops", 200)
    labels = [text.get_text() for text in figure.axes[0].texts]
    assert sorted(labels) == ["91.0", "94.0", "95.0", "95.0"]  # of a target the best and the worst
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend[1:] == ["baseline", "AutoSlim", "uniform", "random", "sensitivity"]
