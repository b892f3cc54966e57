"""report.md: the tables' numbers, the tests of significance, and that nothing flatters."""

import dataclasses
import math
import re

import numpy as np
import pytest

from autoslim.errors import AutoslimError
from autoslim.reporting.bill import Bill
from autoslim.reporting.headline import headlines
from autoslim.reporting.markdown import Facts, report_markdown
from autoslim.reporting.statistics import interval, mcnemar
from autoslim.slimming.trajectory import Exchange


def wilson(right, images, z=1.959963984540054):
    p = right / images
    centre = p + z * z / (2 * images)
    half = z * math.sqrt(p * (1 - p) / images + z * z / (4 * images * images))
    return (centre - half) / (1 + z * z / images), (centre + half) / (1 + z * z / images)


@pytest.mark.parametrize("right, images", [(190, 200), (0, 50), (50, 50), (9312, 10000)])
def test_the_interval_is_wilsons(right, images):
    assert interval(right / images, images) == pytest.approx(wilson(right, images), abs=1e-12)


@pytest.mark.parametrize("only_first, only_second", [(0, 0), (5, 1), (1, 5), (12, 12), (30, 11)])
def test_mcnemar_is_exact(only_first, only_second):
    both = 17
    first = [1] * both + [1] * only_first + [0] * only_second
    second = [1] * both + [0] * only_first + [1] * only_second
    differ = only_first + only_second
    tail = sum(math.comb(differ, k) for k in range(min(only_first, only_second) + 1)) / 2**differ
    assert mcnemar(first, second) == (only_first, only_second, pytest.approx(min(1.0, 2 * tail)))


def test_mcnemar_wants_the_same_images():
    message = r"Answers of shapes \(3,\) and \(2,\): expected \[N\] both, on the same images\."
    with pytest.raises(AutoslimError, match=f"^{message}$"):
        mcnemar([1, 0, 1], [1, 0])


def row(text, label):
    """The cells of the first table row that begins with the label."""
    line = next(line for line in text.splitlines() if re.match(rf"\| {re.escape(label)} +\|", line))
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


@pytest.fixture
def text(results, full, trajectory, groups):
    slim, even = np.ones(200, bool), np.ones(200, bool)
    slim[:14] = False
    even[4:16] = False
    return report_markdown(
        Facts(
            results,
            full,
            arch="resnet20",
            dataset="digits",
            seed=3,
            test_images=200,
            trajectory=trajectory,
            values={"AutoSlim 0.5": slim, "uniform 0.5": even},
            bill=Bill(
                {"baseline": 1.0, "supernet": 0.5, "search": 0.1, "retrain 0.5": 0.25, "uniform 0.5": 0.25},
                ("retrain 0.5",),
            ),
            groups=groups,
            figures={"Accuracy against FLOPs": "outputs/report/accuracy flops.png"},
            program=lambda file: f"FILE = {file}\n",
            command="python -m autoslim seed=3",
            folder="outputs/report",
        )
    )


def test_title_and_order(text):
    first, second, empty, title = text.splitlines()[:4]
    assert first.endswith("  ") and not second.endswith(" ")  # Markdown runs other lines together
    assert first.rstrip() == (
        "AutoSlim 0.7: FLOPs -35 %, parameters -35 %, top-1 0.00 points (95.00 % against 95.00 % of the "
        "baseline, 200 test images)."
    )
    assert second == (
        "AutoSlim 0.5: FLOPs -52 %, parameters -52 %, top-1 -2.00 points (93.00 % against 95.00 % of the "
        "baseline, 200 test images); uniform within the same FLOPs: -1.00 points."
    )
    assert (empty, title) == ("", "# resnet20 on digits, seed 3")
    labels = re.findall(r"^\| (baseline|AutoSlim 0\.\d|uniform 0\.\d) ", text, re.M)[:4]
    assert labels == ["baseline", "AutoSlim 0.7", "AutoSlim 0.5", "uniform 0.5"]


def test_the_first_sentence_says_which_networks_are_near_chance(results, full):
    """A difference to a network that failed is no merit."""
    failed = [dataclasses.replace(one, near_chance=one.target is None) for one in results]
    assert "(93.00 % against 95.00 % (near chance) of the baseline" in headlines(failed, full, 200)[1]
    failed = [dataclasses.replace(one, near_chance=one.target == 0.5) for one in results]
    told = headlines(failed, full, 200)
    assert "(95.00 % against" in told[0] and "(93.00 % (near chance) against" in told[1]


def test_the_results_are_exact(text):
    low, high = wilson(186, 200)
    assert row(text, "AutoSlim 0.5") == [
        *("AutoSlim 0.5", "0.5", "93.00", f"{100 * low:.2f} to {100 * high:.2f}", "-2.00"),
        *("19,200,000", "48.0 %", "240,000", "48.0 %", "123 KiB", "48.0 %"),
    ]
    assert row(text, "AutoSlim 0.7")[4] == "0.00"
    assert row(text, "baseline")[4] == "-"


def test_a_loss_is_called_a_loss(text):
    assert "At 0.5: AutoSlim is 1.00 points worse than uniform (93.00 % against 94.00 %)" in text
    assert "may well make (p = 0.69)" in text  # 2 against 4: 2 * (1 + 6 + 15) / 2**6
    assert row(text, "0.5") == ["0.5", "uniform", "-1.00", "48.00 %", "49.00 %", "2", "4", "0.69"]
    assert "## AutoSlim against uniform\n" in text and "stands alone" not in text


def test_search_bill_and_channels(text):
    assert "3 steps from the full network down to 48.0 % of its FLOPs" in text
    assert "as much as 8.0 passes of the full network" in text and "200 held-out training images" in text
    assert row(text, "**all**") == ["**all**", "**2.100**", "-"]
    assert "- supernet + search + retrain 0.5: 0.850 (time -)\n" in text
    assert row(text, "block1\\|conv") == ["block1\\|conv", "16", "8", "8", "11"]
    assert row(text, "**sum**") == ["**sum**", "72", "48", "40", "51"]


def test_the_search_says_how_many_steps_the_images_decided(results, full, trajectory):
    first, *steps = trajectory.points
    leads = (2.6, 0.4, None)
    known = [dataclasses.replace(point, lead=lead) for point, lead in zip(steps, leads, strict=True)]
    facts = {"arch": "resnet20", "dataset": "digits", "seed": 0, "test_images": 200}
    path = dataclasses.replace(trajectory, points=(first, *known))
    text = report_markdown(Facts(results, full, trajectory=path, **facts))
    assert "In 1 of 2 steps the group that was narrowed was ahead of every other one by 2 standard" in text
    assert "(median lead: 1.5)" in text
    assert (
        "standard errors"
        not in report_markdown(Facts(results, full, trajectory=trajectory, **facts))
        .split("## The search")[1]
        .split("##")[0]
    )


def test_a_search_that_looked_at_fewer_images_says_so(results, full, trajectory):
    def told(path):
        facts = {"arch": "resnet20", "dataset": "digits", "seed": 0, "test_images": 200}
        return report_markdown(Facts(results, full, trajectory=path, **facts))

    *points, last = trajectory.points
    fewer = dataclasses.replace(
        trajectory, points=(*points, dataclasses.replace(last, images=50, scored=450))
    )
    assert "candidates scored on 200 held-out" in told(trajectory)
    assert "92.00 % to 87.00 %.\n" in told(trajectory)
    assert "candidates scored on at most 200 held-out" in told(fewer)
    assert "92.00 % to 87.00 % (on 50 of the images).\n" in told(fewer)
    exchanged = trajectory.exchanging(Exchange(0.5, (last,), done=True)).exchanging(Exchange(0.7, done=True))
    assert "one group wider and another narrower: 1 for 0.5, 0 for 0.7.\n" in told(exchanged)


def test_how_to_load_is_the_program_for_the_slimmed_network(text):
    code = re.search(r"```python\n(.*?)```", text, re.S).group(1)
    assert code == "FILE = 'outputs/autoslim/model.keras'\n"


def test_figures_by_relative_path_and_the_command(text):
    assert "![Accuracy against FLOPs](accuracy%20flops.png)" in text
    assert text.endswith("```sh\npython -m autoslim seed=3\n```\n")


def test_what_is_unknown_is_left_out(results, full):
    text = report_markdown(Facts(results[:1], full, arch="net", dataset="digits", seed=0, test_images=200))
    assert re.findall("^## (.*)", text, re.M) == ["Results", "Loading a network"]
    assert row(text, "uniform 0.5")[4] == "-"


def test_untested_differences_say_so(results, full):
    text = report_markdown(Facts(results, full, arch="net", dataset="digits", seed=0, test_images=200))
    assert "(93.00 % against 94.00 %); not tested." in text
    assert row(text, "0.5")[5:] == ["-", "-", "-"]
