"""`autoslim.plots`: the report's figures as axes, on figures of pyplot's or of one's own."""

import matplotlib
import pytest
from matplotlib.figure import Figure

import autoslim
from autoslim.reporting.slimmed import Slimmed
from autoslim.schema import SlimConfig


@pytest.fixture
def slimmed(results, trajectory, full):
    return Slimmed({}, tuple(results), trajectory, full, 200, True, SlimConfig())


def test_axes_may_be_changed_and_saved(slimmed, tmp_path):
    axes = autoslim.plots.accuracy(slimmed, figure=Figure())
    axes.set_title("ours")
    axes.figure.savefig(tmp_path / "ours.pdf")
    assert axes.get_ylabel() == "top-1 accuracy on test images"
    assert axes.get_title(loc="left") == "Accuracy against FLOPs, with 95 % intervals"
    assert (tmp_path / "ours.pdf").stat().st_size > 1000


def test_every_point_stands_at_its_cost(slimmed):
    """Also where two methods cost nearly the same: their intervals differ by their ends."""
    axes = autoslim.plots.accuracy(slimmed, figure=Figure())
    drawn = [bars.lines[0].get_xdata() for bars in axes.containers]
    assert [list(map(float, xs)) for xs in drawn] == [[40e6], [19.2e6, 26e6], [19.6e6]]
    assert all(bars.lines[0].get_transform() == axes.transData for bars in axes.containers)
    assert len({bars.lines[1][0].get_markersize() for bars in axes.containers}) == 3


def test_held_out_images_are_named(slimmed, results, trajectory, full):
    flattered = Slimmed({}, tuple(results), trajectory, full, 200, False, SlimConfig())
    assert flattered.plot(Figure()).get_ylabel() == "top-1 accuracy on held-out images"


def test_search_and_channels(slimmed, trajectory):
    upper, lower = autoslim.plots.search(trajectory, [0.5], figure=Figure())
    assert upper.get_ylabel() == "held-out top-1" and "loss" in lower.get_ylabel()
    (bars,) = autoslim.plots.channels(slimmed, figure=Figure())
    assert [bar.get_height() for bar in bars.containers[0]] == [8, 16, 16, 32]


def test_new_figures_are_pyplots(trajectory):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    if matplotlib.get_backend().lower() != "agg":
        pyplot.switch_backend("agg")
    upper, _ = autoslim.plots.search(trajectory)
    assert upper.figure is pyplot.gcf()
    pyplot.close(upper.figure)
